package mirror

import (
	"context"
	"fmt"
	"slices"

	"github.com/cockroachdb/pebble/v2"
)

// BuildProgress is told how many rows the building of a table's indexes has scanned, now and then, and when it is
// done.
type BuildProgress func(oid uint32, rows int64, done bool)

// buildBatchBytes bounds what the building of an index holds in memory.
const buildBatchBytes = 4 << 20

// EnsureIndexes makes exactly these indexes exist: it builds what is missing by scanning the tables, and drops
// what is not named. Interrupted, it can be called again; an index that was being built begins anew. It waits for
// the batch under way, and batches and loads wait for it. Snapshots taken before do not see new indexes.
func (m *Mirror) EnsureIndexes(ctx context.Context, indexes []Index, progress ...BuildProgress) error {
	m.writer.Lock()
	defer m.writer.Unlock()
	next, missing, err := m.redeclare(indexes)
	if err != nil {
		return fmt.Errorf("declare indexes: %w", err)
	}
	byTable := map[uint32][]*index{}
	var order []uint32
	for _, ix := range missing {
		if byTable[ix.OID] == nil {
			order = append(order, ix.OID)
		}
		byTable[ix.OID] = append(byTable[ix.OID], ix)
	}
	for _, oid := range order {
		if next, err = m.build(ctx, next, oid, byTable[oid], progress); err != nil {
			return fmt.Errorf("build indexes of table %d: %w", oid, err)
		}
	}
	return nil
}

// redeclare drops the entries of indexes that are not wanted or were left half built, and declares what is new.
func (m *Mirror) redeclare(wanted []Index) (next *declarations, missing []*index, err error) {
	have := m.declared.Load()
	next = &declarations{Next: have.Next}
	kv := m.db.NewBatch()
	defer kv.Close()
	for _, ix := range have.Indexes {
		if ix.Ready && slices.ContainsFunc(wanted, ix.equal) {
			next.Indexes = append(next.Indexes, ix)
			continue
		}
		lower, upper := bounds(spaceIndex, ix.ID)
		if err := kv.DeleteRange(lower, upper, nil); err != nil {
			return nil, nil, err
		}
	}
	for _, ix := range wanted {
		if len(ix.Columns) == 0 {
			return nil, nil, fmt.Errorf("index of table %d has no columns", ix.OID)
		}
		if slices.ContainsFunc(next.Indexes, func(have *index) bool { return have.equal(ix) }) {
			continue
		}
		fresh := &index{Index: ix, ID: next.Next}
		next.Next++
		next.Indexes = append(next.Indexes, fresh)
		missing = append(missing, fresh)
	}
	if kv.Empty() && len(missing) == 0 {
		return next, nil, nil
	}
	m.tablesMu.Lock()
	defer m.tablesMu.Unlock()
	for _, t := range m.tables {
		t.mu.Lock() // no load goes by the old declarations
		defer t.mu.Unlock()
	}
	if err := m.declare(kv, next); err != nil {
		return nil, nil, err
	}
	for _, t := range m.tables {
		t.redeclare(next)
	}
	return next, missing, nil
}

// declare stores the declarations, with what else is in kv. Snapshots see both or neither.
func (m *Mirror) declare(kv *pebble.Batch, d *declarations) error {
	if err := setJSON(kv, metaKey(metaIndexes), d); err != nil {
		return err
	}
	m.commit.Lock()
	defer m.commit.Unlock()
	if err := m.db.Apply(kv, pebble.Sync); err != nil {
		return err
	}
	m.declared.Store(d)
	return nil
}

// build fills new indexes of one table and declares them ready. A load under way waits.
func (m *Mirror) build(ctx context.Context, d *declarations, oid uint32, indexes []*index, progress []BuildProgress) (*declarations, error) {
	t := m.table(oid)
	t.mu.Lock()
	defer t.mu.Unlock()
	rows, err := m.fill(ctx, t, indexes, progress)
	if err != nil {
		return nil, err
	}
	next := &declarations{Next: d.Next}
	for _, ix := range d.Indexes {
		if slices.Contains(indexes, ix) {
			ix = &index{Index: ix.Index, ID: ix.ID, Ready: true}
		}
		next.Indexes = append(next.Indexes, ix)
	}
	kv := m.db.NewBatch()
	defer kv.Close()
	if err := m.declare(kv, next); err != nil {
		return nil, err
	}
	t.redeclare(next)
	for _, report := range progress {
		report(oid, rows, true)
	}
	m.log.Info("mirror indexes built", "table", t.state.Name, "indexes", len(indexes), "rows", rows)
	return next, nil
}

// fill scans the table and writes the entries, in bounded batches.
func (m *Mirror) fill(ctx context.Context, t *table, indexes []*index, progress []BuildProgress) (rows int64, err error) {
	lower, upper := bounds(spaceRow, t.oid)
	it, err := m.db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return 0, err
	}
	defer func() { err = closeWith(it, err) }()
	kv := m.db.NewBatch()
	defer func() { kv.Close() }()
	columns := map[uint32][][]int{}
	var entry []byte
	for it.First(); it.Valid(); it.Next() {
		rec, err := decodeRecord(it.Value())
		if err != nil {
			return rows, err
		}
		at, ok := columns[rec.schema]
		if !ok {
			if at, err = m.columnsOf(rec.schema, indexes); err != nil {
				return rows, err
			}
			columns[rec.schema] = at
		}
		for i, ix := range indexes {
			var has bool
			if entry, has = appendEntry(entry[:0], ix, at[i], rec.row, it.Key()[prefixLen:]); has {
				if err := kv.Set(entry, nil, nil); err != nil {
					return rows, err
				}
			}
		}
		rows++
		if kv.Len() < buildBatchBytes {
			continue
		}
		if err := m.flushEntries(ctx, kv); err != nil {
			return rows, err
		}
		for _, report := range progress {
			report(t.oid, rows, false)
		}
	}
	if err := it.Error(); err != nil {
		return rows, err
	}
	return rows, m.flushEntries(ctx, kv)
}

func (m *Mirror) flushEntries(ctx context.Context, kv *pebble.Batch) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := m.db.Apply(kv, pebble.NoSync); err != nil {
		return err
	}
	kv.Reset()
	return nil
}

// columnsOf are the places of the indexes' columns in rows of a schema.
func (m *Mirror) columnsOf(id uint32, indexes []*index) ([][]int, error) {
	s, err := m.schema(id)
	if err != nil {
		return nil, err
	}
	columns := make([][]int, len(indexes))
	for i, ix := range indexes {
		for _, name := range ix.Columns {
			columns[i] = append(columns[i], s.Column(name))
		}
	}
	return columns, nil
}
