package mirror

import (
	"fmt"
	"log/slog"
	"sync"
	"testing"

	"github.com/jackc/pglogrepl"
	"go.uber.org/goleak"

	"github.com/lanternist/lanternist/event"
	"github.com/lanternist/lanternist/row"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// registry is what the schema registry is to the mirror.
type registry struct {
	mu   sync.RWMutex
	byID map[uint32]*row.Schema
}

func (r *registry) Schema(id uint32) (*row.Schema, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	s, ok := r.byID[id]
	return s, ok
}

func (r *registry) add(s *row.Schema) *row.Schema {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.byID == nil {
		r.byID = map[uint32]*row.Schema{}
	}
	s.ID = uint32(len(r.byID) + 1)
	r.byID[s.ID] = s
	return s
}

// define registers a table whose first column is its key.
func (r *registry) define(oid uint32, name string, columns ...string) *row.Schema {
	s := &row.Schema{OID: oid, Namespace: "public", Name: name, Key: []int{0}, Identity: 'd'}
	for _, c := range columns {
		s.Columns = append(s.Columns, row.Column{Name: c, Type: row.Type{Name: "text", Class: row.String}})
	}
	return r.add(s)
}

func open(t testing.TB, r *registry) *Mirror {
	t.Helper()
	m, err := Open(Config{Dir: t.TempDir()}, r, slog.New(slog.DiscardHandler))
	must(t, err)
	t.Cleanup(func() { must(t, m.Close()) })
	return m
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Values of rows in tests.
const (
	null      = "\x00null"
	unchanged = "\x00unchanged"
)

func rowOf(values ...string) row.Row {
	var vs []row.Value
	for _, v := range values {
		switch v {
		case null:
			vs = append(vs, row.Value{Kind: row.Null})
		case unchanged:
			vs = append(vs, row.Value{Kind: row.Unchanged})
		default:
			vs = append(vs, row.Value{Kind: row.Text, Text: []byte(v)})
		}
	}
	return row.New(vs...)
}

// show is a row in the form rowOf takes it.
func show(r row.Row) []string {
	var values []string
	for _, v := range r.Values(nil) {
		switch v.Kind {
		case row.Null:
			values = append(values, null)
		case row.Unchanged:
			values = append(values, unchanged)
		default:
			values = append(values, string(v.Text))
		}
	}
	return values
}

func lsn(n int) pglogrepl.LSN { return pglogrepl.LSN(n) }

func keyOf(parts ...string) []byte {
	var k []byte
	for _, p := range parts {
		k = append(append(k, p...), 0)
	}
	return k
}

// change is an event of a transaction that commits at lsn.
func change(op event.Op, s *row.Schema, lsn pglogrepl.LSN, before, after row.Row) *event.Event {
	return &event.Event{
		Transaction: &event.Transaction{CommitLSN: lsn, EndLSN: lsn + 1},
		Op:          op, Schema: s, Before: before, After: after,
	}
}

func insert(s *row.Schema, lsn pglogrepl.LSN, values ...string) *event.Event {
	return change(event.Insert, s, lsn, nil, rowOf(values...))
}

func update(s *row.Schema, lsn pglogrepl.LSN, values ...string) *event.Event {
	return change(event.Update, s, lsn, nil, rowOf(values...))
}

// rekey is an update of the key, which is the first column.
func rekey(s *row.Schema, lsn pglogrepl.LSN, from string, values ...string) *event.Event {
	ev := update(s, lsn, values...)
	ev.Before = keyTuple(s, from)
	return ev
}

func remove(s *row.Schema, lsn pglogrepl.LSN, key string) *event.Event {
	return change(event.Delete, s, lsn, keyTuple(s, key), nil)
}

func truncate(s *row.Schema, lsn pglogrepl.LSN) *event.Event {
	return change(event.Truncate, s, lsn, nil, nil)
}

// keyTuple is what pgoutput sends of an old row: the key, and null for the rest.
func keyTuple(s *row.Schema, key string) row.Row {
	values := []string{key}
	for range s.Columns[1:] {
		values = append(values, null)
	}
	return rowOf(values...)
}

// commit applies the events in one batch, the last of which ends a transaction.
func commit(t testing.TB, m *Mirror, offset event.Offset, events ...*event.Event) {
	t.Helper()
	b := m.Begin()
	defer b.Discard()
	for _, ev := range events {
		must(t, b.Apply(ev))
	}
	must(t, b.Commit(offset, events[len(events)-1].Transaction.EndLSN, true))
}

func snapshot(t testing.TB, m *Mirror) *Snapshot {
	t.Helper()
	s, err := m.Snapshot(t.Context())
	must(t, err)
	return s
}

// dump is the whole table, "key: values" in the order of the keys.
func dump(t testing.TB, m *Mirror, oid uint32) []string {
	t.Helper()
	s := snapshot(t, m)
	defer s.Close()
	var lines []string
	must(t, s.Scan(oid, nil, func(key []byte, rec Record) error {
		lines = append(lines, fmt.Sprintf("%s: %q", printKey(key), show(rec.Row)))
		return nil
	}))
	return lines
}

// lookup is the keys of the rows with these values in the index.
func lookup(t testing.TB, m *Mirror, ix Index, values ...string) []string {
	t.Helper()
	s := snapshot(t, m)
	defer s.Close()
	var keys []string
	must(t, s.LookupKeys(ix, keyOf(values...), func(key []byte) error {
		keys = append(keys, printKey(key))
		return nil
	}))
	return keys
}

// loadAll makes the table complete with nothing loaded.
func loadAll(t testing.TB, m *Mirror, s *row.Schema) {
	t.Helper()
	must(t, m.StartLoad(s, nil))
	must(t, m.FinishLoad(t.Context(), s.OID))
}
