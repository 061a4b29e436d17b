package stream

import "testing"

// FuzzParsePosition: what is read as a position is printed as one that reads the same.
func FuzzParsePosition(f *testing.F) {
	for _, text := range []string{"beginning", "end", "53215233", "0/16B3748", "2026-01-31T12:00:00Z", "2026-01-31T12:00:00.123456789+02:00", "0001-01-01T00:00:00Z", "-1", ""} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		p, err := ParsePosition(text)
		if err != nil {
			return
		}
		again, err := ParsePosition(p.String())
		if err != nil || again.kind != p.kind || again.offset != p.offset || again.lsn != p.lsn || !again.time.Equal(p.time) {
			t.Fatalf("%q is %+v, which prints %q, which is %+v, %v", text, p, p.String(), again, err)
		}
	})
}
