package archive

import (
	"fmt"

	"github.com/lanternist/lanternist/journal"
)

// block is an unpacked block: whole entries.
type block struct {
	first uint64
	raw   []byte
	ends  []uint32 // of the entries in raw
}

// entry is the entry of a sequence that the block holds. Its capacity ends where it does.
func (b *block) entry(sequence uint64) []byte {
	i := sequence - b.first
	from := uint32(0)
	if i > 0 {
		from = b.ends[i-1]
	}
	return b.raw[from:b.ends[i]:b.ends[i]]
}

// header is what the entry of a sequence says before its parts.
func (b *block) header(sequence uint64) (journal.Entry, error) {
	return journal.ReadEntryHeader(b.entry(sequence))
}

// memory is how many bytes the block takes.
func (b *block) memory() int64 { return int64(cap(b.raw)) + int64(4*cap(b.ends)) }

// readBlock checks and unpacks a whole block, which the index describes. previous is the entry before its first, when that
// is known. The entries' own checksums are left to those who read them.
func readBlock(p *place, packed []byte, id journal.ID, previous *journal.Entry) (*block, error) {
	h, err := readBlockHeader(packed)
	if err != nil {
		return nil, err
	}
	if h != p.blockHeader {
		return nil, fmt.Errorf("%w: the block at byte %d is not the one that the index has", errFormat, p.at)
	}
	if err := checkBlock(packed); err != nil {
		return nil, fmt.Errorf("%w, at byte %d", err, p.at)
	}
	b, last, err := unpackBlock(&h, packed[blockHeaderSize:], id, previous)
	if err != nil {
		return nil, fmt.Errorf("%w, in the block at byte %d", err, p.at)
	}
	if last.Checksum() != p.ending.Checksum() {
		return nil, fmt.Errorf("%w: the block at byte %d does not end with the batch that the index has", errFormat, p.at)
	}
	return b, nil
}

// unpackBlock unpacks a block whose checksum was right, and finds its entries. They must follow each other.
func unpackBlock(h *blockHeader, packed []byte, id journal.ID, previous *journal.Entry) (*block, journal.Entry, error) {
	raw, err := unpack(packed, h.raw)
	if err != nil {
		return nil, journal.Entry{}, fmt.Errorf("%w: %w", errFormat, err)
	}
	b := &block{first: h.first, raw: raw, ends: make([]uint32, 0, min(h.entries, h.raw/journal.EntryHeaderSize))}
	var last journal.Entry
	at := 0
	for at < len(raw) {
		size, ok := journal.EntrySize(raw[at:])
		if !ok || size < journal.EntryHeaderSize || size > len(raw)-at {
			return nil, last, fmt.Errorf("%w: no batch begins at %d", errFormat, at)
		}
		e, err := journal.ReadEntryHeader(raw[at : at+size])
		switch want := h.first + uint64(len(b.ends)); {
		case err != nil:
			return nil, last, err
		case e.Sequence() != want || e.Journal() != id:
			return nil, last, fmt.Errorf("%w: batch %d of journal %s where batch %d is to be", errFormat, e.Sequence(), e.Journal(), want)
		case previous != nil && e.PreviousChecksum() != previous.Checksum():
			return nil, last, fmt.Errorf("%w: batch %d does not follow batch %d", errFormat, e.Sequence(), previous.Sequence())
		}
		at += size
		b.ends = append(b.ends, uint32(at))
		last = e
		previous = &last
	}
	if len(b.ends) != int(h.entries) {
		return nil, last, fmt.Errorf("%w: %d batches, want %d", errFormat, len(b.ends), h.entries)
	}
	return b, last, nil
}
