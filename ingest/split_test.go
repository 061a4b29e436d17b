package ingest

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/lanternist/lanternist/event"
	"github.com/lanternist/lanternist/journal"
	"github.com/lanternist/lanternist/row"
)

// TestSplitKeepsEverythingInOrder divides random parts and puts them together again.
func TestSplitKeepsEverythingInOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var parts []journal.Part
		for i, n := range rapid.SliceOfN(rapid.IntRange(0, 12), 1, 6).Draw(t, "events of transactions") {
			first := uint32(0)
			if i == 0 {
				first = rapid.Uint32Range(0, 5).Draw(t, "first ordinal")
			}
			left := uint32(0)
			part := journal.Part{Transaction: event.Transaction{XID: uint32(i + 1), EndLSN: 7}, First: first, Complete: true}
			for k := range n {
				size := rapid.IntRange(0, 300).Draw(t, "size")
				if k > 0 && rapid.IntRange(0, 3).Draw(t, "left out") == 0 {
					left++
				}
				part.Events = append(part.Events, event.Event{Ordinal: first + uint32(k) + left, After: row.Row(make([]byte, size))})
			}
			parts = append(parts, part)
		}
		last := &parts[len(parts)-1]
		if last.Complete = rapid.Bool().Draw(t, "last is complete"); !last.Complete {
			last.EndLSN = 0
		}
		most := rapid.IntRange(1, 1000).Draw(t, "most bytes")

		var joined []journal.Part
		for _, batch := range split(parts, most) {
			size, count := 0, 0
			for i, p := range batch {
				for k := range p.Events {
					size += journal.EncodedEventSize(&p.Events[k])
					count++
				}
				if !p.Complete && i < len(batch)-1 {
					t.Fatal("a transaction that goes on is not the last of its batch")
				}
				if n := len(joined); n > 0 && joined[n-1].XID == p.XID {
					before := &joined[n-1]
					if before.Complete || before.EndLSN != 0 {
						t.Fatal("a transaction goes on after its end")
					}
					if last := before.Events[len(before.Events)-1].Ordinal; p.First <= last || p.First > p.Events[0].Ordinal {
						t.Fatalf("part begins at %d with change %d, the one before ends with change %d", p.First, p.Events[0].Ordinal, last)
					}
					before.Events = append(append([]event.Event(nil), before.Events...), p.Events...)
					before.Complete, before.EndLSN = p.Complete, p.EndLSN
					continue
				}
				joined = append(joined, p)
			}
			if size > most && count > 1 {
				t.Fatalf("batch of %d bytes and %d events, at most %d bytes", size, count, most)
			}
		}
		if len(joined) != len(parts) {
			t.Fatalf("%d transactions, want %d", len(joined), len(parts))
		}
		for i, p := range joined {
			if p.Complete != parts[i].Complete || p.EndLSN != parts[i].EndLSN || p.First != parts[i].First || len(p.Events) != len(parts[i].Events) {
				t.Fatalf("transaction %d: %+v, want %+v", i, p, parts[i])
			}
			for k := range p.Events {
				if p.Events[k].Ordinal != parts[i].Events[k].Ordinal {
					t.Fatalf("transaction %d: event %d has ordinal %d", i, k, p.Events[k].Ordinal)
				}
			}
		}
	})
}

func TestSplitByCount(t *testing.T) {
	part := journal.Part{Complete: true, Events: make([]event.Event, event.MaxBatchEvents+1)}
	batches := split([]journal.Part{part}, 1<<30)
	if len(batches) != 2 || len(batches[0][0].Events) != event.MaxBatchEvents || len(batches[1][0].Events) != 1 {
		t.Errorf("%d batches", len(batches))
	}
}
