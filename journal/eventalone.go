package journal

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"github.com/lanternist/lanternist/event"
)

// AppendEvent appends one event with what its transaction says, as ReadEvent reads it: what keeps an event when the journal may have
// dropped it. The format is the checksum of what follows (crc32c, big-endian), the offset, and a part with the event as in an entry.
func AppendEvent(dst []byte, e *event.Event) []byte {
	from := len(dst)
	dst = append(dst, 0, 0, 0, 0)
	dst = binary.AppendUvarint(dst, uint64(e.Offset))
	part := Part{Transaction: *e.Transaction, First: e.Ordinal, Complete: true, Events: []event.Event{*e}}
	dst = appendParts(dst, &header{}, []Part{part})
	binary.BigEndian.PutUint32(dst[from:], crc32.Checksum(dst[from+4:], castagnoli))
	return dst
}

// ReadEvent reads what AppendEvent has written, and shares its memory. Damage is ErrMalformed.
func ReadEvent(b []byte, schemas Schemas) (event.Event, error) {
	if len(b) < 4 || binary.BigEndian.Uint32(b) != crc32.Checksum(b[4:], castagnoli) {
		return event.Event{}, fmt.Errorf("%w: the checksum of an event is wrong", ErrMalformed)
	}
	d := decoder{rest: b[4:], schemas: schemas, events: make([]event.Event, 0, 1)}
	offset, err := d.uvarint(1<<63 - 1)
	if err != nil {
		return event.Event{}, err
	}
	var part Part
	if err := d.part(&part, 0); err != nil {
		return event.Event{}, err
	}
	if len(d.rest) > 0 || len(part.Events) != 1 {
		return event.Event{}, fmt.Errorf("%w: %d events, %d bytes are left", ErrMalformed, len(part.Events), len(d.rest))
	}
	e := part.Events[0]
	tx := part.Transaction
	e.Offset, e.Transaction = event.Offset(offset), &tx
	return e, nil
}
