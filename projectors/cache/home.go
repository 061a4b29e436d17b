package cache

import (
	"sync"
	"sync/atomic"
)

// home is what the stores of one view have in common, by whichever definition each is: what this process knows of Redis.
type home struct {
	live atomic.Pointer[pointer] // as last seen; every read checks it

	mu      sync.Mutex
	opened  map[int]*generation // the newest object of each generation that was opened or created
	readers map[string]*Reader  // by the hash of their definition
}

func newHome() *home { return &home{opened: map[int]*generation{}, readers: map[string]*Reader{}} }

// Redefined returns the home of the same documents by another definition of the view. It is the only way to have two stores
// of one view in a process.
func (s *Store) Redefined(view View) *Store {
	other := s.client.Store(view)
	other.home = s.home
	return other
}

// reads has the reader compose what is missing in generations of its definition.
func (h *home) reads(r *Reader) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.readers[r.store.hash] = r
}

// reader is the one for a generation's definition; nil when there is none.
func (h *home) reader(hash string) *Reader {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.readers[hash]
}
