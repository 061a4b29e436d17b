package journal

import "github.com/lanternist/lanternist/event"

// ring holds the last batches in memory, bounded in bytes. Their sequences follow each other.
type ring struct {
	limit   int64
	bytes   int64
	batches []*Batch
}

// push adds the newest batch and lets go of the oldest that do not fit. The newest always stays.
func (r *ring) push(b *Batch) {
	r.batches = append(r.batches, b)
	r.bytes += b.memory
	drop := 0
	for r.bytes > r.limit && drop < len(r.batches)-1 {
		r.bytes -= r.batches[drop].memory
		r.batches[drop] = nil
		drop++
	}
	r.batches = r.batches[drop:]
}

// batch is the batch of a sequence, if it is here.
func (r *ring) batch(sequence uint64) (*Batch, bool) {
	if len(r.batches) == 0 {
		return nil, false
	}
	oldest := r.batches[0].Sequence
	if sequence < oldest || sequence-oldest >= uint64(len(r.batches)) {
		return nil, false
	}
	return r.batches[sequence-oldest], true
}

// maxLinks bounds the links: several times as many as there are ever readers behind.
const maxLinks = 256

// links remembers, for the batches that readers have read last, the last event and the checksum: so that the
// next batch of a sequential reader is found without reading again, and its chain is checked.
type links struct{ crcs map[event.Offset]uint32 }

// put remembers a batch.
func (l *links) put(h *header) {
	if l.crcs == nil || len(l.crcs) >= maxLinks {
		// A reader that loses its link reads one more header.
		l.crcs = make(map[event.Offset]uint32, maxLinks)
	}
	l.crcs[h.last()] = h.crc
}

// get returns the checksum of the batch that ends with an event.
func (l *links) get(last event.Offset) (crc uint32, ok bool) {
	crc, ok = l.crcs[last]
	return crc, ok
}
