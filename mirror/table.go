package mirror

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
	"github.com/jackc/pglogrepl"

	"github.com/lanternist/lanternist/row"
)

// table is what is kept in memory of one table.
type table struct {
	oid      uint32
	complete atomic.Bool // loaded; written under the mirror's writer lock and mu
	shown    atomic.Pointer[LoadState]

	mu       sync.Mutex // guards all that follows, and the table's rows. A batch holds it from its first change of the table on
	state    tableState
	rows     int64
	indexes  []*index
	current  *plan // the plan asked for last
	plans    map[uint32]*plan
	mappings map[[2]uint32]mapping
	stage    stage
	load     *loading // nil when the table is complete
}

// tableState is what is stored of a table besides its rows.
type tableState struct {
	Name        string        `json:"name"`
	Key         []string      `json:"key"`                    // names of the columns that rows are stored by
	KeyNumbers  []int16       `json:"key_numbers,omitempty"`  // their numbers; nil when they were not known
	Started     bool          `json:"started,omitempty"`      // StartLoad was called
	Complete    bool          `json:"complete,omitempty"`     // FinishLoad succeeded
	Ranges      []LoadRange   `json:"ranges,omitempty"`       //
	TruncatedAt pglogrepl.LSN `json:"truncated_at,omitempty"` // commit LSN of the last TRUNCATE while loading
	Floor       pglogrepl.LSN `json:"floor,omitempty"`        // snapshots before it are too old: rows were dropped then
	LoadedAt    pglogrepl.LSN `json:"loaded_at,omitempty"`    // the newest snapshot that it was loaded from, when Complete
	Forsaken    string        `json:"forsaken,omitempty"`     // why it is not followed any more, until it is dropped
}

// setState makes state the table's, for those who hold mu and for those who only look.
func (t *table) setState(state tableState) {
	t.state = state
	if state.Started {
		t.shown.Store(&LoadState{Ranges: state.Ranges, Complete: state.Complete, LoadedAt: state.LoadedAt})
	}
}

// newTable is a table of which nothing is known.
func newTable(m *Mirror, oid uint32) *table {
	t := &table{oid: oid, plans: map[uint32]*plan{}, mappings: map[[2]uint32]mapping{}}
	t.stage = stage{m: m, t: t, at: map[string]int32{}}
	t.load = newLoading()
	return t
}

// table is the table with this OID, which may be new.
func (m *Mirror) table(oid uint32) *table {
	if t := m.known(oid); t != nil {
		return t
	}
	m.tablesMu.Lock()
	defer m.tablesMu.Unlock()
	t := m.tables[oid]
	if t == nil {
		t = newTable(m, oid)
		t.indexes = m.declared.Load().of(oid)
		m.tables[oid] = t
	}
	return t
}

// known is the table with this OID, or nil.
func (m *Mirror) known(oid uint32) *table {
	m.tablesMu.RLock()
	defer m.tablesMu.RUnlock()
	return m.tables[oid]
}

// restoreTables reads the tables' states.
func (m *Mirror) restoreTables() error {
	it, err := m.db.NewIter(&pebble.IterOptions{LowerBound: []byte{byte(spaceTable)}, UpperBound: []byte{byte(spaceTable) + 1}})
	if err != nil {
		return err
	}
	for it.First(); it.Valid(); it.Next() {
		t := newTable(m, binary.BigEndian.Uint32(it.Key()[1:]))
		if err := m.restoreTable(t, it.Value()); err != nil {
			return fmt.Errorf("table %d: %w", t.oid, closeWith(it, err))
		}
		m.tables[t.oid] = t
	}
	return it.Close()
}

func (m *Mirror) restoreTable(t *table, state []byte) error {
	var stored tableState
	if err := json.Unmarshal(state, &stored); err != nil {
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	t.setState(stored)
	v, err := m.value(spaceKey(spaceCount, t.oid, nil))
	if err != nil {
		return err
	}
	if len(v) == 8 {
		t.rows = int64(binary.BigEndian.Uint64(v))
	}
	if t.state.Complete {
		t.complete.Store(true)
		t.load = nil
		return nil
	}
	t.load, err = restoreLoading(m, t.oid)
	return err
}

// plan says where in the rows of one schema the table's indexed columns are.
type plan struct {
	schema  *row.Schema
	columns [][]origin // for each index of the table
}

// planOf is the plan of any schema of the table.
func (t *table) planOf(s *row.Schema) *plan {
	if p := t.plans[s.ID]; p != nil {
		return p
	}
	p := &plan{schema: s, columns: make([][]origin, len(t.indexes))}
	for i, ix := range t.indexes {
		p.columns[i] = ix.origins(s)
	}
	t.plans[s.ID] = p
	return p
}

// checkKey refuses a schema with other key columns than those that the table's rows are stored by.
func (s *tableState) checkKey(schema *row.Schema) error {
	if len(schema.Key) == 0 {
		return fmt.Errorf("%w: %s has no primary key and no replica identity index", ErrNoKey, schema.QualifiedName())
	}
	if s.Key != nil && !s.sameKey(schema) {
		return fmt.Errorf("%w: %s from %v to %v; the table must be loaded again", ErrKeyChanged, schema.QualifiedName(), s.Key, keyNames(schema))
	}
	return nil
}

// sameKey says whether the key's columns are those that the table's rows are stored by. A column may have been renamed.
func (s *tableState) sameKey(schema *row.Schema) bool {
	if numbers := keyNumbers(schema); numbers != nil && s.KeyNumbers != nil {
		return slices.Equal(numbers, s.KeyNumbers)
	}
	return slices.Equal(s.Key, keyNames(schema))
}

// keyNumbers are the numbers of the key's columns; nil when one is not known.
func keyNumbers(s *row.Schema) []int16 {
	numbers := make([]int16, len(s.Key))
	for i, at := range s.Key {
		if numbers[i] = s.Columns[at].Number; numbers[i] == 0 {
			return nil
		}
	}
	return numbers
}

func keyNames(s *row.Schema) []string {
	names := make([]string, len(s.Key))
	for i, at := range s.Key {
		names[i] = s.Columns[at].Name
	}
	return names
}

// mapping is the mapping of rows of schema from to schema to.
func (t *table) mapping(from uint32, to *row.Schema) (mapping, error) {
	if from == to.ID {
		return nil, nil
	}
	ids := [2]uint32{from, to.ID}
	if mp, ok := t.mappings[ids]; ok {
		return mp, nil
	}
	s, err := t.stage.m.schema(from)
	if err != nil {
		return nil, err
	}
	mp := newMapping(s, to)
	t.mappings[ids] = mp
	return mp, nil
}

// closeWith closes it and returns err, with what closing says.
func closeWith(it *pebble.Iterator, err error) error {
	if cerr := it.Close(); cerr != nil && err == nil {
		return cerr
	}
	return err
}
