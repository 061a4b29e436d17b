package mirror

import (
	"bytes"
	"testing"
)

// FuzzStored: whatever a record of the mirror holds, it is refused or reads as what it was written from.
func FuzzStored(f *testing.F) {
	f.Add(position{offset: 5 << 16, whole: true, progress: Progress{Offset: 5 << 16, LSN: 7}, applied: 6}.encode())
	f.Add(lineage{from: 3, stays: []stay{{from: 1, until: 3, key: "a\x00"}, {until: 1, key: ""}}}.append(nil))
	f.Add(append(make([]byte, recordHeader), 0, 1, 't', 0, 0, 0, 1, 'x'))
	f.Fuzz(func(t *testing.T, b []byte) {
		if p, err := decodePosition(b); err == nil {
			b := bytes.Clone(b)
			if b[8] > 1 {
				b[8] = 0 // anything but 1 is inside a transaction
			}
			if !bytes.Equal(p.encode(), b) {
				t.Fatalf("position %x became %x", b, p.encode())
			}
		}
		if l, err := decodeLineage(b); err == nil && !bytes.Equal(l.append(nil), b) {
			t.Fatalf("lineage %x became %x", b, l.append(nil))
		}
		if r, err := decodeRecord(b); err == nil {
			again := make([]byte, recordHeader+len(r.row))
			if r.put(again); !bytes.Equal(again, b) {
				t.Fatalf("record %x became %x", b, again)
			}
		}
	})
}
