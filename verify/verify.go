package verify

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/jackc/pglogrepl"

	"github.com/lanternist/lanternist/mirror"
	"github.com/lanternist/lanternist/projectors"
	"github.com/lanternist/lanternist/views"
)

// ErrTooMany says that more documents differ than are looked at again one by one: the view should be rebuilt.
var ErrTooMany = errors.New("too many documents differ to look at each again; rebuild the view")

// Comparison is what is compared, and with what.
type Comparison struct {
	View  *views.View
	Sinks []Sink
	Truth Truth
	// Ask has the source say when it has reached a position, so that an idle one holds nothing back
	// (cdc.Reader.RequestPosition).
	Ask func(pglogrepl.LSN)
}

// How long projectors may take to reach a point, and how often the source is asked for it.
const (
	reachWithin = 5 * time.Minute
	askEvery    = time.Second
)

// Run compares, and repairs when asked. progress is called now and then, by one goroutine at a time. With an error,
// what was repaired until then stays so.
func Run(ctx context.Context, c Comparison, o Options, progress func(Progress)) (*Result, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	r := newRun(c, o, progress)
	p, err := r.at(ctx)
	if err != nil {
		return nil, fmt.Errorf("verify %s: %w", c.View.Name(), err)
	}
	r.result.LSN = p.LSN.String()
	err = errors.Join(r.compare(ctx, p), p.Close())
	if err == nil {
		err = r.conclude(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("verify %s: %w", c.View.Name(), err)
	}
	return &r.result, nil
}

// run is one comparison.
type run struct {
	Comparison
	options Options
	view    *views.View
	sinks   []Sink
	pace    *pace
	report  func(Progress)

	mu       sync.Mutex
	progress Progress
	reported time.Time
	result   Result
	suspects []map[string]truth // by sink: documents that were wrong, with what they should have been
}

func newRun(c Comparison, o Options, report func(Progress)) *run {
	r := &run{Comparison: c, options: o, view: c.View, sinks: c.Sinks, pace: newPace(o.Rate), report: report}
	r.result.Against = o.Against
	if o.Sample > 0 {
		r.result.Seed = cmp.Or(o.Seed, rand.Uint64()|1)
	}
	for _, s := range c.Sinks {
		r.result.Sinks = append(r.result.Sinks, SinkResult{Sink: s.Name, Differences: []Difference{}})
		r.suspects = append(r.suspects, map[string]truth{})
	}
	return r
}

// at is a new point that every projector has reached.
func (r *run) at(ctx context.Context) (*Point, error) {
	r.enter(Copying, 0)
	p, err := r.Truth.At(ctx, r.done)
	if err != nil {
		return nil, err
	}
	r.enter(Waiting, 0)
	for i := range r.sinks {
		if err := r.reach(ctx, &r.sinks[i], p.LSN); err != nil {
			return nil, errors.Join(err, p.Close())
		}
	}
	return p, nil
}

// reach waits until a sink shows everything up to a position.
func (r *run) reach(ctx context.Context, s *Sink, lsn pglogrepl.LSN) error {
	for end := time.Now().Add(reachWithin); ; {
		r.Ask(lsn)
		part, cancel := context.WithTimeout(ctx, askEvery)
		at, err := s.Projector.Wait(part, lsn)
		cancel()
		status := s.Projector.Status()
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case status.State == projectors.StateStopped:
			return fmt.Errorf("projector %s is stopped: %s", status.Projector, cmp.Or(status.Error, "it was not started"))
		case time.Now().After(end):
			return fmt.Errorf("projector %s is %s and has not reached %s within %v: it is at %s", status.Projector, status.State, lsn, reachWithin, at.LSN)
		}
	}
}

// compare looks at every row of the root table, or at a sample, and notes what is wrong.
func (r *run) compare(ctx context.Context, p *Point) error {
	total, err := p.Snapshot.Count(r.view.Root().OID)
	if err != nil {
		return err
	}
	feed := func(hand func(task) error) error { return r.scan(p, hand) }
	if r.options.Sample > 0 {
		keys, err := r.sample(p)
		if err != nil {
			return err
		}
		total = int64(len(keys))
		feed = func(hand func(task) error) error {
			for _, key := range keys {
				if err := hand(task{id: r.view.ID(key), key: key, sink: -1}); err != nil {
					return err
				}
			}
			return nil
		}
	}
	r.enter(Comparing, total)
	if err := r.look(ctx, p, feed, r.saw); err != nil || r.options.Sample > 0 {
		return err
	}
	return r.list(ctx, p)
}

// scan hands over every row of the root table.
func (r *run) scan(p *Point, hand func(task) error) error {
	return p.Snapshot.Scan(r.view.Root().OID, nil, func(key []byte, _ mirror.Record) error {
		return hand(task{id: r.view.ID(key), key: append([]byte(nil), key...), sink: -1})
	})
}

// sample chooses keys of the root table, each row being as likely as any other.
func (r *run) sample(p *Point) ([][]byte, error) {
	random := rand.New(rand.NewPCG(r.result.Seed, 0))
	var keys [][]byte
	rows := 0
	err := p.Snapshot.Scan(r.view.Root().OID, nil, func(key []byte, _ mirror.Record) error {
		rows++
		if len(keys) < r.options.Sample {
			keys = append(keys, append([]byte(nil), key...))
		} else if i := random.IntN(rows); i < len(keys) {
			keys[i] = append(keys[i][:0], key...)
		}
		return nil
	})
	return keys, err
}

// list looks at those documents of each sink that have no row in the root table.
func (r *run) list(ctx context.Context, p *Point) error {
	for i := range r.sinks {
		r.enter(Listing, 0)
		visited := int64(0)
		feed := func(hand func(task) error) error {
			return r.sinks[i].Documents.IDs(ctx, func(id string) error {
				visited++
				r.done(visited)
				t := r.task(id, i)
				if t.key != nil {
					_, found, err := p.Snapshot.Get(r.view.Root().OID, t.key)
					if err != nil || found {
						return err
					}
				}
				return hand(t)
			})
		}
		if err := r.look(ctx, p, feed, r.saw); err != nil {
			return fmt.Errorf("list documents of the %s sink: %w", r.sinks[i].Name, err)
		}
	}
	return nil
}

// saw counts what was seen the first time, and suspects what is wrong.
func (r *run) saw(t task, sink int, s *sight) error {
	wrong := s.wrong()
	r.mu.Lock()
	defer r.mu.Unlock()
	if t.sink < 0 && sink == len(r.sinks)-1 {
		r.step()
	}
	result := &r.result.Sinks[sink]
	switch {
	case s.uncomposable:
		result.Uncomposable++
		return nil
	case s.held.Expired && s.want != nil:
		result.Expired++
		return nil
	}
	result.Compared++
	if !wrong {
		return nil
	}
	if r.suspects[sink][t.id] = s.truth(); len(r.suspects[sink]) > suspectsMax {
		return fmt.Errorf("in the %s sink, of %d looked at: %w", r.sinks[sink].Name, result.Compared, ErrTooMany)
	}
	r.progress.Suspects++
	return nil
}

// reportEvery is how often progress is told.
const reportEvery = 100 * time.Millisecond

// enter begins a phase.
func (r *run) enter(phase Phase, total int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.progress.Phase, r.progress.Done, r.progress.Total = phase, 0, total
	r.tell()
}

// done says how far the phase is.
func (r *run) done(n int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.progress.Done = n
	if time.Since(r.reported) >= reportEvery {
		r.tell()
	}
}

// step moves the phase on by one. The caller holds mu.
func (r *run) step() {
	r.progress.Done++
	if time.Since(r.reported) >= reportEvery {
		r.tell()
	}
}

func (r *run) tell() {
	r.reported = time.Now()
	if r.report != nil {
		r.report(r.progress)
	}
}
