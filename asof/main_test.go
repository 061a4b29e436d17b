package asof

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pglogrepl"
	"go.uber.org/goleak"

	"github.com/lanternist/lanternist/control"
	"github.com/lanternist/lanternist/deadletter"
	"github.com/lanternist/lanternist/event"
	"github.com/lanternist/lanternist/internal/bucket"
	"github.com/lanternist/lanternist/journal"
	"github.com/lanternist/lanternist/journal/segments"
	"github.com/lanternist/lanternist/mirror"
	"github.com/lanternist/lanternist/mirror/checkpoint"
	"github.com/lanternist/lanternist/projectors"
	"github.com/lanternist/lanternist/row"
	"github.com/lanternist/lanternist/views"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The tables of the tests; orders gets a column in the end.
var (
	customers  = table(1, 101, "customers", "id", "name")
	ordersThen = table(2, 102, "orders", "id", "customer_id", "status")
	orders     = table(3, 102, "orders", "id", "customer_id", "status", "note")
	stray      = table(4, 103, "stray", "id")
	catalog    = schemaList{customers, ordersThen, orders, stray}
)

func table(id, oid uint32, name string, columns ...string) *row.Schema {
	s := &row.Schema{ID: id, Version: 1, OID: oid, Namespace: "public", Name: name, Key: []int{0}, Identity: 'd'}
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

func (l schemaList) Versions(oid uint32) (all []*row.Schema) {
	for _, s := range l {
		if s.OID == oid {
			all = append(all, s)
		}
	}
	return all
}

const orderView = `
view: order
from: orders
fields: {id: , status: , note: , customer: {one: customers, on: {id: customer_id}, fields: {name: }}}
search: {}
`

// world is a source with its journal, its mirror and its archive, and a service beside them.
type world struct {
	*Service
	t       testing.TB
	dir     string
	view    *views.View
	keeper  *checkpoint.Keeper
	store   *memory // of every view that is made
	lsn     pglogrepl.LSN
	clock   time.Time
	batch   *mirror.Batch
	parts   []journal.Part
	closers []func() error
}

func newWorld(t testing.TB, retention journal.Retention) *world {
	t.Helper()
	ctx, log := context.Background(), slog.New(slog.DiscardHandler)
	w := &world{t: t, dir: t.TempDir(), store: newMemory(), lsn: 1000, clock: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	t.Cleanup(func() {
		for _, f := range slices.Backward(w.closers) {
			check(t, f())
		}
	})
	kv, err := control.OpenPebble(filepath.Join(w.dir, "control"), log)
	check(t, err)
	w.closers = append(w.closers, kv.Close)
	letters, err := deadletter.Open(ctx, kv)
	check(t, err)
	engine, err := segments.Open(filepath.Join(w.dir, "journal"), segments.Config{SegmentSize: 64 << 10}, log)
	check(t, err)
	j, err := journal.Open(ctx, engine, catalog, journal.Config{Retention: retention}, log)
	check(t, err)
	w.closers = append(w.closers, j.Close)
	m, err := mirror.Open(mirror.Config{Dir: filepath.Join(w.dir, "mirror"), CacheSize: 1 << 20, MemTableSize: 256 << 10}, catalog, log)
	check(t, err)
	w.closers = append(w.closers, m.Close)
	check(t, m.SetJournalID(j.Identity()))
	head := j.Head()
	check(t, m.Begin().Commit(head.Offset, 0, true))
	store := bucket.NewLazy("file://"+filepath.Join(w.dir, "archive"), "")
	w.closers = append(w.closers, store.Close)
	copies := checkpoint.New(store.Bucket, j.Identity(), checkpoint.Config{}, log)
	w.keeper = checkpoint.NewKeeper(checkpoint.KeeperConfig{Dir: filepath.Join(w.dir, "mirror-checkpoint"), Every: time.Hour, Epoch: "e"}, copies, m, j, catalog, log)
	defs, err := views.Parse("order.yaml", []byte(orderView))
	check(t, err)
	list, err := views.Compile(defs, catalog[:1:1].with(orders))
	check(t, err)
	w.view = list[0]
	check(t, m.EnsureIndexes(ctx, w.view.Indexes()))
	w.Service = New(Config{Dir: filepath.Join(w.dir, "mirror-asof"), Epoch: "e", CacheSize: 1 << 20, Patience: time.Millisecond,
		Projector: func(string) projectors.Config { return projectors.Config{Workers: 2, PieceDocuments: 7} }}, Parts{
		Control: kv, Schemas: catalog, Letters: letters, Journal: j, Mirror: m, Checkpoints: copies, Source: w,
		Stores: func(*views.View) (map[string]projectors.Store, error) {
			return map[string]projectors.Store{"search": w.store}, nil
		},
		Taken: func(name string) bool { return name == "order" },
	}, log)
	return w
}

func (l schemaList) with(s *row.Schema) []*row.Schema { return append(slices.Clone(l), s) }

// Now implements Source.
func (w *world) Now(context.Context) (time.Time, pglogrepl.LSN, error) { return w.clock, w.lsn, nil }

// RequestKeepalive implements Source.
func (w *world) RequestKeepalive() { w.Mirror.Advance(w.lsn) }

// load loads a table that is empty.
func (w *world) load(schema *row.Schema) {
	w.t.Helper()
	check(w.t, w.Mirror.StartLoad(schema, []mirror.LoadRange{{}}))
	check(w.t, w.Mirror.FinishRange(schema.OID, 0, w.lsn, 0))
	w.Mirror.Advance(w.lsn)
	check(w.t, w.Mirror.FinishLoad(context.Background(), schema.OID))
}

func (w *world) copy() *checkpoint.Manifest {
	w.t.Helper()
	stored, err := w.keeper.Make(context.Background(), nil)
	check(w.t, err)
	return stored.Manifest
}

// commit adds a transaction, cut into parts of at most limit changes, to the batch that flush appends. A part that does not end
// the transaction ends the batch.
func (w *world) commit(limit int, changes ...event.Event) event.Transaction {
	w.t.Helper()
	tx := event.Transaction{XID: uint32(w.lsn), CommitLSN: w.lsn + 8, EndLSN: w.lsn + 16, CommitTime: w.clock}
	w.lsn += 16
	first := 0
	for chunk := range slices.Chunk(changes, limit) {
		if w.batch == nil {
			w.batch = w.Mirror.Begin()
		}
		last := first+len(chunk) == len(changes)
		part := journal.Part{Transaction: tx, First: uint32(first), Complete: last, Events: slices.Clone(chunk)}
		if !last {
			part.EndLSN = 0
		}
		for i := range part.Events {
			ev := &part.Events[i]
			ev.Transaction, ev.Ordinal = &part.Transaction, uint32(first+i)
			check(w.t, w.batch.Apply(ev))
		}
		w.parts = append(w.parts, part)
		if first += len(chunk); !last {
			w.flush()
		}
	}
	return tx
}

// flush appends what was committed as one batch.
func (w *world) flush() {
	w.t.Helper()
	if w.batch == nil {
		return
	}
	offset, err := w.Journal.Append(context.Background(), w.parts)
	check(w.t, err)
	last := w.parts[len(w.parts)-1]
	check(w.t, w.batch.Commit(offset, last.EndLSN, last.Complete))
	w.batch, w.parts = nil, nil
}

func insert(s *row.Schema, values ...string) event.Event {
	return event.Event{Op: event.Insert, Schema: s, After: textRow(len(s.Columns), values...)}
}

func update(s *row.Schema, values ...string) event.Event {
	return event.Event{Op: event.Update, Schema: s, After: textRow(len(s.Columns), values...)}
}

func remove(s *row.Schema, key string) event.Event {
	return event.Event{Op: event.Delete, Schema: s, Before: textRow(len(s.Columns), key)}
}

func truncate(s *row.Schema) event.Event { return event.Event{Op: event.Truncate, Schema: s} }

func textRow(columns int, values ...string) row.Row {
	list := make([]row.Value, columns)
	for i := range list {
		list[i] = row.Value{Kind: row.Null}
		if i < len(values) {
			list[i] = row.Value{Kind: row.Text, Text: []byte(values[i])}
		}
	}
	return row.New(list...)
}

// model is the tables as a plain program keeps them.
type model struct {
	customers map[string]string
	orders    map[string]order
}

type order struct {
	ID       string          `json:"id"`
	Status   string          `json:"status"`
	Note     *string         `json:"note"`
	Customer *map[string]any `json:"customer"`

	of string
}

func (m model) documents(t testing.TB) map[string]string {
	all := map[string]string{}
	for id, o := range m.orders {
		if name, ok := m.customers[o.of]; ok {
			o.Customer = &map[string]any{"name": name}
		}
		text, err := json.Marshal(o)
		check(t, err)
		all[id] = string(text)
	}
	return all
}

// change makes a random change to the model, and tells it.
func (m model) change(r *rand.Rand, s *row.Schema) event.Event {
	id := fmt.Sprint(r.IntN(9))
	switch n := r.IntN(20); {
	case n < 6:
		name := fmt.Sprint("name ", r.IntN(1000))
		_, held := m.customers[id]
		m.customers[id] = name
		if held {
			return update(customers, id, name)
		}
		return insert(customers, id, name)
	case n < 8:
		delete(m.customers, id)
		return remove(customers, id)
	case n < 10:
		delete(m.orders, id)
		return remove(s, id)
	case n < 11:
		clear(m.orders)
		return truncate(s)
	case n < 12:
		return insert(stray, fmt.Sprint(r.Uint64()))
	}
	o := order{ID: id, Status: fmt.Sprint("status ", r.IntN(1000)), of: fmt.Sprint(r.IntN(9))}
	values := []string{id, o.of, o.Status}
	if len(s.Columns) > 3 {
		note := fmt.Sprint("note ", r.IntN(1000))
		o.Note, values = &note, append(values, note)
	}
	_, held := m.orders[id]
	m.orders[id] = o
	if held {
		return update(s, values...)
	}
	return insert(s, values...)
}

// memory is a sink.
type memory struct {
	mu         sync.Mutex
	info       *projectors.Info
	documents  map[string]string
	checkpoint *projectors.Checkpoint
	refuse     error // what Write says
}

func newMemory() *memory { return &memory{documents: map[string]string{}} }

func (m *memory) Generations(context.Context) ([]projectors.Info, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.info == nil {
		return nil, nil
	}
	return []projectors.Info{*m.info}, nil
}

func (m *memory) Create(_ context.Context, info projectors.Info) (projectors.Generation, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.info = &info
	return m, nil
}

func (m *memory) Open(context.Context, int) (projectors.Generation, error) { return m, nil }

func (m *memory) Promote(context.Context, int) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.info.Live = true
	return nil
}

func (m *memory) Retire(context.Context, int) error { return errors.New("not asked for") }

// Drop implements projectors.Dropper.
func (m *memory) Drop(context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.info, m.checkpoint, m.documents = nil, nil, map[string]string{}
	return nil
}

func (m *memory) Write(_ context.Context, _ event.Offset, docs []views.Document) ([]projectors.Failure, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.refuse != nil {
		return nil, m.refuse
	}
	for _, d := range docs {
		if d.Body != nil {
			m.documents[d.ID] = string(d.Body)
		}
	}
	return nil, nil
}

func (m *memory) Checkpoint(context.Context) (projectors.Checkpoint, bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.checkpoint == nil {
		return projectors.Checkpoint{}, false, nil
	}
	return *m.checkpoint, true, nil
}

func (m *memory) SaveCheckpoint(_ context.Context, cp projectors.Checkpoint) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.checkpoint = &cp
	return nil
}

func (m *memory) IDs(context.Context, func(string) error) error { return errors.New("not asked for") }

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
