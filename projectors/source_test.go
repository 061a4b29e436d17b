package projectors

import (
	"context"
	"log/slog"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pglogrepl"

	"github.com/lanternist/lanternist/control"
	"github.com/lanternist/lanternist/deadletter"
	"github.com/lanternist/lanternist/event"
	"github.com/lanternist/lanternist/journal"
	"github.com/lanternist/lanternist/journal/segments"
	"github.com/lanternist/lanternist/mirror"
	"github.com/lanternist/lanternist/row"
	"github.com/lanternist/lanternist/views"
)

// The tables of the tests.
var (
	customers = table(1, 101, "customers", []int{0}, "id", "name")
	orders    = table(2, 102, "orders", []int{0}, "id", "customer_id", "status")
	items     = table(3, 103, "items", []int{0, 1}, "order_id", "line", "sku")
	unrelated = table(4, 104, "unrelated", []int{0}, "id")
	catalog   = schemaList{customers, orders, items, unrelated}
)

func table(id, oid uint32, name string, key []int, columns ...string) *row.Schema {
	s := &row.Schema{ID: id, Version: 1, OID: oid, Namespace: "public", Name: name, Key: key, Identity: 'd'}
	for _, c := range columns {
		s.Columns = append(s.Columns, row.Column{Name: c, Type: row.Type{OID: 25, Mod: -1, Name: "text", Class: row.String}})
	}
	return s
}

type schemaList []*row.Schema

func (l schemaList) Schema(id uint32) (*row.Schema, bool) {
	if id == 0 || int(id) > len(l) {
		return nil, false
	}
	return l[id-1], true
}

// The views of the tests: one that is deep, one whose lookup row fans out.
const (
	customerView = `
view: customer
from: public.customers
fields:
  id:
  name:
  orders:
    many: public.orders
    on: {customer_id: id}
    order_by: id
    fields:
      id:
      status:
      items: {many: public.items, on: {order_id: id}, order_by: line, fields: {line: , sku: }}
search: {}
`
	orderView = `
view: order
from: public.orders
fields:
  id:
  status:
  customer: {one: public.customers, on: {id: customer_id}, fields: {name: }}
where: "doc.status != 'draft'"
search: {}
`
	changedOrderView = `
view: order
from: public.orders
fields:
  id:
  state: {column: status}
search: {}
`
)

func compile(t testing.TB, text string) *views.View {
	t.Helper()
	definitions, err := views.Parse("test.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	compiled, err := views.Compile(definitions, catalog)
	if err != nil {
		t.Fatal(err)
	}
	return compiled[0]
}

// source stands where the reader and the ingest are: it commits transactions to a real journal and a real mirror.
type source struct {
	t       testing.TB
	mirror  *mirror.Mirror
	journal *journal.Journal
	engine  *segments.Log
	letters *deadletter.Store
	log     *slog.Logger
	closers []func() error
	lsn     atomic.Uint64
	xid     uint32
	serial  int
}

func newSource(t testing.TB, used ...*views.View) *source {
	t.Helper()
	s := newEmptySource(t, journal.Config{}, used...)
	for _, schema := range catalog {
		s.load(schema)
	}
	return s
}

// newEmptySource is a source of which no table is loaded.
func newEmptySource(t testing.TB, cfg journal.Config, used ...*views.View) *source {
	t.Helper()
	ctx, dir, log := context.Background(), t.TempDir(), slog.New(slog.DiscardHandler)
	s := &source{t: t, log: log}
	s.lsn.Store(1000)
	store, err := control.OpenPebble(filepath.Join(dir, "control"), log)
	check(t, err)
	s.closers = append(s.closers, store.Close)
	t.Cleanup(s.close)
	s.letters, err = deadletter.Open(ctx, store)
	check(t, err)
	engine, err := segments.Open(filepath.Join(dir, "journal"), segments.Config{SegmentSize: 1 << 20}, log)
	check(t, err)
	s.engine = engine
	s.journal, err = journal.Open(ctx, engine, catalog, cfg, log)
	check(t, err)
	s.closers = append(s.closers, s.journal.Close)
	s.mirror, err = mirror.Open(mirror.Config{Dir: filepath.Join(dir, "mirror"), CacheSize: 1 << 20, MemTableSize: 1 << 20}, catalog, log)
	check(t, err)
	s.closers = append(s.closers, s.mirror.Close)
	var indexes []mirror.Index
	for _, v := range used {
		indexes = append(indexes, v.Indexes()...)
	}
	check(t, s.mirror.EnsureIndexes(ctx, indexes))
	return s
}

// close closes what is open; its runners must have stopped.
func (s *source) close() {
	for _, f := range slices.Backward(s.closers) {
		check(s.t, f())
	}
	s.closers = nil
}

// load loads the rows of one table from a snapshot taken now.
func (s *source) load(schema *row.Schema, rows ...row.Row) {
	s.t.Helper()
	check(s.t, s.mirror.StartLoad(schema, []mirror.LoadRange{{}}))
	point := pglogrepl.LSN(s.lsn.Load())
	if len(rows) > 0 {
		check(s.t, s.mirror.Load(schema.OID, schema, point, rows))
	}
	check(s.t, s.mirror.FinishRange(schema.OID, 0, point, int64(len(rows))))
	s.mirror.Advance(point)
	check(s.t, s.mirror.FinishLoad(context.Background(), schema.OID))
}

type change struct {
	op            event.Op
	schema        *row.Schema
	before, after row.Row
}

func insert(schema *row.Schema, values ...string) change {
	return change{op: event.Insert, schema: schema, after: textRow(values...)}
}

func update(schema *row.Schema, values ...string) change {
	return change{op: event.Update, schema: schema, after: textRow(values...)}
}

// remove deletes a row by its key, which is in the first columns.
func remove(schema *row.Schema, key ...string) change {
	values := make([]row.Value, len(schema.Columns))
	for i := range values {
		values[i] = row.Value{Kind: row.Null}
		if i < len(key) {
			values[i] = row.Value{Kind: row.Text, Text: []byte(key[i])}
		}
	}
	return change{op: event.Delete, schema: schema, before: row.New(values...)}
}

func truncate(schema *row.Schema) change { return change{op: event.Truncate, schema: schema} }

func textRow(values ...string) row.Row {
	list := make([]row.Value, len(values))
	for i, v := range values {
		list[i] = row.Value{Kind: row.Text, Text: []byte(v)}
	}
	return row.New(list...)
}

// commit commits one transaction and returns its end: the token of whoever committed it. It may be called by one
// goroutine.
func (s *source) commit(changes ...change) pglogrepl.LSN {
	s.t.Helper()
	s.xid++
	at := pglogrepl.LSN(s.lsn.Load())
	tx := event.Transaction{XID: s.xid, CommitLSN: at + 8, EndLSN: at + 16, CommitTime: time.Now()}
	part := journal.Part{Transaction: tx, Complete: true, Events: make([]event.Event, len(changes))}
	batch := s.mirror.Begin()
	for i, c := range changes {
		ev := &part.Events[i]
		*ev = event.Event{Transaction: &part.Transaction, Ordinal: uint32(i), Op: c.op, Schema: c.schema, Before: c.before, After: c.after}
		check(s.t, batch.Apply(ev))
	}
	offset, err := s.journal.Append(context.Background(), []journal.Part{part})
	check(s.t, err)
	check(s.t, batch.Commit(offset, tx.EndLSN, true))
	s.lsn.Store(uint64(tx.EndLSN))
	return tx.EndLSN
}

// documents composes every document of a view from the mirror as it is.
func (s *source) documents(v *views.View) map[string]string {
	s.t.Helper()
	snapshot, err := s.mirror.Snapshot(context.Background())
	check(s.t, err)
	defer snapshot.Close()
	composer, found := v.Composer(), map[string]string{}
	err = snapshot.Scan(v.Root().OID, nil, func(key []byte, _ mirror.Record) error {
		d, err := composer.Compose(snapshot, key)
		if err != nil {
			return err
		}
		if d.Body != nil {
			found[d.ID] = string(d.Body)
		}
		return nil
	})
	check(s.t, err)
	return found
}

// runner makes a runner with small bounds, whose waits are short.
func (s *source) runner(v *views.View, store Store, adjust ...func(*Config)) *Runner {
	s.t.Helper()
	cfg := Config{Name: v.Name() + ".memory", Sink: "memory", Epoch: "1", Workers: 2, PieceDocuments: 3}
	cfg.Backoff.Min, cfg.Backoff.Max = time.Microsecond, time.Millisecond
	cfg.CheckpointInterval = time.Millisecond
	for _, f := range adjust {
		f(&cfg)
	}
	r, err := NewRunner(cfg, v, store, s.mirror, s.journal, s.letters, s.log)
	check(s.t, err)
	return r
}

// run starts a runner, which ends with the test, or when stop is called. stop returns what Run did.
func (s *source) run(r *Runner) (stop func() error) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	var result error
	stopped := false
	stop = func() error {
		if !stopped {
			cancel()
			result, stopped = <-ended, true
		}
		return result
	}
	s.t.Cleanup(func() { _ = stop() })
	return stop
}

// reach waits until the runner's watermark has reached a token.
func (s *source) reach(r *Runner, lsn pglogrepl.LSN) mirror.Progress {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	progress, err := r.Wait(ctx, lsn)
	if err != nil {
		s.t.Fatalf("watermark is at %v, want %s: %v; %+v", progress, lsn, err, r.Status())
	}
	return progress
}

// eventually polls until ok, for which it has 20 seconds.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("not within 20s: %s", what)
		}
	}
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func pglsn(n uint64) pglogrepl.LSN { return pglogrepl.LSN(n) }
