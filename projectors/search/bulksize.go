package search

import (
	"sync"
	"time"
)

// bulkSize is the size that bulk bodies are filled to. It follows what the cluster takes: larger after full and quick requests,
// smaller after slow or refused ones. All stores of a client share it.
type bulkSize struct {
	mu       sync.Mutex
	min, max int
	bytes    int
}

const (
	bulkSizeStart = 1 << 20
	bulkQuick     = 500 * time.Millisecond // a full request that took less may be larger
	bulkSlow      = 3 * time.Second        // one that took more should be smaller
)

func newBulkSize(minBytes, maxBytes int) *bulkSize {
	return &bulkSize{min: minBytes, max: maxBytes, bytes: min(bulkSizeStart, maxBytes)}
}

func (s *bulkSize) target() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.bytes
}

// accepted learns from a request of the given size that was taken.
func (s *bulkSize) accepted(size int, took time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case took > bulkSlow:
		s.bytes = max(s.min, min(s.bytes, size)/2)
	case took < bulkQuick && size >= s.bytes-s.bytes/4:
		s.bytes = min(s.max, s.bytes+s.bytes/2)
	}
}

// refused learns from a request that was too large, or came when the cluster had no room.
func (s *bulkSize) refused(size int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bytes = max(s.min, min(s.bytes, size)/2)
}
