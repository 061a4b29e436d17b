package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/lanternist/lanternist/mirror"
	"github.com/lanternist/lanternist/projectors"
	"github.com/lanternist/lanternist/projectors/cache"
	"github.com/lanternist/lanternist/projectors/search"
	"github.com/lanternist/lanternist/row"
	"github.com/lanternist/lanternist/views"
)

// storedFile stands for the file of a definition that a generation holds, in messages.
const storedFile = "stored definition"

// compileStored compiles the definition that a generation holds, by the tables as they are now.
func (d *deployment) compileStored(text string) (*views.View, error) {
	defs, err := views.Parse(storedFile, []byte(text))
	if err != nil {
		return nil, err
	}
	list, err := views.Compile(defs, d.catalog.all())
	if err != nil {
		return nil, err
	}
	if len(list) != 1 {
		return nil, fmt.Errorf("%s: %d views, want one", storedFile, len(list))
	}
	return list[0], nil
}

// compileFor is projectors.Config.Compile for the projector that writes to a store.
func (d *deployment) compileFor(store projectors.Store) func(context.Context, string) (projectors.Definition, error) {
	return func(ctx context.Context, text string) (def projectors.Definition, err error) {
		v, err := d.compileStored(text)
		if err != nil {
			return def, err
		}
		def, err = redefined(store, v)
		if err != nil {
			return def, err
		}
		d.indexes.add(v)
		return def, d.indexes.ensure(ctx, d.mirror)
	}
}

// redefined is a view in a store's sink, by another definition than the store's.
func redefined(store projectors.Store, v *views.View) (projectors.Definition, error) {
	switch store := store.(type) {
	case *search.Store:
		if v.Search() != nil {
			return projectors.Definition{View: v, Store: store.Redefined(v)}, nil
		}
	case *cache.Store:
		if v.Cache() != nil {
			return projectors.Definition{View: v, Store: store.Redefined(v)}, nil
		}
	}
	return projectors.Definition{}, errors.New("the definition has no section for this sink")
}

// acquaint tells a store of the definitions that generations of its view are of: until the projector has found out which one is
// live, readers go by the configured one.
func (d *deployment) acquaint(def projectors.Definition) {
	for _, v := range d.stored {
		if v.Name() != def.View.Name() {
			continue
		}
		// A definition without a section for this sink has no generation in it.
		if other, err := redefined(def.Store, v); err == nil {
			if store, ok := other.Store.(*cache.Store); ok {
				cache.NewReader(store, d.composeFor(v)) // from now on it composes what is missing in generations of its definition
			}
		}
	}
}

// askStored bounds how long the sinks are asked at the start which definitions they hold.
const askStored = 3 * time.Second

// storedViews are the definitions that generations in the sinks are of. A sink that does not answer is left out: the
// indexes that its definitions need are built again when it does.
func (d *deployment) storedViews(ctx context.Context) (found []*views.View) {
	ctx, cancel := context.WithTimeout(ctx, askStored)
	defer cancel()
	for _, v := range d.views {
		for _, store := range d.stores(v) {
			generations, err := store.Generations(ctx)
			if err != nil {
				d.log.Debug("sink did not say what it holds", "view", v.Name(), "error", err)
			}
			for _, info := range generations {
				if info.Hash == v.Hash() || info.Definition == "" {
					continue
				}
				if stored, err := d.compileStored(info.Definition); err == nil {
					found = append(found, stored)
				}
			}
		}
	}
	return found
}

// indexes are what the mirror is to have: those of every definition that documents are composed by.
type indexes struct {
	mu     sync.Mutex
	wanted []mirror.Index
	had    int // of wanted, when the mirror was told last
}

// add wants the indexes of views.
func (x *indexes) add(list ...*views.View) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, v := range list {
		for _, ix := range v.Indexes() {
			same := func(other mirror.Index) bool { return other.OID == ix.OID && slices.Equal(other.Columns, ix.Columns) }
			if !slices.ContainsFunc(x.wanted, same) {
				x.wanted = append(x.wanted, ix)
			}
		}
	}
}

// keep forgets the indexes of other tables than these. They go when the mirror is told the next time.
func (x *indexes) keep(tables []*row.Schema) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.wanted = slices.DeleteFunc(x.wanted, func(ix mirror.Index) bool {
		return !slices.ContainsFunc(tables, func(s *row.Schema) bool { return s.OID == ix.OID })
	})
	x.had = len(x.wanted)
}

// ensure has the mirror build what it lacks.
func (x *indexes) ensure(ctx context.Context, m *mirror.Mirror) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.had > 0 && x.had == len(x.wanted) {
		return nil
	}
	if err := m.EnsureIndexes(ctx, x.wanted); err != nil {
		return err
	}
	x.had = len(x.wanted)
	return nil
}
