package cache

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"

	"github.com/lanternist/lanternist/event"
	"github.com/lanternist/lanternist/views"
)

// The value of a document key:
//
//	┌──────────────┬──────┬──────────────┬─────────────────────────────┬──────┐
//	│ version      │ flag │ block length │ block                       │ body │
//	│ 19 digits    │ d, t │ 8 hex digits │ per lookup: 8 hex digits,   │ JSON │
//	│              │      │              │ then so many bytes          │      │
//	└──────────────┴──────┴──────────────┴─────────────────────────────┴──────┘
//
// The flag tells a document from a tombstone, which has an empty block and no body. The block holds the value of each
// declared lookup, in the order of the declaration, "" for null: the places to remove when the document changes.
// The write script reads the header with two GETRANGE and never copies an old body.
const (
	flagDocument  = 'd'
	flagTombstone = 't'

	flagAt     = versionDigits
	lengthAt   = flagAt + 1
	lengthSize = 8
	blockAt    = lengthAt + lengthSize
)

// ErrForeign means that the key of a document holds something that this package did not write.
var ErrForeign = errors.New("value is not a document")

// value is a decoded value. Its slices share memory with what was decoded.
type value struct {
	version event.Offset
	deleted bool
	block   string
	body    string
}

// sizeValue is the length of what appendValue appends.
func sizeValue(doc *views.Document) int {
	size := blockAt
	if doc.Body == nil {
		return size
	}
	for _, l := range doc.Lookups {
		size += lengthSize + len(l)
	}
	return size + len(doc.Body)
}

// appendValue appends the value of doc to dst.
func appendValue(dst []byte, version event.Offset, doc *views.Document) []byte {
	dst = appendVersion(dst, version)
	if doc.Body == nil {
		return appendLength(append(dst, flagTombstone), 0)
	}
	size := 0
	for _, l := range doc.Lookups {
		size += lengthSize + len(l)
	}
	dst = appendLength(append(dst, flagDocument), size)
	for _, l := range doc.Lookups {
		dst = append(appendLength(dst, len(l)), l...)
	}
	return append(dst, doc.Body...)
}

func appendLength(dst []byte, n int) []byte {
	return hex.AppendEncode(dst, []byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
}

// decodeValue decodes what appendValue wrote.
func decodeValue(s string) (value, error) {
	if len(s) < blockAt {
		return value{}, fmt.Errorf("%w: %d bytes", ErrForeign, len(s))
	}
	version, err := strconv.ParseUint(s[:versionDigits], 10, 63)
	if err != nil {
		return value{}, fmt.Errorf("%w: version %q", ErrForeign, s[:versionDigits])
	}
	flag := s[flagAt]
	if flag != flagDocument && flag != flagTombstone {
		return value{}, fmt.Errorf("%w: flag %q", ErrForeign, flag)
	}
	size, err := strconv.ParseUint(s[lengthAt:blockAt], 16, 32)
	if err != nil || size > uint64(len(s)-blockAt) {
		return value{}, fmt.Errorf("%w: block length %q", ErrForeign, s[lengthAt:blockAt])
	}
	body := blockAt + int(size)
	return value{version: event.Offset(version), deleted: flag == flagTombstone, block: s[blockAt:body], body: s[body:]}, nil
}

// lookup is the value of the i-th lookup in the block; "" when the block has none.
func (v *value) lookup(i int) (string, error) {
	rest := v.block
	for ; ; i-- {
		if rest == "" {
			return "", nil
		}
		if len(rest) < lengthSize {
			return "", fmt.Errorf("%w: lookups %q", ErrForeign, v.block)
		}
		size, err := strconv.ParseUint(rest[:lengthSize], 16, 32)
		if err != nil || size > uint64(len(rest)-lengthSize) {
			return "", fmt.Errorf("%w: lookups %q", ErrForeign, v.block)
		}
		if i == 0 {
			return rest[lengthSize : lengthSize+int(size)], nil
		}
		rest = rest[lengthSize+int(size):]
	}
}
