package journal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"testing"
	"time"
	"unsafe"

	"github.com/lanternist/lanternist/event"
)

// encodeParts encodes parts as the batch after the given header.
func encodeParts(t testing.TB, last *header, parts []Part) []byte {
	t.Helper()
	h, err := follow(last, parts)
	if err != nil {
		t.Fatal(err)
	}
	entry := appendParts(h.append(nil), &h, parts)
	seal(entry)
	return entry
}

// beginning is the header of a journal's first batch.
func beginning() *header {
	return &header{sequence: 41, complete: true, length: headerSize, id: ID{1, 2, 3}}
}

func TestFormatRoundTrip(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	for n := 1; n < 2000; n += 5 {
		parts := randomParts(r, n)
		entry := encodeParts(t, beginning(), parts)
		if bound := EncodedSize(parts); len(entry) > bound {
			t.Fatalf("%d bytes, over the bound of %d", len(entry), bound)
		}
		b, err := decodeBatch(entry, known)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := describeAll(b.Parts), describeAll(parts); got != want {
			t.Fatalf("decoded\n%s\nwant\n%s", got, want)
		}
		again := appendParts(b.header.append(nil), &b.header, b.Parts)
		seal(again)
		if !bytes.Equal(again, entry) {
			t.Fatal("what was decoded is encoded otherwise")
		}
	}
}

func TestDecodedEventsHaveTheirPlace(t *testing.T) {
	parts := []Part{transaction(1, 3), transaction(2, 0), transaction(3, 2)}
	b, err := decodeBatch(encodeParts(t, beginning(), parts), known)
	if err != nil {
		t.Fatal(err)
	}
	index := 0
	for i := range b.Parts {
		for k := range b.Parts[i].Events {
			e := &b.Parts[i].Events[k]
			if e.Offset != event.NewOffset(42, index) || e.Transaction != &b.Parts[i].Transaction {
				t.Errorf("event %d has offset %s and transaction %+v", index, e.Offset, e.Transaction)
			}
			index++
		}
	}
	if b.Sequence != 42 || b.Len() != 5 || b.Last() != event.NewOffset(42, 4) || b.header.previousSequence != 41 {
		t.Errorf("batch %d has %d events up to %s", b.Sequence, b.Len(), b.Last())
	}
	if got := encodeParts(t, beginning(), []Part{transaction(1, 0)}); got != nil {
		empty, err := decodeBatch(got, known)
		if err != nil || empty.Last() != event.NewOffset(42, 0) {
			t.Errorf("a batch without events ends at %v, %v", empty.Last(), err)
		}
	}
}

func TestDecodedRowsShareTheEntry(t *testing.T) {
	entry := encodeParts(t, beginning(), []Part{transaction(6, 4)})
	b, err := decodeBatch(entry, known)
	if err != nil {
		t.Fatal(err)
	}
	after := b.Parts[0].Events[0].After
	if i := bytes.Index(entry, after); i < 0 || unsafe.SliceData(after) != &entry[i] {
		t.Error("a row was copied")
	}
	if cap(after) != len(after) {
		t.Error("appending to a row would write into its neighbour")
	}
}

// TestEveryFlippedBitIsFound flips each bit of an entry.
func TestEveryFlippedBitIsFound(t *testing.T) {
	entry := encodeParts(t, beginning(), []Part{transaction(1, 4), transaction(2, 3)})
	for i := range entry {
		for bit := range 8 {
			entry[i] ^= 1 << bit
			if _, err := decodeBatch(entry, known); !errors.Is(err, ErrMalformed) {
				t.Fatalf("byte %d, bit %d: %v", i, bit, err)
			}
			entry[i] ^= 1 << bit
		}
	}
	for cut := range entry {
		if _, err := decodeBatch(entry[:cut], known); !errors.Is(err, ErrMalformed) {
			t.Fatalf("cut to %d bytes: %v", cut, err)
		}
	}
}

func TestDecodeRefuses(t *testing.T) {
	events := func(change func(e *event.Event)) []Part {
		p := transaction(1, 1)
		change(&p.Events[0])
		return []Part{p}
	}
	for name, test := range map[string]struct {
		parts []Part
		want  error
	}{
		"unknown schema":     {events(func(e *event.Event) { s := *orders; s.ID = 8; e.Schema = &s }), ErrUnknownSchema},
		"schema without ID":  {events(func(e *event.Event) { s := *orders; s.ID = 0; e.Schema = &s }), ErrMalformed},
		"no schema":          {events(func(e *event.Event) { e.Schema = nil }), ErrMalformed},
		"no row":             {events(func(e *event.Event) { e.After = []byte{0} }), ErrMalformed},
		"more than a row":    {events(func(e *event.Event) { e.After = append(text("1"), 0) }), ErrMalformed},
		"unknown op":         {events(func(e *event.Event) { e.Op = 'X' }), ErrMalformed},
		"message of a table": {events(func(e *event.Event) { e.Op = event.Message }), ErrMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := decodeBatch(encodeParts(t, beginning(), test.parts), known); !errors.Is(err, test.want) {
				t.Fatalf("%v, want %v", err, test.want)
			}
		})
	}
}

func TestFormatVersionOfTheFuture(t *testing.T) {
	entry := encodeParts(t, beginning(), []Part{transaction(1, 1)})
	binary.BigEndian.PutUint16(entry[4:], headerVersion+1)
	seal(entry)
	if _, err := decodeBatch(entry, known); !errors.Is(err, ErrMalformed) || !bytes.Contains([]byte(err.Error()), []byte("format version 2")) {
		t.Fatalf("%v", err)
	}
}

// FuzzDecodeBatch: whatever the bytes are, decoding neither panics nor takes more memory than they deserve. The
// checksum is made right, so that what comes after it is reached.
func FuzzDecodeBatch(f *testing.F) {
	r := rand.New(rand.NewPCG(1, 1))
	for n := 1; n < 40; n += 5 {
		f.Add(encodeParts(f, beginning(), randomParts(r, n)))
	}
	f.Add(beginning().append(nil))
	f.Fuzz(func(t *testing.T, entry []byte) {
		if len(entry) >= headerSize {
			entry = bytes.Clone(entry)
			binary.BigEndian.PutUint32(entry, headerMagic)
			binary.BigEndian.PutUint16(entry[4:], headerVersion)
			seal(entry)
		}
		b, err := decodeBatch(entry, known)
		if err != nil {
			return
		}
		held := 0
		for i := range b.Parts {
			for k := range b.Parts[i].Events {
				e := &b.Parts[i].Events[k]
				held += len(e.Before) + len(e.After) + len(e.Content) + len(e.Prefix)
			}
		}
		if held > len(entry) || b.Len()*minEvent+len(b.Parts)*minPart > len(entry) {
			t.Fatalf("%d bytes of rows, %d events and %d parts in an entry of %d", held, b.Len(), len(b.Parts), len(entry))
		}
	})
}
