package mirror

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/lanternist/lanternist/event"
)

// TestDroppedTableLeavesNothing drops a table beside another one, with a snapshot open.
func TestDroppedTableLeavesNothing(t *testing.T) {
	m, r, s := orders(t)
	other := r.define(2, "other", "id", "customer")
	loadAll(t, m, other)
	commit(t, m, 1, insert(s, 10, "1", "7", "x"), insert(other, 10, "1", "7"))
	before := snapshot(t, m)
	defer before.Close()
	must(t, m.DropTable(1))
	must(t, m.DropTable(1))
	must(t, m.DropTable(99))
	if m.Loaded(1) || !m.Loaded(2) {
		t.Errorf("loaded: %t and %t", m.Loaded(1), m.Loaded(2))
	}
	if _, begun, err := m.LoadState(1); begun || err != nil {
		t.Errorf("a load has begun: %t, %v", begun, err)
	}
	if tables := m.Tables(); len(tables) != 1 || tables[0] != (TableInfo{OID: 2, Name: "public.other", Loaded: true}) {
		t.Errorf("tables are %+v", tables)
	}
	want(t, "after the drop", dump(t, m, 1), nil)
	want(t, "index after the drop", lookup(t, m, byCustomer, "7"), nil)
	want(t, "the other table", dump(t, m, 2), []string{`"1": ["1" "7"]`})
	n := 0
	must(t, before.Lookup(byCustomer, keyOf("7"), func([]byte, Record) error { n++; return nil }))
	if n != 1 {
		t.Errorf("the snapshot from before has %d rows", n)
	}
	// It may come again, with another key, and its index is maintained.
	again := r.define(1, "orders", "number", "customer")
	must(t, m.StartLoad(again, nil))
	commit(t, m, 2, insert(again, 20, "5", "7"))
	must(t, m.FinishLoad(t.Context(), 1))
	want(t, "added again", lookup(t, m, byCustomer, "7"), []string{`"5"`})
}

// TestDropIsDurable crashes after a drop with all that was not synced lost.
func TestDropIsDurable(t *testing.T) {
	fs, r := vfs.NewCrashableMem(), &registry{}
	s := r.define(1, "orders", "id", "customer")
	cfg := Config{Dir: "mirror", fs: fs}
	m, err := Open(cfg, r, slog.New(slog.DiscardHandler))
	must(t, err)
	defer func() { must(t, m.Close()) }()
	loadAll(t, m, s)
	commit(t, m, 7, insert(s, 10, "1", "7"))
	must(t, m.DropTable(1))
	cfg.fs = fs.CrashClone(vfs.CrashCloneCfg{})
	after, err := Open(cfg, r, slog.New(slog.DiscardHandler))
	must(t, err)
	defer func() { must(t, after.Close()) }()
	if after.Position() != 7 {
		t.Errorf("at %v after a crash: the journal would bring back the dropped row", after.Position())
	}
	if tables := after.Tables(); len(tables) != 0 {
		t.Errorf("tables are %+v", tables)
	}
	want(t, "after the crash", dump(t, after, 1), nil)
}

// TestIndexesAreFilledWhileBatchesAreCommitted compares an index that was filled beside a stream of changes with the rows.
func TestIndexesAreFilledWhileBatchesAreCommitted(t *testing.T) {
	m, _, s := orders(t)
	must(t, m.EnsureIndexes(t.Context(), nil))
	const rows = 30_000
	var events []*event.Event
	for i := range rows {
		events = append(events, insert(s, 10, fmt.Sprint(i), fmt.Sprint(i%100), "x"))
	}
	commit(t, m, 1, events...)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	ctx, cancel := context.WithCancel(t.Context())
	var writer sync.WaitGroup
	writer.Go(func() {
		random := rand.New(rand.NewPCG(seed, 0))
		for offset := event.Offset(2); ctx.Err() == nil; offset++ {
			at := lsn(10 * int(offset))
			key, customer := fmt.Sprint(random.IntN(rows)), fmt.Sprint(random.IntN(100))
			ev := update(s, at, key, customer, "y")
			if random.IntN(3) == 0 {
				ev = remove(s, at, key)
			}
			commit(t, m, offset, ev)
		}
	})
	byNote := Index{OID: 1, Columns: []string{"note"}}
	before := snapshot(t, m)
	defer before.Close()
	for range 5 {
		must(t, m.EnsureIndexes(t.Context(), []Index{byCustomer, byNote}, func(_ uint32, _ int64, done bool) {
			snap := snapshot(t, m)
			defer snap.Close()
			if err := snap.LookupKeys(byCustomer, keyOf("7"), nil); !done && !errors.Is(err, ErrNoIndex) {
				t.Errorf("lookup in an index that is being filled: %v", err)
			}
		}))
		snap := snapshot(t, m)
		have, indexed := 0, 0
		must(t, snap.Scan(1, nil, func(_ []byte, rec Record) error {
			have++
			return nil
		}))
		for i := range 100 {
			customer := fmt.Sprint(i)
			must(t, snap.Lookup(byCustomer, keyOf(customer), func(key []byte, rec Record) error {
				indexed++
				if got := string(rec.Row.Column(1).Text); got != customer {
					t.Errorf("row %s of customer %s is in the index of %s", printKey(key), got, customer)
				}
				return nil
			}))
		}
		must(t, snap.Close())
		if have != indexed {
			t.Errorf("%d rows, %d in the index", have, indexed)
		}
		must(t, m.EnsureIndexes(t.Context(), []Index{byNote}))
	}
	if err := before.LookupKeys(byCustomer, keyOf("7"), nil); !errors.Is(err, ErrNoIndex) {
		t.Errorf("an old snapshot looks into a new index: %v", err)
	}
	cancel()
	writer.Wait()
}
