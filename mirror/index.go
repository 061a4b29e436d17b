package mirror

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/lanternist/lanternist/row"
)

// Index is a set of columns of a table that rows can be looked up by. A row that has null in one of them is not in
// the index.
type Index struct {
	OID     uint32   `json:"oid"`
	Columns []string `json:"columns"` // in the order of the values that are looked up
}

func (ix Index) equal(other Index) bool {
	return ix.OID == other.OID && slices.Equal(ix.Columns, other.Columns)
}

func (ix Index) String() string { return fmt.Sprintf("%d%v", ix.OID, ix.Columns) }

// index is a declared index. Its number names its keyspace and is never used again. It is immutable.
type index struct {
	Index
	ID    uint32 `json:"id"`
	Ready bool   `json:"ready"` // filled; else it is being filled, or was when the process ended
	// Identities are the columns that the names meant when the index was declared: renamed, they are still the same. Of those
	// that were not known only the name is there.
	Identities []row.Column `json:"identities,omitempty"`

	filling bool // by this process: batches and loads maintain it, nobody looks into it
}

// origins are where the index's columns are in rows of a schema.
func (ix *index) origins(s *row.Schema) []origin {
	at := make([]origin, len(ix.Columns))
	for i, name := range ix.Columns {
		c := row.Column{Name: name}
		if i < len(ix.Identities) {
			c = ix.Identities[i]
		}
		at[i] = originOf(&c, s)
	}
	return at
}

// identify finds out which columns an index's names mean now; nil when that is not known of all.
func (m *Mirror) identify(ix Index) []row.Column {
	newest, ok := m.schemas.(interface {
		Latest(oid uint32) (*row.Schema, bool)
	})
	if !ok {
		return nil
	}
	s, ok := newest.Latest(ix.OID)
	if !ok {
		return nil
	}
	columns := make([]row.Column, len(ix.Columns))
	for i, name := range ix.Columns {
		at := s.Column(name)
		if at < 0 || s.Columns[at].Number == 0 {
			return nil
		}
		c := s.Columns[at]
		columns[i] = row.Column{Name: name, Number: c.Number, Missing: c.Missing}
	}
	return columns
}

// means says whether the index is of these columns: its names may have come to mean others.
func (ix *index) means(columns []row.Column) bool {
	if columns == nil || ix.Identities == nil {
		return true
	}
	return slices.EqualFunc(columns, ix.Identities, func(a, b row.Column) bool { return a.Number == b.Number })
}

// declarations are all indexes. They are immutable once shared.
type declarations struct {
	Next    uint32   `json:"next"` // number of the next new index
	Indexes []*index `json:"indexes"`
}

// find is the filled index with these columns, or nil.
func (d *declarations) find(ix Index) *index {
	for _, have := range d.Indexes {
		if have.Ready && have.equal(ix) {
			return have
		}
	}
	return nil
}

// of are the indexes of a table that whoever writes to it maintains.
func (d *declarations) of(oid uint32) []*index {
	if d == nil {
		return nil
	}
	var indexes []*index
	for _, ix := range d.Indexes {
		if (ix.Ready || ix.filling) && ix.OID == oid {
			indexes = append(indexes, ix)
		}
	}
	return indexes
}

// restoreIndexes reads the declarations.
func (m *Mirror) restoreIndexes() error {
	v, err := m.meta(metaIndexes)
	if err != nil {
		return err
	}
	d := &declarations{Next: 1}
	if v != nil {
		if err := json.Unmarshal(v, d); err != nil {
			return fmt.Errorf("%w: index declarations: %w", ErrCorrupt, err)
		}
	}
	m.declared.Store(d)
	for _, t := range m.tables {
		t.redeclare(d)
	}
	return nil
}

// redeclare makes the table go by d. The caller holds mu.
func (t *table) redeclare(d *declarations) {
	t.indexes = d.of(t.oid)
	t.current = nil
	clear(t.plans)
}

// appendEntry appends the key of the index entry of row r with key k. It reports false when r has none.
func appendEntry(dst []byte, ix *index, columns []origin, r row.Row, k []byte) ([]byte, bool) {
	dst = appendPrefix(dst, spaceIndex, ix.ID)
	for _, o := range columns {
		v := o.value(r)
		if v.Kind != row.Text {
			return dst, false
		}
		dst = append(append(dst, v.Text...), 0)
	}
	return append(dst, k...), true
}

// reindex stages the entries of rec, of plan p, in place of those of old, if found.
func (s *stage) reindex(p *plan, k []byte, old stored, found bool, rec stored) error {
	if len(s.t.indexes) == 0 {
		return nil
	}
	was := p
	if found && old.schema != rec.schema {
		schema, err := s.m.schema(old.schema)
		if err != nil {
			return err
		}
		was = s.t.planOf(schema)
	}
	for i, ix := range s.t.indexes {
		var had, has bool
		if s.oldEntry = s.oldEntry[:0]; found {
			s.oldEntry, had = appendEntry(s.oldEntry, ix, was.columns[i], old.row, k)
		}
		s.entry, has = appendEntry(s.entry[:0], ix, p.columns[i], rec.row, k)
		if had && has && bytes.Equal(s.entry, s.oldEntry) {
			continue
		}
		if had {
			if err := s.kv.Delete(s.oldEntry, nil); err != nil {
				return err
			}
		}
		if has {
			if err := s.kv.Set(s.entry, nil, nil); err != nil {
				return err
			}
		}
	}
	return nil
}

// unindex stages the removal of the entries of old.
func (s *stage) unindex(k []byte, old stored) error {
	if len(s.t.indexes) == 0 {
		return nil
	}
	schema, err := s.m.schema(old.schema)
	if err != nil {
		return err
	}
	was := s.t.planOf(schema)
	for i, ix := range s.t.indexes {
		var had bool
		if s.oldEntry, had = appendEntry(s.oldEntry[:0], ix, was.columns[i], old.row, k); !had {
			continue
		}
		if err := s.kv.Delete(s.oldEntry, nil); err != nil {
			return err
		}
	}
	return nil
}
