// Package schemas knows every version of every captured table's definition, and what event types and JSON
// Schemas follow from them.
//
// A definition is identical to another when relation, qualified name, columns (name, type, not null, number), key and
// replica identity are. Each definition gets an ID, unique over all tables, that journal entries and mirror
// rows refer to, and for its table a Version, which goes up by one when the columns change. Both are durable
// before Register returns, and are never given twice.
//
// Invariants: a Schema returned by the registry is immutable; Schema(id) answers for every ID ever given, so
// that old journal entries stay readable. How a row is written as JSON is left to package row.
package schemas

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/lanternist/lanternist/control"
	"github.com/lanternist/lanternist/row"
)

// Where the registry lives in the control store.
const (
	prefix       = "schemas/"       // + ID in ten digits: a definition
	latestPrefix = "schema-latest/" // + relation OID in ten digits: the ID that was registered last
)

// Registry holds all definitions. It is safe for concurrent use; reads take no lock.
type Registry struct {
	store control.Store
	mu    sync.Mutex // held by Register
	known atomic.Pointer[definitions]
	seen  atomic.Pointer[func(*row.Schema)]
}

// OnNew has f called with each definition that is new, before Register returns it: before a row of it is anywhere. f must not
// call Register.
func (r *Registry) OnNew(f func(*row.Schema)) { r.seen.Store(&f) }

// definitions is an immutable state of the registry.
type definitions struct {
	byID   []*row.Schema            // index is the ID; 0 is nil
	tables map[uint32][]*row.Schema // by relation OID, in order of their IDs
	latest map[uint32]*row.Schema   // by relation OID, the one registered last
}

// Open reads what the store holds.
func Open(ctx context.Context, store control.Store) (*Registry, error) {
	known := &definitions{byID: []*row.Schema{nil}, tables: map[uint32][]*row.Schema{}, latest: map[uint32]*row.Schema{}}
	err := store.List(ctx, prefix, func(key string, value []byte) error {
		s := new(row.Schema)
		if err := json.Unmarshal(value, s); err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
		if want := len(known.byID); s.ID != uint32(want) || key != schemaKey(s.ID) {
			return fmt.Errorf("%s holds schema %d, want %d: the control store is damaged", key, s.ID, want)
		}
		known.add(s)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read schemas: %w", err)
	}
	err = store.List(ctx, latestPrefix, func(key string, value []byte) error {
		id, err := strconv.ParseUint(string(value), 10, 32)
		if err != nil || id == 0 || id >= uint64(len(known.byID)) {
			return fmt.Errorf("%s names schema %q, which is not there: the control store is damaged", key, value)
		}
		known.latest[known.byID[id].OID] = known.byID[id]
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read schemas: %w", err)
	}
	r := &Registry{store: store}
	r.known.Store(known)
	return r, nil
}

// schemaKey is the control store's key of a schema; ten digits hold every uint32, so key order is ID order.
func schemaKey(id uint32) string { return fmt.Sprintf("%s%010d", prefix, id) }

// latestKey is the control store's key of what was registered last for a table.
func latestKey(oid uint32) string { return fmt.Sprintf("%s%010d", latestPrefix, oid) }

// add puts s, whose ID is the next, into d.
func (d *definitions) add(s *row.Schema) {
	d.byID = append(d.byID, s)
	d.tables[s.OID] = append(d.tables[s.OID], s)
	d.latest[s.OID] = s
}

// clone copies d so that adding to the copy does not change d.
func (d *definitions) clone() *definitions {
	c := &definitions{byID: slices.Clone(d.byID), tables: make(map[uint32][]*row.Schema, len(d.tables)+1), latest: maps.Clone(d.latest)}
	for oid, list := range d.tables {
		c.tables[oid] = slices.Clip(list)
	}
	return c
}

// Schema is the definition of the given ID. It takes no lock and does not allocate.
func (r *Registry) Schema(id uint32) (*row.Schema, bool) {
	byID := r.known.Load().byID
	if id == 0 || uint64(id) >= uint64(len(byID)) {
		return nil, false
	}
	return byID[id], true
}

// Register returns the registered definition that is identical to s, with its ID and Version. When there is
// none it makes one and stores it before returning. The ID and Version of s itself are ignored, and s is not kept.
// What was registered last is what Latest returns, also when a change is taken back and an old definition comes
// again.
func (r *Registry) Register(ctx context.Context, s *row.Schema) (*row.Schema, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	known := r.known.Load()
	s = withMissing(s, known.tables[s.OID])
	if latest := known.latest[s.OID]; latest != nil && identical(latest, s) {
		return latest, nil
	}
	for _, old := range known.tables[s.OID] {
		if identical(old, s) {
			return old, r.setLatest(ctx, known.clone(), old)
		}
	}
	added := clone(s)
	added.ID = uint32(len(known.byID))
	added.Version = versionOf(known.tables[s.OID], s)
	value, err := json.Marshal(added)
	if err != nil {
		return nil, fmt.Errorf("register schema %d of %s: %w", added.ID, s.QualifiedName(), err)
	}
	if err := r.store.Put(ctx, schemaKey(added.ID), value); err != nil {
		return nil, fmt.Errorf("register schema %d of %s: %w", added.ID, s.QualifiedName(), err)
	}
	next := known.clone()
	next.add(added)
	r.known.Store(next) // it is stored: no one else may get its ID, whatever becomes of what follows
	if f := r.seen.Load(); f != nil {
		(*f)(added)
	}
	if len(next.tables[s.OID]) == 1 {
		return added, nil // the only one is the last one
	}
	return added, r.setLatest(ctx, next.clone(), added)
}

// setLatest makes s the one that was registered last for its table, in next and in the store, and next the state.
func (r *Registry) setLatest(ctx context.Context, next *definitions, s *row.Schema) error {
	if err := r.store.Put(ctx, latestKey(s.OID), strconv.AppendUint(nil, uint64(s.ID), 10)); err != nil {
		return fmt.Errorf("register schema %d of %s: %w", s.ID, s.QualifiedName(), err)
	}
	next.latest[s.OID] = s
	r.known.Store(next)
	return nil
}

// versionOf is the version for a new definition: that of a definition with the same columns, else the next.
func versionOf(versions []*row.Schema, s *row.Schema) int {
	highest := 0
	for i := len(versions) - 1; i >= 0; i-- {
		if sameColumns(versions[i].Columns, s.Columns) {
			return versions[i].Version
		}
		highest = max(highest, versions[i].Version)
	}
	return highest + 1
}

// Latest is the definition of a table that was registered last.
func (r *Registry) Latest(oid uint32) (*row.Schema, bool) {
	s, ok := r.known.Load().latest[oid]
	return s, ok
}

// Versions is every definition of a table, in the order in which they were first registered.
func (r *Registry) Versions(oid uint32) []*row.Schema {
	return slices.Clone(r.known.Load().tables[oid])
}

// Tables is the latest definition of each table, in order of their qualified names.
func (r *Registry) Tables() []*row.Schema {
	known := r.known.Load()
	tables := make([]*row.Schema, 0, len(known.latest))
	for _, s := range known.latest {
		tables = append(tables, s)
	}
	slices.SortFunc(tables, func(a, b *row.Schema) int {
		return cmp.Or(cmp.Compare(a.QualifiedName(), b.QualifiedName()), cmp.Compare(a.OID, b.OID))
	})
	return tables
}

// identical says whether two definitions say the same, whatever their IDs and versions.
func identical(a, b *row.Schema) bool {
	return a.OID == b.OID && a.Namespace == b.Namespace && a.Name == b.Name && a.Identity == b.Identity && a.Width == b.Width &&
		slices.Equal(a.Key, b.Key) && sameColumns(a.Columns, b.Columns) &&
		slices.EqualFunc(a.Columns, b.Columns, func(a, b row.Column) bool {
			return a.Number == b.Number && (a.Missing == nil) == (b.Missing == nil) && (a.Missing == nil || *a.Missing == *b.Missing)
		})
}

// withMissing is s with the values that an earlier definition says older rows have in a column: the server forgets them when
// it rewrites the table, and what was stored before is still without.
func withMissing(s *row.Schema, earlier []*row.Schema) *row.Schema {
	with := s
	for i := range s.Columns {
		c := &s.Columns[i]
		if c.Number == 0 || c.Missing != nil {
			continue
		}
		for _, old := range slices.Backward(earlier) {
			at := slices.IndexFunc(old.Columns, func(have row.Column) bool { return have.Number == c.Number })
			if at < 0 || old.Columns[at].Missing == nil || old.Columns[at].Type.Class != c.Type.Class {
				continue
			}
			if with == s {
				with = clone(s)
			}
			with.Columns[i].Missing = old.Columns[at].Missing
			break
		}
	}
	return with
}

// sameColumns says whether rows of both definitions have the same columns in the same order. A column that was dropped and
// added again is another one, as far as that is known.
func sameColumns(a, b []row.Column) bool {
	return slices.EqualFunc(a, b, func(a, b row.Column) bool {
		return a.Name == b.Name && a.NotNull == b.NotNull && sameType(&a.Type, &b.Type) &&
			(a.Number == b.Number || a.Number == 0 || b.Number == 0)
	})
}

// sameType compares types with their elements.
func sameType(a, b *row.Type) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.OID == b.OID && a.Mod == b.Mod && a.Name == b.Name && a.Class == b.Class && a.Delim == b.Delim && sameType(a.Elem, b.Elem)
}

// clone copies a definition so that no one else can change it.
func clone(s *row.Schema) *row.Schema {
	c := *s
	c.Key = slices.Clone(s.Key)
	c.Columns = slices.Clone(s.Columns)
	for i := range c.Columns {
		c.Columns[i].Type.Elem = cloneType(c.Columns[i].Type.Elem)
	}
	return &c
}

// cloneType copies an element type.
func cloneType(t *row.Type) *row.Type {
	if t == nil {
		return nil
	}
	c := *t
	c.Elem = cloneType(t.Elem)
	return &c
}
