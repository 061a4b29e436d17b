package httpapi

import (
	"errors"
	"testing"
)

func TestParseToken(t *testing.T) {
	good := map[string]Token{
		"0/16B3748":                     {LSN: 0x16B3748},
		"0/16b3748":                     {LSN: 0x16B3748},
		"FFFFFFFF/FFFFFFFF":             {LSN: 1<<64 - 1},
		"1/0":                           {LSN: 1 << 32},
		"0/16B3748@" + epoch:            {LSN: 0x16B3748, Epoch: epoch},
		"xid:1":                         {XID: 1},
		"xid:18446744073709551615":      {XID: 1<<64 - 1},
		"xid:741@7301234567890123456-2": {XID: 741, Epoch: "7301234567890123456-2"},
	}
	for text, want := range good {
		if got, err := ParseToken(text); err != nil || got != want {
			t.Errorf("%q: got %+v, %v; want %+v", text, got, err, want)
		}
	}
	for _, text := range []string{
		"", "0", "/", "0/", "/1", "0/16B3748 ", " 0/1", "0/1/2", "0x1/2", "-1/2", "+1/2", "0/G", "100000000/0", "0/100000000", "1_0/0",
		"@", "0/1@", "0/1@7", "0/1@7-", "0/1@-1", "0/1@a-1", "0/1@7-1-1", "0/1@7-1@7-1",
		"xid:", "xid:0", "xid:-1", "xid:+1", "xid:1.5", "xid:18446744073709551616", "XID:1", "lsn:0/1", "741",
	} {
		if got, err := ParseToken(text); !errors.Is(err, errToken) {
			t.Errorf("%q: got %+v, %v; want an error that says what is accepted", text, got, err)
		}
	}
}

func FuzzParseToken(f *testing.F) {
	for _, s := range []string{"0/16B3748", "xid:741", "0/1@7-1", "xid:1@7-1", "", "@"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		token, err := ParseToken(text)
		if err != nil {
			return
		}
		again, err := ParseToken(token.String())
		if err != nil || again != token {
			t.Fatalf("%q is %+v, which prints %q, which is %+v, %v", text, token, token.String(), again, err)
		}
	})
}

func TestWiden(t *testing.T) {
	for _, c := range []struct {
		xid  uint32
		next uint64
		want uint64
	}{
		{741, 800, 741},
		{900, 800, 900}, // not yet born
		{741, 1<<32 + 800, 1<<32 + 741},
		{900, 1<<32 + 800, 900},
		{1<<32 - 1, 3<<32 + 5, 3<<32 - 1},
	} {
		if got := widen(c.xid, c.next); got != c.want {
			t.Errorf("widen(%d, %d) is %d, want %d", c.xid, c.next, got, c.want)
		}
	}
}

func TestLogEnd(t *testing.T) {
	// Only the header of a page is between: nothing to wait for.
	if got := logEnd(0x3000028, 0x3000000); got != 0x3000000 {
		t.Errorf("at the beginning of a segment: %s", got)
	}
	if got := logEnd(0x3002018, 0x3002000); got != 0x3002000 {
		t.Errorf("at the beginning of a page: %s", got)
	}
	if got := logEnd(0x3000128, 0x3000100); got != 0x3000128 {
		t.Errorf("inside a page: %s", got)
	}
	if got := logEnd(0x3000100, 0x3000100); got != 0x3000100 {
		t.Errorf("all flushed: %s", got)
	}
}
