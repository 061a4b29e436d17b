package row_test

import (
	"bytes"
	"testing"

	"github.com/lanternist/lanternist/row"
)

// FuzzCodec: what was parsed as rows reads the same by every way of reading, one row fills another without inventing a
// value, and a key splits into what it was made of.
func FuzzCodec(f *testing.F) {
	f.Add([]byte(row.New(row.Value{Kind: row.Text, Text: []byte("7")}, row.Value{Kind: row.Unchanged}, row.Value{Kind: row.Null})),
		[]byte(row.New(row.Value{Kind: row.Text, Text: []byte("7")}, row.Value{Kind: row.Text, Text: []byte("large")})), uint8(0), uint8(1))
	f.Add([]byte{0, 1, 'n'}, []byte{0, 0}, uint8(0), uint8(0))
	f.Add([]byte{0, 2, 'u', 't', 0, 0, 0, 0}, []byte{0, 1, 'u'}, uint8(1), uint8(9))
	f.Fuzz(func(t *testing.T, a, b []byte, first, second uint8) {
		newer, _, errNewer := row.Parse(a)
		older, _, errOlder := row.Parse(b)
		if errNewer != nil || errOlder != nil {
			return
		}
		values := newer.Values(nil)
		if len(values) != newer.Len() {
			t.Fatalf("%d values of %d columns", len(values), newer.Len())
		}
		unchanged := false
		for i, v := range values {
			unchanged = unchanged || v.Kind == row.Unchanged
			if c := newer.Column(i); i < 64 && (c.Kind != v.Kind || !bytes.Equal(c.Text, v.Text)) {
				t.Fatalf("column %d is %v and %v", i, c, v)
			}
		}
		if newer.HasUnchanged() != unchanged {
			t.Fatalf("HasUnchanged of %v: %t", values, !unchanged)
		}
		filledWhole(t, newer, older)
		keySplits(t, newer, int(first), int(second))
	})
}

// filledWhole checks that Fill takes each value from where it must come.
func filledWhole(t *testing.T, newer, older row.Row) {
	t.Helper()
	filled := row.Fill([]byte("kept"), newer, older)
	if _, rest, err := row.Parse(filled); err != nil || len(rest) != 0 {
		t.Fatalf("filled, it is no row: %v, %d bytes more", err, len(rest))
	}
	was, is, got := older.Values(nil), newer.Values(nil), filled.Values(nil)
	for i := range got {
		want := is[i]
		if want.Kind == row.Unchanged && i < len(was) {
			want = was[i]
		}
		if got[i].Kind != want.Kind || !bytes.Equal(got[i].Text, want.Text) {
			t.Fatalf("column %d was filled with %v, want %v", i, got[i], want)
		}
	}
}

// keySplits checks a key of two columns. Postgres' text has no zero byte.
func keySplits(t *testing.T, r row.Row, first, second int) {
	t.Helper()
	a, b := r.Column(first), r.Column(second)
	key, ok := row.AppendColumns([]byte("kept"), r, []int{first, second})
	if ok != (a.IsText() && b.IsText()) {
		t.Fatalf("a key of %v and %v: %t", a, b, ok)
	}
	if !ok || bytes.IndexByte(a.Text, 0) >= 0 || bytes.IndexByte(b.Text, 0) >= 0 {
		return
	}
	parts := row.SplitKey(key[len("kept"):])
	if len(parts) != 2 || !bytes.Equal(parts[0], a.Text) || !bytes.Equal(parts[1], b.Text) {
		t.Fatalf("key of %v and %v splits into %q", a, b, parts)
	}
}
