package mirror

import (
	"fmt"
	"slices"

	"github.com/cockroachdb/pebble/v2"
	"github.com/jackc/pglogrepl"

	"github.com/lanternist/lanternist/row"
)

// LoadRange is one range of a table's primary key that is loaded by itself, and what has become of it.
type LoadRange struct {
	From            []string      `json:"from,omitempty"`             // values of the key columns, included; nil: from the beginning
	To              []string      `json:"to,omitempty"`               // excluded; nil: to the end
	Done            bool          `json:"done,omitempty"`             //
	Rows            int64         `json:"rows,omitempty"`             // loaded, when Done
	ConsistentPoint pglogrepl.LSN `json:"consistent_point,omitempty"` // of the snapshot it was loaded from, when Done
}

// LoadState is how far a table's initial load is.
type LoadState struct {
	Ranges   []LoadRange
	Complete bool
	// LoadedAt is the consistent point of the newest snapshot that a complete table was loaded from. Whatever was made of the
	// table at a progress whose LSN is less was made of an earlier load, if of any: no event says what became different.
	LoadedAt pglogrepl.LSN
}

// StartLoad begins the initial load of a table, durably. The stream may have brought rows before; they are kept.
//
// A table that was loaded before, or whose key columns have changed, is loaded anew: its rows are dropped, and
// only snapshots of sessions opened after StartLoad are accepted. A load under way is not begun again; see
// LoadState. StartLoad waits for the batch under way.
func (m *Mirror) StartLoad(schema *row.Schema, ranges []LoadRange) error {
	m.writer.Lock()
	defer m.writer.Unlock()
	t := m.table(schema.OID)
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := m.startLoad(t, schema, ranges); err != nil {
		return fmt.Errorf("start load of %s: %w", schema.QualifiedName(), err)
	}
	return nil
}

func (m *Mirror) startLoad(t *table, schema *row.Schema, ranges []LoadRange) error {
	if t.state.Forsaken != "" {
		return fmt.Errorf("%w: %s", ErrForsaken, t.state.Forsaken)
	}
	if len(schema.Key) == 0 {
		return fmt.Errorf("%w: no primary key and no replica identity index", ErrNoKey)
	}
	kv := m.db.NewBatch()
	defer kv.Close()
	s := &t.stage
	s.begin(kv, &arena{})
	committed := false
	defer func() { s.end(committed) }()

	otherKey := t.state.Key != nil && !t.state.sameKey(schema)
	anew := t.state.Complete || otherKey
	if t.state.Started && !anew {
		return fmt.Errorf("%w: it has begun already", ErrLoading)
	}
	*s.edit() = tableState{Name: schema.QualifiedName(), Key: keyNames(schema), KeyNumbers: keyNumbers(schema), Started: true,
		Ranges: slices.Clone(ranges), TruncatedAt: t.state.TruncatedAt}
	load := t.load
	if anew {
		s.edit().TruncatedAt, s.edit().Floor = 0, m.floor()
		load = newLoading()
		if err := s.clear(); err != nil {
			return err
		}
		if err := s.clearMarks(); err != nil {
			return err
		}
	}
	if err := s.seal(); err != nil {
		return err
	}
	if err := m.db.Apply(kv, pebble.Sync); err != nil {
		return err
	}
	committed = true
	t.load = load
	t.complete.Store(false)
	t.current = nil
	return nil
}

// floor is the first consistent point of a snapshot that has everything the mirror has.
func (m *Mirror) floor() pglogrepl.LSN {
	m.commit.Lock()
	defer m.commit.Unlock()
	return max(m.pos.progress.LSN, m.pos.applied+1)
}

// LoadState is how far the initial load of a table is, and whether it was ever begun. It does not wait.
func (m *Mirror) LoadState(oid uint32) (LoadState, bool, error) {
	t := m.known(oid)
	if t == nil {
		return LoadState{}, false, nil
	}
	shown := t.shown.Load()
	if shown == nil {
		return LoadState{}, false, nil
	}
	return LoadState{Ranges: slices.Clone(shown.Ranges), Complete: shown.Complete, LoadedAt: shown.LoadedAt}, true, nil
}

// Loaded says whether the table's initial load is complete. It does not wait.
func (m *Mirror) Loaded(oid uint32) bool {
	t := m.known(oid)
	return t != nil && t.complete.Load()
}
