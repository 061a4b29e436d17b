package mirror

import (
	"bytes"
	"encoding/binary"
	"math"
)

// Every key of the database begins with a letter for its space and a big-endian number: the table's OID, the
// index's number, or 0 for the mirror's own records.
//
//	r ┆ table ┆ key                 → LSN ┆ schema ┆ row       a row (record.go)
//	i ┆ index ┆ values ┆ key        → nothing                  an index entry (index.go)
//	d ┆ table ┆ key                 → LSN                      a tombstone, while the table is loading
//	u ┆ table ┆ key                 → lineage                  a row with unchanged values, while loading (lineage.go)
//	c ┆ table                       → int64                    the number of rows
//	t ┆ table                       → JSON                     the table's state (table.go)
//	m ┆ 0     ┆ name                → see meta.go              position, identity, format, index declarations
//
// key and values are texts that end in a zero byte (row.Schema.AppendKey), so no key is a prefix of another.
type space byte

const (
	spaceRow       space = 'r'
	spaceIndex     space = 'i'
	spaceTombstone space = 'd'
	spaceUnfilled  space = 'u'
	spaceCount     space = 'c'
	spaceTable     space = 't'
	spaceMeta      space = 'm'
)

// prefixLen is the length of what appendPrefix writes.
const prefixLen = 5

// appendPrefix appends the beginning of the keys of space and number n.
func appendPrefix(dst []byte, s space, n uint32) []byte {
	dst = append(dst, byte(s))
	return binary.BigEndian.AppendUint32(dst, n)
}

// putKey writes a complete key into dst, which has room for exactly that.
func putKey(dst []byte, s space, n uint32, key []byte) {
	appendPrefix(dst[:0], s, n)
	copy(dst[prefixLen:], key)
}

// spaceKey is a complete key.
func spaceKey(s space, n uint32, key []byte) []byte {
	return append(appendPrefix(make([]byte, 0, prefixLen+len(key)), s, n), key...)
}

// bounds are the first key of (s, n) and the first key after all of its keys.
func bounds(s space, n uint32) (lower, upper []byte) {
	lower = appendPrefix(nil, s, n)
	if n == math.MaxUint32 {
		return lower, []byte{byte(s) + 1}
	}
	return lower, appendPrefix(nil, s, n+1)
}

// skipParts is what follows the first n zero-terminated parts of key; nil when there are fewer.
func skipParts(key []byte, n int) []byte {
	for range n {
		i := bytes.IndexByte(key, 0)
		if i < 0 {
			return nil
		}
		key = key[i+1:]
	}
	return key
}
