package projectors

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pglogrepl"

	"github.com/lanternist/lanternist/event"
	"github.com/lanternist/lanternist/journal"
	"github.com/lanternist/lanternist/views"
)

// damage changes what the sink holds behind the runner's back.
func damage(m *memory, change func(documents map[string]memoryDocument)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	change(m.generations[m.live].documents)
}

// live waits until the runner's watermark has reached a token, and it follows.
func (s *source) live(r *Runner, lsn pglogrepl.LSN) {
	s.t.Helper()
	s.reach(r, lsn)
	eventually(s.t, "the projector runs", func() bool { return r.Status().State == StateRunning })
}

// last is the offset of the newest event.
func (s *source) last() event.Offset { return s.journal.Head().Offset }

func TestReplayMendsWhatWasDamaged(t *testing.T) {
	order, customer := compile(t, orderView), compile(t, customerView)
	s, sink, other := newSource(t, order, customer), newMemory(), newMemory()
	r, untouched := s.runner(order, sink), s.runner(customer, other)
	s.run(r)
	s.run(untouched)
	s.commit(insert(customers, "1", "Ada"), insert(orders, "0", "1", "before"))
	s.commit(insert(orders, "1", "1", "new"), insert(unrelated, "1"))
	from := s.last() - 1
	for i := 2; i < 40; i++ {
		s.commit(insert(orders, fmt.Sprint(i), "1", "new"))
	}
	to := s.last()
	after := s.commit(insert(orders, "40", "1", "after"), remove(orders, "7"))
	s.live(r, after)
	s.live(untouched, after)
	want := s.documents(order)
	damage(sink, func(d map[string]memoryDocument) {
		delete(d, "1")
		d["3"] = memoryDocument{body: []byte(`{"damaged":true}`)}
		d["7"] = memoryDocument{body: []byte(`{"damaged":true}`)}
		delete(d, "0")  // before the range
		delete(d, "40") // after the range
	})
	promised, _ := r.Watermark()
	live, _ := sink.held()
	eventually(t, "the checkpoint is saved", func() bool { return checkpointOf(sink, live) == s.last() })
	idle := untouched.Status()

	var reports []ReplayResult
	dry, err := r.Replay(t.Context(), ReplayRange{From: from, To: to, DryRun: true}, nil)
	check(t, err)
	if dry.Events != 40 || dry.Touching != 39 || dry.Documents != 39 || len(sink.documents()) == len(want) {
		t.Errorf("dry run: %+v", dry)
	}
	result, err := r.Replay(t.Context(), ReplayRange{From: from, To: to}, func(sofar ReplayResult) { reports = append(reports, sofar) })
	check(t, err)
	if result.Events != 40 || result.Touching != 39 || result.Documents != 38 || result.Deleted != 1 || result.Parked != 0 ||
		result.Batches != 39 || result.BatchesTotal != 39 || result.From != from || result.To != to {
		t.Errorf("result: %+v", result)
	}
	if n := len(reports); n < 2 || reports[0].Batches != 0 || reports[n-1] != result {
		t.Errorf("progress: %+v", reports)
	}
	if sink.document("0") != "" || sink.document("40") != "" {
		t.Error("documents of events outside of the range were written")
	}
	if now, _ := r.Watermark(); now != promised {
		t.Errorf("watermark moved from %v to %v", promised, now)
	}
	if at := checkpointOf(sink, live); at != s.last() {
		t.Errorf("checkpoint moved to %s", at)
	}
	if now := untouched.Status(); now.Documents != idle.Documents || now.Batches != idle.Batches {
		t.Errorf("another projector did something: %+v, before %+v", now, idle)
	}
	_, err = r.Replay(t.Context(), ReplayRange{}, nil)
	check(t, err)
	wantDocuments(t, sink, want)
	wantDocuments(t, other, s.documents(customer))
}

// A range is applied as the world is now: an order that has moved since is right where it is, and where it was.
func TestReplayComposesThePresent(t *testing.T) {
	view := compile(t, customerView)
	s, sink := newSource(t, view), newMemory()
	r := s.runner(view, sink)
	s.run(r)
	s.commit(insert(customers, "1", "Ada"), insert(customers, "2", "Bob"))
	s.commit(insert(orders, "10", "1", "new"), insert(items, "10", "1", "pen"))
	at := s.last()
	s.live(r, s.commit(update(orders, "10", "2", "moved")))
	damage(sink, func(d map[string]memoryDocument) { clear(d) })
	result, err := r.Replay(t.Context(), ReplayRange{From: at}, nil)
	check(t, err)
	wantDocuments(t, sink, s.documents(view))
	if result.Documents != 2 || result.Events != 2 {
		t.Errorf("result: %+v", result)
	}
}

func TestReplayUnderWrites(t *testing.T) {
	view := compile(t, orderView)
	s, sink := newSource(t, view), newMemory()
	r := s.runner(view, sink, func(c *Config) { c.CheckpointEvents, c.RoundKeys = 50, 40 })
	s.run(r)
	s.commit(insert(customers, "1", "Ada"))
	const many = 500
	for i := range many {
		s.commit(insert(orders, fmt.Sprint(i), "1", "new"), insert(unrelated, fmt.Sprint(i)))
	}
	s.live(r, pglsn(s.lsn.Load()))
	damage(sink, func(d map[string]memoryDocument) { clear(d) })
	done := make(chan error, 1)
	go func() {
		result, err := r.Replay(context.Background(), ReplayRange{From: 1}, nil)
		if err == nil && (result.Events < 2*many+1 || result.Documents < many) {
			err = fmt.Errorf("result: %+v", result)
		}
		done <- err
	}()
	for i := 0; ; i++ {
		id := fmt.Sprint(i % many)
		var token = s.commit(update(orders, id, "1", fmt.Sprint("status ", i)))
		if i%50 == 7 {
			token = s.commit(update(customers, "1", fmt.Sprint("Ada ", i))) // touches all
		}
		s.live(r, token)
		if got := sink.document(id); !strings.Contains(got, fmt.Sprint("status ", i)) {
			t.Fatalf("stale after its token: %s", got)
		}
		select {
		case err := <-done:
			check(t, err)
		default:
			continue
		}
		break
	}
	wantDocuments(t, sink, s.documents(view))
}

// A damaged document that the truncated range says nothing of is mended as well: all are.
func TestReplayOfTruncateReconcilesOnce(t *testing.T) {
	view := compile(t, orderView)
	s, sink := newSource(t, view), newMemory()
	r := s.runner(view, sink)
	s.run(r)
	s.commit(insert(orders, "old", "1", "new"))
	s.commit(truncate(orders))
	from := s.last()
	s.commit(truncate(orders))
	var changes []change
	for i := range 30 {
		changes = append(changes, insert(orders, fmt.Sprint(i), "1", "new"))
	}
	s.live(r, s.commit(changes...))
	visits := 0
	sink.script(func(operation string) error {
		if operation == "ids" {
			visits++
			if visits == 1 {
				return errors.New("not now")
			}
		}
		return nil
	}, nil)
	damage(sink, func(d map[string]memoryDocument) {
		d["old"] = memoryDocument{body: []byte("{}")}
		d["a\x00b"] = memoryDocument{body: []byte("{}")}
		delete(d, "5")
	})
	dry, err := r.Replay(t.Context(), ReplayRange{From: from, DryRun: true}, nil)
	check(t, err)
	if !dry.Reconciled || dry.Documents != 30 || visits != 0 {
		t.Errorf("dry run: %+v, %d visits", dry, visits)
	}
	result, err := r.Replay(t.Context(), ReplayRange{From: from}, nil)
	check(t, err)
	if !result.Reconciled || result.Events != 1 || result.Documents != 30 || result.Deleted != 2 || result.Batches != result.BatchesTotal || visits != 2 {
		t.Errorf("result: %+v, %d visits", result, visits)
	}
	wantDocuments(t, sink, s.documents(view))
}

// trimmedSource is a source whose journal has lost its first batches.
func trimmedSource(t *testing.T, used *views.View) *source {
	s := newEmptySource(t, journal.Config{Retention: journal.Retention{Size: 1 << 20}, CacheBytes: 1 << 16}, used)
	for _, schema := range catalog {
		s.load(schema)
	}
	big := strings.Repeat("x", 64<<10)
	for i := 0; s.journal.First() <= 10; i++ {
		s.commit(insert(unrelated, fmt.Sprint(i, big)))
	}
	return s
}

func TestReplayOfTrimmedRangeIsRefused(t *testing.T) {
	view := compile(t, orderView)
	s, sink := trimmedSource(t, view), newMemory()
	r := s.runner(view, sink)
	s.run(r)
	s.live(r, s.commit(insert(orders, "1", "1", "new")))
	var writes atomic.Int64
	sink.script(func(operation string) error {
		if operation == "write" {
			writes.Add(1)
		}
		return nil
	}, nil)
	first := event.NewOffset(s.journal.First(), 0)
	for _, from := range []event.Offset{0, first - 1} {
		_, err := r.Replay(t.Context(), ReplayRange{From: from}, nil)
		gone, ok := errors.AsType[*NotRetainedError](err)
		if !ok || gone.Oldest.Offset != first || gone.Oldest.CommitLSN == 0 || gone.Oldest.CommitTime.IsZero() {
			t.Fatalf("replay from %s: %v", from, err)
		}
		for _, want := range []string{fmt.Sprint(uint64(first)), gone.Oldest.CommitLSN.String(), "committed at 20"} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%q does not name %s", err, want)
			}
		}
	}
	if n := writes.Load(); n != 0 {
		t.Errorf("%d writes", n)
	}
	result, err := r.Replay(t.Context(), ReplayRange{From: first}, nil)
	check(t, err)
	if result.Documents != 1 {
		t.Errorf("result: %+v", result)
	}
}

// The journal drops nothing for a replay's sake from under the others: it is the replay that ends.
func TestReplayDoesNotHoldTheJournal(t *testing.T) {
	view := compile(t, orderView)
	s, sink := trimmedSource(t, view), newMemory()
	r := s.runner(view, sink)
	s.run(r)
	s.live(r, s.commit(insert(orders, "1", "1", "new")))
	from := event.NewOffset(s.journal.First(), 0)
	big := strings.Repeat("y", 64<<10)
	_, err := r.Replay(t.Context(), ReplayRange{From: from, DryRun: true}, func(sofar ReplayResult) {
		for i := 0; sofar.Batches == 1 && s.journal.First() <= from.Sequence()+1; i++ {
			s.live(r, s.commit(insert(unrelated, fmt.Sprint("y", i, big))))
		}
	})
	if gone, ok := errors.AsType[*NotRetainedError](err); !ok || gone.Oldest.Offset.Sequence() != s.journal.First() {
		t.Errorf("Replay: %v", err)
	}
}

func TestReplayRefusals(t *testing.T) {
	view := compile(t, orderView)
	s, sink := newSource(t, view), newMemory()
	s.commit(insert(orders, "1", "1", "new"))
	r := s.runner(view, sink)
	if _, err := r.Replay(t.Context(), ReplayRange{}, nil); !errors.Is(err, ErrNotRunning) {
		t.Errorf("before the start: %v", err)
	}
	if result, err := r.Replay(t.Context(), ReplayRange{DryRun: true}, nil); err != nil || result.Documents != 1 {
		t.Errorf("dry run before the start: %+v, %v", result, err)
	}
	stop := s.run(r)
	s.live(r, pglsn(s.lsn.Load()))
	if _, err := r.Replay(t.Context(), ReplayRange{To: s.last() + 1}, nil); !errors.Is(err, journal.ErrBehind) {
		t.Errorf("beyond the end: %v", err)
	}
	if _, err := r.Replay(t.Context(), ReplayRange{From: s.last() + 1, To: s.last() - 1}, nil); err == nil {
		t.Error("a range that ends before it begins was accepted")
	}
	if result, err := r.Replay(t.Context(), ReplayRange{From: s.last() + 1}, nil); err != nil || result.Events != 0 {
		t.Errorf("empty range: %+v, %v", result, err)
	}
	_, err := r.Replay(t.Context(), ReplayRange{}, func(ReplayResult) {
		if _, err := r.Replay(t.Context(), ReplayRange{}, nil); !errors.Is(err, ErrReplaying) {
			t.Errorf("a second one: %v", err)
		}
	})
	check(t, err)
	_ = stop()
	if _, err := r.Replay(t.Context(), ReplayRange{}, nil); !errors.Is(err, ErrNotRunning) {
		t.Errorf("after the end: %v", err)
	}
}

// replayInto starts a replay whose first write waits, and says when it does.
func replayInto(ctx context.Context, r *Runner, sink *memory) (writing <-chan struct{}, release func(), done <-chan error) {
	began, proceed, ended := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	var once sync.Once
	sink.script(func(operation string) error {
		if operation == "write" {
			once.Do(func() { close(began) })
			<-proceed
		}
		return nil
	}, nil)
	go func() {
		_, err := r.Replay(ctx, ReplayRange{}, nil)
		ended <- err
	}()
	return began, sync.OnceFunc(func() { close(proceed) }), ended
}

// Whether it is a person, or the projector's end, that cuts a replay off: what is left is right, or as it was.
func TestReplayThatEndsEarlyIsHarmless(t *testing.T) {
	view := compile(t, orderView)
	for _, c := range []struct {
		name string
		end  func(cancel context.CancelFunc, stop func() error)
	}{
		{"canceled", func(cancel context.CancelFunc, _ func() error) { cancel() }},
		{"stopped", func(_ context.CancelFunc, stop func() error) { _ = stop() }},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, sink := newSource(t, view), newMemory()
			r := s.runner(view, sink)
			stop := s.run(r)
			for i := range 40 {
				s.commit(insert(orders, fmt.Sprint(i), "1", "new"))
			}
			s.live(r, pglsn(s.lsn.Load()))
			live, _ := sink.held()
			eventually(t, "the checkpoint is saved", func() bool { return checkpointOf(sink, live) == s.last() })
			before, _ := r.Watermark()
			want := s.documents(view)
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			writing, release, done := replayInto(ctx, r, sink)
			<-writing
			go func() { // the write is let go when the end has begun
				<-ctx.Done()
				release()
			}()
			if c.name == "stopped" {
				release()
			}
			c.end(cancel, stop)
			if err := <-done; err == nil && c.name == "canceled" {
				t.Error("the replay did not end early")
			}
			release()
			sink.script(nil, nil)
			if now, _ := r.Watermark(); now != before {
				t.Errorf("watermark moved from %v to %v", before, now)
			}
			wantDocuments(t, sink, want)
			_ = stop()
			if at := checkpointOf(sink, live); at != s.last() {
				t.Errorf("checkpoint is %s", at)
			}
			// A new start goes on.
			r = s.runner(view, sink)
			s.run(r)
			s.live(r, s.commit(insert(orders, "99", "1", "new")))
			wantDocuments(t, sink, s.documents(view))
			_, err := r.Replay(t.Context(), ReplayRange{}, nil)
			check(t, err)
			if _, numbers := sink.held(); !slices.Equal(numbers, []int{1}) {
				t.Errorf("generations %v", numbers)
			}
		})
	}
}

// A sink that is away for longer than a piece may fail is waited for; live following has its turns meanwhile.
func TestReplayGoesOnAfterAStall(t *testing.T) {
	view := compile(t, orderView)
	s, sink := newSource(t, view), newMemory()
	r := s.runner(view, sink, func(c *Config) { c.StallMax = 1 }) // at the second failure
	s.run(r)
	for i := range 40 {
		s.commit(insert(orders, fmt.Sprint(i), "1", "new"))
	}
	s.live(r, pglsn(s.lsn.Load()))
	damage(sink, func(d map[string]memoryDocument) { clear(d) })
	var failures atomic.Int64
	sink.script(func(operation string) error {
		if operation == "write" && failures.Add(1) <= 50 {
			return errors.New("away")
		}
		return nil
	}, nil)
	result, err := r.Replay(t.Context(), ReplayRange{}, nil)
	check(t, err)
	if result.Events != 40 || result.Documents != 40 || failures.Load() < 50 {
		t.Errorf("result: %+v after %d writes", result, failures.Load())
	}
	wantDocuments(t, sink, s.documents(view))
	if got := r.Status(); got.State != StateRunning {
		t.Errorf("status: %+v", got)
	}
}

func TestReplayParksAndResolves(t *testing.T) {
	view := compile(t, orderView)
	s, sink := newSource(t, view), newMemory()
	r := s.runner(view, sink)
	s.run(r)
	s.live(r, s.commit(insert(orders, "1", "1", "new"), insert(orders, "2", "1", "new")))
	sink.script(nil, func(d views.Document) error {
		if d.ID == "2" {
			return Permanentf("refused")
		}
		return nil
	})
	result, err := r.Replay(t.Context(), ReplayRange{}, nil)
	check(t, err)
	if result.Documents != 1 || result.Parked != 1 || onlyLetter(t, s, r).DocumentID != "2" {
		t.Errorf("result: %+v", result)
	}
	sink.script(nil, nil)
	if result, err = r.Replay(t.Context(), ReplayRange{}, nil); err != nil || result.Documents != 2 || r.Status().Parked != 0 {
		t.Errorf("result: %+v, %v; %d letters", result, err, r.Status().Parked)
	}
}

// A sink that cannot take the replay's documents cannot take the follower's: the projector says so.
func TestReplayMeetsAFatalError(t *testing.T) {
	view := compile(t, orderView)
	s, sink := newSource(t, view), newMemory()
	r := s.runner(view, sink)
	stop := s.run(r)
	s.live(r, s.commit(insert(orders, "1", "1", "new")))
	sink.script(func(operation string) error {
		if operation == "write" {
			return Fatalf("look", "denied")
		}
		return nil
	}, nil)
	if _, err := r.Replay(t.Context(), ReplayRange{}, nil); Class(err) != Fatal {
		t.Errorf("Replay: %v", err)
	}
	eventually(t, "the projector stops", func() bool { return r.Status().State == StateStopped })
	if err := stop(); Class(err) != Fatal || !strings.Contains(err.Error(), "replay") {
		t.Errorf("Run: %v", err)
	}
}

func TestReplayIntoARebuiltGeneration(t *testing.T) {
	view := compile(t, orderView)
	s, sink := newSource(t, view), newMemory()
	r := s.runner(view, sink, func(c *Config) { c.Workers, c.PieceDocuments = 1, 1 })
	s.run(r)
	for i := range 40 {
		s.commit(insert(orders, fmt.Sprint(i), "1", "new"))
	}
	s.live(r, pglsn(s.lsn.Load()))
	rebuilt := false
	_, err := r.Replay(t.Context(), ReplayRange{}, func(sofar ReplayResult) {
		if sofar.Batches == 20 && !rebuilt {
			rebuilt = true
			check(t, r.Rebuild(t.Context(), nil))
			damage(sink, func(d map[string]memoryDocument) { delete(d, "39"); delete(d, "0") })
		}
	})
	check(t, err)
	want := s.documents(view)
	delete(want, "0") // was replayed into the generation before
	wantDocuments(t, sink, want)
	if r.Status().Generation != 2 || !rebuilt {
		t.Errorf("generation %d", r.Status().Generation)
	}
}
