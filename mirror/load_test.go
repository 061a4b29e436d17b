package mirror

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"

	"github.com/lanternist/lanternist/event"
	"github.com/lanternist/lanternist/row"
)

// loadingOrders is a mirror with one table under load, of one range.
func loadingOrders(t *testing.T) (*Mirror, *row.Schema) {
	t.Helper()
	r := &registry{}
	s := r.define(1, "orders", "id", "customer", "note")
	m := open(t, r)
	must(t, m.EnsureIndexes(t.Context(), []Index{byCustomer}))
	must(t, m.StartLoad(s, make([]LoadRange, 1)))
	return m, s
}

func rows(rs ...row.Row) []row.Row { return rs }

// A snapshot at 50 has the transactions that committed before 50. Each case is a stream and a load, in an order, and
// what must come of it.
func TestLoadMeetsTheStream(t *testing.T) {
	type step struct {
		events func(s *row.Schema) []*event.Event
		point  int // of rows
		rows   []row.Row
	}
	stream := func(events func(s *row.Schema) []*event.Event) step { return step{events: events} }
	load := func(at int, rs ...row.Row) step { return step{point: at, rows: rs} }
	one := func(ev func(s *row.Schema) *event.Event) step {
		return stream(func(s *row.Schema) []*event.Event { return []*event.Event{ev(s)} })
	}
	for name, c := range map[string]struct {
		steps []step
		want  []string
	}{
		"row that nobody changed": {[]step{load(50, rowOf("1", "7", "x"))}, []string{`"1": ["1" "7" "x"]`}},
		"late change": {[]step{
			load(50, rowOf("1", "7", "new")),
			one(func(s *row.Schema) *event.Event { return update(s, 40, "1", "6", "old") }),
		}, []string{`"1": ["1" "7" "new"]`}},
		"late delete of an earlier row": {[]step{
			load(50, rowOf("1", "7", "new")),
			one(func(s *row.Schema) *event.Event { return remove(s, 40, "1") }),
		}, []string{`"1": ["1" "7" "new"]`}},
		"change at the consistent point is not in the snapshot": {[]step{
			one(func(s *row.Schema) *event.Event { return update(s, 50, "1", "8", "new") }),
			load(50, rowOf("1", "7", "old")),
		}, []string{`"1": ["1" "8" "new"]`}},
		"change before the consistent point is in the snapshot": {[]step{
			one(func(s *row.Schema) *event.Event { return update(s, 49, "1", "6", "old") }),
			load(50, rowOf("1", "7", "new")),
		}, []string{`"1": ["1" "7" "new"]`}},
		"delete at the consistent point": {[]step{
			one(func(s *row.Schema) *event.Event { return remove(s, 50, "1") }),
			load(50, rowOf("1", "7", "gone")),
		}, nil},
		"deleted and inserted again": {[]step{
			one(func(s *row.Schema) *event.Event { return remove(s, 60, "1") }),
			one(func(s *row.Schema) *event.Event { return insert(s, 70, "1", "9", "again") }),
			load(50, rowOf("1", "7", "gone")),
		}, []string{`"1": ["1" "9" "again"]`}},
		"unchanged value comes from the snapshot": {[]step{
			one(func(s *row.Schema) *event.Event { return update(s, 60, "1", "8", unchanged) }),
			load(50, rowOf("1", "7", "long")),
		}, []string{`"1": ["1" "8" "long"]`}},
		"unchanged value follows the key": {[]step{
			one(func(s *row.Schema) *event.Event { return rekey(s, 60, "1", "2", "8", unchanged) }),
			one(func(s *row.Schema) *event.Event { return rekey(s, 70, "2", "3", "9", unchanged) }),
			load(50, rowOf("1", "7", "long")),
		}, []string{`"3": ["3" "9" "long"]`}},
		"key changed and changed back, once before the snapshot": {[]step{
			one(func(s *row.Schema) *event.Event { return rekey(s, 40, "1", "2", "7", unchanged) }),
			one(func(s *row.Schema) *event.Event { return rekey(s, 60, "2", "1", "8", unchanged) }),
			load(50, rowOf("2", "7", "long")),
		}, []string{`"1": ["1" "8" "long"]`}},
		"keys swapped before they are loaded": {[]step{
			stream(func(s *row.Schema) []*event.Event {
				return []*event.Event{rekey(s, 60, "a", "t", "7", unchanged), rekey(s, 60, "b", "a", "8", unchanged), rekey(s, 60, "t", "b", "7", unchanged)}
			}),
			load(50, rowOf("a", "7", "of a"), rowOf("b", "8", "of b")),
		}, []string{`"a": ["a" "8" "of b"]`, `"b": ["b" "7" "of a"]`}},
		"keys swapped at the consistent point": {[]step{
			stream(func(s *row.Schema) []*event.Event {
				return []*event.Event{rekey(s, 50, "a", "t", "7", unchanged), rekey(s, 50, "b", "a", "8", unchanged), rekey(s, 50, "t", "b", "7", unchanged)}
			}),
			load(50, rowOf("a", "7", "of a"), rowOf("b", "8", "of b")),
		}, []string{`"a": ["a" "8" "of b"]`, `"b": ["b" "7" "of a"]`}},
		"keys swapped twice, the snapshot between": {[]step{
			stream(func(s *row.Schema) []*event.Event {
				return []*event.Event{rekey(s, 40, "a", "t", "7", unchanged), rekey(s, 40, "b", "a", "8", unchanged), rekey(s, 40, "t", "b", "7", unchanged)}
			}),
			stream(func(s *row.Schema) []*event.Event {
				return []*event.Event{rekey(s, 60, "a", "t", "8", unchanged), rekey(s, 60, "b", "a", "7", unchanged), rekey(s, 60, "t", "b", "8", unchanged)}
			}),
			load(50, rowOf("a", "8", "of b"), rowOf("b", "7", "of a")),
		}, []string{`"a": ["a" "7" "of a"]`, `"b": ["b" "8" "of b"]`}},
		"another row had the key at the snapshot": {[]step{
			stream(func(s *row.Schema) []*event.Event {
				return []*event.Event{remove(s, 50, "a"), rekey(s, 50, "b", "a", "8", unchanged)}
			}),
			load(50, rowOf("a", "7", "of a")),
			load(50, rowOf("b", "8", "of b")),
		}, []string{`"a": ["a" "8" "of b"]`}},
		"another row had the key at the snapshot, and both have moved on": {[]step{
			stream(func(s *row.Schema) []*event.Event {
				return []*event.Event{remove(s, 50, "a"), rekey(s, 50, "b", "a", "8", unchanged)}
			}),
			one(func(s *row.Schema) *event.Event { return rekey(s, 60, "a", "c", "8", unchanged) }),
			load(50, rowOf("a", "7", "of a")),
			load(50, rowOf("b", "8", "of b")),
		}, []string{`"c": ["c" "8" "of b"]`}},
		"truncate at the consistent point": {[]step{
			one(func(s *row.Schema) *event.Event { return truncate(s, 50) }),
			load(50, rowOf("1", "7", "x")),
		}, nil},
		"loaded row truncated at the consistent point": {[]step{
			load(50, rowOf("1", "7", "x")),
			load(70, rowOf("2", "7", "y")),
			one(func(s *row.Schema) *event.Event { return truncate(s, 50) }),
		}, []string{`"2": ["2" "7" "y"]`}},
		"loaded row changed at the consistent point": {[]step{
			load(50, rowOf("1", "7", "x")),
			one(func(s *row.Schema) *event.Event { return update(s, 50, "1", "8", unchanged) }),
		}, []string{`"1": ["1" "8" "x"]`}},
		"moved row deleted": {[]step{
			one(func(s *row.Schema) *event.Event { return rekey(s, 60, "1", "2", "8", unchanged) }),
			one(func(s *row.Schema) *event.Event { return remove(s, 70, "2") }),
			load(50, rowOf("1", "7", "long")),
		}, nil},
		"truncate after the snapshot": {[]step{
			load(50, rowOf("1", "7", "x")),
			stream(func(s *row.Schema) []*event.Event {
				return []*event.Event{truncate(s, 60), insert(s, 60, "3", "7", "new")}
			}),
			load(50, rowOf("2", "7", "x")),
		}, []string{`"3": ["3" "7" "new"]`}},
		"truncate before the snapshot": {[]step{
			one(func(s *row.Schema) *event.Event { return insert(s, 30, "0", "7", "old") }),
			load(50, rowOf("1", "7", "x")),
			one(func(s *row.Schema) *event.Event { return truncate(s, 40) }),
			load(50, rowOf("2", "7", "x")),
		}, []string{`"1": ["1" "7" "x"]`, `"2": ["2" "7" "x"]`}},
		"the newer of two snapshots second": {[]step{
			load(50, rowOf("1", "7", "x")), load(70, rowOf("1", "8", "y")),
		}, []string{`"1": ["1" "8" "y"]`}},
		"the newer of two snapshots first": {[]step{
			load(70, rowOf("1", "8", "y")), load(50, rowOf("1", "7", "x")),
		}, []string{`"1": ["1" "8" "y"]`}},
		"two snapshots": {[]step{
			load(50, rowOf("1", "7", "x"), rowOf("2", "7", "x")),
			load(70, rowOf("1", "8", "y")),
			one(func(s *row.Schema) *event.Event { return update(s, 60, "1", "8", unchanged) }),
			load(50, rowOf("1", "7", "x")),
		}, []string{`"1": ["1" "8" "y"]`, `"2": ["2" "7" "x"]`}},
	} {
		// Rows come one by one; as files; as files that are written while the step of the stream before or after is applied.
		for _, way := range []string{"one by one", "in bulk", "in bulk, before", "in bulk, after"} {
			t.Run(name+" "+way, func(t *testing.T) {
				m, s := loadingOrders(t)
				m.cfg.bulkBytesMin = 1
				applied := map[int]bool{}
				apply := func(i int) {
					if i >= 0 && i < len(c.steps) && c.steps[i].events != nil && !applied[i] {
						applied[i] = true
						commit(t, m, event.Offset(i+1), c.steps[i].events(s)...)
					}
				}
				for i, step := range c.steps {
					switch {
					case step.events != nil && way == "in bulk, before" && i+1 < len(c.steps) && c.steps[i+1].events == nil:
					case step.events != nil:
						apply(i)
					case way == "one by one":
						must(t, m.Load(1, s, lsn(step.point), step.rows))
					default:
						m.cfg.beforeIngest = func() {
							if way != "in bulk" {
								apply(map[string]int{"in bulk, before": i - 1, "in bulk, after": i + 1}[way])
							}
						}
						loadBulk(t, m, s, step.point, step.rows)
						apply(i - 1) // when there was nothing to write
					}
				}
				checkLoaded(t, m, c.want)
			})
		}
	}
}

func loadBulk(t *testing.T, m *Mirror, s *row.Schema, point int, rows []row.Row) {
	t.Helper()
	bulk := m.Bulk(s.OID, s, lsn(point))
	defer bulk.Close()
	must(t, bulk.Add(t.Context(), rows))
	must(t, bulk.Flush(t.Context()))
}

// checkLoaded finishes the load and compares table and index.
func checkLoaded(t *testing.T, m *Mirror, lines []string) {
	t.Helper()
	must(t, m.FinishRange(1, 0, 70, 1))
	m.Advance(100)
	must(t, m.FinishLoad(t.Context(), 1))
	want(t, "table", dump(t, m, 1), lines)
	snap := snapshot(t, m)
	defer snap.Close()
	must(t, snap.Scan(1, nil, func(key []byte, rec Record) error {
		if got := lookup(t, m, byCustomer, string(rec.Row.Column(1).Text)); !slices.Contains(got, printKey(key)) {
			t.Errorf("row %s is not in the index: %q", printKey(key), got)
		}
		return nil
	}))
	if n := entries(t, m); n != len(lines) {
		t.Errorf("%d index entries, want %d", n, len(lines))
	}
	if count, err := snap.Count(1); err != nil || count != int64(len(lines)) {
		t.Errorf("count %d, %v, want %d", count, err, len(lines))
	}
}

func TestLateEventIsLeftAsItCame(t *testing.T) {
	m, s := loadingOrders(t)
	must(t, m.Load(1, s, 50, rows(rowOf("1", "7", "new"))))
	ev := update(s, 40, "1", "6", unchanged)
	commit(t, m, 1, ev)
	want(t, "after", show(ev.After), []string{"1", "6", unchanged})
	if ev.BeforeComplete || ev.Before != nil {
		t.Errorf("before is %q: the row is newer than the change", show(ev.Before))
	}
	known := update(s, 60, "1", "8", unchanged)
	commit(t, m, 2, known)
	want(t, "after", show(known.After), []string{"1", "8", "new"})
	want(t, "before", show(known.Before), []string{"1", "7", "new"})
}

func TestLoadIsNotFinishedBeforeItIsDone(t *testing.T) {
	m, s := loadingOrders(t)
	if err := m.FinishLoad(t.Context(), 1); !errors.Is(err, ErrLoading) {
		t.Errorf("ranges left: %v", err)
	}
	if err := m.StartLoad(s, nil); !errors.Is(err, ErrLoading) {
		t.Errorf("started twice: %v", err)
	}
	if err := m.Load(9, s, 50, nil); !errors.Is(err, ErrNotLoading) {
		t.Errorf("load of another table: %v", err)
	}
	if err := m.FinishRange(1, 1, 50, 0); err == nil {
		t.Error("a range that is not there was finished")
	}
	commit(t, m, 1, update(s, 60, "1", "8", unchanged))
	must(t, m.FinishRange(1, 0, 70, 5))
	state, ok, err := m.LoadState(1)
	if err != nil || !ok || state.Complete || !state.Ranges[0].Done || state.Ranges[0].Rows != 5 || state.Ranges[0].ConsistentPoint != 70 {
		t.Errorf("state %+v, %v, %v", state, ok, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := m.FinishLoad(ctx, 1); !errors.Is(err, context.Canceled) { // the stream is at 61
		t.Errorf("finished before the stream was there: %v", err)
	}
	m.Advance(70)
	var unfilled *UnfilledError
	if err := m.FinishLoad(t.Context(), 1); !errors.As(err, &unfilled) || len(unfilled.Keys) != 1 || string(unfilled.Keys[0]) != "1\x00" {
		t.Fatalf("finished without a value: %v", err)
	}
	if m.Loaded(1) {
		t.Error("loaded")
	}
	must(t, m.Load(1, s, 70, rows(rowOf("1", "8", "long"))))
	must(t, m.FinishLoad(t.Context(), 1))
	must(t, m.FinishLoad(t.Context(), 1))
	if !m.Loaded(1) {
		t.Error("not loaded")
	}
	if err := m.Load(1, s, 70, rows(rowOf("2", "8", "x"))); !errors.Is(err, ErrNotLoading) {
		t.Errorf("load into a complete table: %v", err)
	}
}

func TestLoadAnew(t *testing.T) {
	m, r, s := orders(t)
	commit(t, m, 1, insert(s, 10, "1", "7", "x"), insert(s, 10, "2", "7", "x"))
	wide := r.define(1, "orders", "id", "customer", "note", "more")
	wide.Key = []int{1, 0}
	must(t, m.StartLoad(wide, make([]LoadRange, 1)))
	if m.Loaded(1) {
		t.Error("loaded")
	}
	if err := m.Load(1, wide, 10, rows(rowOf("1", "7", "x", "old"))); !errors.Is(err, ErrOldSnapshot) {
		t.Errorf("a snapshot from before: %v", err)
	}
	must(t, m.Load(1, wide, 30, rows(rowOf("1", "7", "x", "new"))))
	must(t, m.FinishRange(1, 0, 30, 1))
	m.Advance(30)
	must(t, m.FinishLoad(t.Context(), 1))
	want(t, "table", dump(t, m, 1), []string{`"7","1": ["1" "7" "x" "new"]`})
	want(t, "index", lookup(t, m, byCustomer, "7"), []string{`"7","1"`})
}

// Workers load while the stream changes the same rows; every row must end as the newest of both.
func TestWorkersLoadBesideTheStream(t *testing.T) {
	t.Run("one by one", func(t *testing.T) {
		workersLoadBesideTheStream(t, func(t *testing.T, m *Mirror, s *row.Schema, rows []row.Row) {
			if err := m.Load(1, s, 50, rows); err != nil {
				t.Error(err)
			}
		})
	})
	t.Run("in bulk", func(t *testing.T) {
		workersLoadBesideTheStream(t, func(t *testing.T, m *Mirror, s *row.Schema, rows []row.Row) {
			bulk := m.Bulk(1, s, 50)
			defer bulk.Close()
			if err := errors.Join(bulk.Add(t.Context(), rows), bulk.Flush(t.Context())); err != nil {
				t.Error(err)
			}
		})
	})
}

func workersLoadBesideTheStream(t *testing.T, load func(t *testing.T, m *Mirror, s *row.Schema, rows []row.Row)) {
	t.Helper()
	const n, workers = 2000, 4
	r := &registry{}
	s := r.define(1, "orders", "id", "customer", "note")
	m := open(t, r)
	m.cfg.bulkBytes, m.cfg.bulkBytesMin = 1000, 1
	must(t, m.EnsureIndexes(t.Context(), []Index{byCustomer}))
	must(t, m.StartLoad(s, make([]LoadRange, workers)))
	var group sync.WaitGroup
	for w := range workers {
		group.Go(func() {
			for i := w * n / workers; i < (w+1)*n/workers; i += 50 {
				var rs []row.Row
				for j := i; j < i+50; j++ {
					rs = append(rs, rowOf(fmt.Sprint(j), fmt.Sprint(j%10), fmt.Sprintf("long %d", j)))
				}
				load(t, m, s, rs)
			}
			if err := m.FinishRange(1, w, 50, n/workers); err != nil {
				t.Error(err)
			}
		})
	}
	for i := 0; i < n; i += 4 { // of four rows one is updated, one deleted, one gets another key
		j := (i * 7) % n
		commit(t, m, event.Offset(i+1), update(s, lsn(60+i), fmt.Sprint(j), "updated", unchanged),
			remove(s, lsn(60+i), fmt.Sprint(j+1)), rekey(s, lsn(60+i), fmt.Sprint(j+2), fmt.Sprint(n+j), "moved", unchanged))
	}
	group.Wait()
	must(t, m.FinishLoad(t.Context(), 1))
	snap := snapshot(t, m)
	defer snap.Close()
	for j := 0; j < n; j += 4 {
		for key, want := range map[int][]string{
			j:     {fmt.Sprint(j), "updated", fmt.Sprintf("long %d", j)},
			j + 1: nil,
			j + 2: nil,
			j + 3: {fmt.Sprint(j + 3), fmt.Sprint((j + 3) % 10), fmt.Sprintf("long %d", j+3)},
			n + j: {fmt.Sprint(n + j), "moved", fmt.Sprintf("long %d", j+2)},
		} {
			rec, ok, err := snap.Get(1, keyOf(fmt.Sprint(key)))
			if err != nil || ok != (want != nil) || !slices.Equal(show(rec.Row), want) {
				t.Fatalf("row %d: %q, %v, %v, want %q", key, show(rec.Row), ok, err, want)
			}
		}
	}
	if got := len(lookup(t, m, byCustomer, "moved")); got != n/4 {
		t.Errorf("%d rows moved in the index, want %d", got, n/4)
	}
	if count, err := snap.Count(1); err != nil || count != 3*n/4 {
		t.Errorf("count %d, %v, want %d", count, err, 3*n/4)
	}
}

func TestLoadGoesOnAfterAReopen(t *testing.T) {
	r := &registry{}
	s := r.define(1, "orders", "id", "customer", "note")
	cfg := Config{Dir: t.TempDir()}
	m, err := Open(cfg, r, slog.New(slog.DiscardHandler))
	must(t, err)
	must(t, m.StartLoad(s, make([]LoadRange, 2)))
	must(t, m.Load(1, s, 50, rows(rowOf("1", "7", "x"))))
	must(t, m.FinishRange(1, 0, 50, 1))
	commit(t, m, 1, rekey(s, 60, "2", "3", "8", unchanged), remove(s, 60, "4"))
	must(t, m.Close())

	m, err = Open(cfg, r, slog.New(slog.DiscardHandler))
	must(t, err)
	defer func() { must(t, m.Close()) }()
	state, ok, err := m.LoadState(1)
	if err != nil || !ok || state.Complete || !state.Ranges[0].Done || state.Ranges[1].Done {
		t.Fatalf("state %+v, %v, %v", state, ok, err)
	}
	must(t, m.Load(1, s, 55, rows(rowOf("2", "7", "long"), rowOf("4", "7", "gone"))))
	must(t, m.FinishRange(1, 1, 55, 2))
	must(t, m.FinishLoad(t.Context(), 1))
	want(t, "table", dump(t, m, 1), []string{`"1": ["1" "7" "x"]`, `"3": ["3" "8" "long"]`})
}
