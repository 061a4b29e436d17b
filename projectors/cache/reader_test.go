package cache

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/lanternist/lanternist/event"
	"github.com/lanternist/lanternist/projectors"
	"github.com/lanternist/lanternist/views"
)

// source stands for the mirror: the documents that exist, at an offset.
type source struct {
	offset    event.Offset
	documents map[string]views.Document
	asked     []string
}

func (s *source) compose(_ context.Context, ids []string) ([]views.Document, event.Offset, error) {
	s.asked = append(s.asked, ids...)
	var docs []views.Document
	for _, id := range ids {
		docs = append(docs, s.documents[id])
	}
	return docs, s.offset, nil
}

func (s *source) wantAsked(t *testing.T, ids ...string) {
	t.Helper()
	if !slices.Equal(s.asked, ids) {
		t.Errorf("composed %q, want %q", s.asked, ids)
	}
	s.asked = nil
}

func TestReaderComposesWhatExpired(t *testing.T) {
	s, g := liveStore(t, testClient(t, nil), orders)
	mustWrite(t, g, 1, order("1", "7", "", `"cached"`), order("2", "7", "", `"cached"`), gone("3"))
	src := &source{offset: 5, documents: map[string]views.Document{"2": order("2", "7", "", `"composed"`)}}
	r := NewReader(s, src.compose)
	get := func(id, body string, version event.Offset, want error) {
		t.Helper()
		doc, err := r.Get(t.Context(), id)
		if !errors.Is(err, want) || (err != nil) != (want != nil) {
			t.Fatalf("get %s: %v, want %v", id, err, want)
		}
		if string(doc.Body) != body || doc.Version != version || doc.ID != id {
			t.Errorf("get %s: %+v", id, doc)
		}
	}
	get("1", `"cached"`, 1, nil)
	get("2", `"cached"`, 1, nil)
	get("3", "", 1, ErrNotFound)
	src.wantAsked(t)
	expire(t, g, "2")
	get("2", `"composed"`, 5, nil)
	src.wantAsked(t, "2")
	get("2", `"composed"`, 5, nil)
	src.wantAsked(t)
	// What does not exist is not remembered: anybody may ask for any id.
	get("4", "", 5, ErrNotFound)
	get("4", "", 5, ErrNotFound)
	src.wantAsked(t, "4", "4")
	// A write that is older than what was composed changes nothing.
	mustWrite(t, g, 4, order("2", "8", "", `"late"`))
	get("2", `"composed"`, 5, nil)
	wantLookup(t, s, byCustomer, "7", "1", "2")
}

func TestReaderLookupComposesWhatExpired(t *testing.T) {
	s, g := liveStore(t, testClient(t, nil), orders)
	mustWrite(t, g, 1, order("1", "7", "", `1`), order("2", "7", "", `2`), order("3", "7", "", `3`), order("4", "7", "", `4`), order("5", "7", "", `5`))
	for _, id := range []string{"2", "3", "4"} {
		expire(t, g, id)
	}
	// Meanwhile 3 has moved, and 4 is gone; both happened while they had expired, so the lookup still names them.
	src := &source{offset: 5, documents: map[string]views.Document{"2": order("2", "7", "", `"two"`), "3": order("3", "8", "", `"three"`)}}
	r := NewReader(s, src.compose)
	want := func(value, want string) {
		t.Helper()
		page, err := r.Lookup(t.Context(), byCustomer, value, "", 10)
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		for _, d := range page.Documents {
			got += d.ID + "=" + string(d.Body) + " "
		}
		if got != want || len(page.Missing) > 0 || page.Next != "" {
			t.Errorf("look up %s: %s, %+v; want %s", value, got, page, want)
		}
	}
	want("7", `1=1 2="two" 5=5 `)
	src.wantAsked(t, "2", "3", "4")
	want("7", `1=1 2="two" 5=5 `)
	want("8", `3="three" `)
	src.wantAsked(t)
	if ids := s.client.redis.ZRange(t.Context(), g.keys.lookups+byCustomer+":7", 0, -1).Val(); !slices.Equal(ids, []string{"1", "2", "5"}) {
		t.Errorf("the lookup still holds %q", ids)
	}
}

// TestLookupLeavesOutWhatMovedWhileExpired: the write that moved a document could not know where it was before.
func TestLookupLeavesOutWhatMovedWhileExpired(t *testing.T) {
	s, g := liveStore(t, testClient(t, nil), orders)
	mustWrite(t, g, 1, order("1", "7", "", `1`), order("2", "7", "", `2`))
	expire(t, g, "1")
	expire(t, g, "2")
	mustWrite(t, g, 2, order("1", "8", "", `1`), gone("2"))
	wantLookup(t, s, byCustomer, "7")
	wantLookup(t, s, byCustomer, "8", "1")
	if n := s.client.redis.Exists(t.Context(), g.keys.lookups+byCustomer+":7").Val(); n != 0 {
		t.Error("the lookup was not pruned")
	}
}

func TestLookupOfAnotherDefinition(t *testing.T) {
	c := testClient(t, nil)
	before := orders
	before.hash, before.options = "h0", views.CacheOptions{Lookups: orders.options.Lookups[1:]}
	_, g := liveStore(t, c, before)
	mustWrite(t, g, 1, views.Document{ID: "1", Body: []byte("1"), Lookups: []string{"paid:DE"}})

	s := c.Store(orders)
	wantLookup(t, s, byStatus, "paid:DE", "1")
	if _, err := s.Lookup(t.Context(), byCustomer, "7", "", 10); !errors.Is(err, ErrNoLookup) {
		t.Errorf("a lookup that the live generation does not have: %v", err)
	}
	// Documents of the new definition do not belong into the generation of the old one.
	opened, err := s.Open(t.Context(), 1)
	must(t, err)
	if _, err := opened.Write(t.Context(), 2, []views.Document{order("1", "7", "", "1")}); projectors.Class(err) != projectors.Fatal {
		t.Errorf("write with other lookups: %v", err)
	}
	expire(t, g, "1")
	src := &source{offset: 5, documents: map[string]views.Document{"1": order("1", "7", "paid:DE", "new")}}
	if doc, err := NewReader(s, src.compose).Get(t.Context(), "1"); err != nil || string(doc.Body) != "new" {
		t.Errorf("get: %v, %v", doc, err)
	}
	wantDocument(t, s, "1", "missing")
}

func TestReaderErrors(t *testing.T) {
	s, g := liveStore(t, testClient(t, nil), orders)
	mustWrite(t, g, 1, order("1", "7", "", "1"))
	expire(t, g, "1")
	broken := errors.New("mirror is closed")
	r := NewReader(s, func(context.Context, []string) ([]views.Document, event.Offset, error) { return nil, 0, broken })
	if _, err := r.Get(t.Context(), "1"); !errors.Is(err, broken) {
		t.Errorf("get: %v", err)
	}
	if _, err := r.Lookup(t.Context(), byCustomer, "7", "", 10); !errors.Is(err, broken) {
		t.Errorf("look up: %v", err)
	}
}
