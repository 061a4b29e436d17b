package projectors

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/lanternist/lanternist/journal"
	"github.com/lanternist/lanternist/views"
)

func TestRebuildUnderWrites(t *testing.T) {
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
	// Garbage that following would never find is gone after a rebuild.
	live, _ := sink.held()
	sink.mu.Lock()
	live.documents["0"] = memoryDocument{version: 1 << 60, body: []byte(`{"garbage":true}`)}
	sink.mu.Unlock()

	done := make(chan error, 1)
	var progress [][2]int64
	go func() {
		done <- r.Rebuild(context.Background(), func(d, total int64) { progress = append(progress, [2]int64{d, total}) })
	}()
	for i := 0; ; i++ {
		token := s.commit(update(orders, fmt.Sprint(i%200), "1", fmt.Sprint("status ", i)))
		s.reach(r, token)
		if got := sink.document(fmt.Sprint(i % 200)); i%200 != 0 && !strings.Contains(got, fmt.Sprint("status ", i)) {
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
	if n := len(progress); n < 2 || progress[0][0] != 0 || progress[n-1] != [2]int64{200, 200} {
		t.Errorf("progress: %v", progress)
	}
	if _, numbers := sink.held(); !slices.Equal(numbers, []int{1, 2}) || r.Status().Generation != 2 {
		t.Errorf("generations %v, live %d", numbers, r.Status().Generation)
	}
	check(t, r.Rebuild(context.Background(), nil))
	if _, numbers := sink.held(); !slices.Equal(numbers, []int{2, 3}) {
		t.Errorf("generations %v, want the live one and the one before", numbers)
	}
	for name := range s.journal.Stats(context.Background()).Readers {
		if name != "order.memory-g3" {
			t.Errorf("%s still holds the journal", name)
		}
	}
}

func TestRebuildThatEndsEarlyLeavesNothing(t *testing.T) {
	view := compile(t, orderView)
	s, sink := newSource(t, view), newMemory()
	r := s.runner(view, sink)
	s.run(r)
	s.reach(r, s.commit(insert(orders, "1", "1", "new")))
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	err := r.Rebuild(ctx, func(int64, int64) { cancel() })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("Rebuild: %v", err)
	}
	if _, numbers := sink.held(); !slices.Equal(numbers, []int{1}) {
		t.Errorf("generations %v", numbers)
	}
	s.reach(r, s.commit(insert(orders, "2", "1", "new")))
	wantDocuments(t, sink, s.documents(view))

	sink.script(func(operation string) error {
		if operation == "promote" {
			return Fatalf("", "not allowed")
		}
		return nil
	}, nil)
	if err := r.Rebuild(context.Background(), nil); Class(err) != Fatal {
		t.Errorf("Rebuild: %v", err)
	}
	s.reach(r, s.commit(insert(orders, "3", "1", "new")))
	wantDocuments(t, sink, s.documents(view))
	if _, numbers := sink.held(); !slices.Equal(numbers, []int{1}) {
		t.Errorf("generations %v", numbers)
	}
}

func TestRebuildNeedsARunningRunner(t *testing.T) {
	view := compile(t, orderView)
	s := newSource(t, view)
	if err := s.runner(view, newMemory()).Rebuild(context.Background(), nil); !errors.Is(err, ErrNotRunning) {
		t.Errorf("Rebuild: %v", err)
	}
}

// Letters of the old generation are settled by the new one, in which each document was applied or parked again.
func TestRebuildSettlesLetters(t *testing.T) {
	view := compile(t, orderView)
	s, sink := newSource(t, view), newMemory()
	r := s.runner(view, sink)
	s.run(r)
	refuse := func(words ...string) {
		sink.script(nil, func(d views.Document) error {
			for _, w := range words {
				if strings.Contains(string(d.Body), w) {
					return Permanentf("refused")
				}
			}
			return nil
		})
	}
	s.reach(r, s.commit(insert(orders, "0", "1", "fine")))
	refuse("poison", "venom")
	s.reach(r, s.commit(insert(orders, "1", "1", "poison"), insert(orders, "2", "1", "venom")))
	if got := r.Status().Parked; got != 2 {
		t.Fatalf("%d letters", got)
	}
	refuse("venom")
	check(t, r.Rebuild(context.Background(), nil))
	if letter := onlyLetter(t, s, r); letter.DocumentID != "2" || letter.Generation != 2 {
		t.Errorf("letter: %+v", letter)
	}
	if got := s.letters.Count("order.memory-g2"); got != 0 {
		t.Errorf("%d letters under the name of the build", got)
	}
}

func TestOpenDecidesWhatToGoOnWith(t *testing.T) {
	build := func(t *testing.T) (*source, *memory) {
		view := compile(t, orderView)
		s, sink := newSource(t, view, compile(t, changedOrderView)), newMemory()
		r := s.runner(view, sink)
		stop := s.run(r)
		s.reach(r, s.commit(insert(orders, "1", "1", "new")))
		_ = stop()
		return s, sink
	}
	for _, c := range []struct {
		name    string
		view    string
		change  func(*source, *memoryGeneration, *Config)
		rebuilt bool
	}{
		{"nothing changed", orderView, func(*source, *memoryGeneration, *Config) {}, false},
		{"another definition", changedOrderView, func(*source, *memoryGeneration, *Config) {}, true},
		{"another epoch", orderView, func(_ *source, _ *memoryGeneration, c *Config) { c.Epoch = "2" }, true},
		{"another journal", orderView, func(_ *source, g *memoryGeneration, _ *Config) { g.checkpoint.JournalID = "x" }, true},
		{"no checkpoint", orderView, func(_ *source, g *memoryGeneration, _ *Config) { g.checkpoint = nil }, true},
		{"checkpoint beyond the journal", orderView, func(_ *source, g *memoryGeneration, _ *Config) { g.checkpoint.Offset += 1 << 20 }, true},
		{"journal restored to before the round", orderView, func(_ *source, g *memoryGeneration, _ *Config) { g.checkpoint.Round += 1 << 20 }, true},
		{"checkpoint at the beginning", orderView, func(_ *source, g *memoryGeneration, _ *Config) { g.checkpoint.Offset = 0 }, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, sink := build(t)
			live, _ := sink.held()
			view := compile(t, c.view)
			r := s.runner(view, sink, func(cfg *Config) { c.change(s, live, cfg) })
			s.run(r)
			s.reach(r, s.commit(insert(orders, "2", "1", "new")))
			wantDocuments(t, sink, s.documents(view))
			if got := r.Status().Generation == 2; got != c.rebuilt {
				t.Errorf("rebuilt: %v, want %v", got, c.rebuilt)
			}
		})
	}
}

// What a stopped runner needs may be trimmed from the journal; then its view is built anew.
func TestTrimmedJournalMeansRebuild(t *testing.T) {
	view := compile(t, orderView)
	s, sink := newEmptySource(t, journal.Config{Retention: journal.Retention{Size: 1 << 20}}, view), newMemory()
	for _, schema := range catalog {
		s.load(schema)
	}
	r := s.runner(view, sink)
	stop := s.run(r)
	s.reach(r, s.commit(insert(orders, "1", "1", "new")))
	_ = stop()
	big := strings.Repeat("x", 64<<10)
	for i := 0; s.journal.First() <= s.mirror.Position().Sequence()-60; i++ {
		s.commit(insert(unrelated, fmt.Sprint(i, big)))
		if s.journal.First() > 10 {
			break
		}
	}
	s.run(r)
	s.reach(r, s.commit(insert(orders, "2", "1", "new")))
	wantDocuments(t, sink, s.documents(view))
	if got := r.Status().Generation; got != 2 {
		t.Errorf("generation %d, want 2", got)
	}
}

func TestHalfBuiltGenerationIsRetired(t *testing.T) {
	view := compile(t, orderView)
	s, sink := newSource(t, view), newMemory()
	r := s.runner(view, sink)
	stop := s.run(r)
	s.reach(r, s.commit(insert(orders, "1", "1", "new")))
	_ = stop()
	_, err := sink.Create(context.Background(), Info{Number: 2, Hash: view.Hash(), Epoch: "1"})
	check(t, err)
	s.run(r)
	s.reach(r, s.commit(insert(orders, "2", "1", "new")))
	if _, numbers := sink.held(); !slices.Equal(numbers, []int{1}) {
		t.Errorf("generations %v", numbers)
	}
}

func TestBuildWaitsForLoad(t *testing.T) {
	view := compile(t, orderView)
	s, sink := newEmptySource(t, journal.Config{}, view), newMemory()
	r := s.runner(view, sink)
	s.run(r)
	s.load(customers, textRow("1", "Ada"))
	eventually(t, "waiting", func() bool { return r.Status().State == StateWaiting })
	if _, numbers := sink.held(); len(numbers) > 0 {
		t.Errorf("generations %v before the load is complete", numbers)
	}
	s.load(orders, textRow("1", "1", "new"))
	s.reach(r, s.commit(insert(unrelated, "1")))
	wantDocuments(t, sink, s.documents(view))
	if got := sink.document("1"); !strings.Contains(got, "Ada") {
		t.Errorf("document: %s", got)
	}
}

// While it runs, a runner holds the journal where a restart would go on.
func TestCheckpointHoldsJournal(t *testing.T) {
	view := compile(t, orderView)
	s, sink := newSource(t, view), newMemory()
	var once sync.Once
	saving := make(chan struct{})
	r := s.runner(view, sink)
	stop := s.run(r)
	s.reach(r, s.commit(insert(orders, "1", "1", "new")))
	sink.script(func(operation string) error {
		if operation == "save" {
			once.Do(func() { close(saving) })
			return errors.New("not now")
		}
		return nil
	}, nil)
	live, _ := sink.held()
	before := checkpointOf(sink, live)
	s.reach(r, s.commit(insert(orders, "2", "1", "new")))
	<-saving
	if got := s.journal.Stats(context.Background()).Readers["order.memory-g1"]; got > checkpointOf(sink, live) || got < before {
		t.Errorf("journal held from %s, the checkpoint is %s", got, checkpointOf(sink, live))
	}
	sink.script(nil, nil)
	_ = stop()
	if got := s.journal.Stats(context.Background()).Readers; len(got) != 0 {
		t.Errorf("stopped, but held: %v", got)
	}
}
