package mirror

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"slices"
)

// records is a buffer of keys and values that is sorted once it is full. It keeps its memory when it is emptied.
type records struct {
	blocks [][]byte // of recordsBlock bytes, or of one record that is larger
	next   int      // block that is being filled
	items  []item
	bytes  int // of all keys and values
}

// recordsBlock is the size of a block: what the buffer grows by.
const recordsBlock = 1 << 20

// item says where a record is, and how its key begins behind the prefix of its space: most comparisons end there.
type item struct {
	head       uint64
	block, at  uint32
	key, value uint32 // lengths
}

// add copies a record. value is in two parts, of which put writes the first.
func (r *records) add(key []byte, header int, value []byte) (head []byte) {
	size := len(key) + header + len(value)
	b := r.room(size)
	at := len(*b)
	*b = append(*b, key...)
	*b = append(*b, make([]byte, header)...)
	*b = append(*b, value...)
	r.items = append(r.items, item{
		head: headOf(key), block: uint32(r.next), at: uint32(at), key: uint32(len(key)), value: uint32(header + len(value)),
	})
	r.bytes += size
	return (*b)[at+len(key) : at+len(key)+header]
}

// room is a block with room for size bytes.
func (r *records) room(size int) *[]byte {
	for ; r.next < len(r.blocks); r.next++ {
		b := &r.blocks[r.next]
		if cap(*b)-len(*b) >= size {
			return b
		}
	}
	r.blocks = append(r.blocks, make([]byte, 0, max(size, recordsBlock)))
	return &r.blocks[r.next]
}

// headOf is the beginning of a key behind its prefix, so that it orders as the key does.
func headOf(key []byte) uint64 {
	var head [8]byte
	copy(head[:], key[prefixLen:])
	return binary.BigEndian.Uint64(head[:])
}

func (r *records) key(it item) []byte {
	end := it.at + it.key
	return r.blocks[it.block][it.at:end:end]
}

func (r *records) value(it item) []byte {
	from := it.at + it.key
	return r.blocks[it.block][from : from+it.value : from+it.value]
}

// sort brings the records into the order of their keys. Of several with one key the last stays.
func (r *records) sort() {
	slices.SortFunc(r.items, func(a, b item) int {
		if a.head != b.head {
			return cmp.Compare(a.head, b.head)
		}
		if c := bytes.Compare(r.key(a), r.key(b)); c != 0 {
			return c
		}
		return cmp.Or(cmp.Compare(b.block, a.block), cmp.Compare(b.at, a.at))
	})
	r.items = slices.CompactFunc(r.items, func(a, b item) bool {
		return a.head == b.head && bytes.Equal(r.key(a), r.key(b))
	})
}

// find is the place of a key in the sorted records.
func (r *records) find(key []byte) (int, bool) {
	return slices.BinarySearchFunc(r.items, key, func(it item, key []byte) int { return bytes.Compare(r.key(it), key) })
}

// reset empties the buffer. Blocks for single large records are not kept.
func (r *records) reset() {
	r.blocks = slices.DeleteFunc(r.blocks, func(b []byte) bool { return cap(b) > recordsBlock })
	for i := range r.blocks {
		r.blocks[i] = r.blocks[i][:0]
	}
	r.items, r.next, r.bytes = r.items[:0], 0, 0
}
