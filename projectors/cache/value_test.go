package cache

import (
	"errors"
	"testing"

	"pgregory.net/rapid"

	"github.com/lanternist/lanternist/event"
	"github.com/lanternist/lanternist/views"
)

func TestValueRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		version := event.Offset(rapid.Uint64Max(1<<63-1).Draw(t, "version"))
		doc := views.Document{Lookups: rapid.SliceOfN(rapid.String(), 0, 4).Draw(t, "lookups")}
		if rapid.Bool().Draw(t, "exists") {
			doc.Body = append([]byte{}, rapid.String().Draw(t, "body")...)
		}
		encoded := appendValue(nil, version, &doc)
		if len(encoded) != sizeValue(&doc) {
			t.Fatalf("%d bytes, sizeValue says %d", len(encoded), sizeValue(&doc))
		}
		v, err := decodeValue(string(encoded))
		if err != nil {
			t.Fatal(err)
		}
		if v.version != version || v.deleted != (doc.Body == nil) || v.body != string(doc.Body) {
			t.Fatalf("got %+v of %v %+v", v, version, doc)
		}
		for i, want := range doc.Lookups {
			if doc.Body == nil {
				want = ""
			}
			if got, err := v.lookup(i); err != nil || got != want {
				t.Fatalf("lookup %d: got %q, %v; want %q", i, got, err, want)
			}
		}
		if got, err := v.lookup(len(doc.Lookups)); got != "" || err != nil {
			t.Fatalf("lookup past the end: %q, %v", got, err)
		}
	})
}

func TestVersionsAreOrderedAsText(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := rapid.Uint64Max(1<<63-1).Draw(t, "a"), rapid.Uint64Max(1<<63-1).Draw(t, "b")
		x, y := string(appendVersion(nil, event.Offset(a))), string(appendVersion(nil, event.Offset(b)))
		if (a < b) != (x < y) || len(x) != versionDigits || len(y) != versionDigits {
			t.Fatalf("%d, %d: %s, %s", a, b, x, y)
		}
	})
}

func FuzzDecodeValue(f *testing.F) {
	f.Add("")
	f.Add(string(appendValue(nil, 7, &views.Document{Body: []byte("{}"), Lookups: []string{"a", ""}})))
	f.Add(string(appendValue(nil, 7, &views.Document{})))
	f.Add("0000000000000000007d0000000800000004{}")
	f.Fuzz(func(t *testing.T, s string) {
		v, err := decodeValue(s)
		if err != nil {
			if !errors.Is(err, ErrForeign) {
				t.Fatal(err)
			}
			return
		}
		for i := range 3 {
			if _, err := v.lookup(i); err != nil && !errors.Is(err, ErrForeign) {
				t.Fatal(err)
			}
		}
	})
}
