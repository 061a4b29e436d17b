package mirror

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/lanternist/lanternist/row"
)

func TestRecordsAreSorted(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := &records{}
		for round := range 2 { // the memory is used again
			want := map[string]string{}
			for i := range rapid.IntRange(0, 50).Draw(t, "records") {
				key := rapid.StringMatching(`[a-c]{0,10}`).Draw(t, "key") + "\x00"
				value := fmt.Sprint(round, " ", i)
				if rapid.IntRange(0, 20).Draw(t, "large") == 0 {
					value += strings.Repeat("x", recordsBlock)
				}
				full := spaceKey(spaceRow, 7, []byte(key))
				copy(r.add(full, 2, []byte(value)), "ab")
				want[string(full)] = "ab" + value
			}
			r.sort()
			if len(r.items) != len(want) {
				t.Fatalf("%d records, want %d", len(r.items), len(want))
			}
			for i, it := range r.items {
				key := string(r.key(it))
				if i > 0 && string(r.key(r.items[i-1])) >= key {
					t.Fatalf("%q is not behind %q", key, r.key(r.items[i-1]))
				}
				if got := string(r.value(it)); got != want[key] {
					t.Fatalf("%q is %.20q, want %.20q: the last one stays", key, got, want[key])
				}
				if place, ok := r.find([]byte(key)); !ok || place != i {
					t.Fatalf("%q is found at %d, %t, want %d", key, place, ok, i)
				}
			}
			r.reset()
			if slices.ContainsFunc(r.blocks, func(b []byte) bool { return len(b) > 0 || cap(b) > recordsBlock }) || r.bytes != 0 {
				t.Fatal("something is left after reset")
			}
		}
	})
}

func TestBulkRefuses(t *testing.T) {
	m, s := loadingOrders(t)
	m.cfg.bulkBytesMin = 1
	bulk := m.Bulk(1, s, 50)
	defer bulk.Close()
	if err := bulk.Add(t.Context(), rows(rowOf(null, "7", "x"))); !errors.Is(err, ErrNoKey) {
		t.Errorf("row without a key: %v", err)
	}
	if err := bulk.Add(t.Context(), rows(rowOf("1", "7", unchanged))); !errors.Is(err, ErrUnknownValue) {
		t.Errorf("row without a value: %v", err)
	}
	for name, meanwhile := range map[string]func(){
		"dropped": func() { must(t, m.DropTable(1)) },
		"dropped and begun anew": func() {
			must(t, m.DropTable(1))
			must(t, m.StartLoad(s, make([]LoadRange, 1)))
		},
	} {
		must(t, bulk.Add(t.Context(), rows(rowOf("1", "7", "x"))))
		m.cfg.beforeIngest = meanwhile
		if err := bulk.Flush(t.Context()); !errors.Is(err, ErrNotLoading) {
			t.Errorf("%s: %v", name, err)
		}
		m.cfg.beforeIngest = nil
		want(t, name, dump(t, m, 1), nil)
		if !m.mayStart(s.OID) {
			continue
		}
		must(t, m.StartLoad(s, make([]LoadRange, 1)))
	}
	files, err := m.cfg.fs.List(m.filesDir)
	if err != nil || len(files) > 0 {
		t.Errorf("files are left: %q, %v", files, err)
	}
}

// mayStart says whether the load of a table has not begun.
func (m *Mirror) mayStart(oid uint32) bool {
	_, begun, err := m.LoadState(oid)
	return err == nil && !begun
}

// A file that a crash has left is gone after the next Open, and a load waits no longer than its context lasts.
func TestBulkLeavesNothing(t *testing.T) {
	r := &registry{}
	s := r.define(1, "orders", "id", "customer", "note")
	m := open(t, r)
	must(t, m.StartLoad(s, make([]LoadRange, 1)))
	bulk := m.Bulk(1, s, 50)
	defer bulk.Close()
	for i := range 100 {
		must(t, bulk.Add(t.Context(), []row.Row{rowOf(fmt.Sprint(i), "7", "x")}))
	}
	path, err := m.writeFile(bulk.rows, func(i int) bool { return i == 0 })
	must(t, err)
	must(t, m.prepareFiles())
	if _, err := m.cfg.fs.Stat(path); err == nil {
		t.Error("the file is still there")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := bulk.Flush(ctx); err != nil {
		t.Errorf("there is nothing to wait for: %v", err)
	}
	if n := len(dump(t, m, 1)); n != 100 {
		t.Errorf("%d rows", n)
	}
}
