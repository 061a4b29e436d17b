package deadletter

import (
	"hash/maphash"
	"sync/atomic"
)

// sketch says of a document whether it may have a letter: never no when it has one. It is a counting Bloom filter of a fixed size.
// With 200,000 letters it says yes to one of 400 documents without any, with two million to every second: then the control store is
// asked. Its methods are safe for concurrent use.
type sketch struct {
	seed   maphash.Seed
	counts atomic.Pointer[[sketchSize]atomic.Uint32] // four counters in each; nil while there never was a letter
}

const (
	sketchBits = 20
	sketchSize = 1 << sketchBits // 4 MiB
	sketchMask = sketchSize - 1
	full       = 0xff // a counter that is full stays so
)

func newSketch() sketch { return sketch{seed: maphash.MakeSeed()} }

// positions are the counters of a document.
func (s *sketch) positions(projector string, digest uint64) [3]uint64 {
	h := maphash.String(s.seed, projector) ^ digest
	h *= 0x9e3779b97f4a7c15
	h ^= h >> 29
	h *= 0xbf58476d1ce4e5b9
	h ^= h >> 32
	const mask = 4*sketchSize - 1
	return [3]uint64{h & mask, h >> 21 & mask, h >> 42 & mask}
}

func (s *sketch) add(projector string, digest uint64, by int) {
	counts := s.counts.Load()
	if counts == nil {
		s.counts.CompareAndSwap(nil, new([sketchSize]atomic.Uint32))
		counts = s.counts.Load()
	}
	for _, p := range s.positions(projector, digest) {
		cell, shift := &counts[p>>2&sketchMask], p&3*8
		for {
			old := cell.Load()
			n := old >> shift & full
			if n == full || n == 0 && by < 0 {
				break
			}
			if cell.CompareAndSwap(old, old&^(full<<shift)|uint32(int(n)+by)<<shift) {
				break
			}
		}
	}
}

// has says whether the document may have a letter.
func (s *sketch) has(projector string, digest uint64) bool {
	counts := s.counts.Load()
	if counts == nil {
		return false
	}
	for _, p := range s.positions(projector, digest) {
		if counts[p>>2&sketchMask].Load()>>(p&3*8)&full == 0 {
			return false
		}
	}
	return true
}
