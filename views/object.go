package views

import (
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/lanternist/lanternist/mirror"
	"github.com/lanternist/lanternist/row"
)

// object is one table at one place in a view: the root, a joined table, or a link table between the two.
// A table that the view uses twice is two objects.
type object struct {
	schema *row.Schema // of the catalog
	path   string      // "" for the root, "items", "items.product"
	parent *object
	isLink bool // a link table: it has no fields, and one child

	line      int            // where the definition names the table
	lines     map[string]int // where it first names a column
	slots     []slot         // the columns that the view uses here; nothing else of a row is looked at
	slotNames map[string]int // index into slots by column name
	keySlots  []int          // slots of the primary key in its order; only where rows are ordered or named by it

	fields  []*field // in document order; nil for a link table
	joins   []*join
	exprs   []*field // the fields that are CEL
	typ     string   // CEL type name of the object
	rowType string   // CEL type name of its rows

	down access // finds this object's rows for a row of parent; the values come from parent
	up   access // finds parent's rows for a row of this object; the values come from this object

	layouts atomic.Pointer[[]layout]
}

// slot is a used column.
type slot struct {
	name   string
	typ    row.Type
	column row.Column
	line   int // where the definition first names it; 0 when it does not
}

// slot is the index of the slot for a column of the table, made when there is none yet. Only while compiling.
func (o *object) slot(column int) int {
	c := o.schema.Columns[column]
	if i, ok := o.slotNames[c.Name]; ok {
		return i
	}
	i := len(o.slots)
	o.slots = append(o.slots, slot{c.Name, c.Type, c, o.lines[c.Name]})
	o.slotNames[c.Name] = i
	return i
}

// names notes that the definition names a column in a line.
func (o *object) names(column string, line int) {
	if o.lines[column] == 0 {
		o.lines[column] = line
	}
	if i, ok := o.slotNames[column]; ok && o.slots[i].line == 0 {
		o.slots[i].line = line
	}
}

// useKey makes slots for the primary key.
func (o *object) useKey() {
	if o.keySlots != nil {
		return
	}
	for _, column := range o.schema.Key {
		o.keySlots = append(o.keySlots, o.slot(column))
	}
}

// column is the index of the named column in the catalog's table, or -1.
func (o *object) column(name string) int { return o.schema.Column(name) }

// layout says where the object's slots are in rows of one version of the table.
type layout struct {
	schema    *row.Schema
	positions []int       // by slot; -1 when this version has no such column
	missing   []row.Value // by slot: what its rows have instead
	gone      error       // a column is not there any more: nothing can be said of such rows
	misfit    error       // why no document can be made of such rows: the same, or a type of another kind
}

// ErrMisfit is wrapped by errors of Compose and Affected when rows of a table are of a version that the view cannot be made
// of: a column that it uses is gone, or its type is of another kind. The view must be compiled against that version, which
// may not be possible.
var ErrMisfit = errors.New("table has changed under the view")

// maxLayouts bounds the cache of layouts. A table rarely has more than a few versions among its rows.
const maxLayouts = 32

// layout is the layout for rows of schema s. Columns are found by number, or by name, once for each version.
func (o *object) layout(s *row.Schema) *layout {
	known := o.layouts.Load()
	if known != nil {
		for i := range *known {
			if (*known)[i].schema == s {
				return &(*known)[i]
			}
		}
	}
	made := layout{schema: s, positions: make([]int, len(o.slots)), missing: make([]row.Value, len(o.slots))}
	for i := range o.slots {
		made.place(i, &o.slots[i])
	}
	var next []layout
	if known != nil && len(*known) < maxLayouts {
		next = slices.Clone(*known)
	}
	next = append(next, made)
	o.layouts.Store(&next) // a layout lost to a concurrent store is made again
	return &made
}

// place finds a slot's column.
func (l *layout) place(i int, s *slot) {
	at, presence := l.schema.Place(&s.column)
	l.positions[i], l.missing[i] = at, row.Value{Kind: row.Null}
	switch {
	case presence == row.NotYet:
		l.missing[i] = s.column.Default()
	case presence == row.Dropped:
		l.gone = fmt.Errorf("%w: column %s of %s is not there any more", ErrMisfit, s.name, l.schema.QualifiedName())
		l.misfit = l.gone
	case presence == row.Present && !sameKind(&s.typ, &l.schema.Columns[at].Type):
		l.misfit = fmt.Errorf("%w: column %s of %s is %s, and was %s", ErrMisfit, s.name, l.schema.QualifiedName(), l.schema.Columns[at].Type.Name, s.typ.Name)
	}
}

// sameKind says whether values of two types are written as JSON in the same way.
func sameKind(a, b *row.Type) bool {
	if a.Class != b.Class || (a.Elem == nil) != (b.Elem == nil) {
		return false
	}
	return a.Elem == nil || sameKind(a.Elem, b.Elem)
}

// knows says whether what a row of schema s leads to can be told.
func (o *object) knows(s *row.Schema) error { return o.layout(s).gone }

// fits says whether documents can be made of rows of schema s.
func (o *object) fits(s *row.Schema) error { return o.layout(s).misfit }

// appendSlots appends the values of the object's slots to dst; values are those of a row of schema s.
func (o *object) appendSlots(dst, values []row.Value, s *row.Schema) []row.Value {
	l := o.layout(s)
	for i, at := range l.positions {
		if at < 0 || at >= len(values) {
			dst = append(dst, l.missing[i])
			continue
		}
		dst = append(dst, values[at])
	}
	return dst
}

// accessKind tells how rows are found in the mirror.
type accessKind uint8

const (
	byKey    accessKind = iota // the columns are the primary key
	byPrefix                   // the columns are the first ones of the primary key
	byIndex                    // through a mirror index
)

// access finds rows of one object by the values of some of its columns.
type access struct {
	kind   accessKind
	index  mirror.Index
	source []int // slots of the object on the other side, in the order of the columns sought
}

// appendValues appends the encoded values to seek. It is false when one is null: such a row joins nothing.
func (a *access) appendValues(dst []byte, values []row.Value) ([]byte, bool) {
	from := len(dst)
	for _, i := range a.source {
		if values[i].Kind != row.Text {
			return dst[:from], false
		}
		dst = append(append(dst, values[i].Text...), 0)
	}
	return dst, true
}

// newAccess is the access to rows of o whose columns equal the given slots of another object.
// Columns are put into the order of the primary key when they are its first ones, else into table order, so that
// views share indexes.
func newAccess(o *object, columns, source []int) access {
	type pair struct{ column, source int }
	pairs := make([]pair, len(columns))
	for i := range columns {
		pairs[i] = pair{columns[i], source[i]}
	}
	key := o.schema.Key
	kind := byIndex
	rank := func(column int) int { return column }
	if n := len(columns); n <= len(key) {
		head := key[:n]
		inHead := func(column int) bool { return slices.Contains(head, column) }
		if !slices.ContainsFunc(columns, func(c int) bool { return !inHead(c) }) {
			kind = byPrefix
			if n == len(key) {
				kind = byKey
			}
			rank = func(column int) int { return slices.Index(key, column) }
		}
	}
	slices.SortFunc(pairs, func(a, b pair) int { return rank(a.column) - rank(b.column) })
	a := access{kind: kind, index: mirror.Index{OID: o.schema.OID}}
	for _, p := range pairs {
		a.index.Columns = append(a.index.Columns, o.schema.Columns[p.column].Name)
		a.source = append(a.source, p.source)
	}
	return a
}
