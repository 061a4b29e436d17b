package journal

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/jackc/pglogrepl"

	"github.com/lanternist/lanternist/event"
)

// EntryHeaderSize is how many bytes of an entry ReadEntryHeader needs.
const EntryHeaderSize = headerSize

// Entry is what an entry says before its parts: all that an archive needs to know of it. It is immutable.
type Entry struct{ header header }

// ReadEntry checks that b is a whole and undamaged entry. It does not look at the parts.
func ReadEntry(b []byte) (Entry, error) {
	h, err := readHeader(b)
	return Entry{h}, err
}

// ReadEntryHeader reads the header that b begins with. The entry's checksum is not checked: whoever kept the header has
// to have one of their own.
func ReadEntryHeader(b []byte) (Entry, error) {
	if len(b) < headerSize {
		return Entry{}, fmt.Errorf("%w: %d bytes, want at least %d", ErrMalformed, len(b), headerSize)
	}
	h, err := parseHeader(b)
	return Entry{h}, err
}

// EntrySize is the size of the entry that b begins with, as its header says; false when b is too short to say.
func EntrySize(b []byte) (int, bool) {
	if len(b) < headerSize {
		return 0, false
	}
	return int(binary.BigEndian.Uint32(b[124:])), true
}

// Journal is the identity of the journal that the entry belongs to.
func (e *Entry) Journal() ID { return e.header.id }

// Sequence is the entry's place in the journal.
func (e *Entry) Sequence() uint64 { return e.header.sequence }

// First says that the entry is the first that the journal ever had.
func (e *Entry) First() bool { return e.header.previousSequence == 0 }

// Checksum is that of the entry, PreviousChecksum that of the entry it was appended after.
func (e *Entry) Checksum() uint32 { return e.header.crc }

// PreviousChecksum is the Checksum of the entry that this one was appended after.
func (e *Entry) PreviousChecksum() uint32 { return e.header.previousCRC }

// Size is the entry's size in bytes.
func (e *Entry) Size() int { return int(e.header.length) }

// Position is how many bytes all entries before this one have, those that were trimmed among them.
func (e *Entry) Position() uint64 { return e.header.position }

// End is the position after this entry.
func (e *Entry) End() uint64 { return e.header.end() }

// Events is the number of events.
func (e *Entry) Events() int { return int(e.header.events) }

// Time is when the entry was appended.
func (e *Entry) Time() time.Time { return e.header.time() }

// CommitLSN is that of the last transaction up to the entry's end.
func (e *Entry) CommitLSN() pglogrepl.LSN { return e.header.lastCommitLSN }

// EndLSN is the end of the last transaction up to the entry's end that is complete.
func (e *Entry) EndLSN() pglogrepl.LSN { return e.header.endLSN }

// Last is the offset of the entry's last event, of index 0 when it has none.
func (e *Entry) Last() event.Offset { return e.header.last() }

// CommitTime is the highest commit time up to the entry's end, by the source's clock.
func (e *Entry) CommitTime() time.Time { return time.UnixMicro(e.header.highestCommit).UTC() }

// DecodeEntry decodes a whole entry. The batch shares its memory.
func DecodeEntry(b []byte, schemas Schemas) (*Batch, error) { return decodeBatch(b, schemas) }

// ParseID reads an identity as String prints it.
func ParseID(s string) (id ID, err error) {
	var parts [5]string
	if len(s) != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return id, fmt.Errorf("%q is not a journal's identity", s)
	}
	parts = [5]string{s[:8], s[9:13], s[14:18], s[19:23], s[24:]}
	at := 0
	for _, p := range parts {
		for i := 0; i < len(p); i += 2 {
			high, low := fromHex(p[i]), fromHex(p[i+1])
			if high > 15 || low > 15 {
				return ID{}, fmt.Errorf("%q is not a journal's identity", s)
			}
			id[at] = high<<4 | low
			at++
		}
	}
	return id, nil
}

// fromHex is the value of a lowercase hexadecimal digit; over 15 when it is none.
func fromHex(c byte) byte {
	switch {
	case c >= '0' && c <= '9':
		return c - '0'
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10
	}
	return 255
}
