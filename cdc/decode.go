package cdc

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/jackc/pglogrepl"

	"github.com/lanternist/lanternist/row"
)

// The kinds of pgoutput messages that protocol version 1 has.
const (
	kindBegin    = 'B'
	kindCommit   = 'C'
	kindOrigin   = 'O'
	kindRelation = 'R'
	kindType     = 'Y'
	kindInsert   = 'I'
	kindUpdate   = 'U'
	kindDelete   = 'D'
	kindTruncate = 'T'
	kindMessage  = 'M'
)

// message is one decoded pgoutput message. Which fields count depends on the kind. All slices share memory with
// the bytes that were decoded, so that decoding allocates nothing.
type message struct {
	kind byte

	lsn    pglogrepl.LSN // Begin, Commit: of the commit record; Message: of its record
	endLSN pglogrepl.LSN // Commit: where the commit record ends
	micros int64         // Begin, Commit: commit time, microseconds since 2000
	xid    uint32        // Begin

	relation      uint32  // Insert, Update, Delete, Relation: the table's OID
	before, after row.Row // Insert, Update, Delete
	relations     []byte  // Truncate: OIDs, four big-endian bytes each
	definition    []byte  // Relation: what decodeRelation understands

	transactional   bool // Message
	prefix, content []byte
}

// decodeMessage decodes one pgoutput message into m. It never panics, whatever b holds.
func decodeMessage(b []byte, m *message) error {
	*m = message{}
	if len(b) == 0 {
		return fmt.Errorf("%w: empty", ErrProtocol)
	}
	m.kind = b[0]
	d := cursor{rest: b[1:]}
	switch m.kind {
	case kindInsert:
		m.relation = d.uint32()
		d.expect('N')
		m.after = d.row()
	case kindUpdate:
		m.relation = d.uint32()
		if tag := d.byte(); tag == 'K' || tag == 'O' {
			m.before = d.row()
			d.expect('N')
		} else if tag != 'N' {
			d.fail("unknown tuple tag")
		}
		m.after = d.row()
	case kindDelete:
		m.relation = d.uint32()
		if tag := d.byte(); tag != 'K' && tag != 'O' {
			d.fail("unknown tuple tag")
		}
		m.before = d.row()
	case kindBegin:
		m.lsn = pglogrepl.LSN(d.uint64())
		m.micros = int64(d.uint64())
		m.xid = d.uint32()
	case kindCommit:
		d.byte() // flags: none exist
		m.lsn = pglogrepl.LSN(d.uint64())
		m.endLSN = pglogrepl.LSN(d.uint64())
		m.micros = int64(d.uint64())
	case kindTruncate:
		n := d.uint32()
		d.byte() // CASCADE and RESTART IDENTITY do not matter to a reader of rows
		if uint64(n)*4 > uint64(len(d.rest)) {
			d.fail("fewer tables than announced")
			break
		}
		m.relations = d.bytes(int(n) * 4)
	case kindMessage:
		m.transactional = d.byte()&1 != 0
		m.lsn = pglogrepl.LSN(d.uint64())
		m.prefix = d.text()
		m.content = d.bytes(int(d.uint32()))
	case kindRelation:
		m.definition = d.rest
		m.relation = d.uint32()
		d.rest = nil
	case kindOrigin, kindType:
		d.rest = nil // names of things that a reader of rows does not use
	default:
		d.fail("unknown kind")
	}
	if d.failed == "" && len(d.rest) > 0 {
		d.fail("bytes left over")
	}
	if d.failed != "" {
		return fmt.Errorf("%w: message %q of %d bytes: %s", ErrProtocol, m.kind, len(b), d.failed)
	}
	return nil
}

// relation is a table as the stream describes it.
type relation struct {
	oid       uint32
	namespace string
	name      string
	identity  byte // pg_class.relreplident
	columns   []relationColumn
}

type relationColumn struct {
	name  string
	isKey bool // part of the replica identity
	typ   uint32
	mod   int32
}

// decodeRelation decodes the definition of a Relation message.
func decodeRelation(b []byte) (relation, error) {
	d := cursor{rest: b}
	r := relation{oid: d.uint32(), namespace: string(d.text()), name: string(d.text()), identity: d.byte()}
	if r.namespace == "" {
		r.namespace = "pg_catalog"
	}
	n := int(d.uint16())
	if n > len(d.rest) {
		d.fail("fewer columns than announced")
		n = 0
	}
	r.columns = make([]relationColumn, n)
	for i := range r.columns {
		flags := d.byte()
		r.columns[i] = relationColumn{name: string(d.text()), isKey: flags&1 != 0, typ: d.uint32(), mod: int32(d.uint32())}
	}
	if d.failed == "" && len(d.rest) > 0 {
		d.fail("bytes left over")
	}
	if d.failed != "" {
		return relation{}, fmt.Errorf("%w: relation of %d bytes: %s", ErrProtocol, len(b), d.failed)
	}
	return r, nil
}

// cursor takes values off the front of a message. After the first failure it yields zero values, so that the
// caller checks once, at the end.
type cursor struct {
	rest   []byte
	failed string
}

func (d *cursor) fail(why string) {
	if d.failed == "" {
		d.failed = why
	}
	d.rest = nil
}

func (d *cursor) bytes(n int) []byte {
	if n < 0 || n > len(d.rest) {
		d.fail("too short")
		return nil
	}
	b := d.rest[:n:n]
	d.rest = d.rest[n:]
	return b
}

func (d *cursor) byte() byte {
	if len(d.rest) < 1 {
		d.fail("too short")
		return 0
	}
	b := d.rest[0]
	d.rest = d.rest[1:]
	return b
}

func (d *cursor) expect(tag byte) {
	if d.byte() != tag {
		d.fail("unknown tuple tag")
	}
}

func (d *cursor) uint16() uint16 {
	if len(d.rest) < 2 {
		d.fail("too short")
		return 0
	}
	v := binary.BigEndian.Uint16(d.rest)
	d.rest = d.rest[2:]
	return v
}

func (d *cursor) uint32() uint32 {
	if len(d.rest) < 4 {
		d.fail("too short")
		return 0
	}
	v := binary.BigEndian.Uint32(d.rest)
	d.rest = d.rest[4:]
	return v
}

func (d *cursor) uint64() uint64 {
	if len(d.rest) < 8 {
		d.fail("too short")
		return 0
	}
	v := binary.BigEndian.Uint64(d.rest)
	d.rest = d.rest[8:]
	return v
}

// text takes a zero-terminated string.
func (d *cursor) text() []byte {
	end := bytes.IndexByte(d.rest, 0)
	if end < 0 {
		d.fail("a string does not end")
		return nil
	}
	s := d.rest[:end:end]
	d.rest = d.rest[end+1:]
	return s
}

func (d *cursor) row() row.Row {
	r, rest, err := row.Parse(d.rest)
	if err != nil {
		d.fail(err.Error())
		return nil
	}
	d.rest = rest
	return r
}

// microsToTime turns the server's microseconds since the year 2000 into a time.
func microsToTime(micros int64) time.Time {
	const unixTo2000 = 946_684_800
	return time.Unix(unixTo2000+micros/1_000_000, micros%1_000_000*1000).UTC()
}
