package mirror

import (
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/lanternist/lanternist/event"
	"github.com/lanternist/lanternist/row"
)

const benchRows = 200_000

var benchPad = strings.Repeat("x", 120)

// cpuTime is the CPU time of the process, in nanoseconds: unlike time, it is the same on a busy machine.
func cpuTime() int64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return u.Utime.Nano() + u.Stime.Nano()
}

// benchRow is an order of about 200 bytes.
func benchRow(key int, version int) row.Row {
	return rowOf(fmt.Sprint(key), fmt.Sprint(key%20_000), "shipped", fmt.Sprint(version), "2026-11-20 23:04:12.123456+00", benchPad)
}

func benchMirror(b *testing.B) (*Mirror, *row.Schema) {
	r := &registry{}
	s := r.define(1, "orders", "id", "customer_id", "status", "version", "placed_at", "note")
	m := open(b, r)
	must(b, m.EnsureIndexes(b.Context(), []Index{{OID: 1, Columns: []string{"customer_id"}}}))
	return m, s
}

// loadBench loads n rows, in batches of 1,000, and completes the table.
func loadBench(b *testing.B, m *Mirror, s *row.Schema, n int) {
	must(b, m.StartLoad(s, make([]LoadRange, 1)))
	bulk := m.Bulk(1, s, 10)
	defer bulk.Close()
	rows := make([]row.Row, 0, 1000)
	for i := range n {
		rows = append(rows, benchRow(i, 0))
		if len(rows) == cap(rows) || i == n-1 {
			must(b, bulk.Add(b.Context(), rows))
			rows = rows[:0]
		}
	}
	must(b, bulk.Flush(b.Context()))
	must(b, m.FinishRange(1, 0, 10, int64(n)))
	m.Advance(10)
	must(b, m.FinishLoad(b.Context(), 1))
}

// BenchmarkApplyUpdates: updates of random rows of a loaded table with one index, a quarter of which move the row in
// it, in batches of 1,000.
func BenchmarkApplyUpdates(b *testing.B) {
	m, s := benchMirror(b)
	loadBench(b, m, s, benchRows)
	events := make([]event.Event, 100_000)
	tx := &event.Transaction{CommitLSN: 20, EndLSN: 21}
	for i := range events {
		key := (i * 7919) % benchRows
		r := benchRow(key, i)
		if i%4 == 0 {
			r = rowOf(fmt.Sprint(key), fmt.Sprint(i%20_000), "moved", fmt.Sprint(i), "2026-11-20 23:04:12.123456+00", benchPad)
		}
		events[i] = event.Event{Op: event.Update, Schema: s, Transaction: tx, After: r}
	}
	b.ReportAllocs()
	b.ResetTimer()
	cpu := cpuTime()
	offset := event.Offset(0)
	for done := 0; done < b.N; {
		batch := m.Begin()
		for range min(1000, b.N-done) {
			ev := events[done%len(events)]
			if err := batch.Apply(&ev); err != nil {
				b.Fatal(err)
			}
			done++
		}
		offset++
		if err := batch.Commit(offset, 21, true); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "changes/s")
	b.ReportMetric(float64(cpuTime()-cpu)/float64(b.N), "cpu-ns/op")
}

// BenchmarkApplySmall: the cost of a transaction of one change.
func BenchmarkApplySmall(b *testing.B) {
	m, s := benchMirror(b)
	loadBench(b, m, s, benchRows)
	tx := &event.Transaction{CommitLSN: 20, EndLSN: 21}
	r := benchRow(77, 1)
	b.ReportAllocs()
	b.ResetTimer()
	cpu := cpuTime()
	for i := range b.N {
		batch := m.Begin()
		ev := event.Event{Op: event.Update, Schema: s, Transaction: tx, After: r}
		if err := batch.Apply(&ev); err != nil {
			b.Fatal(err)
		}
		if err := batch.Commit(event.Offset(i), 21, true); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(cpuTime()-cpu)/float64(b.N), "cpu-ns/op")
}

// benchLoad loads b.N rows in an order that is that of their keys for the source, but not as text.
func benchLoad(b *testing.B, load func(m *Mirror, s *row.Schema, rows []row.Row), done func()) {
	m, s := benchMirror(b)
	must(b, m.StartLoad(s, nil))
	rows := make([]row.Row, 1000)
	b.ReportAllocs()
	b.ResetTimer()
	cpu := cpuTime()
	for n := 0; n < b.N; n += len(rows) {
		b.StopTimer()
		for i := range rows {
			rows[i] = benchRow(n+i, 0)
		}
		b.StartTimer()
		load(m, s, rows)
	}
	done()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "rows/s")
	b.ReportMetric(float64(cpuTime()-cpu)/float64(b.N), "cpu-ns/op")
}

// BenchmarkLoad: rows one by one.
func BenchmarkLoad(b *testing.B) {
	benchLoad(b, func(m *Mirror, s *row.Schema, rows []row.Row) { must(b, m.Load(1, s, 10, rows)) }, func() {})
}

// BenchmarkBulk: rows as sorted files.
func BenchmarkBulk(b *testing.B) {
	var bulk *Bulk
	benchLoad(b, func(m *Mirror, s *row.Schema, rows []row.Row) {
		if bulk == nil {
			bulk = m.Bulk(1, s, 10)
		}
		must(b, bulk.Add(b.Context(), rows))
	}, func() { must(b, bulk.Flush(b.Context())); bulk.Close() })
}

func BenchmarkLookup(b *testing.B) {
	m, s := benchMirror(b)
	loadBench(b, m, s, benchRows)
	snap := snapshot(b, m)
	defer snap.Close()
	ix := Index{OID: 1, Columns: []string{"customer_id"}}
	b.ReportAllocs()
	b.ResetTimer()
	cpu := cpuTime()
	rows := 0
	for i := range b.N {
		must(b, snap.Lookup(ix, keyOf(fmt.Sprint(i%20_000)), func([]byte, Record) error { rows++; return nil }))
	}
	b.ReportMetric(float64(cpuTime()-cpu)/float64(b.N), "cpu-ns/op")
	if rows != 10*b.N {
		b.Fatalf("%d rows, want %d", rows, 10*b.N)
	}
}

func BenchmarkGet(b *testing.B) {
	m, s := benchMirror(b)
	loadBench(b, m, s, benchRows)
	snap := snapshot(b, m)
	defer snap.Close()
	b.ReportAllocs()
	b.ResetTimer()
	cpu := cpuTime()
	for i := range b.N {
		if _, ok, err := snap.Get(1, keyOf(fmt.Sprint((i*7919)%benchRows))); err != nil || !ok {
			b.Fatal(ok, err)
		}
	}
	b.ReportMetric(float64(cpuTime()-cpu)/float64(b.N), "cpu-ns/op")
}

// BenchmarkReadAfterLoad: what building a view reads, right after a load of a million rows in ranges and when the database has
// been put in order: rows in the order of their keys, and rows by an index.
func BenchmarkReadAfterLoad(b *testing.B) {
	const n, rangeRows = 1_000_000, 50_000
	m, s := benchMirror(b)
	must(b, m.StartLoad(s, make([]LoadRange, n/rangeRows)))
	rows := make([]row.Row, 1000)
	for i := range n / rangeRows {
		bulk := m.Bulk(1, s, 10)
		for at := 0; at < rangeRows; at += len(rows) {
			for k := range rows {
				rows[k] = benchRow(i*rangeRows+at+k, 0)
			}
			must(b, bulk.Add(b.Context(), rows))
		}
		must(b, bulk.Flush(b.Context()))
		bulk.Close()
		must(b, m.FinishRange(1, i, 10, rangeRows))
	}
	m.Advance(10)
	must(b, m.FinishLoad(b.Context(), 1))
	read := func(b *testing.B) {
		metrics := m.db.Metrics()
		b.Log(metrics.String())
		snap := snapshot(b, m)
		defer snap.Close()
		b.Run("scan", func(b *testing.B) {
			for done := 0; done < b.N; {
				must(b, snap.Scan(1, nil, func([]byte, Record) error {
					if done++; done == b.N {
						return ErrStop
					}
					return nil
				}))
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "rows/s")
		})
		b.Run("lookup", func(b *testing.B) {
			ix := Index{OID: 1, Columns: []string{"customer_id"}}
			for i := range b.N {
				must(b, snap.Lookup(ix, keyOf(fmt.Sprint(i*7919%20_000)), func([]byte, Record) error { return nil }))
			}
			b.ReportMetric(float64(b.N)*n/20_000/b.Elapsed().Seconds(), "rows/s")
		})
	}
	b.Run("loaded", read)
	must(b, m.db.Compact(b.Context(), []byte{0}, []byte{0xff}, true))
	b.Run("compacted", read)
}
