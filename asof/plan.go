package asof

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pglogrepl"

	"github.com/lanternist/lanternist/event"
	"github.com/lanternist/lanternist/journal"
	"github.com/lanternist/lanternist/mirror/checkpoint"
	"github.com/lanternist/lanternist/views"
)

// Plan is a view to be made, of which everything that it takes was there when it was looked for.
type Plan struct {
	Name   string
	View   *views.View // that it is made of
	Moment Moment
	// Offset is where the moment is in the journal: the documents reflect every event up to it, and none after it.
	Offset event.Offset
	// from are the checkpoints that can be begun with, the newest first: the others are for when it is damaged.
	from []*checkpoint.Manifest
	// since is Parts.Since.
	since map[uint32]pglogrepl.LSN
}

// Checkpoint is the copy of the mirror that is begun with.
func (p *Plan) Checkpoint() *checkpoint.Manifest { return p.from[0] }

// Plan finds where a moment is and what takes the tables there. Its errors are ErrName, ErrFuture and ErrUnavailable, which
// says what there is instead.
func (s *Service) Plan(ctx context.Context, view *views.View, moment Moment, name string) (*Plan, error) {
	if err := s.free(ctx, name); err != nil {
		return nil, err
	}
	if moment.Epoch != "" && moment.Epoch != s.cfg.Epoch {
		return nil, fmt.Errorf("%w: the position is of epoch %s, the source is at epoch %s", ErrUnavailable, moment.Epoch, s.cfg.Epoch)
	}
	if s.Checkpoints == nil {
		return nil, fmt.Errorf("%w: there are no mirror checkpoints to begin with, because no archive is configured; "+
			"add to the configuration, and moments from then on can be had: archive: {url: file://data/archive}", ErrUnavailable)
	}
	list, err := s.Checkpoints.List(ctx)
	if err != nil {
		return nil, err
	}
	for _, damaged := range list.Damaged {
		s.log.Warn("mirror checkpoint cannot be used", "error", damaged)
	}
	p := &Plan{Name: name, View: view, Moment: moment}
	if s.Since != nil {
		if p.since, err = s.Since(ctx); err != nil {
			return nil, err
		}
	}
	if err := s.locate(ctx, p); err != nil {
		if errors.Is(err, journal.ErrTrimmed) {
			return nil, s.unavailable(ctx, p, list, "the journal no longer has the events of that moment")
		}
		return nil, err
	}
	return p, s.choose(ctx, p, list)
}

// free says whether a view may have a name.
func (s *Service) free(ctx context.Context, name string) error {
	switch {
	case !views.IsName(name):
		return fmt.Errorf("%w: %q is not a name: lower-case letters, digits and _, a letter first, at most 63 bytes", ErrName, name)
	case s.Taken != nil && s.Taken(name):
		return fmt.Errorf("%w: %s is a view of the configuration", ErrName, name)
	}
	_, held, err := s.Control.Get(ctx, recordPrefix+name)
	if err != nil {
		return fmt.Errorf("look for view %s: %w", name, err)
	}
	if held {
		return fmt.Errorf("%w: there is a view %s already; remove it with: lanternist rebuild --drop %s", ErrName, name, name)
	}
	return nil
}

// locate finds the moment's place in the journal, once all that committed before it has been received.
func (s *Service) locate(ctx context.Context, p *Plan) error {
	if err := s.await(ctx, p.Moment); err != nil {
		return err
	}
	for {
		var err error
		if p.Offset, err = s.seek(ctx, p.Moment); err != nil {
			return err
		}
		// A journal that ends inside a large transaction tells its end as the place: it is asked again when the rest is there.
		progress, changed := s.Mirror.Progress()
		if progress.Offset >= min(p.Offset, s.Journal.Head().Offset) {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// await waits a little while until what committed before the moment has been received.
func (s *Service) await(ctx context.Context, m Moment) error {
	lsn := m.LSN
	if lsn == 0 {
		end, err := s.seek(ctx, m)
		if err != nil && !errors.Is(err, journal.ErrTrimmed) {
			return err
		}
		if err != nil || end < s.Journal.Head().Offset {
			return nil // a later transaction is there already
		}
		now, at, err := s.Source.Now(ctx)
		if err != nil {
			return fmt.Errorf("%w: nothing that committed after %s was received, and the source cannot be asked for its time: %w", ErrFuture, m, err)
		}
		if now.Before(m.Time) {
			return fmt.Errorf("%w: it is %s at the source", ErrFuture, now.UTC().Format(time.RFC3339Nano))
		}
		lsn = at
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Patience)
	defer cancel()
	for {
		progress, changed := s.Mirror.Progress()
		if progress.LSN >= lsn {
			return nil
		}
		s.Source.RequestKeepalive()
		timer := time.NewTimer(20 * time.Millisecond)
		select {
		case <-changed:
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return fmt.Errorf("%w: what committed before %s was received", ErrFuture, progress.LSN)
		}
		timer.Stop()
	}
}

// choose finds the checkpoints that the moment can be had from.
func (s *Service) choose(ctx context.Context, p *Plan, list checkpoint.Listing) error {
	reasons := map[string]bool{}
	before := false
	for _, m := range slices.Backward(list.Manifests) {
		if m.Offset > p.Offset {
			continue
		}
		before = true
		reason, err := s.unfit(ctx, p, m, list)
		if err != nil {
			return err
		}
		if reason == "" {
			p.from = append(p.from, m)
			continue
		}
		reasons[reason] = true
	}
	switch {
	case len(p.from) > 0:
		return nil
	case !before:
		return s.unavailable(ctx, p, list, "no mirror checkpoint is that old")
	}
	var all []string
	for reason := range reasons {
		all = append(all, reason)
	}
	slices.Sort(all)
	return s.unavailable(ctx, p, list, strings.Join(all, "; "))
}

// unfit says why a checkpoint that is not after the moment does not lead there; "" when it does.
func (s *Service) unfit(ctx context.Context, p *Plan, m *checkpoint.Manifest, list checkpoint.Listing) (string, error) {
	reached, err := s.reached(ctx, p, m)
	if err != nil {
		return "", err
	}
	var absent, late, anew []string
	for _, schema := range p.View.Schemas() {
		name := schema.QualifiedName()
		t, ok := m.Table(schema.OID)
		switch {
		case !ok || !t.Complete:
			absent = append(absent, name)
		case t.LoadedAt > reached:
			late = append(late, name)
		case s.loadedAgain(p, m, t, list):
			anew = append(anew, name)
		}
	}
	switch {
	case len(absent) > 0:
		return "not captured then: " + strings.Join(absent, ", "), nil
	case len(late) > 0:
		return "not captured yet: " + strings.Join(late, ", "), nil
	case len(anew) > 0:
		return "loaded again after the checkpoint before that moment, so that it is not known whether all changes were captured: " + strings.Join(anew, ", "), nil
	case p.Offset.Sequence() > m.Offset.Sequence():
		err := s.Journal.Retains(event.NewOffset(m.Offset.Sequence()+1, 0))
		if errors.Is(err, journal.ErrTrimmed) {
			return "the journal no longer has the events between the checkpoint before that moment and the moment", nil
		}
		return "", err
	}
	return "", nil
}

// reached is a position of which it is certain that the moment is not before it.
func (s *Service) reached(ctx context.Context, p *Plan, m *checkpoint.Manifest) (pglogrepl.LSN, error) {
	if p.Moment.LSN != 0 {
		return p.Moment.LSN, nil
	}
	if !p.Moment.Time.Before(m.Made) {
		return max(m.LSN, 1), nil
	}
	last := m.Last
	if p.Offset > m.Offset {
		t, err := checkpoint.LastBefore(ctx, s.Journal, p.Offset)
		if err != nil {
			return 0, err
		}
		if t != nil {
			last = t
		}
	}
	if last == nil {
		return 0, nil
	}
	return last.CommitLSN, nil
}

// loadedAgain says whether a table was loaded again between a checkpoint and the first look at it after the moment: it may
// then not have been captured for a while.
func (s *Service) loadedAgain(p *Plan, m *checkpoint.Manifest, t checkpoint.Table, list checkpoint.Listing) bool {
	if since, captured := p.since[t.OID]; captured && since <= m.LSN {
		return false // it was, all the time
	}
	for _, later := range list.Manifests {
		if later.Offset < p.Offset || later.Offset == m.Offset {
			continue
		}
		if after, ok := later.Table(t.OID); ok && after.Complete {
			return after.LoadedAt != t.LoadedAt
		}
	}
	state, _, err := s.Mirror.LoadState(t.OID)
	if err != nil || !state.Complete {
		return true
	}
	var at pglogrepl.LSN
	for _, r := range state.Ranges {
		at = max(at, r.ConsistentPoint)
	}
	return at != t.LoadedAt
}

// unavailable is the error of a moment that cannot be had: why, and what can be.
func (s *Service) unavailable(ctx context.Context, p *Plan, list checkpoint.Listing, why string) error {
	there := "there is no mirror checkpoint yet; make one now with: lanternist mirror checkpoint"
	if len(list.Manifests) > 0 {
		there = fmt.Sprintf("no moment can be had of view %s; moments from now on can, after: lanternist mirror checkpoint", p.View.Name())
		for _, m := range list.Manifests {
			if at, ok := s.earliest(ctx, p, m, list); ok {
				there = fmt.Sprintf("the oldest moment that can be had: lanternist rebuild %s --as-of %s --into %s (checkpoint %s)", p.View.Name(), at, p.Name, m)
				break
			}
		}
	}
	return fmt.Errorf("%w: view %s as of %s: %s; %s", ErrUnavailable, p.View.Name(), p.Moment, why, there)
}

// earliest is the oldest moment that is certain to be had from a checkpoint.
func (s *Service) earliest(ctx context.Context, p *Plan, m *checkpoint.Manifest, list checkpoint.Listing) (Moment, bool) {
	at := []Moment{{LSN: m.LSN}}
	if p.Moment.LSN == 0 {
		at = []Moment{{Time: m.Made}}
		if m.Last != nil {
			at = []Moment{{Time: m.Last.CommitTime}, {Time: m.Made}}
		}
	}
	for _, moment := range at {
		other := &Plan{Name: p.Name, View: p.View, Moment: moment, since: p.since}
		var err error
		if other.Offset, err = s.seek(ctx, moment); err != nil || other.Offset < m.Offset {
			continue
		}
		if reason, err := s.unfit(ctx, other, m, list); reason == "" && err == nil {
			return moment, true
		}
	}
	return Moment{}, false
}

// seek is where a moment is in what the journal has now.
func (s *Service) seek(ctx context.Context, m Moment) (event.Offset, error) {
	if m.LSN != 0 {
		return s.Journal.SeekLSN(ctx, m.LSN)
	}
	return s.Journal.SeekTime(ctx, m.Time.Truncate(time.Microsecond).Add(time.Microsecond))
}
