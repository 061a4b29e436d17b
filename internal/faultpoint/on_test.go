//go:build faultpoint

package faultpoint

import "testing"

func TestParse(t *testing.T) {
	for text, want := range map[string]struct {
		place string
		n     int64
	}{"": {"", 1}, "a/b": {"a/b", 1}, "a/b#3": {"a/b", 3}, "a#x": {"a", 1}} {
		if place, n := parse(text); place != want.place || n != want.n {
			t.Errorf("parse(%q) = %q, %d", text, place, n)
		}
	}
}
