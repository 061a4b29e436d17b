package mirror

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2"

	"github.com/lanternist/lanternist/event"
)

// entries is how many index entries there are in all.
func entries(t *testing.T, m *Mirror) int {
	t.Helper()
	it, err := m.db.NewIter(&pebble.IterOptions{LowerBound: []byte{byte(spaceIndex)}, UpperBound: []byte{byte(spaceIndex) + 1}})
	must(t, err)
	n := 0
	for it.First(); it.Valid(); it.Next() {
		n++
	}
	must(t, it.Close())
	return n
}

func TestIndexesAreBuiltDroppedAndLeaveOutNull(t *testing.T) {
	m, _, s := orders(t)
	commit(t, m, 1, insert(s, 10, "1", "7", "x"), insert(s, 10, "2", null, "x"), insert(s, 10, "3", "7", null))
	both := Index{OID: 1, Columns: []string{"note", "customer"}}
	var done []int64
	must(t, m.EnsureIndexes(t.Context(), []Index{both, byCustomer, both}, func(_ uint32, rows int64, finished bool) {
		if finished {
			done = append(done, rows)
		}
	}))
	if len(done) != 1 || done[0] != 3 {
		t.Errorf("progress %v, want one scan of 3 rows: the other index was there", done)
	}
	want(t, "one column", lookup(t, m, byCustomer, "7"), []string{`"1"`, `"3"`})
	want(t, "two columns", lookup(t, m, both, "x", "7"), []string{`"1"`})
	if n := entries(t, m); n != 3 {
		t.Errorf("%d entries, want 3: a null has none", n)
	}
	must(t, m.EnsureIndexes(t.Context(), []Index{both}))
	if n := entries(t, m); n != 1 {
		t.Errorf("%d entries, want 1", n)
	}
	commit(t, m, 2, insert(s, 20, "4", "7", "x"))
	want(t, "after the drop", lookup(t, m, both, "x", "7"), []string{`"1"`, `"4"`})
	must(t, m.EnsureIndexes(t.Context(), nil))
	if n := entries(t, m); n != 0 {
		t.Errorf("%d entries, want none", n)
	}
	if err := m.EnsureIndexes(t.Context(), []Index{{OID: 1}}); err == nil {
		t.Error("an index of no columns was declared")
	}
}

func TestInterruptedBuildBeginsAnew(t *testing.T) {
	m, _, s := orders(t)
	must(t, m.EnsureIndexes(t.Context(), nil))
	long := strings.Repeat("v", 1000) // two or more batches of entries
	var events []*event.Event
	for i := range 10_000 {
		events = append(events, insert(s, 10, fmt.Sprint(i), long, "x"))
	}
	commit(t, m, 1, events...)
	ctx, cancel := context.WithCancel(t.Context())
	err := m.EnsureIndexes(ctx, []Index{byCustomer}, func(uint32, int64, bool) { cancel() })
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v, want it interrupted", err)
	}
	if n := entries(t, m); n == 0 || n == len(events) {
		t.Fatalf("%d entries: not interrupted half way", n)
	}
	snap := snapshot(t, m)
	if err := snap.LookupKeys(byCustomer, keyOf(long), nil); !errors.Is(err, ErrNoIndex) {
		t.Errorf("half an index was used: %v", err)
	}
	must(t, snap.Close())
	commit(t, m, 2, update(s, 20, "0", "moved", "x"), remove(s, 20, "1")) // while it lies half built
	must(t, m.EnsureIndexes(t.Context(), []Index{byCustomer}))
	if got := len(lookup(t, m, byCustomer, long)); got != len(events)-2 {
		t.Errorf("%d keys, want %d", got, len(events)-2)
	}
	want(t, "moved", lookup(t, m, byCustomer, "moved"), []string{`"0"`})
	if n := entries(t, m); n != len(events)-1 {
		t.Errorf("%d entries, want %d", n, len(events)-1)
	}
}
