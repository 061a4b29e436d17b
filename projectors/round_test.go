package projectors

import (
	"fmt"
	"testing"

	"github.com/lanternist/lanternist/event"
	"github.com/lanternist/lanternist/views"
)

func TestFirstBuildThenFollow(t *testing.T) {
	view := compile(t, customerView)
	s, sink := newSource(t, view), newMemory()
	s.commit(insert(customers, "1", "Ada"), insert(customers, "2", "Bob"), insert(orders, "10", "1", "new"))
	r := s.runner(view, sink)
	stop := s.run(r)
	s.reach(r, s.commit(insert(items, "10", "1", "pen")))
	wantDocuments(t, sink, s.documents(view))
	s.reach(r, s.commit(update(orders, "10", "2", "moved"), remove(customers, "1")))
	wantDocuments(t, sink, s.documents(view))
	if got := r.Status(); got.State != StateRunning || got.Generation != 1 || got.LagEvents != 0 || got.Documents == 0 {
		t.Errorf("status: %+v", got)
	}
	_ = stop()
	live, _ := sink.held()
	if live.checkpoint == nil || live.checkpoint.Offset != s.mirror.Position() || uint64(live.checkpoint.LSN) != s.lsn.Load() {
		t.Errorf("last checkpoint: %+v, want %s and %x", live.checkpoint, s.mirror.Position(), s.lsn.Load())
	}
	if got := r.Status().State; got != StateStopped {
		t.Errorf("state: %s", got)
	}
}

// An item changes at e1, its order moves to another customer at e2. Seen from after e2, e1 affects customer 2 only. The
// promise of e1 may not be made before e2 has brought customer 1 up to date.
func TestWatermarkWaitsForWholeRound(t *testing.T) {
	view := compile(t, customerView)
	s, sink := newSource(t, view), newMemory()
	s.commit(insert(customers, "1", "Ada"), insert(customers, "2", "Bob"), insert(orders, "10", "1", "new"), insert(items, "10", "1", "pen"))
	r := s.runner(view, sink, func(c *Config) { c.PieceDocuments, c.Workers = 1, 1 })
	stop := s.run(r)
	s.reach(r, s.commit(insert(unrelated, "1")))
	_ = stop()

	e1 := s.commit(update(items, "10", "1", "ink"))
	e2 := s.commit(update(orders, "10", "2", "new"))
	steps := make(chan chan struct{})
	sink.script(func(operation string) error {
		if operation == "write" {
			proceed := make(chan struct{})
			steps <- proceed
			<-proceed
		}
		return nil
	}, nil)
	r = s.runner(view, sink, func(c *Config) { c.PieceDocuments, c.Workers = 1, 1 })
	s.run(r)
	for writes := range 2 { // one for each customer
		proceed := <-steps
		if mark, _ := r.Watermark(); mark.LSN >= e1 {
			t.Fatalf("watermark is %v after %d writes of the round, e1 is %s", mark, writes, e1)
		}
		close(proceed)
	}
	s.reach(r, e2)
	wantDocuments(t, sink, s.documents(view))
}

func TestIdleProgressMovesWatermarkWithoutIO(t *testing.T) {
	view := compile(t, orderView)
	s, sink := newSource(t, view), newMemory()
	r := s.runner(view, sink)
	s.run(r)
	following(t, r) // else the first checkpoint, before the promotion, may be the one that is waited for
	s.reach(r, s.commit(insert(orders, "1", "1", "new")))
	eventually(t, "the checkpoint is saved", func() bool { live, _ := sink.held(); return checkpointOf(sink, live) == s.mirror.Position() })
	sink.mu.Lock()
	calls := sink.calls
	sink.mu.Unlock()
	for range 100 {
		s.mirror.Advance(pglsn(s.lsn.Add(8)))
		s.reach(r, pglsn(s.lsn.Load()))
	}
	// Events of tables that the view does not depend on cost the sink nothing either.
	for i := range 100 {
		s.reach(r, s.commit(insert(unrelated, fmt.Sprint(i))))
	}
	sink.mu.Lock()
	defer sink.mu.Unlock()
	if sink.calls != calls {
		t.Errorf("%d operations on the sink, want none", sink.calls-calls)
	}
}

func TestFanOutPassesInBoundedPieces(t *testing.T) {
	view := compile(t, orderView)
	s, sink := newSource(t, view), newMemory()
	s.commit(insert(customers, "1", "Ada"))
	const many = 10_000
	var changes []change
	for i := range many {
		changes = append(changes, insert(orders, fmt.Sprint(i), "1", "new"))
	}
	s.commit(changes...)
	r := s.runner(view, sink, func(c *Config) { c.PieceDocuments, c.RoundKeys = 100, 1000 })
	s.run(r)
	s.reach(r, s.commit(update(customers, "1", "Ada Lovelace")))
	wantDocuments(t, sink, s.documents(view))
	// The fan-out happens again in a following round, when the runner is not building.
	s.reach(r, s.commit(update(customers, "1", "Countess"), insert(orders, "x", "1", "new")))
	want := s.documents(view)
	wantDocuments(t, sink, want)
	if len(want) != many+1 {
		t.Errorf("%d documents", len(want))
	}
	live, _ := sink.held()
	if live.largest > 100 {
		t.Errorf("a write of %d documents, want at most 100", live.largest)
	}
}

func TestRoundComposesEachKeyOnce(t *testing.T) {
	view := compile(t, orderView)
	s, sink := newSource(t, view), newMemory()
	r := s.runner(view, sink)
	stop := s.run(r)
	s.reach(r, s.commit(insert(orders, "1", "1", "new")))
	_ = stop()
	for i := range 500 {
		s.commit(update(orders, "1", "1", fmt.Sprint("status ", i)))
	}
	written := 0
	sink.script(nil, func(views.Document) error { written++; return nil })
	r = s.runner(view, sink)
	s.run(r)
	s.reach(r, pglsn(s.lsn.Load()))
	wantDocuments(t, sink, s.documents(view))
	if written != 1 {
		t.Errorf("%d documents written for 500 events of one key, want 1", written)
	}
}

func TestTruncateReconciles(t *testing.T) {
	view := compile(t, orderView)
	s, sink := newSource(t, view), newMemory()
	var changes []change
	for i := range 50 {
		changes = append(changes, insert(orders, fmt.Sprint(i), "1", "new"))
	}
	s.commit(append(changes, insert(customers, "1", "Ada"))...)
	r := s.runner(view, sink)
	s.run(r)
	s.reach(r, s.commit(insert(unrelated, "1")))

	t.Run("child", func(t *testing.T) {
		s.reach(r, s.commit(truncate(customers)))
		wantDocuments(t, sink, s.documents(view))
	})
	t.Run("root, with rows after it", func(t *testing.T) {
		s.reach(r, s.commit(truncate(orders), insert(orders, "7", "1", "again"), insert(orders, "8", "1", "draft")))
		want := s.documents(view)
		wantDocuments(t, sink, want)
		if len(want) != 1 {
			t.Errorf("%d documents, want 1", len(want))
		}
	})
	t.Run("an id that is none of the view's", func(t *testing.T) {
		live, _ := sink.held()
		sink.mu.Lock()
		live.documents["a\x00b"] = memoryDocument{body: []byte("{}")}
		sink.mu.Unlock()
		s.reach(r, s.commit(truncate(orders)))
		wantDocuments(t, sink, nil)
	})
}

func checkpointOf(m *memory, g *memoryGeneration) (offset event.Offset) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if g.checkpoint != nil {
		offset = g.checkpoint.Offset
	}
	return offset
}
