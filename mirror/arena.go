package mirror

import "unsafe"

// arena hands out memory that lives as long as somebody refers to it: chunks are never used twice, so the rows
// that a batch completes stay valid after it. One allocation serves many rows.
type arena struct {
	free  []byte // its length is 0, its capacity what is left of the chunk
	chunk int    // size of the newest chunk
}

const (
	arenaChunkMin = 1 << 10
	arenaChunkMax = 256 << 10
)

// take returns an empty slice with room for n bytes. It is the arena's only by keep.
func (a *arena) take(n int) []byte {
	if cap(a.free) < n {
		a.chunk = min(max(2*a.chunk, arenaChunkMin), arenaChunkMax)
		a.free = make([]byte, 0, max(a.chunk, n))
	}
	return a.free[:0:n]
}

// keep takes b, which was the last to be taken and has been appended to within its room, out of the free memory.
func (a *arena) keep(b []byte) []byte {
	a.free = a.free[len(b):len(b):cap(a.free)]
	return b[:len(b):len(b)]
}

// copy is a copy of b.
func (a *arena) copy(b []byte) []byte { return a.keep(append(a.take(len(b)), b...)) }

// string is a copy of b as a string.
func (a *arena) string(b []byte) string {
	if len(b) == 0 {
		return ""
	}
	return unsafe.String(&a.copy(b)[0], len(b))
}
