package cache

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lanternist/lanternist/projectors"
	"github.com/lanternist/lanternist/views"
)

func TestGenerations(t *testing.T) {
	c := testClient(t, nil)
	s := c.Store(orders)
	if infos, err := s.Generations(t.Context()); err != nil || len(infos) != 0 {
		t.Fatalf("generations of nothing: %v, %v", infos, err)
	}
	if _, err := s.Open(t.Context(), 1); !errors.Is(err, projectors.ErrNoGeneration) {
		t.Fatalf("open nothing: %v", err)
	}
	if _, _, err := s.Get(t.Context(), "1"); !errors.Is(err, ErrUnavailable) {
		t.Fatalf("get before anything is live: %v", err)
	}
	if _, err := s.Lookup(t.Context(), byCustomer, "7", "", 10); !errors.Is(err, ErrUnavailable) {
		t.Fatalf("look up before anything is live: %v", err)
	}
	if err := s.Promote(t.Context(), 1); !errors.Is(err, projectors.ErrNoGeneration) {
		t.Fatalf("promote nothing: %v", err)
	}
	created := time.Date(2026, 11, 20, 23, 4, 12, 0, time.UTC)
	_, g1 := liveStore(t, c, orders)
	mustWrite(t, g1, 5, order("1", "7", "", `"one"`))
	g10, err := s.Create(t.Context(), projectors.Info{Number: 10, Hash: "h1", Epoch: "7-2", Created: created})
	must(t, err)
	mustWrite(t, g10, 6, order("1", "7", "", `"ten"`), order("2", "7", "", `"ten"`))
	wantDocument(t, s, "1", `"one" @5`)
	infos, err := s.Generations(t.Context())
	must(t, err)
	want := []projectors.Info{{Number: 1, Hash: "h1", Epoch: "7-1", Live: true}, {Number: 10, Hash: "h1", Epoch: "7-2", Created: created}}
	if !slices.Equal(infos, want) {
		t.Fatalf("got %+v, want %+v", infos, want)
	}
	must(t, s.Promote(t.Context(), 10))
	must(t, s.Promote(t.Context(), 10))
	wantDocument(t, s, "1", `"ten" @6`)
	wantLookup(t, s, byCustomer, "7", "1", "2")
	must(t, s.Promote(t.Context(), 1))
	wantDocument(t, s, "1", `"one" @5`)
	wantLookup(t, s, byCustomer, "7", "1")
}

func TestRetire(t *testing.T) {
	c := testClient(t, nil)
	s, g1 := liveStore(t, c, orders)
	mustWrite(t, g1, 5, order("1", "7", "", "1"))
	if err := s.Retire(t.Context(), 1); projectors.Class(err) != projectors.Fatal {
		t.Fatalf("retire the live generation: %v", err)
	}
	g2, err := s.Create(t.Context(), projectors.Info{Number: 2})
	must(t, err)
	other, _ := liveStore(t, c, otherView{orders})
	mustWrite(t, g2, 6, order("2", "7", "", "2"))
	must(t, s.Promote(t.Context(), 2))
	must(t, s.Retire(t.Context(), 1))
	must(t, s.Retire(t.Context(), 1))
	wantDocument(t, s, "2", "2 @6")
	wantDocument(t, s, "1", "missing")
	for _, key := range allKeys(t, c) {
		if strings.HasPrefix(key, g1.keys.all) {
			t.Errorf("%s is left", key)
		}
	}
	if infos, err := other.Generations(t.Context()); err != nil || len(infos) != 1 {
		t.Errorf("the other view has generations %v, %v", infos, err)
	}
	if _, err := g1.Write(t.Context(), 7, []views.Document{order("1", "7", "", "1")}); !errors.Is(err, projectors.ErrLost) {
		t.Errorf("write to a retired generation: %v", err)
	}
	if err := g1.SaveCheckpoint(t.Context(), projectors.Checkpoint{}); !errors.Is(err, projectors.ErrLost) {
		t.Errorf("save the checkpoint of a retired generation: %v", err)
	}
}

// otherView has a name that the view's name matches as a pattern.
type otherView struct{ ordersView }

func (otherView) Name() string { return "order-other-summary" }

func TestCreateReplacesWhatACrashLeft(t *testing.T) {
	c := testClient(t, nil)
	s, _ := liveStore(t, c, orders)
	crashed, err := s.Create(t.Context(), projectors.Info{Number: 2, Hash: "h0"})
	must(t, err)
	mustWrite(t, crashed, 6, order("old", "7", "", "1"))
	must(t, crashed.SaveCheckpoint(t.Context(), projectors.Checkpoint{Offset: 6}))
	g, err := s.Create(t.Context(), projectors.Info{Number: 2, Hash: "h1"})
	must(t, err)
	if _, ok, err := g.Checkpoint(t.Context()); ok || err != nil {
		t.Errorf("a new generation has a checkpoint: %v, %v", ok, err)
	}
	if ids := idsOf(t, g); len(ids) != 0 {
		t.Errorf("a new generation has documents: %v", ids)
	}
	mustWrite(t, g, 1, order("new", "7", "", "1"))
	must(t, s.Promote(t.Context(), 2))
	wantLookup(t, s, byCustomer, "7", "new")
	if _, err := crashed.Write(t.Context(), 9, []views.Document{gone("new")}); !errors.Is(err, projectors.ErrLost) {
		t.Errorf("the writer before the crash may still write: %v", err)
	}
}

func TestCheckpoint(t *testing.T) {
	s, g := liveStore(t, testClient(t, nil), orders)
	if _, ok, err := g.Checkpoint(t.Context()); ok || err != nil {
		t.Fatalf("checkpoint of a new generation: %v, %v", ok, err)
	}
	want := projectors.Checkpoint{Offset: 1<<62 + 1, Round: 1<<62 + 3, LSN: 1<<60 + 1, JournalID: "j", Time: time.Date(2026, 11, 20, 23, 4, 12, 5, time.UTC)}
	must(t, g.SaveCheckpoint(t.Context(), want))
	again, err := s.Open(t.Context(), 1)
	must(t, err)
	if got, ok, err := again.Checkpoint(t.Context()); got != want || !ok || err != nil {
		t.Fatalf("got %+v, %v, %v; want %+v", got, ok, err, want)
	}
}

func TestIDs(t *testing.T) {
	_, g := liveStore(t, testClient(t, nil), orders)
	var docs []views.Document
	var want []string
	for i := range 2500 {
		id := fmt.Sprintf("%04d:é", i)
		docs, want = append(docs, order(id, "7", "", "1")), append(want, id)
	}
	mustWrite(t, g, 1, docs...)
	mustWrite(t, g, 2, gone("0000:é"), gone("never was"))
	if got := idsOf(t, g); !slices.Equal(got, want[1:]) {
		t.Errorf("got %d ids, want %d", len(got), len(want)-1)
	}
	stop := errors.New("stop")
	if err := g.IDs(t.Context(), func(string) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("error of visit: %v", err)
	}
}

// idsOf is all ids, sorted, each once.
func idsOf(t *testing.T, g projectors.Generation) []string {
	t.Helper()
	var ids []string
	must(t, g.IDs(t.Context(), func(id string) error {
		ids = append(ids, id)
		return nil
	}))
	slices.Sort(ids)
	return slices.Compact(ids)
}

// TestReadsWhileGenerationsChange reads all the time while generations are filled, promoted and retired.
func TestReadsWhileGenerationsChange(t *testing.T) {
	c := testClient(t, nil)
	s, g := liveStore(t, c, orders)
	mustWrite(t, g, 1, order("1", "7", "", "1"))
	done := make(chan struct{})
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				if doc, state, err := s.Get(t.Context(), "1"); err != nil || state != Found {
					t.Errorf("get: %v, %v, %v", doc, state, err)
					return
				}
				if page, err := s.Lookup(t.Context(), byCustomer, "7", "", 10); err != nil || len(page.Documents) != 1 {
					t.Errorf("look up: %v, %v", page, err)
					return
				}
			}
		})
	}
	for n := 2; n < 30; n++ {
		next, err := s.Create(t.Context(), projectors.Info{Number: n, Hash: "h1"})
		must(t, err)
		mustWrite(t, next, 1, order("1", "7", "", "1"))
		must(t, s.Promote(t.Context(), n))
		must(t, s.Retire(t.Context(), n-1))
	}
	close(done)
	readers.Wait()
}
