package projectors

import (
	"sync"
	"time"
)

// WriteSize is how large a sink's requests are made, in bytes. It follows what the sink takes: a request that was refused for want
// of room, that got no answer in time or took long halves it; one that was full and quick makes it larger by a sixteenth of the
// most, or by a quarter of itself when that is less. So those who share a sink, in one process or in many, come to a fair share of what it can take (see pacer). It is
// safe for concurrent use.
type WriteSize struct {
	mu          sync.Mutex
	least, most int
	bytes       int
}

const (
	writeQuick = 500 * time.Millisecond // a full request that took less may be larger
	writeSlow  = 3 * time.Second        // one that took more should be smaller
	writeGrow  = 16
	// writeGrowSmall is for a size that is small already: a sixteenth of the most could be many times of what the sink takes.
	writeGrowSmall = 4
)

// NewWriteSize makes a size between least and most, which begins with start.
func NewWriteSize(least, start, most int) *WriteSize {
	return &WriteSize{least: min(least, most), most: most, bytes: min(start, most)}
}

// Bytes is the size now.
func (s *WriteSize) Bytes() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.bytes
}

// Accepted learns from a request of the given size that was taken.
func (s *WriteSize) Accepted(size int, took time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case took > writeSlow:
		s.halve(size)
	case took < writeQuick && size >= s.bytes-s.bytes/4:
		s.bytes = min(s.most, s.bytes+max(1, min(s.most/writeGrow, s.bytes/writeGrowSmall)))
	}
}

// Refused learns from a request that was too large, got no answer in time, or came when the sink had no room.
func (s *WriteSize) Refused(size int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.halve(size)
}

// halve has the next request be half as large as one of the given size at most. The caller holds mu.
func (s *WriteSize) halve(size int) { s.bytes = max(s.least, min(s.bytes, size)/2) }
