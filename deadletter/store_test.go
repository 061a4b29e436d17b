package deadletter

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/lanternist/lanternist/control"
	"github.com/lanternist/lanternist/event"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// The embedded nats-server keeps these for the life of a process.
		goleak.IgnoreAnyFunction("github.com/nats-io/nats-server/v2/server.(*Server).startGoRoutine"),
		goleak.IgnoreAnyFunction("github.com/nats-io/nats-server/v2/server.init.0.func1"))
}

func openControl(t *testing.T, dir string) control.Store {
	t.Helper()
	store, err := control.OpenPebble(dir, slog.New(slog.DiscardHandler))
	must(t, err)
	t.Cleanup(func() { must(t, store.Close()) })
	return store
}

func open(t *testing.T, home control.Store) *Store {
	t.Helper()
	s, err := Open(t.Context(), home)
	must(t, err)
	return s
}

func park(t *testing.T, s *Store, projector, document string, offset event.Offset) {
	t.Helper()
	must(t, s.Park(t.Context(), Letter{Projector: projector, View: "orders", DocumentID: document, Offset: offset, Reason: "no"}))
}

// list is "projector document@offset" of each letter that the filter chooses.
func list(t *testing.T, s *Store, f Filter) []string {
	t.Helper()
	var all []string
	must(t, s.List(t.Context(), f, func(l Letter) error {
		all = append(all, fmt.Sprintf("%s %s@%d", l.Projector, l.DocumentID, uint64(l.Offset)))
		return nil
	}))
	return all
}

func wantList(t *testing.T, s *Store, f Filter, want ...string) {
	t.Helper()
	if got := list(t, s, f); !slices.Equal(got, want) {
		t.Errorf("%+v: got %q, want %q", f, got, want)
	}
}

func TestParkAndGet(t *testing.T) {
	s := open(t, openControl(t, t.TempDir()))
	want := Letter{
		Projector: "orders.search", View: "orders", Generation: 3, DocumentID: "a/b:ü", Offset: 1<<62 + 1, Payload: []byte("{\"a\":\xff}"),
		Reason: "mapper_parsing_exception", Class: "permanent", Attempts: 3, Event: []byte{0, 1}, Keys: []string{"a"}, Time: time.Date(2026, 11, 20, 23, 4, 12, 5, time.UTC),
	}
	must(t, s.Park(t.Context(), want))
	var id string
	must(t, s.List(t.Context(), Filter{}, func(l Letter) error { id = l.ID; return nil }))
	if strings.ContainsAny(id, "/%:ü ") || id == "" {
		t.Errorf("id %q does not fit into a path", id)
	}
	got, ok, err := s.Get(t.Context(), id)
	want.ID, want.PayloadSize, want.Pieces, want.Time, want.Last = id, len(want.Payload), Pieces{1, 1, 1}, microseconds(want.Time), got.Last
	if err != nil || !ok || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v, %v; want %+v", got, ok, err, want)
	}
	if _, ok, err := s.Get(t.Context(), "nothing"); ok || err != nil {
		t.Errorf("get what is not there: %v, %v", ok, err)
	}
	before := time.Now()
	park(t, s, "p", "1", 1)
	must(t, s.List(t.Context(), Filter{Projector: "p"}, func(l Letter) error {
		if l.Time.Before(before.Truncate(time.Microsecond)) {
			t.Errorf("parked at %v", l.Time)
		}
		return nil
	}))
	for _, l := range []Letter{{DocumentID: "1"}, {Projector: "p"}} {
		if err := s.Park(t.Context(), l); err == nil {
			t.Errorf("%+v was parked", l)
		}
	}
}

func TestParkingAgainReplaces(t *testing.T) {
	s := open(t, openControl(t, t.TempDir()))
	park(t, s, "p", "1", 5)
	park(t, s, "p", "1", 5)
	park(t, s, "p", "1", 6)
	if n := s.Count("p"); n != 2 {
		t.Errorf("%d letters, want 2", n)
	}
	wantList(t, s, Filter{}, "p 1@5", "p 1@6")
}

func TestTooLargeToKeep(t *testing.T) {
	s := open(t, openControl(t, t.TempDir()))
	size := PayloadMaxBytes + 1
	must(t, s.Park(t.Context(), Letter{Projector: "p", DocumentID: "large", Payload: make([]byte, size), Reason: strings.Repeat("é", ReasonMaxBytes)}))
	must(t, s.Park(t.Context(), Letter{Projector: "p", DocumentID: "largest", Offset: 1, Payload: make([]byte, PayloadMaxBytes), Reason: strings.Repeat("\x00", ReasonMaxBytes)}))
	var kept []int
	must(t, s.List(t.Context(), Filter{}, func(l Letter) error {
		l, ok, err := s.Get(t.Context(), l.ID)
		if !ok {
			t.Errorf("%s is not there", l.ID)
		}
		kept = append(kept, len(l.Payload), l.PayloadSize)
		return err
	}))
	if want := []int{0, size, PayloadMaxBytes, PayloadMaxBytes}; !slices.Equal(kept, want) {
		t.Errorf("kept and real sizes %v, want %v", kept, want)
	}
}

func TestResolve(t *testing.T) {
	home := openControl(t, t.TempDir())
	s := open(t, home)
	park(t, s, "p", "1", 5)
	park(t, s, "p", "1", 7)
	park(t, s, "p", "2", 5)
	park(t, s, "p.q", "1", 5)
	must(t, s.Resolve(t.Context(), "p", "1", 4))
	must(t, s.Resolve(t.Context(), "p", "3", 99))
	must(t, s.Resolve(t.Context(), "q", "1", 99))
	if n := s.Count("p"); n != 3 {
		t.Errorf("%d letters, want 3", n)
	}
	must(t, s.Resolve(t.Context(), "p", "1", 6))
	wantList(t, s, Filter{Projector: "p"}, "p 2@5", "p 1@7")
	must(t, s.Resolve(t.Context(), "p", "1", 7))
	must(t, s.Resolve(t.Context(), "p", "2", 5))
	if n := s.Count("p"); n != 0 {
		t.Errorf("%d letters, want none", n)
	}
	wantList(t, s, Filter{}, "p.q 1@5")
	// Nothing comes back.
	again := open(t, home)
	if again.Count("p") != 0 || again.Count("p.q") != 1 {
		t.Errorf("after opening again: %d and %d", again.Count("p"), again.Count("p.q"))
	}
}

func TestDiscard(t *testing.T) {
	s := open(t, openControl(t, t.TempDir()))
	park(t, s, "p", "1", 5)
	var id string
	must(t, s.List(t.Context(), Filter{}, func(l Letter) error { id = l.ID; return nil }))
	for _, want := range []bool{true, false} {
		if ok, err := s.Discard(t.Context(), id); ok != want || err != nil {
			t.Errorf("discarded: %v, %v; want %v", ok, err, want)
		}
	}
	if n := s.Count("p"); n != 0 {
		t.Errorf("%d letters, want none", n)
	}
}

func TestList(t *testing.T) {
	s := open(t, openControl(t, t.TempDir()))
	noon := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	for i, l := range []Letter{
		{Projector: "b.search", View: "b", DocumentID: "1", Offset: 300},
		{Projector: "a.search", View: "a", DocumentID: "2", Offset: 1 << 40},
		{Projector: "a.search", View: "a", DocumentID: "1", Offset: 9},
		{Projector: "a", View: "a", DocumentID: "1", Offset: 10},
		{Projector: "a.search-g2", View: "a", DocumentID: "1", Offset: 1},
	} {
		l.Time = noon.Add(time.Duration(i) * time.Hour)
		must(t, s.Park(t.Context(), l))
	}
	wantList(t, s, Filter{Projector: "a.search"}, "a.search 1@9", "a.search 2@1099511627776")
	wantList(t, s, Filter{Projector: "a"}, "a 1@10")
	wantList(t, s, Filter{Projector: "a.s"})
	wantList(t, s, Filter{View: "b"}, "b.search 1@300")
	wantList(t, s, Filter{DocumentID: "2"}, "a.search 2@1099511627776")
	wantList(t, s, Filter{Since: noon.Add(3 * time.Hour)}, "a 1@10", "a.search-g2 1@1")
	wantList(t, s, Filter{Projector: "a.search", Limit: 1}, "a.search 1@9")

	var pages []string
	after := ""
	for {
		n := 0
		must(t, s.List(t.Context(), Filter{Limit: 2, After: after}, func(l Letter) error {
			pages, after, n = append(pages, l.ID), l.ID, n+1
			return nil
		}))
		if n < 2 {
			break
		}
	}
	if len(pages) != 5 || !slices.IsSorted(pages) || len(slices.Compact(slices.Clone(pages))) != 5 {
		t.Errorf("pages: %q", pages)
	}
	stop := errors.New("stop")
	if err := s.List(t.Context(), Filter{}, func(Letter) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("error of visit: %v", err)
	}
}

// failing is a control store that fails when told to.
type failing struct {
	control.Store
	err error
}

func (f *failing) Put(ctx context.Context, key string, value []byte) error {
	if f.err != nil {
		return f.err
	}
	return f.Store.Put(ctx, key, value)
}

func (f *failing) Delete(ctx context.Context, key string) error {
	if f.err != nil {
		return f.err
	}
	return f.Store.Delete(ctx, key)
}

// TestFailuresAreNotForgotten: what could not be written was not parked, and what could not be removed is tried again.
func TestFailuresAreNotForgotten(t *testing.T) {
	full := errors.New("disk is full")
	home := &failing{Store: openControl(t, t.TempDir())}
	s := open(t, home)
	home.err = full
	if err := s.Park(t.Context(), Letter{Projector: "p", DocumentID: "1"}); !errors.Is(err, full) || s.Count("p") != 0 {
		t.Errorf("park: %v, %d letters", err, s.Count("p"))
	}
	home.err = nil
	park(t, s, "p", "1", 5)
	home.err = full
	if err := s.Resolve(t.Context(), "p", "1", 5); !errors.Is(err, full) || s.Count("p") != 1 {
		t.Errorf("resolve: %v, %d letters", err, s.Count("p"))
	}
	home.err = nil
	must(t, s.Resolve(t.Context(), "p", "1", 5))
	wantList(t, s, Filter{})
}

func TestDamagedLetterIsAnError(t *testing.T) {
	home := openControl(t, t.TempDir())
	must(t, home.Put(t.Context(), formerPrefix+"x", []byte("{")))
	if _, err := Open(t.Context(), home); err == nil || !strings.Contains(err.Error(), `"x"`) {
		t.Errorf("got %v", err)
	}
	must(t, home.Delete(t.Context(), formerPrefix+"x"))
	s := open(t, home)
	park(t, s, "p", "1", 5)
	must(t, home.Put(t.Context(), letterKey("p.0000000000000006.0.0000000000000001"), []byte("{")))
	if err := s.List(t.Context(), Filter{}, func(Letter) error { return nil }); err == nil || !strings.Contains(err.Error(), "0000000000000006") {
		t.Errorf("got %v", err)
	}
	must(t, home.Put(t.Context(), documentPrefix+"x", nil))
	if _, err := Open(t.Context(), home); err == nil || !strings.Contains(err.Error(), "no key") {
		t.Errorf("got %v", err)
	}
}

func TestAtOnce(t *testing.T) {
	s := open(t, openControl(t, t.TempDir()))
	var all sync.WaitGroup
	for p := range 4 {
		all.Go(func() {
			name := fmt.Sprint("p", p)
			for i := range 20 {
				if err := s.Park(t.Context(), Letter{Projector: name, DocumentID: fmt.Sprint(i), Offset: 1}); err != nil {
					t.Error(err)
				}
			}
			for i := range 10 {
				if err := s.Resolve(t.Context(), name, fmt.Sprint(i), 1); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	for p := range 4 {
		if n := s.Count(fmt.Sprint("p", p)); n != 10 {
			t.Errorf("projector %d has %d letters, want 10", p, n)
		}
	}
}

// TestModel parks, resolves and opens again at random and compares with a map.
func TestModel(t *testing.T) {
	dir := 0
	rapid.Check(t, func(rt *rapid.T) {
		dir++
		home := openControl(t, fmt.Sprint(t.TempDir(), "/", dir))
		if rapid.Bool().Draw(rt, "one by one") {
			home = &failing{Store: home}
		}
		s := open(t, home)
		model := map[string]event.Offset{} // "projector document@offset"
		names, ids := rapid.SampledFrom([]string{"a", "a.b", "a=2Eb", "ä"}), rapid.SampledFrom([]string{"1", "2", "a/b"})
		for range rapid.IntRange(1, 20).Draw(rt, "steps") {
			projector, id, offset := names.Draw(rt, "projector"), ids.Draw(rt, "id"), event.Offset(rapid.Uint64Range(0, 3).Draw(rt, "offset"))
			switch rapid.IntRange(0, 5).Draw(rt, "what") {
			case 0, 1, 2:
				park(t, s, projector, id, offset)
				model[fmt.Sprintf("%s %s@%d", projector, id, uint64(offset))] = offset
			case 3:
				must(t, s.Resolve(t.Context(), projector, id, offset))
				for name, at := range model {
					if strings.HasPrefix(name, projector+" "+id+"@") && at <= offset {
						delete(model, name)
					}
				}
			case 4:
				s = open(t, home)
			case 5:
				offset := max(offset, 1)
				must(t, s.Supersede(t.Context(), Letter{Projector: projector, DocumentID: id, Offset: offset}))
				for name, at := range model {
					if strings.HasPrefix(name, projector+" "+id+"@") && at <= offset {
						delete(model, name)
					}
				}
				model[fmt.Sprintf("%s %s@%d", projector, id, uint64(offset))] = offset
			}
			got := list(t, s, Filter{})
			if len(got) != len(model) {
				rt.Fatalf("got %q, want %v", got, model)
			}
			for _, name := range got {
				if _, ok := model[name]; !ok {
					rt.Fatalf("got %q, want %v", got, model)
				}
			}
			for _, p := range []string{"a", "a.b", "a=2Eb", "ä"} {
				if len(list(t, s, Filter{Projector: p})) != s.Count(p) {
					rt.Fatalf("projector %s: %q, count %d", p, list(t, s, Filter{Projector: p}), s.Count(p))
				}
			}
		}
	})
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
