package cdc

import (
	"encoding/binary"
	"fmt"
)

// A frame is a message of the frontend/backend protocol: a kind, and a length that counts itself and the rest.
const frameHeader = 5

// The kinds of frames that a server sends while it streams.
const (
	frameCopyData        = 'd'
	frameCopyDone        = 'c'
	frameError           = 'E'
	frameNotice          = 'N'
	frameParameterStatus = 'S'
	frameCommandComplete = 'C'
	frameReadyForQuery   = 'Z'
)

const (
	// chunkSize is how much memory is taken at a time for received bytes. Rows point into it, so a chunk lives
	// as long as the longest-lived row in it.
	chunkSize = 256 << 10
	// chunkRoomMin is the least room worth a read.
	chunkRoomMin = 8 << 10
	// frameSizeMax is Postgres' own limit for one message.
	frameSizeMax = 1 << 30
)

// receiver reads frames off a connection straight into memory that rows can keep pointing at: chunks that are
// never used again.
type receiver struct {
	read       func([]byte) (int, error)
	chunk      []byte
	start, end int // of the bytes in chunk that are not yet in a segment
}

// next reads once, which waits for the network, and returns the whole frames that are there then: none when a
// frame has not arrived in full. When it returns an error, the frames are valid all the same.
func (r *receiver) next() ([]byte, error) {
	r.makeRoom()
	n, err := r.read(r.chunk[r.end:])
	r.end += n
	at := r.start
	for {
		size, ok, malformed := frameSize(r.chunk[at:r.end])
		if malformed != nil {
			return r.chunk[r.start:at:at], malformed
		}
		if !ok || size > r.end-at {
			break
		}
		at += size
	}
	frames := r.chunk[r.start:at:at]
	r.start = at
	return frames, err
}

// makeRoom makes sure that the frame that is being received fits, and that there is something to read into.
func (r *receiver) makeRoom() {
	need := chunkRoomMin
	if size, ok, err := frameSize(r.chunk[r.start:r.end]); err == nil && ok {
		need = max(need, size-(r.end-r.start))
	}
	if len(r.chunk)-r.end >= need {
		return
	}
	partial := r.chunk[r.start:r.end]
	r.chunk = make([]byte, max(chunkSize, len(partial)+need))
	r.start, r.end = 0, copy(r.chunk, partial)
}

// frameSize is the size of the frame that b begins with, header included, when enough of b is there to tell.
func frameSize(b []byte) (size int, ok bool, err error) {
	if len(b) < frameHeader {
		return 0, false, nil
	}
	length := binary.BigEndian.Uint32(b[1:])
	if length < 4 || length > frameSizeMax {
		return 0, false, fmt.Errorf("%w: frame %q of length %d", ErrProtocol, b[0], length)
	}
	return 1 + int(length), true, nil
}

// splitFrame takes the first frame off b, which holds whole frames only.
func splitFrame(b []byte) (kind byte, body, rest []byte) {
	size := 1 + int(binary.BigEndian.Uint32(b[1:]))
	return b[0], b[frameHeader:size:size], b[size:]
}
