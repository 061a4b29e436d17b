package mirror

import (
	"context"
	"fmt"
	"slices"

	"github.com/cockroachdb/pebble/v2"
)

// BuildProgress is told how many rows the building of a table's indexes has scanned, now and then, and when it has
// scanned all.
type BuildProgress func(oid uint32, rows int64, done bool)

// A chunk of a table, for which batches and loads of the table wait while its rows get their entries, has so many rows
// and about so many bytes of entries at most.
const (
	chunkRows  = 4096
	chunkBytes = 1 << 20
)

// EnsureIndexes makes exactly these indexes exist. It may be called while batches are committed and tables are loaded.
//
// What is missing is declared first, from when on every batch maintains it, then filled by scanning the table in chunks, in
// between batches, and then declared ready: until then a lookup in it is refused with ErrNoIndex, and so it is for ever in
// snapshots taken before. What is not named is dropped at once; snapshots taken before go on using it. A call waits for the
// one before.
//
// Interrupted, it can be called again; an index that was being filled begins anew.
func (m *Mirror) EnsureIndexes(ctx context.Context, indexes []Index, progress ...BuildProgress) error {
	select {
	case m.ensuring <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { <-m.ensuring }()
	missing, err := m.redeclare(indexes)
	if err != nil {
		return fmt.Errorf("declare indexes: %w", err)
	}
	for _, f := range m.fillings(missing) {
		for done := false; !done && err == nil; {
			if done, err = f.step(ctx, chunkRows); err == nil {
				f.report(progress, done)
			}
		}
		if err == nil {
			err = f.finish()
		}
		if err != nil {
			return fmt.Errorf("build indexes of table %d: %w", f.t.oid, err)
		}
	}
	return nil
}

// redeclare drops the entries of indexes that are not wanted or were left half filled, and declares what is new.
func (m *Mirror) redeclare(wanted []Index) (missing []*index, err error) {
	m.writer.Lock()
	defer m.writer.Unlock()
	have := m.declared.Load()
	next := &declarations{Next: have.Next}
	kv := m.db.NewBatch()
	defer kv.Close()
	for _, ix := range have.Indexes {
		if ix.Ready && slices.ContainsFunc(wanted, ix.equal) && ix.means(m.identify(ix.Index)) {
			next.Indexes = append(next.Indexes, ix)
			continue
		}
		lower, upper := bounds(spaceIndex, ix.ID)
		if err := kv.DeleteRange(lower, upper, nil); err != nil {
			return nil, err
		}
	}
	for _, ix := range wanted {
		if len(ix.Columns) == 0 {
			return nil, fmt.Errorf("index of table %d has no columns", ix.OID)
		}
		if slices.ContainsFunc(next.Indexes, func(have *index) bool { return have.equal(ix) }) {
			continue
		}
		fresh := &index{Index: ix, ID: next.Next, Identities: m.identify(ix), filling: true}
		next.Next++
		next.Indexes = append(next.Indexes, fresh)
		missing = append(missing, fresh)
	}
	if kv.Empty() && len(missing) == 0 {
		return nil, nil
	}
	return missing, m.declare(kv, next)
}

// declare stores the declarations, with what else is in kv, and has every table go by them. Snapshots see all of it or
// nothing. The caller holds writer: no batch is under way.
func (m *Mirror) declare(kv *pebble.Batch, d *declarations) error {
	m.tablesMu.Lock()
	defer m.tablesMu.Unlock()
	for _, t := range m.tables {
		t.mu.Lock() // no load goes by the old declarations
		defer t.mu.Unlock()
	}
	if err := setJSON(kv, metaKey(metaIndexes), d); err != nil {
		return err
	}
	if err := m.applyDeclared(kv, d); err != nil {
		return err
	}
	for _, t := range m.tables {
		t.redeclare(d)
	}
	return nil
}

func (m *Mirror) applyDeclared(kv *pebble.Batch, d *declarations) error {
	m.commit.Lock()
	defer m.commit.Unlock()
	if err := m.db.Apply(kv, pebble.Sync); err != nil {
		return err
	}
	m.declared.Store(d)
	return nil
}

// filling is the filling of new indexes of one table. Rows that are written meanwhile get their entries from whoever
// writes them, and those that the filling has yet to come to get the same ones again.
type filling struct {
	m       *Mirror
	t       *table
	indexes []*index
	columns map[uint32][][]origin // by schema, for each index
	next    []byte                // key of the database from which on rows have no entries yet
	rows    int64
}

// fillings are the fillings of indexes, one for each table.
func (m *Mirror) fillings(missing []*index) (fillings []*filling) {
	for _, ix := range missing {
		i := slices.IndexFunc(fillings, func(f *filling) bool { return f.t.oid == ix.OID })
		if i < 0 {
			i = len(fillings)
			lower, _ := bounds(spaceRow, ix.OID)
			fillings = append(fillings, &filling{m: m, t: m.table(ix.OID), columns: map[uint32][][]origin{}, next: lower})
		}
		fillings[i].indexes = append(fillings[i].indexes, ix)
	}
	return fillings
}

// step writes the entries of the next rows, and says whether those were the last ones. It holds the table's lock: the rows
// are as the last batch left them, and stay so until their entries are written.
func (f *filling) step(ctx context.Context, most int) (done bool, err error) {
	if err := ctx.Err(); err != nil {
		return false, context.Cause(ctx)
	}
	f.t.mu.Lock()
	defer f.t.mu.Unlock()
	_, upper := bounds(spaceRow, f.t.oid)
	it, err := f.m.db.NewIter(&pebble.IterOptions{LowerBound: f.next, UpperBound: upper})
	if err != nil {
		return false, err
	}
	defer func() { err = closeWith(it, err) }()
	kv := f.m.db.NewBatch()
	defer kv.Close()
	n := 0
	valid := it.First()
	for ; valid && n < most && kv.Len() < chunkBytes; valid = it.Next() {
		if err := f.add(kv, it.Key()[prefixLen:], it.Value()); err != nil {
			return false, err
		}
		n++
	}
	if err := it.Error(); err != nil {
		return false, err
	}
	var next []byte
	if valid {
		next = slices.Clone(it.Key())
	}
	if err := f.m.db.Apply(kv, pebble.NoSync); err != nil {
		return false, err
	}
	f.next, f.rows = next, f.rows+int64(n)
	return !valid, nil
}

// add stages the entries of one row.
func (f *filling) add(kv *pebble.Batch, key, value []byte) error {
	rec, err := decodeRecord(value)
	if err != nil {
		return err
	}
	at, ok := f.columns[rec.schema]
	if !ok {
		if at, err = f.m.columnsOf(rec.schema, f.indexes); err != nil {
			return err
		}
		f.columns[rec.schema] = at
	}
	var entry []byte
	for i, ix := range f.indexes {
		var has bool
		if entry, has = appendEntry(entry[:0], ix, at[i], rec.row, key); !has {
			continue
		}
		if err := kv.Set(entry, nil, nil); err != nil {
			return err
		}
	}
	return nil
}

func (f *filling) report(progress []BuildProgress, done bool) {
	for _, report := range progress {
		report(f.t.oid, f.rows, done)
	}
}

// finish declares the indexes ready. What was written before, their entries too, is durable then.
func (f *filling) finish() error {
	m := f.m
	m.writer.Lock()
	defer m.writer.Unlock()
	have := m.declared.Load()
	next := &declarations{Next: have.Next}
	for _, ix := range have.Indexes {
		if slices.Contains(f.indexes, ix) {
			ix = &index{Index: ix.Index, ID: ix.ID, Identities: ix.Identities, Ready: true}
		}
		next.Indexes = append(next.Indexes, ix)
	}
	kv := m.db.NewBatch()
	defer kv.Close()
	if err := m.declare(kv, next); err != nil {
		return err
	}
	m.log.Info("mirror indexes built", "table", f.t.oid, "indexes", len(f.indexes), "rows", f.rows)
	return nil
}

// columnsOf are the places of the indexes' columns in rows of a schema.
func (m *Mirror) columnsOf(id uint32, indexes []*index) ([][]origin, error) {
	s, err := m.schema(id)
	if err != nil {
		return nil, err
	}
	columns := make([][]origin, len(indexes))
	for i, ix := range indexes {
		columns[i] = ix.origins(s)
	}
	return columns, nil
}
