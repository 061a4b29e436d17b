package archive

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/lanternist/lanternist/journal"
)

// The format of a file. Numbers are big-endian, checksums crc32c.
//
//	file  = head { block } index tail
//
//	head              48 bytes
//	  0 magic  8 version (2)  10 zero (2)  12 checksum of bytes 0-11 and 16-47
//	 16 journal's identity (16)  32 first sequence (8)  40 last sequence (8)
//
//	block             header of 28 bytes, then the packed bytes
//	  0 magic (4)  4 packed bytes (4)  8 raw bytes (4)  12 entries (4)  16 first sequence (8)
//	 24 checksum of bytes 0-23 and of the packed bytes
//	  Packed is zstd of the raw bytes; raw is whole entries as the journal has them, one after the other.
//
//	index             zstd of: length of the description (4), the description (JSON, see description), and for each block
//	  0 place in the file (8)  8 packed (4)  12 raw (4)  16 entries (4)  20 first sequence (8)  28 block's checksum (4)
//	 32 header of its last entry (128)
//
//	tail              64 bytes
//	  0 magic  8 place of the index (8)  16 packed bytes of the index (4)  20 raw (4)  24 checksum of the packed index (4)
//	 28 checksum of bytes 0-27 and 32-63  32 SHA-256 of everything before the tail
const (
	headMagic  = "LNJARCHV"
	tailMagic  = "LNJATAIL"
	blockMagic = 0x4c4e4a4b // "LNJK"
	version    = 1

	headSize        = 48
	blockHeaderSize = 28
	blockIndexSize  = 32 + journal.EntryHeaderSize
	tailSize        = 64
)

// errFormat means that bytes are not what the format says they must be.
var errFormat = errors.New("damaged")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// head is how a file begins.
type head struct {
	id          journal.ID
	first, last uint64
}

func (h head) append(dst []byte) []byte {
	from := len(dst)
	be := binary.BigEndian
	dst = append(dst, headMagic...)
	dst = be.AppendUint16(dst, version)
	dst = be.AppendUint16(dst, 0)
	dst = be.AppendUint32(dst, 0)
	dst = append(dst, h.id[:]...)
	dst = be.AppendUint64(dst, h.first)
	dst = be.AppendUint64(dst, h.last)
	b := dst[from:]
	be.PutUint32(b[12:], around(b, 12))
	return dst
}

// around is the checksum of b without the four bytes that hold it.
func around(b []byte, at int) uint32 {
	return crc32.Update(crc32.Checksum(b[:at], castagnoli), castagnoli, b[at+4:])
}

func readHead(b []byte) (head, error) {
	be := binary.BigEndian
	switch {
	case len(b) < headSize:
		return head{}, fmt.Errorf("%w: it ends in its head", errFormat)
	case string(b[:8]) != headMagic:
		return head{}, fmt.Errorf("%w: it does not begin as an archive file does", errFormat)
	case around(b[:headSize], 12) != be.Uint32(b[12:]):
		return head{}, fmt.Errorf("%w: the head's checksum is wrong", errFormat)
	case be.Uint16(b[8:]) != version:
		return head{}, fmt.Errorf("format version %d, this program reads version %d", be.Uint16(b[8:]), version)
	}
	return head{id: journal.ID(b[16:32]), first: be.Uint64(b[32:]), last: be.Uint64(b[40:])}, nil
}

// blockHeader is how a block begins.
type blockHeader struct {
	packed, raw, entries uint32
	first                uint64
	crc                  uint32 // of the header before it, and of the packed bytes
}

// last is the sequence of the block's last entry.
func (h *blockHeader) last() uint64 { return h.first + uint64(h.entries) - 1 }

// size is the block's size in the file.
func (h *blockHeader) size() uint64 { return blockHeaderSize + uint64(h.packed) }

// append appends the header of a block, and sets its checksum.
func (h *blockHeader) append(dst, packed []byte) []byte {
	from := len(dst)
	be := binary.BigEndian
	dst = be.AppendUint32(dst, blockMagic)
	dst = be.AppendUint32(dst, h.packed)
	dst = be.AppendUint32(dst, h.raw)
	dst = be.AppendUint32(dst, h.entries)
	dst = be.AppendUint64(dst, h.first)
	h.crc = crc32.Update(crc32.Checksum(dst[from:], castagnoli), castagnoli, packed)
	return be.AppendUint32(dst, h.crc)
}

func readBlockHeader(b []byte) (blockHeader, error) {
	be := binary.BigEndian
	if len(b) < blockHeaderSize {
		return blockHeader{}, fmt.Errorf("%w: it ends in a block's header", errFormat)
	}
	if be.Uint32(b) != blockMagic {
		return blockHeader{}, fmt.Errorf("%w: no block begins here", errFormat)
	}
	return blockHeader{packed: be.Uint32(b[4:]), raw: be.Uint32(b[8:]), entries: be.Uint32(b[12:]), first: be.Uint64(b[16:]), crc: be.Uint32(b[24:])}, nil
}

// checkBlock checks a whole block, header and packed bytes, against its checksum.
func checkBlock(b []byte) error {
	crc := crc32.Update(crc32.Checksum(b[:24], castagnoli), castagnoli, b[blockHeaderSize:])
	if crc != binary.BigEndian.Uint32(b[24:]) {
		return fmt.Errorf("%w: the block's checksum is wrong", errFormat)
	}
	return nil
}

// tail is how a file ends.
type tail struct {
	index       uint64 // place of the index
	packed, raw uint32
	crc         uint32 // of the packed index
	sum         [32]byte
}

func (t *tail) append(dst []byte) []byte {
	from := len(dst)
	be := binary.BigEndian
	dst = append(dst, tailMagic...)
	dst = be.AppendUint64(dst, t.index)
	dst = be.AppendUint32(dst, t.packed)
	dst = be.AppendUint32(dst, t.raw)
	dst = be.AppendUint32(dst, t.crc)
	dst = be.AppendUint32(dst, 0)
	dst = append(dst, t.sum[:]...)
	b := dst[from:]
	be.PutUint32(b[28:], around(b, 28))
	return dst
}

func readTail(b []byte) (tail, error) {
	be := binary.BigEndian
	switch {
	case len(b) < tailSize || string(b[:8]) != tailMagic:
		return tail{}, fmt.Errorf("%w: it does not end as an archive file does: it was cut off or changed", errFormat)
	case around(b[:tailSize], 28) != be.Uint32(b[28:]):
		return tail{}, fmt.Errorf("%w: the checksum of its last bytes is wrong", errFormat)
	}
	return tail{index: be.Uint64(b[8:]), packed: be.Uint32(b[16:]), raw: be.Uint32(b[20:]), crc: be.Uint32(b[24:]), sum: [32]byte(b[32:64])}, nil
}
