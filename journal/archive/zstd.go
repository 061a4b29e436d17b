package archive

import (
	"fmt"
	"sync"

	"github.com/klauspost/compress/zstd"
)

// unpacker is shared: it keeps no state between calls, and starts no goroutine.
var unpacker = sync.OnceValues(func() (*zstd.Decoder, error) {
	return zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecodeAllCapLimit(true), zstd.WithDecoderMaxMemory(1<<31))
})

// unpack unpacks what has exactly that many bytes.
func unpack(packed []byte, raw uint32) ([]byte, error) {
	d, err := unpacker()
	if err != nil {
		return nil, err
	}
	b, err := d.DecodeAll(packed, make([]byte, 0, raw))
	if err != nil {
		return nil, err
	}
	if len(b) != int(raw) {
		return nil, fmt.Errorf("%d bytes, want %d", len(b), raw)
	}
	return b, nil
}

// newPacker is a packer for one file. Its output depends on its input alone.
func newPacker() (*zstd.Encoder, error) {
	return zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithWindowSize(1<<20), zstd.WithLowerEncoderMem(true))
}
