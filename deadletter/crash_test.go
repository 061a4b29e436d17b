package deadletter

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/lanternist/lanternist/control"
	"github.com/lanternist/lanternist/event"
)

// mortal is a control store that makes changes one by one, and none any more after so many.
type mortal struct {
	control.Store
	left int
}

var errGone = errors.New("the process is gone")

func (m *mortal) Put(ctx context.Context, key string, value []byte) error {
	if m.left--; m.left < 0 {
		return errGone
	}
	return m.Store.Put(ctx, key, value)
}

func (m *mortal) Delete(ctx context.Context, key string) error {
	if m.left--; m.left < 0 {
		return errGone
	}
	return m.Store.Delete(ctx, key)
}

// TestCutOffAnywhere ends the process after each change of the control store in turn, in the middle of each thing that is done to
// letters: what was done before stays, each letter is there as a whole or not at all, and nothing is left of those that are not.
func TestCutOffAnywhere(t *testing.T) {
	t.Parallel()
	long := []byte(strings.Repeat("x", pieceBytes+1))
	work := map[string]func(ctx context.Context, s *Store) error{
		"park":      func(ctx context.Context, s *Store) error { return s.Park(ctx, letterWith("new", 9, long)) },
		"again":     func(ctx context.Context, s *Store) error { return s.Park(ctx, letterWith("old", 5, []byte("short"))) },
		"supersede": func(ctx context.Context, s *Store) error { return s.Supersede(ctx, letterWith("old", 9, long)) },
		"resolve":   func(ctx context.Context, s *Store) error { return s.Resolve(ctx, "p", "old", 5) },
		"move": func(ctx context.Context, s *Store) error {
			_, err := s.Move(ctx, Filter{Projector: "p"}, "q", nil)
			return err
		},
		"discard": func(ctx context.Context, s *Store) error {
			_, err := s.DiscardAll(ctx, Filter{}, nil, nil)
			return err
		},
	}
	for name, do := range work {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for at := 0; ; at++ {
				home := openControl(t, t.TempDir())
				s := open(t, home)
				must(t, s.Park(t.Context(), letterWith("old", 5, long)))
				must(t, s.Park(t.Context(), letterWith("other", 5, long)))
				dying := &mortal{Store: home, left: at}
				if err := do(t.Context(), open(t, dying)); err != nil && !errors.Is(err, errGone) {
					t.Fatal(err)
				}
				again := &failing{Store: home}
				s = open(t, again)
				letters := 0
				must(t, s.List(t.Context(), Filter{}, func(l Letter) error {
					letters++
					whole, ok, err := s.Get(t.Context(), l.ID)
					if err != nil || !ok || len(whole.Payload) != whole.PayloadSize {
						t.Fatalf("after %d changes %s has %d of %d bytes: %v", at, l.ID, len(whole.Payload), whole.PayloadSize, err)
					}
					if _, ok, err := s.Parked(t.Context(), l.Projector, l.DocumentID); !ok || err != nil {
						t.Fatalf("after %d changes %s is not found by its document: %v", at, l.ID, err)
					}
					return nil
				}))
				if n := s.Count("p") + s.Count("q"); n != letters {
					t.Fatalf("after %d changes %d letters are counted, %d are there", at, n, letters)
				}
				if (name == "park" || name == "again" || name == "supersede" || name == "move") && letters < 2 {
					t.Fatalf("after %d changes %d letters are left", at, letters)
				}
				if _, err := s.DiscardAll(t.Context(), Filter{}, nil, nil); err != nil {
					t.Fatal(err)
				}
				must(t, home.List(t.Context(), "", func(key string, _ []byte) error {
					return fmt.Errorf("after %d changes, %s is left", at, key)
				}))
				if dying.left >= 0 {
					return
				}
			}
		})
	}
}

func letterWith(document string, offset event.Offset, payload []byte) Letter {
	return Letter{Projector: "p", View: "v", DocumentID: document, Offset: offset, Payload: payload, Event: payload, Reason: "no", Class: "permanent", Attempts: 1}
}

func TestAttemptsAddUp(t *testing.T) {
	s := open(t, openControl(t, t.TempDir()))
	first := time.Date(2026, 11, 20, 23, 0, 0, 0, time.UTC)
	for i, l := range []Letter{
		{Offset: 5, Attempts: 3, Time: first, Last: first}, {Offset: 5, Attempts: 2, Time: first.Add(time.Hour), Last: first.Add(time.Hour)},
		{Offset: 7, Attempts: 3, Time: first.Add(2 * time.Hour), Last: first.Add(2 * time.Hour)},
	} {
		l.Projector, l.DocumentID, l.Class = "p", "1", "permanent"
		must(t, s.Supersede(t.Context(), l))
		var got []Letter
		must(t, s.List(t.Context(), Filter{}, func(l Letter) error { got = append(got, l); return nil }))
		if len(got) != 1 || got[0].Attempts != []int{3, 5, 8}[i] || !got[0].Time.Equal(first) || !got[0].Last.Equal(l.Last) || got[0].Offset != l.Offset {
			t.Fatalf("%d: %+v", i, got)
		}
	}
	depths, err := s.Depths(t.Context())
	if want := []Depth{{"p", "permanent", 1, first}}; err != nil || !reflect.DeepEqual(depths, want) {
		t.Errorf("got %+v, %v", depths, err)
	}
}

func TestDepths(t *testing.T) {
	s := open(t, openControl(t, t.TempDir()))
	first := time.Date(2026, 11, 20, 23, 0, 0, 0, time.UTC)
	for i, class := range []string{"permanent", Waiting, "permanent", "permanent"} {
		must(t, s.Park(t.Context(), Letter{Projector: "ä.search", DocumentID: fmt.Sprint(i), Offset: event.Offset(i), Class: class, Time: first.Add(time.Duration(i) * time.Hour)}))
	}
	want := func(want ...Depth) {
		t.Helper()
		if got, err := s.Depths(t.Context()); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v, %v; want %+v", got, err, want)
		}
	}
	waiting := Depth{"ä.search", Waiting, 1, first.Add(time.Hour)}
	want(Depth{"ä.search", "permanent", 3, first}, waiting)
	must(t, s.Resolve(t.Context(), "ä.search", "0", 0)) // the oldest
	want(Depth{"ä.search", "permanent", 2, first.Add(2 * time.Hour)}, waiting)
	must(t, s.Resolve(t.Context(), "ä.search", "3", 3))
	want(Depth{"ä.search", "permanent", 1, first.Add(2 * time.Hour)}, waiting)
	must(t, s.Resolve(t.Context(), "ä.search", "2", 3))
	must(t, s.Resolve(t.Context(), "ä.search", "1", 3))
	want()
}

func TestFilters(t *testing.T) {
	s := open(t, openControl(t, t.TempDir()))
	noon := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	must(t, s.Park(t.Context(), Letter{Projector: "p", DocumentID: "1", Offset: 1, Class: "permanent", Reason: "Mapper parsing", Time: noon}))
	must(t, s.Park(t.Context(), Letter{Projector: "p", DocumentID: "2", Offset: 2, Class: Waiting, Reason: "waits", Time: noon.Add(time.Hour)}))
	var ids []string
	must(t, s.List(t.Context(), Filter{}, func(l Letter) error { ids = append(ids, l.ID); return nil }))
	wantList(t, s, Filter{Class: Waiting}, "p 2@2")
	wantList(t, s, Filter{Reason: "mapper PARSING"}, "p 1@1")
	wantList(t, s, Filter{Until: noon}, "p 1@1")
	wantList(t, s, Filter{ID: ids[1]}, "p 2@2")
	wantList(t, s, Filter{ID: ids[1], Projector: "q"})
	for _, bad := range []Filter{{Since: noon, Until: noon.Add(-1)}, {ID: "x"}, {ID: "a/b.1.2.3"}, {Limit: -1}} {
		if bad.Validate() == nil {
			t.Errorf("%+v is fine", bad)
		}
	}
	if err := s.List(t.Context(), Filter{After: "nonsense"}, nil); err == nil {
		t.Error("listed after nonsense")
	}
}

// What was kept in the way of before is found again, each letter once, also when moving it was cut off.
func TestFormerLetters(t *testing.T) {
	home := openControl(t, t.TempDir())
	at := time.Date(2026, 11, 20, 23, 4, 12, 0, time.UTC)
	for i := range 300 {
		l := map[string]any{
			"id": "ignored", "projector": "a.search", "view": "a", "generation": 2, "document_id": fmt.Sprint(i), "offset": i,
			"payload": []byte(fmt.Sprint("payload ", i)), "payload_size": 9, "reason": "no", "class": "permanent", "attempts": 3, "time": at,
		}
		value, err := json.Marshal(l)
		must(t, err)
		must(t, home.Put(t.Context(), fmt.Sprintf("%sa=2Esearch.%016x.2.00", formerPrefix, i), value))
	}
	dying := &mortal{Store: home, left: 500}
	if _, err := Open(t.Context(), dying); !errors.Is(err, errGone) {
		t.Fatalf("got %v", err)
	}
	s := open(t, home)
	n := 0
	must(t, s.List(t.Context(), Filter{Projector: "a.search"}, func(l Letter) error {
		l, ok, err := s.Get(t.Context(), l.ID)
		if want := fmt.Sprint("payload ", n); !ok || err != nil || string(l.Payload) != want || l.Attempts != 3 || l.Generation != 2 || !l.Time.Equal(at) || l.PayloadSize != 9 {
			t.Fatalf("letter %d: %+v, %v", n, l, err)
		}
		n++
		return nil
	}))
	if n != 300 || s.Count("a.search") != 300 {
		t.Errorf("%d letters, %d counted", n, s.Count("a.search"))
	}
	must(t, home.List(t.Context(), formerPrefix, func(key string, _ []byte) error { return errors.New(key + " is left") }))
	must(t, s.Resolve(t.Context(), "a.search", "7", 7))
	if n := s.Count("a.search"); n != 299 {
		t.Errorf("%d letters", n)
	}
}

func TestChanges(t *testing.T) {
	s := open(t, openControl(t, t.TempDir()))
	some, last, missed, changed := s.Changes(0)
	if len(some) != 0 || last != 0 || missed {
		t.Fatalf("at the beginning: %v %d %t", some, last, missed)
	}
	park(t, s, "p", "1", 1)
	<-changed
	must(t, s.Resolve(t.Context(), "p", "1", 1))
	some, last, missed, _ = s.Changes(0)
	if len(some) != 2 || last != 2 || missed || some[0].Kind != Parked || some[1].Kind != Resolved || some[1].Letter.DocumentID != "1" {
		t.Fatalf("%+v %d %t", some, last, missed)
	}
	for i := range changesKept {
		s.changes.add(Discarded, &Letter{DocumentID: fmt.Sprint(i)})
	}
	if some, last, missed, _ = s.Changes(1); len(some) != changesKept || !missed || last != changesKept+2 || some[0].Sequence != 3 || some[0].Letter.DocumentID != "0" {
		t.Fatalf("%+v %d %t", some[0], last, missed)
	}
	if some, _, missed, _ = s.Changes(2); len(some) != changesKept || missed {
		t.Errorf("%d %t", len(some), missed)
	}
}
