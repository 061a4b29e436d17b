package mirror

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/cockroachdb/pebble/v2"
)

// TableInfo is a table that the mirror has something of.
type TableInfo struct {
	OID    uint32
	Name   string // qualified, as it was when the first change or the load came
	Loaded bool
}

// Tables are the tables that the mirror has something of: rows, the state of a load, or only the memory of a change. They
// come by OID. It may wait for the batch under way.
func (m *Mirror) Tables() []TableInfo {
	m.tablesMu.RLock()
	all := make([]*table, 0, len(m.tables))
	for _, t := range m.tables {
		all = append(all, t)
	}
	m.tablesMu.RUnlock()
	var infos []TableInfo
	for _, t := range all {
		t.mu.Lock()
		if t.state.Key != nil {
			infos = append(infos, TableInfo{OID: t.oid, Name: t.state.Name, Loaded: t.state.Complete})
		}
		t.mu.Unlock()
	}
	slices.SortFunc(infos, func(a, b TableInfo) int { return cmp.Compare(a.OID, b.OID) })
	return infos
}

// DropTable forgets a table, durably and at once: its rows, index entries, tombstones and the state of its load. It is as
// if the mirror had never heard of it; a change that comes later, or StartLoad, begins it anew. Everything that was
// committed before is durable then, too: a journal that is read again after a crash begins behind it, and brings no
// change back that came before.
//
// DropTable waits for the batch under way. The caller sees to it that no load of the table goes on. Snapshots taken before
// keep what they have; declared indexes of the table stay declared.
func (m *Mirror) DropTable(oid uint32) error {
	m.writer.Lock()
	defer m.writer.Unlock()
	t := m.known(oid)
	if t == nil {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := m.dropTable(t); err != nil {
		return fmt.Errorf("drop table %d (%s) from the mirror: %w", oid, t.state.Name, err)
	}
	return nil
}

func (m *Mirror) dropTable(t *table) error {
	kv := m.db.NewBatch()
	defer kv.Close()
	type keyspace struct {
		space space
		id    uint32
	}
	spaces := []keyspace{{spaceRow, t.oid}, {spaceTombstone, t.oid}, {spaceUnfilled, t.oid}}
	for _, ix := range m.declared.Load().Indexes { // also those that a crash left half filled
		if ix.OID == t.oid {
			spaces = append(spaces, keyspace{spaceIndex, ix.ID})
		}
	}
	for _, s := range spaces {
		lower, upper := bounds(s.space, s.id)
		if err := kv.DeleteRange(lower, upper, nil); err != nil {
			return err
		}
	}
	for _, s := range []space{spaceCount, spaceTable} {
		if err := kv.Delete(spaceKey(s, t.oid, nil), nil); err != nil {
			return err
		}
	}
	// Whoever finds the rows gone must find the table not loaded, too.
	complete := t.complete.Swap(false)
	if err := m.db.Apply(kv, pebble.Sync); err != nil {
		t.complete.Store(complete)
		return err
	}
	name, rows := t.state.Name, t.rows
	t.forget()
	m.log.Info("table dropped from the mirror", "table", name, "rows", rows)
	return nil
}

// forget makes the table one of which nothing is known. The caller holds writer and mu.
func (t *table) forget() {
	t.shown.Store(nil)
	t.state, t.rows, t.load, t.current = tableState{}, 0, newLoading(), nil
	clear(t.plans)
	clear(t.mappings)
}
