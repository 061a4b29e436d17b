package ingest

import (
	"sync"

	"github.com/jackc/pglogrepl"
)

// recentSize is how many transactions Recent knows: at 2,000 a second, half a minute.
const recentSize = 1 << 16

// Recent knows where the last transactions of the stream ended, by their id, so that a token "xid:…" need not ask
// the source. It is safe for concurrent use.
type Recent struct {
	mu   sync.RWMutex
	ends map[uint32]pglogrepl.LSN
	ring []uint32
	next int
}

func newRecent() *Recent {
	return &Recent{ends: make(map[uint32]pglogrepl.LSN, recentSize), ring: make([]uint32, 0, recentSize)}
}

func (r *Recent) add(xid uint32, end pglogrepl.LSN) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.ring) < recentSize {
		r.ring = append(r.ring, xid)
	} else {
		delete(r.ends, r.ring[r.next])
		r.ring[r.next] = xid
		r.next = (r.next + 1) % recentSize
	}
	r.ends[xid] = end
}

// End is where the transaction ended, when it is among the last ones. A 64-bit id may be cut to 32 bits: an id
// from before a wrap-around then finds a later transaction, which is safe to wait for.
func (r *Recent) End(xid uint32) (pglogrepl.LSN, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	lsn, ok := r.ends[xid]
	return lsn, ok
}
