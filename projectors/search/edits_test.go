package search

import (
	"net/http"
	"strings"
	"testing"

	"github.com/lanternist/lanternist/event"
	"github.com/lanternist/lanternist/projectors"
	"github.com/lanternist/lanternist/views"
)

// TestOverwrite: what a person writes or deletes gets a version above, again and again; Overwrite wins each time, never
// with a version that an event to come could have, and never over one that it has.
func TestOverwrite(t *testing.T) {
	t.Parallel()
	c := client(t)
	s, g := orders(t, c)
	const version, last = event.Offset(5<<16 | 3), event.Offset(5<<16 | 0xffff)
	index := "/" + g.(*Generation).names.index + "/_doc/"
	put(t, g, version, doc("1", `{"id":1}`), doc("2", `{"id":2}`), doc("3", `{"id":3}`))
	put(t, g, last+1, doc("event", `{"id":9}`))
	for round := range 5 {
		raw(t, c, http.MethodPut, index+"1", map[string]any{"by": "hand"}, nil)
		raw(t, c, http.MethodDelete, index+"2", nil, nil)
		raw(t, c, http.MethodPut, index+"extra", map[string]any{"by": "hand"}, nil)
		failures, err := g.(projectors.Overwriter).Overwrite(t.Context(), version, last, []views.Document{
			doc("", `{}`), doc("1", `{"id":1}`), doc("2", `{"id":2}`), doc("3", `{"id":3}`), gone("extra"), doc("event", `{"id":8}`),
		})
		if err != nil || len(failures) != 1 || failures[0].Index != 0 || !strings.Contains(failures[0].Err.Error(), "empty") {
			t.Fatalf("round %d: %v %v", round, failures, err)
		}
		for id, want := range map[string]string{"1": `{"id":1}`, "2": `{"id":2}`, "3": `{"id":3}`, "extra": "", "event": `{"id":9}`} {
			hit, _, err := s.Get(t.Context(), id)
			if err != nil || string(hit.Source) != want {
				t.Errorf("round %d: document %s is %s, want %s: %v", round, id, hit.Source, want, err)
			}
			if id != "event" && hit.Version > last {
				t.Errorf("round %d: document %s has version %s", round, id, hit.Version)
			}
		}
	}
	put(t, g, last+1, doc("1", `{"id":10}`), gone("2"))
	if hit, _, err := s.Get(t.Context(), "1"); err != nil || string(hit.Source) != `{"id":10}` {
		t.Errorf("the next event: %s, %v", hit.Source, err)
	}
}
