package journal

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pglogrepl"

	"github.com/lanternist/lanternist/event"
)

// bulk is n transactions of one update each, of rows of about 120 bytes.
func bulk(n int) []Part {
	parts := make([]Part, n)
	for i := range parts {
		row := text(fmt.Sprint(100000+i), strings.Repeat("s", 80), "1234.50")
		parts[i] = Part{
			Transaction: event.Transaction{XID: uint32(i), CommitLSN: pglogrepl.LSN(1000 + i*200), EndLSN: pglogrepl.LSN(1100 + i*200),
				CommitTime: epoch.Add(time.Duration(i) * time.Millisecond)},
			Complete: true,
			Events:   []event.Event{{Op: event.Update, Schema: orders, Before: row, BeforeComplete: true, After: row}},
		}
	}
	return parts
}

func BenchmarkEncode(b *testing.B) {
	for _, n := range []int{1, 1000} {
		b.Run(fmt.Sprint("events=", n), func(b *testing.B) {
			parts := bulk(n)
			last := beginning()
			var buf []byte
			b.ReportAllocs()
			for b.Loop() {
				h, err := follow(last, parts)
				if err != nil {
					b.Fatal(err)
				}
				buf = appendParts(h.append(buf[:0]), &h, parts)
				seal(buf)
			}
			b.SetBytes(int64(len(buf)))
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/event")
		})
	}
}

func BenchmarkDecode(b *testing.B) {
	for _, n := range []int{1, 1000} {
		b.Run(fmt.Sprint("events=", n), func(b *testing.B) {
			entry := encodeParts(b, beginning(), bulk(n))
			b.SetBytes(int64(len(entry)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := decodeBatch(entry, known); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/event")
		})
	}
}

// TestNoAllocationPerEvent: encoding into a buffer that is large enough allocates nothing, decoding the batch, its
// parts and its events, whatever their number.
func TestNoAllocationPerEvent(t *testing.T) {
	parts := bulk(1000)
	last := beginning()
	buf := make([]byte, 0, EncodedSize(parts))
	encode := testing.AllocsPerRun(20, func() {
		h, err := follow(last, parts)
		if err != nil {
			t.Fatal(err)
		}
		buf = appendParts(h.append(buf[:0]), &h, parts)
		seal(buf)
	})
	decode := testing.AllocsPerRun(20, func() {
		if _, err := decodeBatch(buf, known); err != nil {
			t.Fatal(err)
		}
	})
	if encode > 0 || decode > 3 {
		t.Errorf("%v allocations to encode, %v to decode", encode, decode)
	}
}
