package archive

import (
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pglogrepl"
	"go.uber.org/goleak"
	"gocloud.dev/blob"
	"gocloud.dev/blob/memblob"

	"github.com/lanternist/lanternist/backoff"
	"github.com/lanternist/lanternist/event"
	"github.com/lanternist/lanternist/internal/bucket"
	"github.com/lanternist/lanternist/journal"
	"github.com/lanternist/lanternist/journal/segments"
	"github.com/lanternist/lanternist/row"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// tables are the definitions that the tests' events have.
type tables map[uint32]*row.Schema

// Schema implements journal.Schemas.
func (t tables) Schema(id uint32) (*row.Schema, bool) {
	s, ok := t[id]
	return s, ok
}

var known = tables{
	1: {
		ID: 1, Version: 1, OID: 16400, Namespace: "public", Name: "orders", Key: []int{0}, Identity: 'd',
		Columns: []row.Column{
			{Name: "id", Type: row.Type{OID: 20, Mod: -1, Name: "bigint", Class: row.Int}, NotNull: true},
			{Name: "status", Type: row.Type{OID: 25, Mod: -1, Name: "text", Class: row.String}},
		},
	},
	2: {
		ID: 2, Version: 1, OID: 16410, Namespace: "sales", Name: "items", Key: []int{0}, Identity: 'd',
		Columns: []row.Column{{Name: "sku", Type: row.Type{OID: 25, Mod: -1, Name: "text", Class: row.String}, NotNull: true}},
	},
}

var epoch = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// text is a row of text values.
func text(values ...string) row.Row {
	var vs []row.Value
	for _, v := range values {
		vs = append(vs, row.Value{Kind: row.Text, Text: []byte(v)})
	}
	return row.New(vs...)
}

// transaction is the n-th transaction, complete, with events of which each has at least so many bytes. Its commit record is
// at n*1000; it committed n seconds after the epoch.
func transaction(r *rand.Rand, n, events, size int) journal.Part {
	p := journal.Part{
		Transaction: event.Transaction{
			XID: uint32(n), CommitLSN: pglogrepl.LSN(n * 1000), EndLSN: pglogrepl.LSN(n*1000 + 50), CommitTime: epoch.Add(time.Duration(n) * time.Second),
		},
		Complete: true,
	}
	for i := range events {
		e := event.Event{Ordinal: uint32(i), Op: event.Insert, Schema: known[1+uint32(n+i)%2]}
		fill := make([]byte, size)
		for k := range fill {
			fill[k] = 'a' + byte(r.IntN(16))
		}
		if e.Schema.ID == 1 {
			e.After = text(fmt.Sprint(n*1000+i), string(fill))
		} else {
			e.After = text(fmt.Sprint(n*1000+i) + string(fill))
		}
		p.Events = append(p.Events, e)
	}
	return p
}

// describe writes what a batch says, for comparison.
func describe(b *journal.Batch) string {
	var s strings.Builder
	fmt.Fprintf(&s, "%d %s\n", b.Sequence, b.Time)
	for i := range b.Parts {
		p := &b.Parts[i]
		fmt.Fprintf(&s, " %d %s-%s %s %d %t\n", p.XID, p.CommitLSN, p.EndLSN, p.CommitTime, p.First, p.Complete)
		for k := range p.Events {
			e := &p.Events[k]
			fmt.Fprintf(&s, "  %s %d %s %x\n", e.Offset, e.Ordinal, e.Schema.QualifiedName(), []byte(e.After))
		}
	}
	return s.String()
}

// tester is what a test and a property have in common.
type tester interface {
	Helper()
	Cleanup(f func())
	Context() context.Context
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

// memoryLog is an engine in memory.
type memoryLog struct {
	mu      sync.Mutex
	first   uint64
	entries [][]byte
}

func (l *memoryLog) Append(_ context.Context, sequence uint64, entry []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.entries) == 0 {
		l.first = sequence
	}
	l.entries = append(l.entries, slices.Clone(entry))
	return nil
}

func (l *memoryLog) Read(_ context.Context, sequence uint64) ([]byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if sequence < l.first || sequence >= l.first+uint64(len(l.entries)) {
		return nil, journal.ErrNotFound
	}
	return slices.Clone(l.entries[sequence-l.first]), nil
}

func (l *memoryLog) Bounds(context.Context) (first, last uint64, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.entries) == 0 {
		return 0, 0, nil
	}
	return l.first, l.first + uint64(len(l.entries)) - 1, nil
}

func (l *memoryLog) Trim(_ context.Context, before uint64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if before > l.first {
		l.entries, l.first = l.entries[before-l.first:], before
	}
	return nil
}

func (l *memoryLog) Size(context.Context) (int64, error) { return 0, nil }
func (l *memoryLog) MaxEntry() int                       { return 64 << 20 }
func (l *memoryLog) MaxInline() int                      { return 64 << 20 }
func (l *memoryLog) Close() error                        { return nil }

// world is a journal on a folder, and where its archive is.
type world struct {
	t       tester
	dir     string
	memory  *memoryLog // instead of the folder
	journal *journal.Journal
	engine  journal.Log
	store   *blob.Bucket
	archive *Archive
	random  *rand.Rand
	n       int               // transactions so far
	all     map[uint64]string // what each batch said when it was appended
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// folderStore is an empty folder.
func folderStore(t testing.TB) *blob.Bucket {
	t.Helper()
	b, err := bucket.Open(t.Context(), "file://"+t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

func memoryStore(t testing.TB) *blob.Bucket {
	b := memblob.OpenBucket(nil)
	t.Cleanup(func() { b.Close() })
	return b
}

// opened is a bucket that is there.
func opened(b *blob.Bucket) Bucket {
	return func(context.Context) (*blob.Bucket, error) { return b, nil }
}

// newWorld makes a journal and an archive of it. What has left the memory of the journal is read from where it is stored.
func newWorld(t testing.TB, store *blob.Bucket, retention journal.Retention) *world {
	t.Helper()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	w := &world{t: t, dir: t.TempDir(), store: store, random: rand.New(rand.NewPCG(seed, 1)), all: map[uint64]string{}}
	w.open(retention)
	return w
}

// open opens the journal with nothing in memory.
func (w *world) open(retention journal.Retention) {
	w.t.Helper()
	log := w.openEngine()
	j, err := journal.Open(w.t.Context(), log, known, journal.Config{Retention: retention, CacheBytes: 1}, quiet())
	if err != nil {
		w.t.Fatal(err)
	}
	if w.memory == nil {
		w.t.Cleanup(func() { j.Close() })
	}
	w.engine, w.journal = log, j
	id, err := journal.ParseID(j.Identity())
	if err != nil {
		w.t.Fatal(err)
	}
	w.archive = New(opened(w.store), id, quiet())
	j.Attach(w.archive)
}

func (w *world) openEngine() journal.Log {
	w.t.Helper()
	if w.memory != nil {
		return w.memory
	}
	log, err := segments.Open(w.dir, segments.Config{SegmentSize: 64 << 10}, quiet())
	if err != nil {
		w.t.Fatal(err)
	}
	return log
}

// append appends batches of one transaction each.
func (w *world) append(batches, events, size int) {
	w.t.Helper()
	for range batches {
		w.n++
		w.appendParts(transaction(w.random, w.n, events, size))
	}
}

func (w *world) appendParts(parts ...journal.Part) {
	w.t.Helper()
	if _, err := w.journal.Append(w.t.Context(), parts); err != nil {
		w.t.Fatal(err)
	}
	last := w.journal.Head().Offset.Sequence()
	b, err := w.journal.Read(w.t.Context(), last)
	if err != nil {
		w.t.Fatal(err)
	}
	w.all[last] = describe(b)
}

// archiver is one that does not run.
func (w *world) archiver(cfg Config) *Archiver {
	if cfg.Backoff.Max == 0 {
		cfg.Backoff = backoff.Config{Min: time.Millisecond, Max: 5 * time.Millisecond}
	}
	cfg.Program = "lanternist test"
	return NewArchiver(cfg, w.archive, w.journal, known, quiet())
}

// run runs an archiver until the returned function is called.
func run(t tester, r *Archiver) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = r.Run(ctx)
	}()
	stop = func() {
		cancel()
		<-done
	}
	t.Cleanup(stop)
	return stop
}

// archiveAll archives everything there is, in files of a size.
func (w *world) archiveAll(cfg Config) *Archiver {
	w.t.Helper()
	r := w.archiver(cfg)
	stop := run(w.t, r)
	r.Request()
	head := w.journal.Head().Offset.Sequence()
	err := awaitLast(r, head)
	stop()
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

// awaitLast waits until everything up to a batch is archived.
func awaitLast(r *Archiver, last uint64) error {
	for end := time.Now().Add(20 * time.Second); ; {
		s := r.Status()
		if s.Last == last {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("archived up to %d of %d: %s", s.Last, last, s.Error)
		}
		time.Sleep(100 * time.Microsecond) //nolint:forbidigo // this is the polling with a deadline
	}
}

// trim makes the journal begin with a batch.
func (w *world) trim(first uint64) {
	w.t.Helper()
	if err := w.journal.Close(); err != nil {
		w.t.Fatal(err)
	}
	log := w.openEngine()
	if err := log.Trim(w.t.Context(), first); err != nil {
		w.t.Fatal(err)
	}
	if err := log.Close(); err != nil {
		w.t.Fatal(err)
	}
	w.open(journal.Retention{})
	if err := w.archive.Load(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
}

// names are the files in the store.
func (w *world) names() []string {
	w.t.Helper()
	files, _, err := listFiles(w.t.Context(), w.store, w.archive.id)
	if err != nil {
		w.t.Fatal(err)
	}
	var names []string
	for _, f := range files {
		names = append(names, f.name)
	}
	return names
}

// check reads everything in three ways and compares it with what was appended.
func (w *world) check() {
	w.t.Helper()
	ctx := w.t.Context()
	for sequence, want := range w.all {
		b, err := w.journal.Read(ctx, sequence)
		if err != nil {
			w.t.Fatalf("read %d: %v", sequence, err)
		}
		if got := describe(b); got != want {
			w.t.Fatalf("batch %d is\n%s\nwant\n%s", sequence, got, want)
		}
	}
	after, count := event.Offset(0), 0
	for after < w.journal.Head().Offset {
		b, err := w.journal.Next(ctx, after)
		if err != nil {
			w.t.Fatalf("next after %s: %v", after, err)
		}
		if want, ok := w.all[b.Sequence]; ok {
			count++
			if describe(b) != want {
				w.t.Fatalf("batch %d is not what was appended", b.Sequence)
			}
		}
		after = b.Last()
	}
	if count != len(w.all) {
		w.t.Fatalf("%d batches came in order, want %d", count, len(w.all))
	}
}

// reseal is an entry that was appended after another one.
func reseal(entry []byte, previous uint32) []byte {
	entry = slices.Clone(entry)
	binary.BigEndian.PutUint32(entry[12:], previous)
	table := crc32.MakeTable(crc32.Castagnoli)
	binary.BigEndian.PutUint32(entry[8:], crc32.Update(crc32.Checksum(entry[:8], table), table, entry[12:]))
	return entry
}
