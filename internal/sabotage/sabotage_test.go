package sabotage

import "testing"

// TestNothingIsOff: neither a normal build nor one with the tag turns anything off by itself.
func TestNothingIsOff(t *testing.T) {
	for _, s := range All {
		if Off(s) {
			t.Errorf("%s is off", s)
		}
	}
}
