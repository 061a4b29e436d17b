package cdc

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/lanternist/lanternist/row"
)

// copyBatchBytes is about how many bytes of rows Session.Copy hands over at a time.
const copyBatchBytes = 512 << 10

// copyParser turns the text format of COPY TO into rows. It is written to in pieces of any size.
//
// In that format a raw tab ends a value and a raw newline a row: both are written as escapes inside of values.
// \N is null.
type copyParser struct {
	columns int
	emit    func([]row.Row) error

	partial []byte    // the beginning of a line whose end has not come
	batch   []byte    // rows, one after the other
	ends    []int     // where each ends in batch
	rows    []row.Row // reused for each call of emit
}

func newCopyParser(columns int, emit func([]row.Row) error) *copyParser {
	return &copyParser{columns: columns, emit: emit, batch: make([]byte, 0, copyBatchBytes+copyBatchBytes/8)}
}

// Write takes the next piece.
func (p *copyParser) Write(piece []byte) (int, error) {
	size := len(piece)
	for {
		end := bytes.IndexByte(piece, '\n')
		if end < 0 {
			p.partial = append(p.partial, piece...)
			return size, nil
		}
		line := piece[:end]
		if len(p.partial) > 0 {
			p.partial = append(p.partial, line...)
			line = p.partial
		}
		if err := p.line(line); err != nil {
			return 0, err
		}
		p.partial = p.partial[:0]
		piece = piece[end+1:]
		if len(p.batch) >= copyBatchBytes {
			if err := p.flush(); err != nil {
				return 0, err
			}
		}
	}
}

// finish hands over the last rows.
func (p *copyParser) finish() error {
	if len(p.partial) > 0 {
		return errors.New("the last row has no end")
	}
	return p.flush()
}

func (p *copyParser) flush() error {
	if len(p.ends) == 0 {
		return nil
	}
	p.rows = p.rows[:0]
	from := 0
	for _, end := range p.ends {
		p.rows = append(p.rows, row.Row(p.batch[from:end:end]))
		from = end
	}
	err := p.emit(p.rows)
	p.batch, p.ends = p.batch[:0], p.ends[:0]
	return err
}

// line appends the row that a line describes to the batch.
func (p *copyParser) line(line []byte) error {
	b := row.AppendHeader(p.batch, p.columns)
	escaped := bytes.IndexByte(line, '\\') >= 0
	n := 0
	for {
		field, rest := line, []byte(nil)
		end := bytes.IndexByte(line, '\t')
		if end >= 0 {
			field, rest = line[:end], line[end+1:]
		}
		n++
		switch {
		case !escaped || bytes.IndexByte(field, '\\') < 0:
			b = row.AppendValue(b, row.Value{Kind: row.Text, Text: field})
		case len(field) == 2 && field[1] == 'N':
			b = row.AppendValue(b, row.Value{Kind: row.Null})
		default:
			b = append(b, byte(row.Text), 0, 0, 0, 0)
			from := len(b)
			b = appendUnescaped(b, field)
			binary.BigEndian.PutUint32(b[from-4:], uint32(len(b)-from))
		}
		if end < 0 {
			break
		}
		line = rest
	}
	if n != p.columns {
		return fmt.Errorf("a row has %d values, want %d", n, p.columns)
	}
	p.batch = b
	p.ends = append(p.ends, len(b))
	return nil
}

// appendUnescaped appends the value that an escaped field stands for.
func appendUnescaped(dst, field []byte) []byte {
	for {
		at := bytes.IndexByte(field, '\\')
		if at < 0 || at+1 == len(field) {
			return append(dst, field...)
		}
		dst = append(dst, field[:at]...)
		c := field[at+1]
		switch c {
		case 'b':
			c = '\b'
		case 'f':
			c = '\f'
		case 'n':
			c = '\n'
		case 'r':
			c = '\r'
		case 't':
			c = '\t'
		case 'v':
			c = '\v'
		}
		dst = append(dst, c)
		field = field[at+2:]
	}
}
