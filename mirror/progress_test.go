package mirror

import (
	"context"
	"errors"
	"log/slog"
	"testing"

	"github.com/lanternist/lanternist/event"
)

func TestProgressShowsWholeTransactionsOnly(t *testing.T) {
	m, _, s := orders(t)
	commit(t, m, 1, insert(s, 10, "1", "7", "x"))
	before, changed := m.Progress()

	b := m.Begin()
	must(t, b.Apply(insert(s, 20, "2", "7", "x")))
	must(t, b.Commit(2, 0, false))
	m.Advance(100) // says nothing about a transaction that is under way
	if p, _ := m.Progress(); p != before || m.Position() != 2 {
		t.Fatalf("progress %v, position %d inside a transaction, want %v and 2", p, m.Position(), before)
	}
	select {
	case <-changed:
		t.Fatal("the progress has not changed")
	default:
	}

	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := m.Snapshot(cancelled); !errors.Is(err, context.Canceled) {
		t.Fatalf("snapshot inside a transaction: got %v, want it to wait", err)
	}
	got := make(chan *Snapshot)
	go func() {
		s, err := m.Snapshot(t.Context())
		if err != nil {
			t.Error(err)
		}
		got <- s
	}()
	commit(t, m, 3, insert(s, 20, "3", "7", "x"))
	snap := <-got
	defer snap.Close()
	if p := snap.Progress(); p != (Progress{Offset: 3, LSN: 21}) {
		t.Errorf("snapshot at %v", p)
	}
	if n, err := snap.Count(1); n != 3 || err != nil {
		t.Errorf("%d rows, %v, want 3", n, err)
	}
	<-changed
}

func TestAdvanceIsMonotonic(t *testing.T) {
	m, _, s := orders(t)
	commit(t, m, 1, insert(s, 10, "1", "7", "x"))
	for _, step := range []struct{ to, want int }{{50, 50}, {40, 50}, {50, 50}, {60, 60}} {
		_, changed := m.Progress()
		before, _ := m.Progress()
		m.Advance(lsn(step.to))
		p, _ := m.Progress()
		if p != (Progress{Offset: 1, LSN: lsn(step.want)}) {
			t.Errorf("advance to %d: %v, want %d", step.to, p, step.want)
		}
		select {
		case <-changed:
			if p == before {
				t.Errorf("advance to %d: woken for nothing", step.to)
			}
		default:
			if p != before {
				t.Errorf("advance to %d: not woken", step.to)
			}
		}
	}
	commit(t, m, 2, insert(s, 20, "2", "7", "x")) // ends at 21, which is behind what the source has said
	if p, _ := m.Progress(); p != (Progress{Offset: 2, LSN: 60}) {
		t.Errorf("progress %v", p)
	}
}

func TestSnapshotStaysAsItWas(t *testing.T) {
	m, _, s := orders(t)
	commit(t, m, 1, insert(s, 10, "1", "7", "old"))
	snap := snapshot(t, m)
	defer snap.Close()
	commit(t, m, 2, update(s, 20, "1", "8", "new"), insert(s, 20, "2", "7", "new"))
	rec, ok, err := snap.Get(1, keyOf("1"))
	if err != nil || !ok || rec.Schema != s || rec.LSN != 10 {
		t.Fatalf("got %v, %v, %v", rec, ok, err)
	}
	want(t, "row", show(rec.Row), []string{"1", "7", "old"})
	if _, ok, err := snap.Get(1, keyOf("2")); ok || err != nil {
		t.Errorf("the new row is in the old snapshot (%v)", err)
	}
	var keys []string
	must(t, snap.Lookup(byCustomer, keyOf("7"), func(key []byte, rec Record) error {
		if _, ok, err := snap.Get(1, key); !ok || err != nil { // reads inside a visit
			t.Errorf("row %q: %v, %v", key, ok, err)
		}
		keys = append(keys, printKey(key)+" "+string(rec.Row.Column(2).Text))
		return nil
	}))
	want(t, "lookup", keys, []string{`"1" old`})
}

func TestVisitsStopAndFail(t *testing.T) {
	m, _, s := orders(t)
	commit(t, m, 1, insert(s, 10, "1", "7", "x"), insert(s, 10, "2", "7", "x"), insert(s, 10, "3", "70", "x"))
	snap := snapshot(t, m)
	defer snap.Close()
	boom := errors.New("boom")
	for _, end := range []error{ErrStop, boom} {
		visits := 0
		for name, err := range map[string]error{
			"scan":   snap.Scan(1, nil, func([]byte, Record) error { visits++; return end }),
			"lookup": snap.Lookup(byCustomer, keyOf("7"), func([]byte, Record) error { visits++; return end }),
			"keys":   snap.LookupKeys(byCustomer, keyOf("7"), func([]byte) error { visits++; return end }),
		} {
			if stopped := errors.Is(end, ErrStop); stopped != (err == nil) || (!stopped && !errors.Is(err, boom)) {
				t.Errorf("%s ended by %v returned %v", name, end, err)
			}
		}
		if visits != 3 {
			t.Errorf("%d visits, want 3", visits)
		}
	}
	var from []string
	must(t, snap.Scan(1, keyOf("2"), func(key []byte, _ Record) error { from = append(from, printKey(key)); return nil }))
	want(t, "scan from 2", from, []string{`"2"`, `"3"`})
	want(t, "values are not prefixes", lookup(t, m, byCustomer, "7"), []string{`"1"`, `"2"`})
	if err := snap.LookupKeys(Index{OID: 1, Columns: []string{"note"}}, keyOf("x"), nil); !errors.Is(err, ErrNoIndex) {
		t.Errorf("lookup without an index: %v", err)
	}
	if err := snap.LookupKeys(byCustomer, []byte("7"), nil); err == nil {
		t.Error("a value that does not end was looked up")
	}
}

func TestReopenGoesOnWhereItWas(t *testing.T) {
	r := &registry{}
	s := r.define(1, "orders", "id", "customer", "note")
	cfg := Config{Dir: t.TempDir()}
	m, err := Open(cfg, r, slog.New(slog.DiscardHandler))
	must(t, err)
	if _, err := Open(cfg, r, slog.New(slog.DiscardHandler)); !errors.Is(err, ErrLocked) {
		t.Errorf("second open: got %v, want %v", err, ErrLocked)
	}
	must(t, m.EnsureIndexes(t.Context(), []Index{byCustomer}))
	must(t, m.SetJournalID("0198-journal"))
	loadAll(t, m, s)
	commit(t, m, event.NewOffset(3, 1), insert(s, 10, "1", "7", "x"))
	b := m.Begin()
	must(t, b.Apply(insert(s, 20, "2", "7", "x")))
	must(t, b.Commit(event.NewOffset(4, 0), 0, false))
	must(t, m.Close())

	m, err = Open(cfg, r, slog.New(slog.DiscardHandler))
	must(t, err)
	defer func() { must(t, m.Close()) }()
	if id, err := m.JournalID(); id != "0198-journal" || err != nil {
		t.Errorf("journal %q, %v", id, err)
	}
	if m.Position() != event.NewOffset(4, 0) || m.DurableOffset() != event.NewOffset(4, 0) {
		t.Errorf("position %s, durable %s, want 4.0", m.Position(), m.DurableOffset())
	}
	if p, _ := m.Progress(); p != (Progress{Offset: event.NewOffset(3, 1), LSN: 11}) {
		t.Errorf("progress %v", p)
	}
	if !m.Loaded(1) || m.Loaded(2) {
		t.Errorf("loaded %v, %v, want true, false", m.Loaded(1), m.Loaded(2))
	}
	commit(t, m, event.NewOffset(5, 0), insert(s, 20, "3", "7", "x"))
	want(t, "index", lookup(t, m, byCustomer, "7"), []string{`"1"`, `"2"`, `"3"`})
}

func TestSyncTellsWhatIsDurable(t *testing.T) {
	m, _, s := orders(t)
	commit(t, m, 7, insert(s, 10, "1", "7", "x"))
	if m.DurableOffset() == 7 {
		t.Error("durable without a sync")
	}
	if offset, err := m.Sync(); offset != 7 || err != nil || m.DurableOffset() != 7 {
		t.Errorf("synced to %d, %v; durable %d", offset, err, m.DurableOffset())
	}
}
