package projectors

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/lanternist/lanternist/journal"
	"github.com/lanternist/lanternist/views"
)

func TestRollbackUnderWrites(t *testing.T) {
	view := compile(t, orderView)
	s, sink := newSource(t, view), newMemory()
	s.commit(insert(customers, "1", "Ada"))
	for i := range 200 {
		s.commit(insert(orders, fmt.Sprint(i), "1", "new"))
	}
	r := s.runner(view, sink)
	s.run(r)
	s.reach(r, pglsn(s.lsn.Load()))
	following(t, r)
	check(t, r.Rebuild(context.Background(), nil))
	for i := range 100 { // what the older one has to catch up with
		s.commit(update(orders, fmt.Sprint(i), "1", fmt.Sprint("between ", i)))
	}
	s.commit(remove(orders, "199"))
	// And once more, forward to the one that was left.
	for _, want := range []int{1, 2} {
		done := make(chan error, 1)
		var progress [][2]int64
		go func() {
			done <- r.Rollback(context.Background(), func(d, total int64) { progress = append(progress, [2]int64{d, total}) })
		}()
		for i := 0; ; i++ {
			token := s.commit(update(orders, fmt.Sprint(i%199), "1", fmt.Sprint("status ", want, i)))
			s.reach(r, token)
			if got := sink.document(fmt.Sprint(i % 199)); !strings.Contains(got, fmt.Sprint("status ", want, i)) {
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
		s.reach(r, pglsn(s.lsn.Load()))
		wantDocuments(t, sink, s.documents(view))
		if _, numbers := sink.held(); !slices.Equal(numbers, []int{1, 2}) || r.Status().Generation != want {
			t.Errorf("generations %v, live %d, want %d", numbers, r.Status().Generation, want)
		}
		if n := len(progress); n < 2 || progress[0][0] != 0 || progress[n-1][0] > progress[n-1][1] || progress[n-1][0] == 0 {
			t.Errorf("progress: %v", progress)
		}
		for name := range s.journal.Stats(context.Background()).Readers {
			if name != fmt.Sprintf("order.memory-g%d", want) {
				t.Errorf("%s still holds the journal", name)
			}
		}
	}
	// The live one's checkpoint is saved a little later than its watermark moves.
	eventually(t, "the live generation's checkpoint", func() bool {
		statuses := r.Status().Generations
		return len(statuses) == 2 && statuses[0].Offset <= statuses[1].Offset
	})
	statuses := r.Status().Generations
	if len(statuses) != 2 || statuses[0].Live || !statuses[1].Live || statuses[0].Refusal != "" || !statuses[0].Current ||
		statuses[0].Offset == 0 || statuses[0].Offset > statuses[1].Offset {
		t.Errorf("generations: %+v", statuses)
	}
}

// A generation that was gone back from is newer than the live one, and no half-built one.
func TestRollbackSurvivesARestart(t *testing.T) {
	view := compile(t, orderView)
	s, sink := newSource(t, view), newMemory()
	r := s.runner(view, sink)
	stop := s.run(r)
	s.reach(r, s.commit(insert(orders, "1", "1", "new")))
	following(t, r)
	check(t, r.Rebuild(context.Background(), nil))
	check(t, r.Rollback(context.Background(), nil))
	_ = stop()
	token := s.commit(insert(orders, "2", "1", "new"))
	r = s.runner(view, sink)
	stop = s.run(r)
	s.reach(r, token)
	wantDocuments(t, sink, s.documents(view))
	if _, numbers := sink.held(); !slices.Equal(numbers, []int{1, 2}) || r.Status().Generation != 1 {
		t.Fatalf("generations %v, live %d", numbers, r.Status().Generation)
	}
	check(t, r.Rollback(context.Background(), nil))
	wantDocuments(t, sink, s.documents(view))
	if got := r.Status().Generation; got != 2 {
		t.Errorf("live %d, want 2", got)
	}
	check(t, r.Rollback(context.Background(), nil))
	// The one that was live last is what stays after a rebuild.
	following(t, r)
	check(t, r.Rebuild(context.Background(), nil))
	if _, numbers := sink.held(); !slices.Equal(numbers, []int{1, 3}) {
		t.Errorf("generations %v", numbers)
	}
	_ = stop()
}

func TestRollbackIsRefused(t *testing.T) {
	big := strings.Repeat("x", 64<<10)
	for _, c := range []struct {
		name, view, want string
		keep             int
		between          func(*source, *memory)
	}{
		{"nothing is kept", orderView, "keep_generations", -1, func(*source, *memory) {}},
		{"another definition", changedOrderView, "another definition", 1, func(*source, *memory) {}},
		{"journal trimmed", orderView, "the journal begins at batch", 1, func(s *source, _ *memory) {
			for i := 0; s.journal.First() < 40; i++ {
				s.commit(insert(unrelated, fmt.Sprint(i, big)), update(orders, "1", "1", fmt.Sprint(i)))
			}
		}},
		{"half built", orderView, "never live", 1, func(_ *source, m *memory) {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.generations[1].checkpoint.Served = false
		}},
		{"no checkpoint", orderView, "no checkpoint", 1, func(_ *source, m *memory) {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.generations[1].checkpoint = nil
		}},
		{"another journal", orderView, "journal", 1, func(_ *source, m *memory) {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.generations[1].checkpoint.JournalID = "other"
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			view, now := compile(t, orderView), compile(t, c.view)
			s, sink := newEmptySource(t, journal.Config{Retention: journal.Retention{Size: 1 << 20}}, view, now), newMemory()
			for _, schema := range catalog {
				s.load(schema)
			}
			keep := func(cfg *Config) { cfg.KeepGenerations = c.keep }
			r := s.runner(view, sink, keep)
			stop := s.run(r)
			s.reach(r, s.commit(insert(orders, "1", "1", "new")))
			if c.view != orderView {
				_ = stop()
				r = s.runner(now, sink, keep)
				s.run(r)
				eventually(t, "built by the other definition", func() bool { return r.Status().State == StateRunning })
			} else {
				following(t, r)
				check(t, r.Rebuild(context.Background(), nil))
			}
			c.between(s, sink)
			s.reach(r, s.commit(update(orders, "1", "1", "paid")))
			following(t, r)
			err := r.Rollback(context.Background(), nil)
			if !errors.Is(err, ErrNoRollback) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("Rollback: %v, want one that says %q", err, c.want)
			}
			s.reach(r, s.commit(insert(orders, "2", "1", "new")))
			wantDocuments(t, sink, s.documents(now))
			if got := r.Status().Generation; got != 2 {
				t.Errorf("live %d", got)
			}
			for name := range s.journal.Stats(context.Background()).Readers {
				if name != "order.memory-g2" {
					t.Errorf("%s holds the journal", name)
				}
			}
			for _, g := range r.Status().Generations {
				if !g.Live && g.Refusal == "" {
					t.Errorf("status: %+v", g)
				}
			}
		})
	}
}

// What an older generation lacks because its sink refused it is known when it is gone back to.
func TestRollbackBringsLettersBack(t *testing.T) {
	view := compile(t, orderView)
	s, sink := newSource(t, view), newMemory()
	r := s.runner(view, sink)
	stop := s.run(r)
	s.reach(r, s.commit(insert(orders, "1", "1", "fine"), insert(orders, "2", "1", "fine")))
	sink.script(nil, func(d views.Document) error {
		if strings.Contains(string(d.Body), "poison") {
			return Permanentf("refused")
		}
		return nil
	})
	s.reach(r, s.commit(update(orders, "1", "1", "poison"), update(orders, "2", "1", "poison")))
	sink.script(nil, nil)
	following(t, r)
	check(t, r.Rebuild(context.Background(), nil))
	if got := r.Status().Parked; got != 0 {
		t.Fatalf("%d letters of the new generation", got)
	}
	s.reach(r, s.commit(update(orders, "2", "1", "healed")))
	_ = stop()
	r = s.runner(view, sink)
	s.run(r)
	s.reach(r, s.commit(insert(unrelated, "1")))
	following(t, r)
	check(t, r.Rollback(context.Background(), nil))
	if letter := onlyLetter(t, s, r); letter.DocumentID != "1" || letter.Generation != 1 {
		t.Errorf("letter: %+v", letter)
	}
	if got := sink.document("1"); !strings.Contains(got, "fine") {
		t.Errorf("document: %s", got)
	}
	s.reach(r, s.commit(update(orders, "1", "1", "healed")))
	if got := r.Status().Parked; got != 0 {
		t.Errorf("%d letters", got)
	}
	wantDocuments(t, sink, s.documents(view))
	check(t, r.Rollback(context.Background(), nil))
	following(t, r)
	check(t, r.Rebuild(context.Background(), nil)) // retires the first
	if got := s.letters.Count("order.memory-g1"); got != 0 {
		t.Errorf("%d letters of a retired generation", got)
	}
}

// The live generation is broken, the older one is not: a rollback is the quick way out.
func TestRollbackRevivesAStoppedRunner(t *testing.T) {
	view := compile(t, orderView)
	s, sink := newSource(t, view), newMemory()
	r := s.runner(view, sink)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- r.Serve(ctx) }()
	defer func() {
		cancel()
		<-ended
	}()
	s.reach(r, s.commit(insert(orders, "1", "1", "new")))
	following(t, r)
	check(t, r.Rebuild(context.Background(), nil))
	sink.script(func(operation string) error {
		if operation == "write" {
			return Fatalf("rebuild the view", "index is read-only")
		}
		return nil
	}, nil)
	token := s.commit(insert(orders, "2", "1", "new"))
	eventually(t, "stopped", func() bool { return r.Status().State == StateStopped })
	sink.script(nil, nil)
	eventually(t, "a rollback", func() bool { return r.Rollback(context.Background(), nil) == nil })
	s.reach(r, token)
	wantDocuments(t, sink, s.documents(view))
	if got := r.Status().Generation; got != 1 {
		t.Errorf("live %d", got)
	}
}

// following waits until the runner follows: it makes its first promise a moment before.
func following(t *testing.T, r *Runner) {
	t.Helper()
	eventually(t, "running", func() bool {
		live, _ := r.following.Load().(liveContext)
		return live.ctx != nil
	})
}

// changes are the two ways to send readers to another generation.
var changes = map[string]func(*Runner, context.Context) error{
	"rebuild":  func(r *Runner, ctx context.Context) error { return r.Rebuild(ctx, nil) },
	"rollback": func(r *Runner, ctx context.Context) error { return r.Rollback(ctx, nil) },
}

// The sink has promoted, and its answer was lost: what is followed is what readers see.
func TestPromotionWhoseAnswerIsLost(t *testing.T) {
	for name, change := range changes {
		t.Run(name, func(t *testing.T) {
			view := compile(t, orderView)
			s, sink := newSource(t, view), newMemory()
			r := s.runner(view, sink)
			s.run(r)
			s.reach(r, s.commit(insert(orders, "1", "1", "new")))
			following(t, r)
			check(t, r.Rebuild(context.Background(), nil))
			sink.mu.Lock()
			sink.after = func(operation string) error {
				if operation == "promote" {
					return Fatalf("", "the answer was no JSON")
				}
				return nil
			}
			sink.mu.Unlock()
			if err := change(r, context.Background()); Class(err) != Fatal {
				t.Errorf("no error of the promotion: %v", err)
			}
			sink.mu.Lock()
			sink.after = nil
			live := sink.live
			sink.mu.Unlock()
			s.reach(r, s.commit(insert(orders, "2", "1", "new")))
			wantDocuments(t, sink, s.documents(view))
			if r.Status().Generation != live || live == 2 {
				t.Errorf("live is %d, followed is %d", live, r.Status().Generation)
			}
		})
	}
}

// A runner is killed at every operation on its sink in turn while it changes generations. Readers always see a whole one, with all
// that they were promised, and whatever they see is what the next run goes on with.
func TestCrashAtEveryOperationOfAChange(t *testing.T) {
	for name, change := range changes {
		for _, after := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s after=%v", name, after), func(t *testing.T) { crashWhileChanging(t, change, after) })
		}
	}
}

func crashWhileChanging(t *testing.T, change func(*Runner, context.Context) error, after bool) {
	view := compile(t, orderView)
	s, sink := newSource(t, view), newMemory()
	small := func(c *Config) { c.PieceDocuments, c.Workers = 2, 1 }
	rows := []string{"1", "2", "3", "4"}
	for _, id := range rows {
		s.commit(insert(orders, id, "1", "00000"))
	}
	r := s.runner(view, sink, small)
	stop := s.run(r)
	s.reach(r, pglsn(s.lsn.Load()))
	following(t, r)
	check(t, r.Rebuild(t.Context(), nil))
	_ = stop()
	crashes := map[int]int{} // by the live generation that was left
	for i := int64(1); ; i++ {
		if i > 200 {
			t.Fatal("no change without a crash")
		}
		r := s.runner(view, sink, small)
		stop := s.run(r)
		following(t, r)
		promised := fmt.Sprintf("%05d", i)
		for _, id := range rows {
			s.commit(update(orders, id, "1", promised))
		}
		s.reach(r, pglsn(s.lsn.Load()))
		c := &crash{at: i, after: after}
		c.script(sink)
		s.commit(update(orders, "2", "1", promised+" and more"))
		err := change(r, t.Context())
		needed := c.calls.Load()
		_ = stop()
		sink.mu.Lock()
		sink.before, sink.after = nil, nil
		left := sink.live
		sink.mu.Unlock()
		crashes[left]++
		for _, id := range rows {
			if got := sink.document(id); !strings.Contains(got, promised) {
				t.Fatalf("crash at operation %d: readers of generation %d see %q, promised was %s", i, left, got, promised)
			}
		}
		again := s.runner(view, sink, small)
		stop = s.run(again)
		s.reach(again, s.commit(insert(unrelated, fmt.Sprint(i))))
		wantDocuments(t, sink, s.documents(view))
		_, numbers := sink.held()
		if got := again.Status().Generation; got != left {
			t.Fatalf("crash at operation %d: generation %d was live, %d is after the restart", i, left, got)
		}
		back := 0
		for _, g := range again.Status().Generations {
			if !g.Live && g.Refusal == "" {
				back++
			}
			if !slices.Contains(numbers, g.Number) || !g.Live && g.Refusal != "" {
				t.Errorf("crash at operation %d: %+v of %v", i, g, numbers)
			}
		}
		if back != 1 || len(numbers) != 2 {
			t.Errorf("crash at operation %d: generations %v, %d to go back to", i, numbers, back)
		}
		_ = stop()
		if err == nil && needed < i {
			break
		}
	}
	t.Logf("live after a crash: %v", crashes)
	if len(slices.Collect(maps.Keys(crashes))) < 2 {
		t.Errorf("all crashes left the same generation live: %v", crashes)
	}
}
