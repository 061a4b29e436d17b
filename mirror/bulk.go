package mirror

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/jackc/pglogrepl"

	"github.com/lanternist/lanternist/row"
)

const (
	// bulkBytes is how much a Bulk holds before it goes to disk.
	bulkBytes = 16 << 20
	// bulkBytesMin is how much is worth a file of its own: that costs some syncs of the disk.
	bulkBytesMin = 256 << 10
	// loadBytes is how much is loaded row by row while the table is locked.
	loadBytes = 512 << 10
)

// Bulk is Load for many rows: it sorts what it is given and brings it into the mirror as files that are written beside
// the database, so that the rows pass neither its log nor its memory. Rows that are in the mirror already, or were
// changed or removed by the stream, go the way of Load: what becomes of each row is the same.
//
// One goroutine uses a Bulk. Several may be under way for a table, for rows that are different; they and the stream
// hinder each other only for moments.
type Bulk struct {
	m      *Mirror
	t      *table
	schema *row.Schema
	point  pglogrepl.LSN

	rows    *records
	entries *records // of one index
	known   []bool   // of the sorted rows: not to be in a file
	fresh   int      // how many are not known
	key     []byte
	spent   BulkSpent

	// as of the beginning of a flush
	load    *loading
	watch   *watch
	indexes []*index
	columns [][]origin
}

// BulkSpent says where a Bulk's time went.
type BulkSpent struct {
	Waiting   time.Duration // for the stream, for other loads, and for the disk to follow
	Writing   time.Duration // files
	Ingesting time.Duration // files into the database
	Loading   time.Duration // rows one by one, and waiting for it
	OneByOne  int           // rows
}

// buffers are those of Bulks that are over. They are dropped when no one needs them for a while.
var buffers = sync.Pool{New: func() any { return &records{} }}

// Bulk begins the load of rows from a snapshot; see Load. It must be closed.
func (m *Mirror) Bulk(oid uint32, schema *row.Schema, consistentPoint pglogrepl.LSN) *Bulk {
	return &Bulk{
		m: m, t: m.table(oid), schema: schema, point: consistentPoint,
		rows: buffers.Get().(*records), entries: buffers.Get().(*records),
	}
}

// Close forgets the rows that have not been flushed.
func (b *Bulk) Close() {
	for _, r := range []*records{b.rows, b.entries} {
		r.reset()
		buffers.Put(r)
	}
	b.rows, b.entries = nil, nil
}

// Spent says where the time went so far.
func (b *Bulk) Spent() BulkSpent { return b.spent }

// Add takes rows, which may be used again after it has returned. Some or all of what was added may be in the mirror
// then; after Flush all is.
func (b *Bulk) Add(ctx context.Context, rows []row.Row) error {
	for _, r := range rows {
		if r.HasUnchanged() {
			return b.wrap(fmt.Errorf("%w: a snapshot has all values", ErrUnknownValue))
		}
		key, ok := b.schema.AppendKey(appendPrefix(b.key[:0], spaceRow, b.t.oid), r)
		if b.key = key; !ok {
			return b.wrap(fmt.Errorf("%w: a row's key is null", ErrNoKey))
		}
		stored{lsn: b.point, schema: b.schema.ID}.put(b.rows.add(key, recordHeader, r))
		if b.rows.bytes >= b.m.cfg.bulkBytes {
			if err := b.Flush(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// Flush brings what was added into the mirror. Like Load it does not say that it is there to stay.
func (b *Bulk) Flush(ctx context.Context) error {
	if len(b.rows.items) == 0 {
		return nil
	}
	err := b.flush(ctx)
	b.rows.reset()
	return b.wrap(err)
}

func (b *Bulk) wrap(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("load rows of %s at %s: %w", b.schema.QualifiedName(), b.point, err)
}

func (b *Bulk) flush(ctx context.Context) error {
	if b.rows.bytes < b.m.cfg.bulkBytesMin {
		return b.oneByOne(func(int) bool { return true })
	}
	began := time.Now()
	b.rows.sort()
	b.spent.Writing += time.Since(began)
	defer b.end()
	if err := b.begin(); err != nil {
		return err
	}
	if b.fresh < len(b.rows.items) {
		if err := b.oneByOne(func(i int) bool { return b.known[i] }); err != nil {
			return err
		}
	}
	if b.fresh == 0 {
		return nil
	}
	files, err := b.write()
	if err != nil {
		return err
	}
	defer func() { b.m.removeFiles(files) }()
	if err := b.settle(ctx); err != nil {
		return err
	}
	if b.m.cfg.beforeIngest != nil {
		b.m.cfg.beforeIngest()
	}
	files, err = b.bring(ctx, files)
	return err
}

// begin finds out which rows the mirror knows something of, and has the stream tell from then on which it changes. A key
// that was changed has a row or a tombstone; so has one that a row which lacks values has left.
func (b *Bulk) begin() error {
	began := time.Now()
	b.t.mu.Lock()
	b.spent.Waiting += time.Since(began)
	rows, tombstones, err := b.look()
	b.t.mu.Unlock()
	if err != nil {
		return err
	}
	if err = closeWith(rows, b.marks(rows, spaceRow)); err == nil {
		err = b.marks(tombstones, spaceTombstone)
	}
	return closeWith(tombstones, err)
}

// look begins under the table's lock, when no batch that has changed the table is on its way.
func (b *Bulk) look() (rows, tombstones *pebble.Iterator, err error) {
	if err := b.t.mayLoad(b.point); err != nil {
		return nil, nil, err
	}
	b.known = slices.Grow(b.known[:0], len(b.rows.items))[:len(b.rows.items)]
	clear(b.known)
	b.fresh = len(b.known)
	b.load, b.indexes, b.columns = b.t.load, b.t.indexes, b.t.planOf(b.schema).columns
	if rows, err = b.iterator(spaceRow); err != nil {
		return nil, nil, err
	}
	if tombstones, err = b.iterator(spaceTombstone); err != nil {
		return nil, nil, closeWith(rows, err)
	}
	b.watch = &watch{}
	b.load.watches = append(b.load.watches, b.watch)
	return rows, tombstones, nil
}

func (b *Bulk) iterator(s space) (*pebble.Iterator, error) {
	lower, upper := bounds(s, b.t.oid)
	return b.m.db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
}

// marks marks the keys that an iterator over the keys of a space has. It visits, of the space, little more than what is
// between the rows.
func (b *Bulk) marks(it *pebble.Iterator, s space) error {
	var at []byte
	for i := 0; i < len(b.known); {
		at = append(at[:0], b.rows.key(b.rows.items[i])...)
		at[0] = byte(s)
		if !it.SeekGE(at) {
			return it.Error()
		}
		found := it.Key()[prefixLen:]
		c := -1
		for ; i < len(b.known) && c < 0; i++ {
			if c = bytes.Compare(b.rows.key(b.rows.items[i])[prefixLen:], found); c == 0 {
				b.mark(i)
			}
		}
		if c > 0 {
			i-- // it is behind what was found, and is looked for itself
		}
	}
	return it.Error()
}

func (b *Bulk) mark(i int) {
	if !b.known[i] {
		b.known[i] = true
		b.fresh--
	}
}

// changed marks the rows that the stream has met since begin, and returns their places.
func (b *Bulk) changed() (places []int) {
	for _, k := range b.watch.keys {
		b.key = append(appendPrefix(b.key[:0], spaceRow, b.t.oid), k...)
		if i, ok := b.rows.find(b.key); ok && !b.known[i] {
			b.mark(i)
			places = append(places, i)
		}
	}
	return places
}

// end has the stream tell no more.
func (b *Bulk) end() {
	if b.watch == nil {
		return
	}
	b.t.mu.Lock()
	defer b.t.mu.Unlock()
	b.load.watches = slices.DeleteFunc(b.load.watches, func(w *watch) bool { return w == b.watch })
	b.load, b.watch, b.indexes, b.columns = nil, nil, nil, nil
}

// oneByOne loads the chosen rows as Load does, some at a time.
func (b *Bulk) oneByOne(chosen func(i int) bool) error {
	began := time.Now()
	defer func() { b.spent.Loading += time.Since(began) }()
	var rows []row.Row
	size := 0
	for i, it := range b.rows.items {
		if chosen(i) {
			value := b.rows.value(it)
			rows = append(rows, row.Row(value[recordHeader:]))
			size += len(value)
			b.spent.OneByOne++
		}
		if size < loadBytes && i < len(b.rows.items)-1 || len(rows) == 0 {
			continue
		}
		if err := b.m.Load(b.t.oid, b.schema, b.point, rows); err != nil {
			return err
		}
		rows, size = rows[:0], 0
	}
	return nil
}

// settle waits until the database has made some order in what it was given.
func (b *Bulk) settle(ctx context.Context) error {
	began := time.Now()
	defer func() { b.spent.Waiting += time.Since(began) }()
	for b.m.db.Metrics().Levels[0].Sublevels >= l0Crowded {
		select {
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// bring makes the files, and what else is to be said of their rows, part of the mirror. It returns the files that are
// left.
func (b *Bulk) bring(ctx context.Context, files []string) ([]string, error) {
	t, began := b.t, time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	b.spent.Waiting += time.Since(began)
	if t.load != b.load {
		return files, fmt.Errorf("%w: it was begun anew or is over", ErrNotLoading)
	}
	if err := t.mayLoad(b.point); err != nil {
		return files, err
	}
	if b.point <= t.state.TruncatedAt {
		return files, nil // all that the snapshot has was truncated
	}
	changed := b.changed()
	if len(changed) > 0 || !slices.EqualFunc(b.indexes, t.indexes, func(a, b *index) bool { return a.ID == b.ID }) {
		b.m.removeFiles(files)
		b.indexes, b.columns = t.indexes, t.planOf(b.schema).columns
		var err error
		if files, err = b.write(); err != nil {
			return nil, err
		}
	}
	t.load.loads(b.point)
	return b.commit(ctx, files, changed)
}

// commit ingests the files, and loads the other rows. A crash in between leaves a range that is not finished.
func (b *Bulk) commit(ctx context.Context, files []string, others []int) ([]string, error) {
	kv := b.m.db.NewBatch()
	defer kv.Close()
	s := &b.t.stage
	s.begin(kv, &arena{})
	committed := false
	defer func() { s.end(committed) }()
	p, err := s.plan(b.schema)
	if err != nil {
		return files, err
	}
	for _, i := range others {
		it := b.rows.items[i]
		rec := stored{lsn: b.point, schema: b.schema.ID, row: row.Row(b.rows.value(it)[recordHeader:])}
		if err := s.loadRow(p, b.rows.key(it)[prefixLen:], rec); err != nil {
			return files, fmt.Errorf("row %s: %w", printKey(b.rows.key(it)[prefixLen:]), err)
		}
	}
	s.total += int64(b.fresh)
	if err := s.seal(); err != nil {
		return files, err
	}
	began := time.Now()
	if len(files) > 0 {
		if err := b.m.db.Ingest(context.WithoutCancel(ctx), files); err != nil {
			return files, fmt.Errorf("ingest %d files: %w", len(files), err)
		}
		files = nil
	}
	b.spent.Ingesting += time.Since(began)
	if b.m.cfg.afterIngest != nil {
		b.m.cfg.afterIngest()
	}
	if err := b.m.db.Apply(kv, pebble.NoSync); err != nil {
		return files, err
	}
	committed = true
	return files, nil
}
