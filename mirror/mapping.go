package mirror

import (
	"encoding/binary"

	"github.com/lanternist/lanternist/row"
)

// origin says where a column's value is in rows of another version of the table.
type origin struct {
	at      int       // place of the column; -1 when that version does not have it
	missing row.Value // then, for a column that was added later: what such rows have in its place; else null
}

// originOf is where column c is in rows of s.
func originOf(c *row.Column, s *row.Schema) origin {
	at, presence := s.Place(c)
	if presence == row.NotYet || presence == row.Nameless {
		return origin{at: -1, missing: c.Default()}
	}
	return origin{at: at, missing: row.Value{Kind: row.Null}}
}

// value is the column's value in r.
func (o origin) value(r row.Row) row.Value {
	if o.at < 0 {
		return o.missing
	}
	return r.Column(o.at)
}

// mapping says where the columns of one version of a table are in another: mapping[i] is where column i of the newer is
// in the older. A nil mapping means that the columns are the same.
type mapping []origin

// newMapping is the mapping of the columns of to from those of from.
func newMapping(from, to *row.Schema) mapping {
	m := make(mapping, len(to.Columns))
	same := len(from.Columns) == len(to.Columns)
	for i := range to.Columns {
		m[i] = originOf(&to.Columns[i], from)
		same = same && m[i].at == i
	}
	if same {
		return nil
	}
	return m
}

// fill appends newer to dst with its unchanged values taken from older, the columns of which are mapped. A value
// that older does not have stays unchanged: it is not known, which is not the same as null.
func (m mapping) fill(dst []byte, newer, older row.Row) row.Row {
	if m == nil {
		return row.Fill(dst, newer, older)
	}
	from := len(dst)
	dst = row.AppendHeader(dst, newer.Len())
	for i, v := range newer.Values(nil) {
		if v.Kind == row.Unchanged && i < len(m) {
			if o := m[i]; o.at >= 0 && o.at < older.Len() || o.missing.Kind == row.Text {
				v = o.value(older)
			}
		}
		dst = row.AppendValue(dst, v)
	}
	return row.Row(dst[from:])
}

// convert appends older to dst in the newer columns.
func (m mapping) convert(dst []byte, older row.Row) row.Row {
	from := len(dst)
	if m == nil {
		dst = append(dst, older...)
		return row.Row(dst[from:])
	}
	values := older.Values(nil)
	dst = row.AppendHeader(dst, len(m))
	for _, o := range m {
		v := o.missing
		if o.at >= 0 && o.at < len(values) {
			v = values[o.at]
		}
		dst = row.AppendValue(dst, v)
	}
	return row.Row(dst[from:])
}

// convertRoom is how many bytes the result of convert may have.
func (m mapping) convertRoom(older row.Row) int {
	room := len(older) + len(m) + 2
	for _, o := range m {
		room += 4 + len(o.missing.Text)
	}
	return room
}

// fillKey appends r to dst with the values of the key columns taken from key, a row of the same schema.
func fillKey(dst []byte, r, key row.Row, columns []int) row.Row {
	from := len(dst)
	dst = binary.BigEndian.AppendUint16(dst, uint16(r.Len()))
	values := r.Values(nil)
	for _, i := range columns {
		if i < len(values) && values[i].Kind == row.Unchanged {
			values[i] = key.Column(i)
		}
	}
	for _, v := range values {
		dst = row.AppendValue(dst, v)
	}
	return row.Row(dst[from:])
}
