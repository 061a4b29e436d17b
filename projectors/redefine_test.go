package projectors

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/lanternist/lanternist/views"
)

// compiling is a runner's Config with which it compiles what a generation holds.
func compiling(sink Store) func(*Config) {
	return func(cfg *Config) {
		cfg.Compile = func(_ context.Context, text string) (Definition, error) {
			defs, err := views.Parse("stored", []byte(text))
			if err != nil {
				return Definition{}, err
			}
			list, err := views.Compile(defs, catalog)
			if err != nil {
				return Definition{}, err
			}
			return Definition{View: list[0], Store: sink}, nil
		}
	}
}

func onRequest(cfg *Config) { cfg.RebuildOnRequest = true }

// gate holds one kind of operation on a sink until it is opened.
type gate struct {
	reached, open chan struct{}
	once          sync.Once
}

// hold closes a gate for an operation.
func hold(sink *memory, operation string) *gate {
	g := &gate{reached: make(chan struct{}), open: make(chan struct{})}
	sink.script(func(now string) error {
		if now == operation {
			g.once.Do(func() { close(g.reached) })
			<-g.open
		}
		return nil
	}, nil)
	return g
}

// The live generation is followed by its own definition while the new one is built, up to the promotion.
func TestRedefine(t *testing.T) {
	old, changed := compile(t, orderView), compile(t, changedOrderView)
	s, sink := newSource(t, old, changed), newMemory()
	r := s.runner(old, sink)
	s.run(r)
	s.reach(r, s.commit(insert(customers, "1", "Ada"), insert(orders, "1", "1", "new"), insert(orders, "2", "1", "draft")))
	following(t, r)

	creating := hold(sink, "create")
	promoted := make(chan Definition, 2)
	redefined := make(chan error, 1)
	go func() {
		redefined <- r.Redefine(context.Background(), Definition{View: changed, Store: sink}, nil,
			func() { promoted <- r.Definition() })
	}()
	<-creating.reached
	for i := range 10 {
		s.reach(r, s.commit(update(orders, "1", "1", fmt.Sprint("paid ", i)), update(customers, "1", fmt.Sprint("Ada ", i))))
		wantDocuments(t, sink, s.documents(old))
	}
	if err := r.Redefine(context.Background(), Definition{View: changed, Store: sink}, nil, nil); !errors.Is(err, ErrRebuilding) {
		t.Errorf("a second one: %v", err)
	}
	if len(promoted) > 0 || r.Definition().View != old {
		t.Error("promoted before it was built")
	}
	close(creating.open)
	check(t, <-redefined)
	if len(promoted) != 1 || (<-promoted).View != changed {
		t.Error("promoted was not called once, with the new definition in force")
	}
	wantDocuments(t, sink, s.documents(changed))
	s.reach(r, s.commit(update(orders, "1", "1", "shipped"), insert(orders, "3", "1", "draft")))
	wantDocuments(t, sink, s.documents(changed))
	status := r.Status()
	if status.Generation != 2 || status.Pending != "" || !status.Generations[1].Current || status.Generations[0].Current {
		t.Errorf("status: %+v", status)
	}
	// What is live already is taken over, and what is built next is built by it.
	check(t, r.Redefine(context.Background(), Definition{View: compile(t, changedOrderView), Store: sink}, nil, nil))
	if got := r.Status().Generation; got != 2 {
		t.Errorf("generation %d was built of the same definition", got)
	}
	check(t, r.Rebuild(context.Background(), nil))
	if live, _ := sink.held(); live.info.Hash != changed.Hash() || live.info.Number != 3 || live.info.Definition != changed.Source() {
		t.Errorf("rebuilt: %+v", live.info)
	}
}

func TestRedefineThatFailsChangesNothing(t *testing.T) {
	old, changed := compile(t, orderView), compile(t, changedOrderView)
	s, sink := newSource(t, old, changed), newMemory()
	r := s.runner(old, sink)
	s.run(r)
	s.reach(r, s.commit(insert(orders, "1", "1", "new")))
	following(t, r)
	sink.script(func(operation string) error {
		if operation == "create" {
			return Fatalf("mend the mapping", "no such type")
		}
		return nil
	}, nil)
	err := r.Redefine(context.Background(), Definition{View: changed, Store: sink}, nil, func() { t.Error("promoted") })
	if Class(err) != Fatal {
		t.Fatalf("Redefine: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	sink.script(nil, nil)
	if err := r.Redefine(ctx, Definition{View: changed, Store: sink}, nil, func() { t.Error("promoted") }); !errors.Is(err, context.Canceled) {
		t.Fatalf("Redefine: %v", err)
	}
	s.reach(r, s.commit(insert(orders, "2", "1", "new")))
	wantDocuments(t, sink, s.documents(old))
	check(t, r.Rebuild(context.Background(), nil))
	wantDocuments(t, sink, s.documents(old))
	if got := r.Status(); got.Pending != "" || got.Generation == 1 {
		t.Errorf("status: %+v", got)
	}
}

// The sink has promoted, and its answer was lost: the runner has the definition of what readers see.
func TestRedefinitionWhoseAnswerIsLost(t *testing.T) {
	old, changed := compile(t, orderView), compile(t, changedOrderView)
	s, sink := newSource(t, old, changed), newMemory()
	r := s.runner(old, sink)
	s.run(r)
	s.reach(r, s.commit(insert(orders, "1", "1", "new")))
	following(t, r)
	sink.mu.Lock()
	sink.after = func(operation string) error {
		if operation == "promote" {
			return Fatalf("", "the answer was no JSON")
		}
		return nil
	}
	sink.mu.Unlock()
	promoted := make(chan struct{}, 2)
	err := r.Redefine(context.Background(), Definition{View: changed, Store: sink}, nil, func() { promoted <- struct{}{} })
	if Class(err) != Fatal {
		t.Errorf("no error of the promotion: %v", err)
	}
	sink.mu.Lock()
	sink.after = nil
	sink.mu.Unlock()
	<-promoted
	s.reach(r, s.commit(insert(orders, "2", "1", "draft")))
	wantDocuments(t, sink, s.documents(changed))
	if got := r.Status(); got.Pending != "" || got.Generation != 2 {
		t.Errorf("status: %+v", got)
	}
}

// A view's file has changed while the runner did not run.
func TestChangedDefinitionIsBuiltWhileTheOldOneIsFollowed(t *testing.T) {
	old, changed := compile(t, orderView), compile(t, changedOrderView)
	s, sink := newSource(t, old, changed), newMemory()
	r := s.runner(old, sink, compiling(sink))
	stop := s.run(r)
	s.reach(r, s.commit(insert(customers, "1", "Ada"), insert(orders, "1", "1", "new")))
	_ = stop()

	creating := hold(sink, "create")
	serving := make(chan *views.View, 4)
	r = s.runner(changed, sink, compiling(sink), func(cfg *Config) { cfg.Serving = func(d Definition) { serving <- d.View } })
	stop = s.run(r)
	<-creating.reached
	if got := (<-serving).Hash(); got != old.Hash() {
		t.Error("readers were not sent to the old definition")
	}
	s.reach(r, s.commit(update(customers, "1", "Bob"), insert(orders, "2", "1", "draft")))
	wantDocuments(t, sink, s.documents(old))
	if got := r.Status(); got.State != StateRunning || !strings.Contains(got.Pending, "is being built") || got.Generation != 1 {
		t.Errorf("status: %+v", got)
	}
	close(creating.open)
	if got := <-serving; got != changed {
		t.Error("readers were not sent to the new definition")
	}
	s.reach(r, s.commit(insert(orders, "3", "1", "draft")))
	eventually(t, "nothing is pending", func() bool { return r.Status().Pending == "" })
	wantDocuments(t, sink, s.documents(changed))

	// Back, and forward again: the old generation goes on by its own definition.
	following(t, r)
	check(t, r.Rollback(context.Background(), nil))
	if got := (<-serving).Hash(); got != old.Hash() {
		t.Error("readers were not sent back to the old definition")
	}
	s.reach(r, s.commit(update(customers, "1", "Eve"), update(orders, "1", "1", "paid")))
	wantDocuments(t, sink, s.documents(old))
	if got := r.Status().Pending; !strings.Contains(got, "sent back from generation 2") {
		t.Errorf("pending: %q", got)
	}
	_ = stop()
	// Nobody has asked for the new one since, and a restart is no reason.
	r = s.runner(changed, sink, compiling(sink))
	s.run(r)
	s.reach(r, s.commit(update(orders, "1", "1", "shipped")))
	following(t, r)
	wantDocuments(t, sink, s.documents(old))
	if got := r.Status().Pending; !strings.Contains(got, "sent back from generation 2") {
		t.Errorf("pending: %q", got)
	}
	check(t, r.Rollback(context.Background(), nil))
	s.reach(r, s.commit(update(orders, "1", "1", "gone")))
	wantDocuments(t, sink, s.documents(changed))
	if got := r.Status(); got.Pending != "" || got.Generation != 2 {
		t.Errorf("status: %+v", got)
	}
}

func TestChangedDefinitionWaitsForARebuild(t *testing.T) {
	old, changed := compile(t, orderView), compile(t, changedOrderView)
	s, sink := newSource(t, old, changed), newMemory()
	r := s.runner(old, sink, compiling(sink))
	stop := s.run(r)
	s.reach(r, s.commit(insert(orders, "1", "1", "new")))
	_ = stop()
	r = s.runner(changed, sink, compiling(sink), onRequest)
	s.run(r)
	for i := range 20 {
		s.reach(r, s.commit(update(orders, "1", "1", fmt.Sprint("paid ", i))))
	}
	following(t, r)
	wantDocuments(t, sink, s.documents(old))
	if got := r.Status(); got.Pending != "definition changed: rebuild order builds it" || got.Generation != 1 {
		t.Errorf("status: %+v", got)
	}
	check(t, r.Rebuild(context.Background(), nil))
	s.reach(r, s.commit(insert(orders, "2", "1", "draft")))
	wantDocuments(t, sink, s.documents(changed))
	if got := r.Status(); got.Pending != "" || got.Generation != 2 {
		t.Errorf("status: %+v", got)
	}
}

// The live generation's definition cannot be compiled any more: it is served as it is.
func TestDefinitionThatIsGone(t *testing.T) {
	gone := func(cfg *Config) {
		cfg.Compile = func(context.Context, string) (Definition, error) {
			return Definition{}, errors.New(`column "status" is gone`)
		}
	}
	for _, c := range []struct {
		name, reason string
		adjust       func(*Config)
		text         bool
	}{
		{"a column is gone", "is gone", gone, true},
		{"a table has changed", "has changed", func(cfg *Config) {
			cfg.Compile = func(context.Context, string) (Definition, error) {
				return Definition{View: compile(t, customerView), Store: newMemory()}, nil
			}
		}, true},
		{"an older version made it", "does not hold", func(*Config) {}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			old, changed := compile(t, orderView), compile(t, changedOrderView)
			s, sink := newSource(t, old, changed), newMemory()
			r := s.runner(old, sink)
			stop := s.run(r)
			s.reach(r, s.commit(insert(orders, "1", "1", "new")))
			_ = stop()
			before := s.documents(old)
			if !c.text {
				sink.generations[1].info.Definition = ""
			}
			r = s.runner(changed, sink, c.adjust, onRequest)
			stop = s.run(r)
			token := s.commit(update(orders, "1", "1", "paid"), insert(orders, "2", "1", "new"))
			eventually(t, "pending", func() bool { return r.Status().State == StatePending })
			if got := r.Status().Pending; !strings.Contains(got, "rebuild order builds it") || !strings.Contains(got, c.reason) {
				t.Errorf("pending: %q", got)
			}
			wantDocuments(t, sink, before)
			if mark, _ := r.Watermark(); mark.LSN >= token || mark.LSN == 0 {
				t.Errorf("watermark %v", mark)
			}
			if err := r.Rollback(context.Background(), nil); !errors.Is(err, ErrNoRollback) {
				t.Errorf("Rollback: %v", err)
			}
			eventually(t, "a rebuild", func() bool {
				err := r.Rebuild(context.Background(), nil)
				if err != nil && !errors.Is(err, ErrNotRunning) {
					t.Fatal(err)
				}
				return err == nil
			})
			s.reach(r, token)
			wantDocuments(t, sink, s.documents(changed))
			if got := r.Status().Pending; got != "" {
				t.Errorf("pending: %q", got)
			}
			_ = stop()
			// And by itself, where that is wished for.
			sink.generations[2].info.Hash = "of another"
			r = s.runner(changed, sink, c.adjust)
			s.run(r)
			s.reach(r, s.commit(insert(orders, "3", "1", "new")))
			wantDocuments(t, sink, s.documents(changed))
			if got := r.Status(); got.Pending != "" || got.Generation != 3 {
				t.Errorf("status: %+v", got)
			}
		})
	}
}

// A replay that a redefinition overtakes says so: its keys are of another table, and all is written anew.
func TestRedefineDuringAReplay(t *testing.T) {
	old, changed := compile(t, orderView), compile(t, strings.Replace(customerView, "view: customer", "view: order", 1))
	s, sink := newSource(t, old, changed), newMemory()
	r := s.runner(old, sink)
	s.run(r)
	first := s.journal.Head().Offset
	s.reach(r, s.commit(insert(customers, "1", "Ada"), insert(orders, "1", "1", "new")))
	following(t, r)
	p := &replay{runner: r, def: r.served.Load(), keys: r.newReplayPiece()}
	key, _ := orders.AppendKey(nil, insert(orders, "1", "1", "new").after)
	p.keys.addKey(key)
	check(t, r.Redefine(context.Background(), Definition{View: changed, Store: sink}, nil, nil))
	if err := p.flush(t.Context()); !errors.Is(err, errReplaced) {
		t.Errorf("flush: %v", err)
	}
	_, err := r.Replay(t.Context(), ReplayRange{From: first + 1}, nil)
	check(t, err)
	wantDocuments(t, sink, s.documents(changed))
}

// A runner is killed at every operation on its sink in turn while its view is redefined. Readers always see one whole generation with
// all that they were promised; the next run, which has the new definition from its configuration, ends with that one live.
func TestCrashAtEveryOperationOfARedefinition(t *testing.T) {
	for _, after := range []bool{false, true} {
		t.Run(fmt.Sprintf("after=%v", after), func(t *testing.T) { crashWhileRedefining(t, after) })
	}
}

func crashWhileRedefining(t *testing.T, after bool) {
	now, next := compile(t, orderView), compile(t, changedOrderView)
	s, sink := newSource(t, now, next), newMemory()
	small := func(c *Config) { c.PieceDocuments, c.Workers = 2, 1 }
	rows := []string{"1", "2", "3", "4"}
	for _, id := range rows {
		s.commit(insert(orders, id, "1", "00000"))
	}
	left := map[string]int{}
	for i := int64(1); ; i++ {
		if i > 200 {
			t.Fatal("no redefinition without a crash")
		}
		r := s.runner(now, sink, small, compiling(sink))
		stop := s.run(r)
		promised := fmt.Sprintf("%05d", i)
		for _, id := range rows {
			s.commit(update(orders, id, "1", promised))
		}
		s.reach(r, pglsn(s.lsn.Load()))
		following(t, r)
		c := &crash{at: i, after: after}
		c.script(sink)
		s.commit(update(orders, "2", "1", promised+" and more"))
		err := r.Redefine(t.Context(), Definition{View: next, Store: sink}, nil, nil)
		needed := c.calls.Load()
		_ = stop()
		sink.mu.Lock()
		sink.before, sink.after = nil, nil
		sink.mu.Unlock()
		live, _ := sink.held()
		left[live.info.Hash]++
		for _, id := range rows {
			if got := sink.document(id); !strings.Contains(got, promised) {
				t.Fatalf("crash at operation %d: readers of generation %d see %q, promised was %s", i, live.info.Number, got, promised)
			}
		}
		again := s.runner(next, sink, small, compiling(sink))
		stop = s.run(again)
		s.reach(again, s.commit(insert(unrelated, fmt.Sprint(i)))) // promised whichever generation is live
		eventually(t, "nothing is pending", func() bool { return again.Definition().View.Hash() == next.Hash() && again.Status().Pending == "" })
		s.reach(again, s.commit(update(orders, "3", "1", promised+" and more")))
		wantDocuments(t, sink, s.documents(next))
		var numbers []int
		eventually(t, "generations that are not kept are retired", func() bool {
			live, numbers = sink.held()
			return len(numbers) == 2
		})
		if live.info.Hash != next.Hash() || !slices.Contains(numbers, live.info.Number) {
			t.Errorf("crash at operation %d: generations %v, live is %+v", i, numbers, live.info)
		}
		eventually(t, "claims of other generations are released", func() bool {
			for name := range s.journal.Stats(context.Background()).Readers {
				if name != fmt.Sprintf("order.memory-g%d", live.info.Number) {
					return false
				}
			}
			return true
		})
		_ = stop()
		now, next = next, now
		if err == nil && needed < i {
			break
		}
	}
	if len(left) < 2 {
		t.Errorf("all crashes left generations of the same definition live: %v", left)
	}
}
