package projectors

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"
)

// A runner is started and stopped at random moments, while it builds, follows, is rebuilt and replays; none of what it starts is
// left, and in the end everything is right.
func TestRunnerIsStartedAndStoppedAtRandomMoments(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	view := compile(t, customerView)
	s, sink := newSource(t, view), newMemory()
	sink.script(func(string) error {
		if rand.IntN(20) == 0 {
			return Unanswered(errDead)
		}
		return nil
	}, nil)
	s.commit(insert(customers, "1", "Ada"), insert(customers, "2", "Bob"))
	r := s.runner(view, sink, func(c *Config) {
		c.PieceDocuments, c.Workers, c.RetryFatal = 2, 3, true
		c.Backoff.Min, c.Backoff.Max = time.Microsecond, time.Millisecond
	})
	for i := range 80 {
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { _ = r.Serve(ctx) })
		switch random.IntN(4) {
		case 0:
			running.Go(func() { _ = r.Rebuild(ctx, nil) })
		case 1:
			running.Go(func() { _ = r.Refresh(ctx, []string{"1"}) })
		}
		s.commit(insert(orders, fmt.Sprint(i), fmt.Sprint(1+i%2), "new"))
		<-time.After(time.Duration(random.IntN(4000)) * time.Microsecond)
		cancel()
		running.Wait()
		if st := r.Status(); st.State != StateStopped {
			t.Fatalf("stopped, and %s", st.State)
		}
		if m := r.cfg.Memory.Status(); m.Documents+m.Batches+m.Waiting != 0 {
			t.Fatalf("stopped, and holds %+v", m)
		}
	}
	sink.script(nil, nil)
	s.run(r)
	s.reach(r, s.commit(insert(unrelated, "1")))
	wantDocuments(t, sink, s.documents(view))
}

// A wall clock that is set back must not stop checkpoints: what is waited for is measured by the monotonic clock.
func TestClockSetBackHoldsNoCheckpointBack(t *testing.T) {
	view := compile(t, orderView)
	s, sink := newSource(t, view), newMemory()
	r := s.runner(view, sink)
	g, err := sink.Create(t.Context(), Info{Number: 1})
	check(t, err)
	saved := newSaver(r, g, Checkpoint{}, func(Checkpoint) {})
	saved.offer(Checkpoint{Offset: 1}, 1, true)
	check(t, saved.save(t.Context()))
	for name, at := range map[string]time.Time{"last checkpoint": saved.at} {
		if !strings.Contains(at.String(), " m=") {
			t.Errorf("%s: %v is of the wall clock", name, at)
		}
	}
	if cp, _, err := g.Checkpoint(t.Context()); err != nil || strings.Contains(cp.Time.String(), " m=") {
		t.Errorf("checkpoint %+v: %v", cp, err)
	}
}
