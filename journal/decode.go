package journal

import (
	"encoding/binary"
	"fmt"
	"math"
	"time"
	"unsafe"

	"github.com/jackc/pglogrepl"

	"github.com/lanternist/lanternist/event"
	"github.com/lanternist/lanternist/row"
)

// decodeBatch decodes a whole entry. The batch shares the entry's memory: one allocation holds all parts, one
// all events.
func decodeBatch(entry []byte, schemas Schemas) (*Batch, error) {
	h, err := readHeader(entry)
	if err != nil {
		return nil, err
	}
	return decodeParts(h, entry, schemas)
}

// decodeParts decodes the parts of an entry whose header has been read.
func decodeParts(h header, entry []byte, schemas Schemas) (*Batch, error) {
	d := decoder{rest: entry[headerSize:], schemas: schemas}
	// Counts are believed only as far as the bytes that are left could hold so many.
	if uint64(h.parts)*minPart+uint64(h.events)*minEvent > uint64(len(d.rest)) {
		return nil, fmt.Errorf("%w: %d parts and %d events in %d bytes", ErrMalformed, h.parts, h.events, len(d.rest))
	}
	b := &Batch{Sequence: h.sequence, Time: h.time(), header: h}
	b.memory = int64(cap(entry)) + int64(h.parts)*int64(unsafe.Sizeof(Part{})) + int64(h.events)*int64(unsafe.Sizeof(event.Event{}))
	if h.parts > 0 {
		b.Parts = make([]Part, h.parts)
	}
	if h.events > 0 {
		d.events = make([]event.Event, 0, h.events)
	}
	d.lsn, d.commit = h.firstCommitLSN, h.lowestCommit
	for i := range b.Parts {
		if err := d.part(&b.Parts[i], h.sequence); err != nil {
			return nil, fmt.Errorf("part %d of %d: %w", i, h.parts, err)
		}
	}
	if len(d.rest) > 0 || len(d.events) != int(h.events) {
		return nil, fmt.Errorf("%w: %d of %d events, %d bytes are left", ErrMalformed, len(d.events), h.events, len(d.rest))
	}
	return b, nil
}

// decoder reads the parts of one entry.
type decoder struct {
	rest    []byte
	schemas Schemas
	events  []event.Event // of all parts; its capacity is the header's count
	lsn     pglogrepl.LSN // of the part before
	commit  int64         // time of the part before
	schema  *row.Schema   // of the event before
}

// part reads one part and its events.
func (d *decoder) part(p *Part, sequence uint64) error {
	flags, err := d.byte()
	if err != nil {
		return err
	}
	xid, err := d.uvarint(math.MaxUint32)
	if err != nil {
		return err
	}
	later, err := d.uvarint(math.MaxUint64)
	if err != nil {
		return err
	}
	end, err := d.uvarint(math.MaxUint64)
	if err != nil {
		return err
	}
	commit, err := d.varint()
	if err != nil {
		return err
	}
	first, err := d.uvarint(math.MaxUint32)
	if err != nil {
		return err
	}
	count, err := d.uvarint(uint64(cap(d.events) - len(d.events)))
	if err != nil {
		return err
	}
	d.lsn += pglogrepl.LSN(later)
	d.commit += commit
	p.XID, p.CommitLSN, p.CommitTime = uint32(xid), d.lsn, time.UnixMicro(d.commit).UTC()
	if end != 0 {
		p.EndLSN = d.lsn + pglogrepl.LSN(end)
	}
	p.First, p.Complete = uint32(first), flags&partComplete != 0
	from := len(d.events)
	expected := p.First
	for range count {
		d.events = append(d.events, event.Event{})
		e := &d.events[len(d.events)-1]
		if err := d.event(e, expected); err != nil {
			return fmt.Errorf("event %d: %w", len(d.events)-1, err)
		}
		e.Offset = event.NewOffset(sequence, len(d.events)-1)
		e.Transaction = &p.Transaction
		expected = e.Ordinal + 1
	}
	p.Events = d.events[from:len(d.events):len(d.events)]
	return nil
}

// event reads one event into e.
func (d *decoder) event(e *event.Event, expected uint32) error {
	op, err := d.byte()
	if err != nil {
		return err
	}
	flags, err := d.byte()
	if err != nil {
		return err
	}
	id, err := d.uvarint(math.MaxUint32)
	if err != nil {
		return err
	}
	skipped, err := d.uvarint(uint64(math.MaxUint32 - expected))
	if err != nil {
		return err
	}
	e.Op, e.Ordinal, e.BeforeComplete = event.Op(op), expected+uint32(skipped), flags&eventBeforeComplete != 0
	if e.Schema, err = d.definition(uint32(id)); err != nil {
		return err
	}
	if err := check(e.Op, flags, e.Schema != nil); err != nil {
		return err
	}
	if flags&eventBefore != 0 {
		if e.Before, err = d.row(); err != nil {
			return fmt.Errorf("before: %w", err)
		}
	}
	if flags&eventAfter != 0 {
		if e.After, err = d.row(); err != nil {
			return fmt.Errorf("after: %w", err)
		}
	}
	if flags&eventMessage != 0 {
		prefix, err := d.bytes()
		if err != nil {
			return fmt.Errorf("prefix: %w", err)
		}
		e.Prefix = string(prefix)
		if e.Content, err = d.bytes(); err != nil {
			return fmt.Errorf("content: %w", err)
		}
	}
	return nil
}

// check refuses events that say something that does not go together.
func check(op event.Op, flags byte, schema bool) error {
	switch op {
	case event.Insert, event.Update, event.Delete, event.Truncate, event.Message, event.Gap:
	default:
		return fmt.Errorf("%w: event of unknown kind %q", ErrMalformed, byte(op))
	}
	if message := op == event.Message || op == event.Gap; message != (flags&eventMessage != 0) || message == schema {
		return fmt.Errorf("%w: %s has flags %x and a table definition: %t", ErrMalformed, op, flags, schema)
	}
	return nil
}

// definition finds a table definition; events of one batch mostly have the one of the event before.
func (d *decoder) definition(id uint32) (*row.Schema, error) {
	if id == 0 {
		return nil, nil
	}
	if d.schema != nil && d.schema.ID == id {
		return d.schema, nil
	}
	s, ok := d.schemas.Schema(id)
	if !ok {
		return nil, fmt.Errorf("%w %d", ErrUnknownSchema, id)
	}
	d.schema = s
	return s, nil
}

// row reads a length and a row of exactly that length.
func (d *decoder) row() (row.Row, error) {
	b, err := d.bytes()
	if err != nil {
		return nil, err
	}
	r, rest, err := row.Parse(b)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if len(rest) > 0 {
		return nil, fmt.Errorf("%w: %d bytes after the row", ErrMalformed, len(rest))
	}
	return r, nil
}

// bytes reads a length and that many bytes, which it does not copy.
func (d *decoder) bytes() ([]byte, error) {
	size, err := d.uvarint(math.MaxUint64)
	if err != nil {
		return nil, err
	}
	if size > uint64(len(d.rest)) {
		return nil, fmt.Errorf("%w: wants %d bytes, %d are left", ErrMalformed, size, len(d.rest))
	}
	b := d.rest[:size:size]
	d.rest = d.rest[size:]
	return b, nil
}

func (d *decoder) byte() (byte, error) {
	if len(d.rest) == 0 {
		return 0, fmt.Errorf("%w: ends too early", ErrMalformed)
	}
	b := d.rest[0]
	d.rest = d.rest[1:]
	return b, nil
}

func (d *decoder) uvarint(most uint64) (uint64, error) {
	v, n := binary.Uvarint(d.rest)
	if n <= 0 {
		return 0, fmt.Errorf("%w: ends in a number", ErrMalformed)
	}
	if v > most {
		return 0, fmt.Errorf("%w: %d is over %d", ErrMalformed, v, most)
	}
	d.rest = d.rest[n:]
	return v, nil
}

func (d *decoder) varint() (int64, error) {
	v, n := binary.Varint(d.rest)
	if n <= 0 {
		return 0, fmt.Errorf("%w: ends in a number", ErrMalformed)
	}
	d.rest = d.rest[n:]
	return v, nil
}
