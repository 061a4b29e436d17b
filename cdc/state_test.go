package cdc

import (
	"errors"
	"slices"
	"testing"
)

func TestParseHistory(t *testing.T) {
	got, err := parseHistory([]byte("1\t0/3000000\tno recovery target specified\n\n# comment\n2\t1/A0\tat restore point \"x\"\n"))
	want := []Switch{{1, 0x3000000}, {2, 0x1000000A0}}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %v, want %v", got, err, want)
	}
	s := State{History: got}
	if left, ok := s.Left(2); !ok || left != 0x1000000A0 {
		t.Errorf("timeline 2 was left at %s, %t", left, ok)
	}
	if _, ok := s.Left(3); ok {
		t.Error("timeline 3 was left")
	}
	for _, bad := range []string{"1\n", "x\t0/1\n", "1\tnowhere\n"} {
		if _, err := parseHistory([]byte(bad)); !errors.Is(err, ErrProtocol) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
