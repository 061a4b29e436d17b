package mirror

import (
	"bytes"
	"errors"
	"log/slog"
	"reflect"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"pgregory.net/rapid"
)

// What is on disk must stay readable: these bytes change only together with formatVersion.
func TestFormat(t *testing.T) {
	rec := stored{lsn: 0x0102030405060708, schema: 0x0a0b0c0d, row: rowOf("x", null)}
	b := make([]byte, recordHeader+len(rec.row))
	rec.put(b)
	for name, c := range map[string]struct{ got, want []byte }{
		"record":   {b, []byte("\x01\x02\x03\x04\x05\x06\x07\x08\x0a\x0b\x0c\x0d\x00\x02t\x00\x00\x00\x01xn")},
		"row key":  {spaceKey(spaceRow, 258, keyOf("a", "b")), []byte("r\x00\x00\x01\x02a\x00b\x00")},
		"position": {position{offset: 5, whole: true, progress: Progress{Offset: 4, LSN: 3}, applied: 2}.encode(), []byte("\x00\x00\x00\x00\x00\x00\x00\x05\x01\x00\x00\x00\x00\x00\x00\x00\x04\x00\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x00\x00\x00\x00\x02")},
		"lineage":  {lineage{from: 1, stays: []stay{{2, 3, "k"}}}.append(nil), []byte("\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x01k")},
	} {
		if !bytes.Equal(c.got, c.want) {
			t.Errorf("%s: %q, want %q", name, c.got, c.want)
		}
	}
}

func TestDecodingIsTheInverseAndRefusesWhatIsCut(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		line := lineage{from: lsn(rapid.Int().Draw(t, "from"))}
		for range rapid.IntRange(0, 4).Draw(t, "stays") {
			line.stays = append(line.stays, stay{lsn(rapid.Int().Draw(t, "from")), lsn(rapid.Int().Draw(t, "until")), rapid.String().Draw(t, "key")})
		}
		b := line.append(nil)
		got, err := decodeLineage(b)
		if err != nil || !reflect.DeepEqual(got, line) {
			t.Fatalf("%+v, %v, want %+v", got, err, line)
		}
		cut := b[:rapid.IntRange(0, len(b)-1).Draw(t, "cut")]
		if got, err := decodeLineage(cut); err == nil && len(got.append(nil)) != len(cut) {
			t.Fatalf("%q was read as %+v", cut, got)
		}
	})
	for _, b := range [][]byte{nil, []byte("short"), make([]byte, recordHeader+1)} {
		if _, err := decodeRecord(b); !errors.Is(err, ErrCorrupt) {
			t.Errorf("record %q: %v", b, err)
		}
		if _, err := decodePosition(b); !errors.Is(err, ErrCorrupt) {
			t.Errorf("position %q: %v", b, err)
		}
	}
}

func TestAnotherFormatIsRefused(t *testing.T) {
	cfg := Config{Dir: t.TempDir()}
	m, err := Open(cfg, &registry{}, slog.New(slog.DiscardHandler))
	must(t, err)
	must(t, m.db.Set(metaKey(metaFormat), []byte{formatVersion + 1}, pebble.Sync))
	must(t, m.Close())
	if _, err := Open(cfg, &registry{}, slog.New(slog.DiscardHandler)); !errors.Is(err, ErrFormat) {
		t.Errorf("got %v, want %v", err, ErrFormat)
	}
}
