package journal

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"time"

	"github.com/jackc/pglogrepl"

	"github.com/lanternist/lanternist/event"
)

// The format of an entry. Numbers are big-endian; times are microseconds since 1970 in UTC; an LSN has 8 bytes.
//
//	  0       4       6       8       12      16
//	  +-------+-------+-------+-------+-------+
//	  | magic | vers. | flags | crc   | prev. |    crc32c of bytes 0-7 and 12 to the end; previous entry's crc
//	  +-------+-------+-------+-------+-------+
//	 16  sequence                   8 bytes
//	 24  previous sequence          8 bytes       0 in the journal's first entry
//	 32  journal identity          16 bytes       the same in all entries
//	 48  position                   8 bytes       bytes of all entries before this one, trimmed ones too
//	 56  append time                8 bytes       never before that of the previous entry
//	 64  lowest commit time         8 bytes       of this entry's parts
//	 72  highest commit time        8 bytes       of this and all entries before: it never falls
//	 80  first CommitLSN            8 bytes       of this entry's first part
//	 88  first ordinal              4 bytes       "
//	 92  next ordinal               4 bytes       one more than the last event's
//	 96  last CommitLSN             8 bytes       of this entry's last part
//	104  EndLSN                     8 bytes       of the last transaction that is complete, in any entry so far
//	112  last XID                   4 bytes       of this entry's last part
//	116  events                     4 bytes
//	120  parts                      4 bytes
//	124  length                     4 bytes       of the whole entry
//	128  parts                                    see part.go
//
// Flag 1 says that the last part is complete. An entry without parts repeats what the entry before it said of
// commit times, LSNs, ordinal and XID, so that the last entry alone tells where the journal ends.
const (
	headerMagic   = 0x4c4e4a42 // "LNJB"
	headerVersion = 1
	headerSize    = 128
	flagComplete  = 1 << 0
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// ID is a journal's identity, made when the journal is.
type ID [16]byte

// String prints the identity as a UUID.
func (id ID) String() string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", id[0:4], id[4:6], id[6:8], id[8:10], id[10:16])
}

// header is what an entry says before its parts.
type header struct {
	crc              uint32 // of the entry; set by seal and by readHeader
	previousCRC      uint32
	sequence         uint64
	previousSequence uint64
	id               ID
	position         uint64
	appended         int64
	lowestCommit     int64
	highestCommit    int64
	firstCommitLSN   pglogrepl.LSN
	firstOrdinal     uint32
	nextOrdinal      uint32
	lastCommitLSN    pglogrepl.LSN
	endLSN           pglogrepl.LSN
	lastXID          uint32
	events           uint32
	parts            uint32
	length           uint32
	complete         bool
}

// last is the offset of the entry's last event, of index 0 when there is none.
func (h *header) last() event.Offset {
	return event.NewOffset(h.sequence, max(int(h.events), 1)-1)
}

// end is the position after this entry.
func (h *header) end() uint64 { return h.position + uint64(h.length) }

// time is the append time.
func (h *header) time() time.Time { return time.UnixMicro(h.appended).UTC() }

// append appends the header to dst. The crc and the length are left to seal.
func (h *header) append(dst []byte) []byte {
	var flags uint16
	if h.complete {
		flags |= flagComplete
	}
	be := binary.BigEndian
	dst = be.AppendUint32(dst, headerMagic)
	dst = be.AppendUint16(dst, headerVersion)
	dst = be.AppendUint16(dst, flags)
	dst = be.AppendUint32(dst, 0)
	dst = be.AppendUint32(dst, h.previousCRC)
	dst = be.AppendUint64(dst, h.sequence)
	dst = be.AppendUint64(dst, h.previousSequence)
	dst = append(dst, h.id[:]...)
	dst = be.AppendUint64(dst, h.position)
	dst = be.AppendUint64(dst, uint64(h.appended))
	dst = be.AppendUint64(dst, uint64(h.lowestCommit))
	dst = be.AppendUint64(dst, uint64(h.highestCommit))
	dst = be.AppendUint64(dst, uint64(h.firstCommitLSN))
	dst = be.AppendUint32(dst, h.firstOrdinal)
	dst = be.AppendUint32(dst, h.nextOrdinal)
	dst = be.AppendUint64(dst, uint64(h.lastCommitLSN))
	dst = be.AppendUint64(dst, uint64(h.endLSN))
	dst = be.AppendUint32(dst, h.lastXID)
	dst = be.AppendUint32(dst, h.events)
	dst = be.AppendUint32(dst, h.parts)
	return be.AppendUint32(dst, 0)
}

// seal writes the length and the crc into a finished entry, and returns the crc.
func seal(entry []byte) uint32 {
	binary.BigEndian.PutUint32(entry[124:], uint32(len(entry)))
	crc := checksum(entry)
	binary.BigEndian.PutUint32(entry[8:], crc)
	return crc
}

// checksum is the crc32c of an entry without the field that holds it.
func checksum(entry []byte) uint32 {
	return crc32.Update(crc32.Checksum(entry[:8], castagnoli), castagnoli, entry[12:])
}

// readHeader checks that entry is whole and undamaged and returns its header. It does not look at the parts.
func readHeader(entry []byte) (header, error) {
	be := binary.BigEndian
	if len(entry) < headerSize {
		return header{}, fmt.Errorf("%w: %d bytes, want at least %d", ErrMalformed, len(entry), headerSize)
	}
	if magic := be.Uint32(entry); magic != headerMagic {
		return header{}, fmt.Errorf("%w: begins with %08x, want %08x", ErrMalformed, magic, uint32(headerMagic))
	}
	if length := be.Uint32(entry[124:]); uint64(length) != uint64(len(entry)) {
		return header{}, fmt.Errorf("%w: %d bytes, the header says %d", ErrMalformed, len(entry), length)
	}
	crc := be.Uint32(entry[8:])
	if sum := checksum(entry); sum != crc {
		return header{}, fmt.Errorf("%w: checksum is %08x, the header says %08x", ErrMalformed, sum, crc)
	}
	return parseHeader(entry)
}

// parseHeader reads a header, without looking at what follows it.
func parseHeader(entry []byte) (header, error) {
	be := binary.BigEndian
	// What follows the checksum is as it was written; the version says by whom.
	if version := be.Uint16(entry[4:]); version != headerVersion {
		return header{}, fmt.Errorf("%w: format version %d, this program reads version %d", ErrMalformed, version, headerVersion)
	}
	h := header{
		crc:              be.Uint32(entry[8:]),
		complete:         be.Uint16(entry[6:])&flagComplete != 0,
		previousCRC:      be.Uint32(entry[12:]),
		sequence:         be.Uint64(entry[16:]),
		previousSequence: be.Uint64(entry[24:]),
		id:               ID(entry[32:48]),
		position:         be.Uint64(entry[48:]),
		appended:         int64(be.Uint64(entry[56:])),
		lowestCommit:     int64(be.Uint64(entry[64:])),
		highestCommit:    int64(be.Uint64(entry[72:])),
		firstCommitLSN:   pglogrepl.LSN(be.Uint64(entry[80:])),
		firstOrdinal:     be.Uint32(entry[88:]),
		nextOrdinal:      be.Uint32(entry[92:]),
		lastCommitLSN:    pglogrepl.LSN(be.Uint64(entry[96:])),
		endLSN:           pglogrepl.LSN(be.Uint64(entry[104:])),
		lastXID:          be.Uint32(entry[112:]),
		events:           be.Uint32(entry[116:]),
		parts:            be.Uint32(entry[120:]),
		length:           be.Uint32(entry[124:]),
	}
	if h.events > event.MaxBatchEvents {
		return header{}, fmt.Errorf("%w: %d events, at most %d", ErrMalformed, h.events, event.MaxBatchEvents)
	}
	return h, nil
}
