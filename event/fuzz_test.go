package event_test

import (
	"bytes"
	"encoding/json"
	"testing"
	"time"

	"github.com/lanternist/lanternist/event"
	"github.com/lanternist/lanternist/row"
)

// FuzzEnvelope: whatever a row or a message holds, its envelope is one line of JSON with every member there is.
func FuzzEnvelope(f *testing.F) {
	for _, op := range []byte("IUDTM") {
		f.Add(op, []byte(values("1", "paid", "10.5", `{"a":1}`)), []byte(values("1", nil, "NaN", "?")), "odd \"name\"\n", []byte("content"), uint8(row.JSON), int64(0))
	}
	f.Add(byte('U'), []byte{0, 0}, []byte{0, 1, 'u'}, "", []byte{0xff}, uint8(row.TimestampTZ), int64(1<<62))
	f.Fuzz(func(t *testing.T, op byte, before, after []byte, name string, content []byte, class uint8, micros int64) {
		ev := event.Event{
			Transaction: &event.Transaction{XID: 7, CommitLSN: 8, EndLSN: 9, CommitTime: time.UnixMicro(micros % (1 << 55))},
			Op:          event.Op(op), Ordinal: uint32(class), Offset: event.Offset(uint64(micros)), Prefix: name, Content: content,
		}
		if !bytes.ContainsRune([]byte("IUDTM"), rune(op)) {
			t.Skip("no kind of change")
		}
		if ev.Op != event.Message {
			ev.Schema = schemaNamed(name, row.Class(class)%(row.Network+1))
			ev.Before, ev.BeforeComplete = parsed(t, before), class%2 == 0
			ev.After = parsed(t, after)
		}
		text := event.AppendEnvelope(nil, &ev, source)
		if bytes.ContainsAny(text, "\n\r") {
			t.Fatalf("%q is more than one line", text)
		}
		var members map[string]json.RawMessage
		if err := json.Unmarshal(text, &members); err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		for _, m := range []string{"event_id", "event_type", "event_version", "timestamp", "source", "subject", "key", "data", "metadata",
			"correlation_id", "causation_id", "offset", "transaction"} {
			if _, ok := members[m]; !ok || len(members) != 13 {
				t.Fatalf("%q: %d members, %s: %t", text, len(members), m, ok)
			}
		}
	})
}

// parsed is a row as the journal has it, or nil. What Postgres calls JSON is JSON.
func parsed(t *testing.T, b []byte) row.Row {
	t.Helper()
	r, _, err := row.Parse(b)
	if err != nil || r.Len() > 8 {
		return nil
	}
	for _, v := range r.Values(nil) {
		if v.IsText() && !json.Valid(v.Text) {
			return nil
		}
	}
	return r
}

func schemaNamed(name string, class row.Class) *row.Schema {
	s := &row.Schema{ID: 1, Version: 3, OID: 1, Namespace: name, Name: name, Key: []int{0}, Identity: 'd'}
	for _, column := range []string{"id", name, "a\tb", "c", "d", "e", "f", "g"} {
		s.Columns = append(s.Columns, row.Column{Name: column, Type: row.Type{Class: class}})
	}
	return s
}
