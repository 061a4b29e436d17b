package search

import (
	"errors"
	"testing"
)

// FuzzCursor: a cursor that was not made here for this query is a bad query, and never anything else.
func FuzzCursor(f *testing.F) {
	p := &plan{query: Query{Text: "a", Filters: []Filter{{Field: "b", Values: []string{"c"}}}, Sort: []Sort{{Field: "d"}}}}
	good, err := cursor{PIT: "pit", After: []byte(`[1,"x"]`), Query: p.fingerprint(), Total: 3, Relation: "eq"}.encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	for _, text := range []string{"", "e30", "bnVsbA", "eyJwIjoicCIsImEiOlsxXX0", "eyJhIjpudWxsfQ", "*"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		c, err := decodeCursor(text, p)
		if err != nil {
			if !errors.Is(err, ErrBadQuery) {
				t.Fatalf("%q: %v", text, err)
			}
			return
		}
		again, err := c.encode()
		if err != nil {
			t.Fatal(err)
		}
		if same, err := decodeCursor(again, p); err != nil || same.PIT != c.PIT || same.Total != c.Total {
			t.Fatalf("%q is %+v, and then %+v, %v", text, c, same, err)
		}
	})
}
