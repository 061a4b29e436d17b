package stream

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pglogrepl"
	"go.uber.org/goleak"

	"github.com/lanternist/lanternist/control"
	"github.com/lanternist/lanternist/deadletter"
	"github.com/lanternist/lanternist/event"
	"github.com/lanternist/lanternist/journal"
	"github.com/lanternist/lanternist/journal/segments"
	"github.com/lanternist/lanternist/row"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var quiet = slog.New(slog.DiscardHandler)

var (
	orders = table(1, 101, "public", "orders")
	items  = table(2, 102, "sales", "items")
)

func table(id, oid uint32, namespace, name string) *row.Schema {
	return &row.Schema{
		ID: id, Version: 1, OID: oid, Namespace: namespace, Name: name, Key: []int{0}, Identity: 'd',
		Columns: []row.Column{{Name: "id", Type: row.Type{OID: 25, Mod: -1, Name: "text", Class: row.String}, NotNull: true}},
	}
}

type tables struct{}

func (tables) Schema(id uint32) (*row.Schema, bool) {
	for _, s := range []*row.Schema{orders, items} {
		if s.ID == id {
			return s, true
		}
	}
	return nil, false
}

// transaction is one of the journal, as the test knows it.
type transaction struct {
	lsn    pglogrepl.LSN
	at     time.Time
	events []event.Offset
	end    event.Offset // where the next one begins
	whole  bool
}

// world is a journal, and all that was ever appended to it.
type world struct {
	t       testing.TB
	engine  *faulty
	journal *journal.Journal
	control *forgetful
	letters *deadletter.Store
	all     []*transaction
	closers []func() error
}

func newWorld(t testing.TB, cfg journal.Config) *world {
	t.Helper()
	dir := t.TempDir()
	w := &world{t: t}
	store, err := control.OpenPebble(filepath.Join(dir, "control"), quiet)
	must(t, err)
	w.control = &forgetful{Store: store}
	w.closers = append(w.closers, store.Close)
	t.Cleanup(w.close)
	w.letters, err = deadletter.Open(t.Context(), store)
	must(t, err)
	engine, err := segments.Open(filepath.Join(dir, "journal"), segments.Config{SegmentSize: 1 << 20}, quiet)
	must(t, err)
	w.engine = &faulty{Log: engine}
	w.journal, err = journal.Open(t.Context(), w.engine, tables{}, cfg, quiet)
	must(t, err)
	w.closers = append(w.closers, w.journal.Close)
	return w
}

func (w *world) close() {
	for _, f := range slices.Backward(w.closers) {
		must(w.t, f())
	}
	w.closers = nil
}

// forgetful is a control store to which nothing can be written for a while.
type forgetful struct {
	control.Store
	mu  sync.Mutex
	err error
}

func (f *forgetful) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err = err
}

func (f *forgetful) Put(ctx context.Context, key string, value []byte) error {
	f.mu.Lock()
	err := f.err
	f.mu.Unlock()
	if err != nil {
		return err
	}
	return f.Store.Put(ctx, key, value)
}

// faulty is a real engine that may give a batch with a flipped bit.
type faulty struct {
	journal.Log
	mu      sync.Mutex
	flipped uint64 // sequence
}

func (f *faulty) flip(sequence uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.flipped = sequence
}

func (f *faulty) Read(ctx context.Context, sequence uint64) ([]byte, error) {
	entry, err := f.Log.Read(ctx, sequence)
	f.mu.Lock()
	defer f.mu.Unlock()
	if err == nil && sequence == f.flipped {
		entry = slices.Clone(entry)
		entry[len(entry)-1] ^= 0x10
	}
	return entry, err
}

var began = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// chunk is one transaction, or what comes next of the last one, to be appended.
type chunk struct {
	events int
	part   bool          // more of the transaction comes with the next batch
	late   time.Duration // by the source's clock, which is a second further with each transaction
	table  *row.Schema   // orders unless set
	size   int           // of each row, in bytes
}

// append appends one batch. The n-th transaction commits at n*0x100, n seconds after the beginning.
func (w *world) append(chunks ...chunk) {
	w.t.Helper()
	var parts []journal.Part
	var of []*transaction
	for _, c := range chunks {
		n := len(w.all)
		if n == 0 || w.all[n-1].whole {
			n++
			w.all = append(w.all, &transaction{lsn: pglogrepl.LSN(n * 0x100), at: began.Add(time.Duration(n)*time.Second + c.late)})
		}
		tx := w.all[len(w.all)-1]
		tx.whole = !c.part
		p := journal.Part{
			Transaction: event.Transaction{XID: uint32(n), CommitLSN: tx.lsn, CommitTime: tx.at},
			First:       uint32(len(tx.events)), Complete: !c.part, Events: make([]event.Event, c.events),
		}
		if p.Complete {
			p.EndLSN = tx.lsn + 0x10
		}
		schema := c.table
		if schema == nil {
			schema = orders
		}
		for i := range p.Events {
			text := fmt.Sprintf("%d.%d", n, int(p.First)+i) + strings.Repeat("x", c.size)
			p.Events[i] = event.Event{
				Ordinal: p.First + uint32(i), Op: event.Insert, Schema: schema,
				After: row.New(row.Value{Kind: row.Text, Text: []byte(text)}),
			}
		}
		tx.events = append(tx.events, make([]event.Offset, c.events)...)
		parts, of = append(parts, p), append(of, tx)
	}
	last, err := w.journal.Append(context.Background(), parts)
	must(w.t, err)
	index := 0
	for i := range parts {
		index += len(parts[i].Events)
		of[i].end = event.NewOffset(last.Sequence(), index)
		for k := range parts[i].Events {
			of[i].events[int(parts[i].First)+k] = parts[i].Events[k].Offset
		}
	}
}

// offsets are those of all events of the transactions that are chosen.
func (w *world) offsets(chosen func(*transaction) bool) (all []event.Offset) {
	for _, tx := range w.all {
		if chosen(tx) {
			all = append(all, tx.events...)
		}
	}
	return all
}

func everything(*transaction) bool { return true }

// file is a relay as simple as can be: it notes what it is handed.
type file struct {
	mu      sync.Mutex
	busy    bool
	live    []event.Offset // handled; whatever came again, too
	again   []event.Offset // replayed
	calls   int
	handle  func(events []event.Event) error // what it does before, if anything
	changed chan struct{}
	bad     string // what it was called with that it must not be
}

func newFile() *file { return &file{changed: make(chan struct{}, 1)} }

func (f *file) Handle(ctx context.Context, events []event.Event) error {
	f.mu.Lock()
	if f.busy {
		f.bad = "calls overlap"
	}
	f.busy = true
	f.calls++
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		f.busy = false
		f.mu.Unlock()
		select {
		case f.changed <- struct{}{}:
		default:
		}
	}()
	if f.handle != nil {
		if err := f.handle(events); err != nil {
			return err
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range events {
		if Replaying(ctx) {
			f.again = append(f.again, events[i].Offset)
		} else {
			f.live = append(f.live, events[i].Offset)
		}
	}
	return nil
}

// has are what was handled, and what was replayed.
func (f *file) has(t testing.TB) (live, again []event.Offset) {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.bad != "" {
		t.Error(f.bad)
	}
	return slices.Clone(f.live), slices.Clone(f.again)
}

// reach waits until so many events were handled.
func (f *file) reach(t testing.TB, n int) []event.Offset {
	t.Helper()
	deadline := time.After(20 * time.Second)
	for {
		if live, _ := f.has(t); len(live) >= n {
			return live
		}
		select {
		case <-f.changed:
		case <-deadline:
			live, _ := f.has(t)
			t.Fatalf("%d events were handled, want %d", len(live), n)
		}
	}
}

func (w *world) projector(f Handler, adjust ...func(*Config)) *Projector {
	w.t.Helper()
	cfg := Config{Name: "file", BatchEvents: 3, CheckpointInterval: time.Millisecond}
	cfg.Backoff.Min, cfg.Backoff.Max = time.Microsecond, time.Millisecond
	for _, change := range adjust {
		change(&cfg)
	}
	p, err := New(cfg, f, Parts{Journal: w.journal, Control: w.control, Letters: w.letters}, quiet)
	must(w.t, err)
	return p
}

// run runs a projector until stop is called, which returns what Run did.
func (w *world) run(p *Projector) (stop func() error) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	var once sync.Once
	var result error
	stop = func() error {
		once.Do(func() {
			cancel()
			result = <-ended
		})
		return result
	}
	w.t.Cleanup(func() { _ = stop() })
	return stop
}

func same(t testing.TB, what string, got, want []event.Offset) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
