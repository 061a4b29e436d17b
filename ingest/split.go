package ingest

import (
	"github.com/lanternist/lanternist/event"
	"github.com/lanternist/lanternist/journal"
)

// split divides parts into batches of at most maxBytes and event.MaxBatchEvents events, in order. A transaction
// may be divided; only the last of its parts is complete. Almost always everything fits into one batch.
func split(parts []journal.Part, maxBytes int) [][]journal.Part {
	var batches [][]journal.Part
	from, bytes, count := 0, 0, 0
	for i := 0; i < len(parts); i++ {
		for k := range parts[i].Events {
			size := journal.EncodedEventSize(&parts[i].Events[k])
			if count > 0 && (bytes+size > maxBytes || count == event.MaxBatchEvents) {
				head, tail := cut(parts[i], k)
				batch := append([]journal.Part(nil), parts[from:i]...)
				if k > 0 {
					batch = append(batch, head)
				}
				rest := append([]journal.Part{tail}, parts[i+1:]...)
				return append(append(batches, batch), split(rest, maxBytes)...)
			}
			bytes += size
			count++
		}
	}
	return append(batches, parts[from:])
}

// cut divides a part before its event k, which need not be its change k: changes of tables that are not captured are left
// out.
func cut(p journal.Part, k int) (head, tail journal.Part) {
	head, tail = p, p
	head.Events, head.Complete, head.EndLSN = p.Events[:k], false, 0
	tail.Events, tail.First = p.Events[k:], p.Events[k].Ordinal
	return head, tail
}
