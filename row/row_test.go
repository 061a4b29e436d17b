package row_test

import (
	"bytes"
	"errors"
	"testing"

	"pgregory.net/rapid"

	"github.com/lanternist/lanternist/row"
)

// values draws the values of a row.
func values(t *rapid.T, label string, columns int) []row.Value {
	one := rapid.Custom(func(t *rapid.T) row.Value {
		switch rapid.IntRange(0, 3).Draw(t, "kind") {
		case 0:
			return row.Value{Kind: row.Null}
		case 1:
			return row.Value{Kind: row.Unchanged}
		}
		return row.Value{Kind: row.Text, Text: []byte(rapid.StringMatching(`[a-c]{0,3}`).Draw(t, "text"))}
	})
	return rapid.SliceOfN(one, columns, columns).Draw(t, label)
}

func same(a, b row.Value) bool { return a.Kind == b.Kind && bytes.Equal(a.Text, b.Text) }

func TestRowReadsBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := values(t, "values", rapid.IntRange(0, 6).Draw(t, "columns"))
		rest := []byte(rapid.StringMatching(`.{0,4}`).Draw(t, "rest"))
		r, after, err := row.Parse(append(bytes.Clone(row.New(want...)), rest...))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(after, rest) {
			t.Fatalf("rest is %q, want %q", after, rest)
		}
		got := r.Values(nil)
		if len(got) != len(want) || r.Len() != len(want) {
			t.Fatalf("%d values and length %d, want %d", len(got), r.Len(), len(want))
		}
		unchanged := false
		for i := range want {
			if !same(got[i], want[i]) || !same(r.Column(i), want[i]) {
				t.Fatalf("column %d is %v and %v, want %v", i, got[i], r.Column(i), want[i])
			}
			unchanged = unchanged || want[i].Kind == row.Unchanged
		}
		if r.HasUnchanged() != unchanged {
			t.Fatalf("HasUnchanged is %v", r.HasUnchanged())
		}
		for _, i := range []int{-1, len(want)} {
			if r.Column(i).Kind != row.Null {
				t.Fatalf("column %d, which is not there, is %v", i, r.Column(i))
			}
		}
	})
}

// A row cut short is never taken for a row.
func TestParseRefusesEveryPrefix(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		whole := row.New(values(t, "values", rapid.IntRange(1, 5).Draw(t, "columns"))...)
		cut := rapid.IntRange(0, len(whole)-1).Draw(t, "cut")
		if _, _, err := row.Parse(whole[:cut]); !errors.Is(err, row.ErrMalformed) {
			t.Fatalf("%d of %d bytes: %v", cut, len(whole), err)
		}
	})
}

func FuzzParse(f *testing.F) {
	f.Add([]byte{0, 1, 'n'})
	f.Add([]byte{0, 1, 't', 0, 0, 0, 1, 'x', 'y'})
	f.Add([]byte{0, 2, 'u', 't', 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		r, rest, err := row.Parse(b)
		if err != nil {
			if !errors.Is(err, row.ErrMalformed) {
				t.Fatal(err)
			}
			return
		}
		if len(r)+len(rest) != len(b) {
			t.Fatalf("%d and %d bytes of %d", len(r), len(rest), len(b))
		}
		if again := row.New(r.Values(nil)...); !bytes.Equal(again, r) {
			t.Fatalf("%x became %x", r, again)
		}
	})
}

// Fill takes what newer has, what older has where newer is unchanged, and invents nothing.
func TestFill(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		columns := rapid.IntRange(0, 6).Draw(t, "columns")
		newer := values(t, "newer", columns)
		older := values(t, "older", rapid.IntRange(0, columns).Draw(t, "older columns"))
		prefix := []byte("kept")
		filled := row.Fill(bytes.Clone(prefix), row.New(newer...), row.New(older...))
		got := filled.Values(nil)
		if len(got) != columns {
			t.Fatalf("%d columns, want %d", len(got), columns)
		}
		for i := range got {
			want := newer[i]
			if want.Kind == row.Unchanged && i < len(older) {
				want = older[i]
			}
			if !same(got[i], want) {
				t.Fatalf("column %d is %v, want %v", i, got[i], want)
			}
		}
		if filled := row.Fill(nil, row.New(newer...), nil); !bytes.Equal(filled, row.New(newer...)) {
			t.Fatal("filled from no row, it is another row")
		}
	})
}

// Two keys are equal exactly when all their texts are, and no key is the beginning of another.
func TestAppendKey(t *testing.T) {
	schema := &row.Schema{Columns: make([]row.Column, 3), Key: []int{2, 0}}
	rapid.Check(t, func(t *rapid.T) {
		a, b := values(t, "a", 3), values(t, "b", 3)
		keyA, okA := schema.AppendKey(nil, row.New(a...))
		keyB, okB := schema.AppendKey(nil, row.New(b...))
		for _, c := range []struct {
			values []row.Value
			key    []byte
			ok     bool
		}{{a, keyA, okA}, {b, keyB, okB}} {
			if want := c.values[0].IsText() && c.values[2].IsText(); c.ok != want {
				t.Fatalf("key of %v: %v", c.values, c.ok)
			}
			if !c.ok {
				if len(c.key) != 0 {
					t.Fatalf("no key, but %q was appended", c.key)
				}
				continue
			}
			parts := row.SplitKey(c.key)
			if len(parts) != 2 || !bytes.Equal(parts[0], c.values[2].Text) || !bytes.Equal(parts[1], c.values[0].Text) {
				t.Fatalf("key of %v splits into %q", c.values, parts)
			}
		}
		if !okA || !okB {
			return
		}
		equal := same(a[0], b[0]) && same(a[2], b[2])
		if bytes.Equal(keyA, keyB) != equal {
			t.Fatalf("keys %q and %q", keyA, keyB)
		}
		if !equal && (bytes.HasPrefix(keyA, keyB) || bytes.HasPrefix(keyB, keyA)) {
			t.Fatalf("key %q and key %q: one begins with the other", keyA, keyB)
		}
	})
	if _, ok := (&row.Schema{}).AppendKey(nil, row.New()); ok {
		t.Error("a table without a key has one")
	}
}
