package journal_test

import (
	"fmt"
	"testing"

	"github.com/jackc/pglogrepl"

	"github.com/lanternist/lanternist/event"
	"github.com/lanternist/lanternist/journal"
)

// BenchmarkAppend is what a durable append costs: one fsync a batch.
func BenchmarkAppend(b *testing.B) {
	for _, n := range []int{1, 100, 1000, 10000} {
		b.Run(fmt.Sprint("events=", n), func(b *testing.B) {
			j, err := journal.Open(b.Context(), segmentLog(b, b.TempDir()), journal.Known, journal.Config{Retention: journal.Retention{Size: 1 << 30}}, discard())
			if err != nil {
				b.Fatal(err)
			}
			defer j.Close()
			row := journal.Text("100000", "ssssssssssssssssssssssssssssssssssssssssssssssssssssssss", "1234.50")
			part := journal.Transaction(1, 0)
			for i := range n {
				part.Events = append(part.Events, event.Event{Op: event.Update, Ordinal: uint32(i), Schema: journal.Orders,
					Before: row, BeforeComplete: true, After: row})
			}
			parts := []journal.Part{part}
			b.SetBytes(int64(journal.EncodedSize(parts)))
			b.ReportAllocs()
			for i := 1; b.Loop(); i++ {
				parts[0].CommitLSN, parts[0].EndLSN = pglogrepl.LSN(i*1000), pglogrepl.LSN(i*1000+50)
				if _, err := j.Append(b.Context(), parts); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N*n)/b.Elapsed().Seconds(), "events/s")
		})
	}
}
