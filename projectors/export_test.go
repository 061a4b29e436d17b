package projectors

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/lanternist/lanternist/views"
)

// RebuildTampered is for tests with real sinks: it rebuilds 300 orders in a store, has tamper do what it likes to the new
// generation once that is filled, and returns what Rebuild did and what the store holds then. Rows change meanwhile.
func RebuildTampered(t *testing.T, section string, home func(*views.View) Store, tamper func(generation int)) ([]Info, error) {
	view := compile(t, "\nview: order\nfrom: public.orders\nfields: {id: , status: , customer: {one: public.customers, on: {id: customer_id}, fields: {name: }}}\n"+section)
	s := newSource(t, view)
	store := home(view)
	s.commit(insert(customers, "1", "Ada"))
	for i := range 300 {
		s.commit(insert(orders, fmt.Sprint(i), "1", "new"))
	}
	r := s.runner(view, store, func(c *Config) { c.PieceDocuments = 100 })
	s.run(r)
	s.reach(r, pglsn(s.lsn.Load()))
	following(t, r)
	tampered := false
	err := r.Rebuild(context.Background(), func(done, total int64) {
		if done < total || tampered {
			return
		}
		tampered = true
		tamper(2)
		s.commit(update(orders, "100", "1", "paid"), remove(orders, "200"))
	})
	if !tampered {
		t.Error("nothing was tampered with")
	}
	s.reach(r, s.commit(update(customers, "1", "Bob")))
	infos, listErr := store.Generations(context.Background())
	check(t, listErr)
	return slices.Clone(infos), err
}
