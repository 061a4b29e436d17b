package mirror

import (
	"encoding/binary"

	"github.com/lanternist/lanternist/row"
)

// mapping says where the columns of one version of a table are in another: mapping[i] is the place of column i of
// the newer in the older, or -1. It goes by name. A nil mapping means that the columns are the same.
type mapping []int

// newMapping is the mapping of the columns of to from those of from.
func newMapping(from, to *row.Schema) mapping {
	m := make(mapping, len(to.Columns))
	same := len(from.Columns) == len(to.Columns)
	for i, c := range to.Columns {
		m[i] = from.Column(c.Name)
		same = same && m[i] == i
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
		if v.Kind == row.Unchanged && i < len(m) && m[i] >= 0 && m[i] < older.Len() {
			v = older.Column(m[i])
		}
		dst = row.AppendValue(dst, v)
	}
	return row.Row(dst[from:])
}

// convert appends older to dst in the newer columns. A column that older does not have is null.
func (m mapping) convert(dst []byte, older row.Row) row.Row {
	from := len(dst)
	if m == nil {
		dst = append(dst, older...)
		return row.Row(dst[from:])
	}
	values := older.Values(nil)
	dst = row.AppendHeader(dst, len(m))
	for _, at := range m {
		v := row.Value{Kind: row.Null}
		if at >= 0 && at < len(values) {
			v = values[at]
		}
		dst = row.AppendValue(dst, v)
	}
	return row.Row(dst[from:])
}

// convertRoom is how many bytes the result of convert may have.
func (m mapping) convertRoom(older row.Row) int { return len(older) + len(m) + 2 }

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
