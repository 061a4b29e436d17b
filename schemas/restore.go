package schemas

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/lanternist/lanternist/row"
)

// ErrOtherSchema means that an ID that is to be restored has been given to something else.
var ErrOtherSchema = errors.New("schema ID is taken")

// Restore puts definitions back that another registry has given IDs, under the same IDs: those of a journal whose control
// store was lost. The ones that are here already must say the same. It returns how many were missing.
func (r *Registry) Restore(ctx context.Context, list []*row.Schema) (int, error) {
	list = slices.SortedFunc(slices.Values(list), func(a, b *row.Schema) int { return cmp.Compare(a.ID, b.ID) })
	r.mu.Lock()
	defer r.mu.Unlock()
	restored := 0
	for _, s := range list {
		known := r.known.Load()
		next := uint32(len(known.byID))
		switch {
		case s.ID == 0 || s.ID > next:
			return restored, fmt.Errorf("restore schema %d of %s: the next is %d", s.ID, s.QualifiedName(), next)
		case s.ID < next:
			if here := known.byID[s.ID]; here.Version != s.Version || !identical(here, s) {
				return restored, fmt.Errorf("restore schema %d of %s, version %d: %w: it is %s, version %d, here",
					s.ID, s.QualifiedName(), s.Version, ErrOtherSchema, here.QualifiedName(), here.Version)
			}
			continue
		}
		added := clone(s)
		value, err := json.Marshal(added)
		if err != nil {
			return restored, fmt.Errorf("restore schema %d of %s: %w", s.ID, s.QualifiedName(), err)
		}
		if err := r.store.Put(ctx, schemaKey(added.ID), value); err != nil {
			return restored, fmt.Errorf("restore schema %d of %s: %w", s.ID, s.QualifiedName(), err)
		}
		with := known.clone()
		with.add(added)
		r.known.Store(with)
		restored++
	}
	return restored, nil
}
