package archive

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash"
	"hash/crc32"
	"io"

	"github.com/klauspost/compress/zstd"

	"github.com/lanternist/lanternist/journal"
	"github.com/lanternist/lanternist/row"
)

// defaultBlockSize is how many bytes of entries one block holds; an entry that is larger has a block of its own.
const defaultBlockSize = 1 << 20

// fileWriter writes one file, entry by entry, with the memory of one block. What it writes depends only on the entries and
// on the description, so that an upload can be repeated.
type fileWriter struct {
	out       io.Writer
	sum       hash.Hash
	packer    *zstd.Encoder
	blockSize int
	id        journal.ID
	about     description

	at      uint64 // bytes written
	raw     []byte // of the block that is filled
	entries uint32 // in it
	ending  []byte // header of its last entry
	packed  []byte
	places  []byte // the index's parts of the blocks written
	last    journal.Entry
	next    uint64 // sequence of the entry that comes next
}

// newFileWriter begins a file of the range of batches that about names.
func newFileWriter(out io.Writer, id journal.ID, about description, blockSize int) (*fileWriter, error) {
	packer, err := newPacker()
	if err != nil {
		return nil, err
	}
	w := &fileWriter{out: out, sum: sha256.New(), packer: packer, blockSize: blockSize, id: id, about: about, next: about.First}
	w.about.Journal = id.String()
	return w, w.write(head{id, about.First, about.Last}.append(nil))
}

// write writes bytes that the file's sum covers.
func (w *fileWriter) write(b []byte) error {
	w.sum.Write(b)
	w.at += uint64(len(b))
	_, err := w.out.Write(b)
	return err
}

// add adds the next entry, which must be whole and follow the one before.
func (w *fileWriter) add(entry []byte) error {
	e, err := journal.ReadEntry(entry)
	if err != nil {
		return err
	}
	switch {
	case e.Sequence() != w.next || e.Sequence() > w.about.Last:
		return fmt.Errorf("batch %d comes where batch %d is to come", e.Sequence(), w.next)
	case e.Journal() != w.id:
		return fmt.Errorf("batch %d is of journal %s", e.Sequence(), e.Journal())
	case w.next > w.about.First && e.PreviousChecksum() != w.last.Checksum():
		return &journal.CorruptError{From: w.next - 1, To: w.next, Cause: fmt.Errorf("batch %d does not follow batch %d", w.next, w.next-1)}
	}
	if w.next == w.about.First {
		w.about.Header = append([]byte(nil), entry[:journal.EntryHeaderSize]...)
		w.about.Appended = e.Time()
	}
	if len(w.raw) > 0 && len(w.raw)+len(entry) > w.blockSize {
		if err := w.flush(); err != nil {
			return err
		}
	}
	w.raw = append(w.raw, entry...)
	w.ending = append(w.ending[:0], entry[:journal.EntryHeaderSize]...)
	w.entries++
	w.about.Bytes += uint64(len(entry))
	w.about.Events += uint64(e.Events())
	w.last = e
	w.next++
	return nil
}

// flush writes the block that has been filled.
func (w *fileWriter) flush() error {
	w.packed = w.packer.EncodeAll(w.raw, w.packed[:0])
	h := blockHeader{packed: uint32(len(w.packed)), raw: uint32(len(w.raw)), entries: w.entries, first: w.next - uint64(w.entries)}
	at := w.at
	header := h.append(make([]byte, 0, blockHeaderSize), w.packed)
	if err := w.write(header); err != nil {
		return err
	}
	if err := w.write(w.packed); err != nil {
		return err
	}
	w.places = appendPlace(w.places, at, &h, w.ending)
	if cap(w.raw) > 4*w.blockSize { // after a large entry
		w.raw, w.packed = nil, nil
	}
	w.raw, w.entries = w.raw[:0], 0
	return nil
}

// finish writes what is left, and the index. The file has size bytes.
func (w *fileWriter) finish(schemas []*row.Schema) (size int64, err error) {
	if w.next != w.about.Last+1 {
		return 0, fmt.Errorf("the file is to hold batches %d-%d, batch %d has not come", w.about.First, w.about.Last, w.next)
	}
	if err := w.flush(); err != nil {
		return 0, err
	}
	w.about.Schemas = schemas
	w.about.AppendedLast, w.about.CommittedLast, w.about.CommitLSN = w.last.Time(), w.last.CommitTime(), w.last.CommitLSN().String()
	text, err := json.Marshal(&w.about)
	if err != nil {
		return 0, fmt.Errorf("describe the file: %w", err)
	}
	raw := binary.BigEndian.AppendUint32(nil, uint32(len(text)))
	raw = append(append(raw, text...), w.places...)
	packed := w.packer.EncodeAll(raw, nil)
	t := tail{index: w.at, packed: uint32(len(packed)), raw: uint32(len(raw)), crc: crc32.Checksum(packed, castagnoli)}
	if err := w.write(packed); err != nil {
		return 0, err
	}
	w.sum.Sum(t.sum[:0])
	if _, err := w.out.Write(t.append(nil)); err != nil {
		return 0, err
	}
	return int64(w.at) + tailSize, nil
}
