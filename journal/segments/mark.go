package segments

import (
	"encoding/binary"
	"hash/crc32"
)

// Each entry is stored as the data of a raft log, and followed by a mark, as the log's extensions. The mark lets
// an entry be found when the frames around it are damaged; see checkTail.
//
//	0               8               16      20
//	+---------------+---------------+-------+
//	| magic         | sequence      | crc   |    big-endian; crc is the crc32c of the 16 bytes before it
//	+---------------+---------------+-------+
const (
	markMagic = "\xf7LNJSEG\x01"
	markSize  = 20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// appendMark appends the mark of an entry.
func appendMark(dst []byte, sequence uint64) []byte {
	from := len(dst)
	dst = append(dst, markMagic...)
	dst = binary.BigEndian.AppendUint64(dst, sequence)
	return binary.BigEndian.AppendUint32(dst, crc32.Checksum(dst[from:], castagnoli))
}

// readMark says whether b begins with a mark, and of which entry.
func readMark(b []byte) (sequence uint64, ok bool) {
	if len(b) < markSize || string(b[:8]) != markMagic {
		return 0, false
	}
	if crc32.Checksum(b[:16], castagnoli) != binary.BigEndian.Uint32(b[16:]) {
		return 0, false
	}
	return binary.BigEndian.Uint64(b[8:]), true
}
