package archive

import (
	"context"
	"encoding/binary"
	"hash/crc32"
	"testing"

	"gocloud.dev/blob/memblob"

	"github.com/lanternist/lanternist/journal"
)

// FuzzFile changes the parts of an archive's file and makes all checksums right again, so that what comes after them is
// reached: it is refused, or what it says of itself holds together.
func FuzzFile(f *testing.F) {
	name, whole, id := oneFile(f)
	first, last, ok := parseName(id, name)
	end, err := readTail(whole[len(whole)-tailSize:])
	if !ok || err != nil {
		f.Fatal(name, err)
	}
	rawIndex, err := unpack(whole[end.index:end.index+uint64(end.packed)], end.raw)
	if err != nil {
		f.Fatal(err)
	}
	h, err := readBlockHeader(whole[headSize:])
	if err != nil {
		f.Fatal(err)
	}
	rawBlock, err := unpack(whole[headSize+blockHeaderSize:headSize+h.size()], h.raw)
	if err != nil {
		f.Fatal(err)
	}
	packer, err := newPacker()
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { packer.Close() })
	f.Add(rawIndex, rawBlock, whole[:headSize], h.entries)
	f.Add([]byte{0, 0, 0, 2, '{', '}'}, []byte{}, []byte(headMagic), uint32(0))
	f.Fuzz(func(t *testing.T, rawIndex, rawBlock, head []byte, entries uint32) {
		if len(rawIndex)+len(rawBlock) > 1<<20 {
			t.Skip("too long")
		}
		if len(head) >= headSize {
			binary.BigEndian.PutUint32(head[12:], around(head[:headSize], 12))
			if h, err := readHead(head); err == nil && string(h.append(nil)[:8]) != headMagic {
				t.Fatalf("head %+v", h)
			}
		}
		packed := packer.EncodeAll(rawIndex, nil)
		size := int64(end.index) + int64(len(packed)) + tailSize
		of := &file{name: name, id: id, first: first, last: last, size: size}
		x, err := readIndex(of, tail{index: end.index, packed: uint32(len(packed)), raw: uint32(len(rawIndex)), crc: crc32.Checksum(packed, castagnoli)}, packed)
		if err == nil {
			for sequence := first; sequence <= last; sequence++ {
				if n := x.block(sequence); n >= len(x.places) || x.places[n].first > sequence || x.places[n].last() < sequence {
					t.Fatalf("batch %d is looked for in block %d of %d", sequence, n, len(x.places))
				}
			}
		}
		b := blockHeader{raw: uint32(len(rawBlock)), entries: entries, first: h.first}
		unpacked, _, err := unpackBlock(&b, packer.EncodeAll(rawBlock, nil), id, nil)
		if err != nil {
			return
		}
		for i := range unpacked.ends {
			if _, err := unpacked.header(b.first + uint64(i)); err != nil {
				t.Fatalf("entry %d was let in: %v", i, err)
			}
		}
	})
}

// oneFile is a small file of an archive.
func oneFile(f *testing.F) (name string, content []byte, id journal.ID) {
	f.Helper()
	store := memblob.OpenBucket(nil)
	f.Cleanup(func() { store.Close() })
	w := newWorld(f, store, journal.Retention{})
	w.append(12, 2, 20)
	w.archiveAll(Config{FileSize: 1 << 20, BlockSize: 512})
	names := w.names()
	if len(names) == 0 {
		f.Fatal("nothing was archived")
	}
	content, err := store.ReadAll(context.Background(), names[0])
	if err != nil {
		f.Fatal(err)
	}
	return names[0], content, w.archive.id
}
