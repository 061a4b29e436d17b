package search

import (
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/lanternist/lanternist/projectors"
	"github.com/lanternist/lanternist/row"
	"github.com/lanternist/lanternist/views"
)

// TestPromotionBetweenAQueryAndItsSearch: a query that was worked out for one definition's index, and reaches that of another, because
// readers are sent there just then, is worked out again. The wrong index would refuse it, or find nothing.
func TestPromotionBetweenAQueryAndItsSearch(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		query Query
		from  int // the definition that is left
	}{
		{"no such mapping to sort by", Query{SinglePage: true}, 0},
		{"a text to sort by", Query{SinglePage: true}, 1},
		{"no such mapping to sort by, in pages", Query{Size: 1}, 0},
		{"a text to sort by, in pages", Query{Size: 1}, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var between atomic.Pointer[func()]
			client := proxy(t, func(_ http.ResponseWriter, r *http.Request) bool {
				if strings.HasSuffix(r.URL.Path, "/_search") || strings.HasSuffix(r.URL.Path, "/_pit") {
					if promote := between.Swap(nil); promote != nil {
						(*promote)()
					}
				}
				return false
			})
			// The first has its status as a text with a keyword beside it, the second as a keyword.
			stores := make([]*Store, 2)
			for i, as := range []string{"", "keyword"} {
				fields := []views.Field{scalar("id", "id", row.Int, "bigint", ""), scalar("status", "status", row.String, "text", as)}
				stores[i] = newStore(client, "orders", fields, nil)
				if i > 0 {
					stores[i].home = stores[0].home
				}
				stores[i].known([]string{"text", "keyword"}[i])
			}
			for number, definition := range []int{c.from, 1 - c.from} {
				s := stores[definition]
				g, err := s.Create(t.Context(), projectors.Info{Number: number + 1, Hash: s.hash, Epoch: "7000-1"})
				if err != nil {
					t.Fatal(err)
				}
				put(t, g, 5, doc("1", `{"id":1,"status":"new order"}`), doc("2", `{"id":2,"status":"old order"}`))
				if err := s.client.refresh(t.Context(), s.names.generation(number+1).index); err != nil {
					t.Fatal(err)
				}
			}
			if err := stores[c.from].Promote(t.Context(), 1); err != nil {
				t.Fatal(err)
			}
			promoted := make(chan error, 1)
			promote := func() { promoted <- stores[1-c.from].Promote(t.Context(), 2) }
			between.Store(&promote)
			c.query.Filters = []Filter{{Field: "status", Values: []string{"new order", "old order"}}}
			c.query.Sort = []Sort{{Field: "status", Descending: true}}
			r, err := stores[c.from].Search(t.Context(), c.query)
			if err != nil || r.Total != 2 || r.Hits[0].ID != "2" {
				t.Errorf("found %+v, %v", r, err)
			}
			if err := <-promoted; err != nil {
				t.Error(err)
			}
		})
	}
}
