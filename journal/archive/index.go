package archive

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"time"

	"github.com/lanternist/lanternist/journal"
	"github.com/lanternist/lanternist/row"
)

// description is what a file says of itself, for people and for those who have lost everything else.
type description struct {
	Program       string    `json:"program"` // that wrote it, with its version
	Journal       string    `json:"journal"`
	First         uint64    `json:"first"`
	Last          uint64    `json:"last"`
	Previous      string    `json:"previous,omitempty"` // name of the file before, if there was one that this one goes on from
	Bytes         uint64    `json:"bytes"`              // of the entries
	Events        uint64    `json:"events"`
	Appended      time.Time `json:"appended"` // when the first entry was
	AppendedLast  time.Time `json:"appended_last"`
	CommittedLast time.Time `json:"committed_last"` // highest commit time, by the source's clock
	CommitLSN     string    `json:"commit_lsn"`     // of the last transaction
	Header        []byte    `json:"header"`         // of the first entry
	// Schemas are the definitions that the journal had when the file was written; the entries' rows refer to them by ID.
	Schemas []*row.Schema `json:"schemas"`
}

// place is where a block is, and what it ends with.
type place struct {
	blockHeader
	at     uint64
	ending journal.Entry // its last entry
}

// index is what is known of a file without reading its blocks.
type index struct {
	description
	first  journal.Entry // the file's first entry
	places []place
	tail   tail
}

// last is the file's last entry.
func (x *index) last() *journal.Entry { return &x.places[len(x.places)-1].ending }

// block is the number of the block that holds a sequence.
func (x *index) block(sequence uint64) int {
	low, high := 0, len(x.places)
	for low < high {
		middle := (low + high) / 2
		if x.places[middle].last() < sequence {
			low = middle + 1
		} else {
			high = middle
		}
	}
	return low
}

// appendPlace appends a block's part of the index.
func appendPlace(dst []byte, at uint64, h *blockHeader, ending []byte) []byte {
	be := binary.BigEndian
	dst = be.AppendUint64(dst, at)
	dst = be.AppendUint32(dst, h.packed)
	dst = be.AppendUint32(dst, h.raw)
	dst = be.AppendUint32(dst, h.entries)
	dst = be.AppendUint64(dst, h.first)
	dst = be.AppendUint32(dst, h.crc)
	return append(dst, ending[:journal.EntryHeaderSize]...)
}

func readPlace(b []byte) (place, error) {
	be := binary.BigEndian
	p := place{
		at: be.Uint64(b),
		blockHeader: blockHeader{
			packed: be.Uint32(b[8:]), raw: be.Uint32(b[12:]), entries: be.Uint32(b[16:]), first: be.Uint64(b[20:]), crc: be.Uint32(b[28:]),
		},
	}
	var err error
	p.ending, err = journal.ReadEntryHeader(b[32:])
	return p, err
}

// readIndex reads the packed index of a file with that name and tail.
func readIndex(f *file, t tail, packed []byte) (*index, error) {
	if sum := crc32.Checksum(packed, castagnoli); sum != t.crc {
		return nil, fmt.Errorf("%w: the index's checksum is wrong", errFormat)
	}
	raw, err := unpack(packed, t.raw)
	if err != nil {
		return nil, fmt.Errorf("%w: index: %w", errFormat, err)
	}
	if len(raw) < 4 || uint64(binary.BigEndian.Uint32(raw)) > uint64(len(raw)-4) {
		return nil, fmt.Errorf("%w: index of %d bytes", errFormat, len(raw))
	}
	n := binary.BigEndian.Uint32(raw)
	text, rest := raw[4:4+n], raw[4+n:]
	x := &index{tail: t}
	if err := json.Unmarshal(text, &x.description); err != nil {
		return nil, fmt.Errorf("%w: description: %w", errFormat, err)
	}
	if x.first, err = journal.ReadEntryHeader(x.Header); err != nil {
		return nil, fmt.Errorf("%w: first entry: %w", errFormat, err)
	}
	if len(rest) == 0 || len(rest)%blockIndexSize != 0 {
		return nil, fmt.Errorf("%w: index of %d bytes", errFormat, len(raw))
	}
	x.places = make([]place, 0, len(rest)/blockIndexSize)
	for ; len(rest) > 0; rest = rest[blockIndexSize:] {
		p, err := readPlace(rest)
		if err != nil {
			return nil, fmt.Errorf("%w: block %d: %w", errFormat, len(x.places), err)
		}
		x.places = append(x.places, p)
	}
	return x, x.check(f)
}

// check says whether the index is that of a file of that name, and whether its blocks follow each other.
func (x *index) check(f *file) error {
	if x.Journal != f.id.String() || x.First != f.first || x.Last != f.last || x.first.Sequence() != f.first {
		return fmt.Errorf("%w: it says that it holds batches %d-%d of journal %s", errFormat, x.First, x.Last, x.Journal)
	}
	at, next := uint64(headSize), f.first
	for i := range x.places {
		p := &x.places[i]
		if p.at != at || p.first != next || p.entries == 0 || p.ending.Sequence() != p.last() || p.ending.Journal() != f.id {
			return fmt.Errorf("%w: block %d does not follow the one before", errFormat, i)
		}
		at, next = at+p.size(), p.last()+1
	}
	if next != f.last+1 || at != x.tail.index || at+uint64(x.tail.packed)+tailSize != uint64(f.size) {
		return fmt.Errorf("%w: its blocks do not make up the whole file", errFormat)
	}
	return nil
}
