package asof

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/lanternist/lanternist/internal/faultpoint"
	"github.com/lanternist/lanternist/mirror"
	"github.com/lanternist/lanternist/projectors"
)

// Phase is a step of making a view.
type Phase string

// The steps, in their order, and what they count.
const (
	Restoring Phase = "bytes"     // of the checkpoint
	Applying  Phase = "batches"   // of the journal
	Writing   Phase = "documents" // in all sinks
)

// Progress is how far the making of a view is.
type Progress struct {
	Phase       Phase
	Done, Total int64
}

// cleanUpTime bounds what is done after a making did not succeed. What is left then is removed at the next start.
const cleanUpTime = 5 * time.Second

// Make makes the view of a plan. When it returns without error the view is whole in all its sinks, and stays; with an
// error nothing of it is left, or what is will be removed at the next start. It waits while another is made. progress may be
// nil; it may be called from several goroutines.
func (s *Service) Make(ctx context.Context, p *Plan, progress func(Progress)) (*View, error) {
	if err := s.begin(ctx); err != nil {
		return nil, err
	}
	defer s.over()
	if progress == nil {
		progress = func(Progress) {}
	}
	v, err := s.make(ctx, p, progress)
	if err != nil {
		return nil, fmt.Errorf("view %s as of %s: %w", p.View.Name(), p.Moment, err)
	}
	s.log.Info("view as of a moment made", "name", v.Name, "view", v.View, "at", v.At, "lsn", v.LSN, "offset", v.Offset, "documents", v.Documents)
	return v, nil
}

func (s *Service) make(ctx context.Context, p *Plan, progress func(Progress)) (_ *View, err error) {
	if err := s.free(ctx, p.Name); err != nil { // another may have come since the plan
		return nil, err
	}
	fixed, err := p.View.Fixed(p.Name)
	if err != nil {
		return nil, err
	}
	stores, err := s.Stores(fixed)
	if err != nil {
		return nil, err
	}
	if err := empty(ctx, p.Name, stores); err != nil {
		return nil, err
	}
	// Until the view is whole the journal keeps what it is made from.
	reader := "asof-" + p.Name
	s.Journal.Retain(reader, p.from[len(p.from)-1].Offset)
	defer s.Journal.Release(reader)
	v := &View{Definition: fixed, Stores: stores, Record: Record{
		Name: p.Name, View: p.View.Name(), State: Making, At: p.Moment.String(), Epoch: s.cfg.Epoch, JournalID: s.Journal.Identity(),
		Sinks: slices.Sorted(maps.Keys(stores)), Source: p.View.Source(), Made: time.Now().UTC(),
	}}
	for _, schema := range fixed.Schemas() {
		v.Schemas = append(v.Schemas, schema.ID)
	}
	if _, err := v.compile(s.Schemas); err != nil { // it could not be opened again
		return nil, err
	}
	if err := s.save(ctx, &v.Record); err != nil {
		return nil, err
	}
	faultpoint.Hit("asof", "recorded")
	if err := s.fill(ctx, p, v, progress); err != nil {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUpTime)
		defer cancel()
		if left := s.erase(ctx, v); left != nil {
			s.log.Warn("what was made of a view is left; it is removed at the next start", "name", p.Name, "error", left)
		}
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.views[v.Name] = v
	return v, nil
}

// empty refuses a name under which a sink holds something.
func empty(ctx context.Context, name string, stores map[string]projectors.Store) error {
	for sink, store := range stores {
		infos, err := store.Generations(ctx)
		if err != nil {
			return err
		}
		if len(infos) > 0 {
			return fmt.Errorf("%w: the %s sink already holds a view %s; choose another, or remove that one from the sink", ErrName, sink, name)
		}
	}
	return nil
}

// fill writes the documents to all sinks, and records that they are whole.
func (s *Service) fill(ctx context.Context, p *Plan, v *View, progress func(Progress)) (err error) {
	t, err := s.restore(ctx, p, progress)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.close()) }()
	faultpoint.Hit("asof", "restored")
	snapshot, err := t.Snapshot(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, snapshot.Close()) }()
	v.Checkpoint, v.Offset, v.LSN, v.Last = t.from.Name(), snapshot.Progress().Offset, t.lsn, t.last
	if err := s.write(ctx, v, snapshot, progress); err != nil {
		return err
	}
	faultpoint.Hit("asof", "written")
	v.State, v.Made = Ready, time.Now().UTC()
	if err := s.save(ctx, &v.Record); err != nil {
		return err
	}
	faultpoint.Hit("asof", "ready")
	return nil
}

// write writes the documents of a snapshot to all sinks at once.
func (s *Service) write(ctx context.Context, v *View, snapshot *mirror.Snapshot, progress func(Progress)) error {
	var mu sync.Mutex
	dones, totals := map[string]int64{}, map[string]int64{}
	g, ctx := errgroup.WithContext(ctx)
	for sink, store := range v.Stores {
		cfg := s.cfg.Projector(sink)
		cfg.Name, cfg.Sink, cfg.Epoch = ProjectorName(v.Name, sink), sink, s.cfg.Epoch
		cp := projectors.Checkpoint{LSN: v.LSN, JournalID: v.JournalID}
		g.Go(func() error {
			filled, err := projectors.Fill(ctx, cfg, v.Definition, store, snapshot, cp, s.Journal, s.Letters, s.log, func(done, total int64) {
				mu.Lock()
				defer mu.Unlock()
				dones[sink], totals[sink] = done, total
				all := Progress{Phase: Writing}
				for other := range dones {
					all.Done, all.Total = all.Done+dones[other], all.Total+totals[other]
				}
				progress(all)
			})
			if err != nil {
				return err
			}
			faultpoint.Hit("asof", sink, "promoted")
			mu.Lock()
			defer mu.Unlock()
			v.Documents, v.Parked = max(v.Documents, filled.Documents), v.Parked+filled.Parked
			return nil
		})
	}
	return g.Wait()
}

// ProjectorName names what wrote a view to a sink, in dead letters.
func ProjectorName(view, sink string) string { return view + "." + sink }
