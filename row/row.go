// Package row holds table rows the way Postgres sends them: column values in text form, in one contiguous
// slice, beside a Schema that says what the columns are.
//
// A Row is the TupleData of the pgoutput protocol, byte for byte, so a row travels from the wire through the
// journal and the mirror to the edge without being decoded, and without an allocation per column. The JSON a
// sink needs is written once, at the edge (AppendJSON).
//
// Invariant: null, unchanged and text are three different things. An unchanged value is a TOASTed value that
// an UPDATE did not touch and that Postgres therefore did not send; it must never be taken for null.
package row

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// ErrMalformed is returned for bytes that are not a row.
var ErrMalformed = errors.New("malformed row")

// Row is one table row: a big-endian uint16 number of columns, then for each column one Kind byte and, when
// the kind is Text, a big-endian uint32 length and that many bytes. A nil Row means that there is no row.
// A Row is immutable and may share memory with the message, batch or page it came from.
type Row []byte

// Kind tells how a column's value was sent.
type Kind byte

// The kinds of a value. Their numbers are those of the pgoutput protocol.
const (
	Null      Kind = 'n' // SQL NULL
	Unchanged Kind = 'u' // a TOASTed value that was not sent because the update did not touch it
	Text      Kind = 't' // a value in Postgres text form
)

// Value is one column's value. Text is nil unless Kind is Text, and shares memory with its Row.
type Value struct {
	Kind Kind
	Text []byte
}

// IsText says whether the value is there: neither null nor unchanged.
func (v Value) IsText() bool { return v.Kind == Text }

// Len is the number of columns.
func (r Row) Len() int {
	if len(r) < 2 {
		return 0
	}
	return int(binary.BigEndian.Uint16(r))
}

// Values appends the row's values to dst and returns it. It does not allocate when dst has the room.
// The row must be valid (see Parse).
func (r Row) Values(dst []Value) []Value {
	n := r.Len()
	at := 2
	for range n {
		kind := Kind(r[at])
		at++
		if kind != Text {
			dst = append(dst, Value{Kind: kind})
			continue
		}
		size := int(binary.BigEndian.Uint32(r[at:]))
		at += 4
		dst = append(dst, Value{Kind: Text, Text: r[at : at+size : at+size]})
		at += size
	}
	return dst
}

// Column is the value of column i. It walks the row; use Values for more than one or two columns.
// A column that the row does not have is Null: the row is older than the column.
func (r Row) Column(i int) Value {
	if i < 0 || i >= r.Len() {
		return Value{Kind: Null}
	}
	at := 2
	for {
		kind := Kind(r[at])
		at++
		size := 0
		if kind == Text {
			size = int(binary.BigEndian.Uint32(r[at:]))
			at += 4
		}
		if i == 0 {
			if kind != Text {
				return Value{Kind: kind}
			}
			return Value{Kind: Text, Text: r[at : at+size : at+size]}
		}
		at += size
		i--
	}
}

// HasUnchanged says whether any value of the row is Unchanged.
func (r Row) HasUnchanged() bool {
	n, at := r.Len(), 2
	for range n {
		switch Kind(r[at]) {
		case Unchanged:
			return true
		case Text:
			at += 5 + int(binary.BigEndian.Uint32(r[at+1:]))
		default:
			at++
		}
	}
	return false
}

// Parse checks that b begins with a well-formed row and returns that row, sharing memory with b, and the rest.
// A binary value ('b') is refused: the reader asks for text.
func Parse(b []byte) (Row, []byte, error) {
	if len(b) < 2 {
		return nil, nil, fmt.Errorf("%w: %d bytes, want at least 2", ErrMalformed, len(b))
	}
	n, at := int(binary.BigEndian.Uint16(b)), 2
	for i := range n {
		if at >= len(b) {
			return nil, nil, fmt.Errorf("%w: column %d of %d is missing", ErrMalformed, i, n)
		}
		kind := Kind(b[at])
		at++
		switch kind {
		case Null, Unchanged:
		case Text:
			if len(b)-at < 4 {
				return nil, nil, fmt.Errorf("%w: column %d of %d has no length", ErrMalformed, i, n)
			}
			size := binary.BigEndian.Uint32(b[at:])
			at += 4
			if uint64(size) > uint64(len(b)-at) {
				return nil, nil, fmt.Errorf("%w: column %d of %d wants %d bytes, %d are left", ErrMalformed, i, n, size, len(b)-at)
			}
			at += int(size)
		default:
			return nil, nil, fmt.Errorf("%w: column %d of %d is of unknown kind %q", ErrMalformed, i, n, byte(kind))
		}
	}
	return Row(b[:at:at]), b[at:], nil
}

// AppendHeader appends the beginning of a row of n columns to dst; AppendValue for each column must follow.
func AppendHeader(dst []byte, n int) []byte {
	return binary.BigEndian.AppendUint16(dst, uint16(n))
}

// AppendValue appends one column's value to a row under construction.
func AppendValue(dst []byte, v Value) []byte {
	dst = append(dst, byte(v.Kind))
	if v.Kind == Text {
		dst = binary.BigEndian.AppendUint32(dst, uint32(len(v.Text)))
		dst = append(dst, v.Text...)
	}
	return dst
}

// New makes a row of values.
func New(values ...Value) Row {
	dst := AppendHeader(nil, len(values))
	for _, v := range values {
		dst = AppendValue(dst, v)
	}
	return dst
}

// Of makes a row of text values, for tests and small tools; a nil pointer is null.
func Of(values ...*string) Row {
	dst := AppendHeader(nil, len(values))
	for _, s := range values {
		if s == nil {
			dst = AppendValue(dst, Value{Kind: Null})
			continue
		}
		dst = AppendValue(dst, Value{Kind: Text, Text: []byte(*s)})
	}
	return dst
}

// Fill appends to dst a copy of newer in which each Unchanged value is replaced by the value of the same
// column in older. Values that older does not have, or has as Unchanged too, stay Unchanged.
// Both rows must have the same schema.
func Fill(dst []byte, newer, older Row) Row {
	from := len(dst)
	n := newer.Len()
	dst = AppendHeader(dst, n)
	at, old := 2, 2
	oldLen := older.Len()
	for i := range n {
		v, next := newer.at(at)
		at = next
		was := Value{Kind: Unchanged}
		if i < oldLen {
			was, old = older.at(old)
		}
		if v.Kind == Unchanged {
			v = was
		}
		dst = AppendValue(dst, v)
	}
	return Row(dst[from:])
}

// at decodes the value that starts at byte i and returns it with the place where the next one starts.
func (r Row) at(i int) (Value, int) {
	kind := Kind(r[i])
	i++
	if kind != Text {
		return Value{Kind: kind}, i
	}
	size := int(binary.BigEndian.Uint32(r[i:]))
	i += 4
	return Value{Kind: Text, Text: r[i : i+size : i+size]}, i + size
}
