package cdc

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pglogrepl"
	"pgregory.net/rapid"

	"github.com/lanternist/lanternist/event"
	"github.com/lanternist/lanternist/row"
)

// Builders of pgoutput messages, as the server writes them.

func uint32s(kind byte, values ...uint32) []byte {
	b := []byte{kind}
	for _, v := range values {
		b = binary.BigEndian.AppendUint32(b, v)
	}
	return b
}

func beginMessage(final pglogrepl.LSN, micros int64, xid uint32) []byte {
	b := binary.BigEndian.AppendUint64([]byte{'B'}, uint64(final))
	b = binary.BigEndian.AppendUint64(b, uint64(micros))
	return binary.BigEndian.AppendUint32(b, xid)
}

func commitMessage(commit, end pglogrepl.LSN) []byte {
	b := binary.BigEndian.AppendUint64([]byte{'C', 0}, uint64(commit))
	b = binary.BigEndian.AppendUint64(b, uint64(end))
	return binary.BigEndian.AppendUint64(b, 42)
}

func insertMessage(oid uint32, r row.Row) []byte {
	return append(append(uint32s('I', oid), 'N'), r...)
}

func updateMessage(oid uint32, tag byte, before, after row.Row) []byte {
	b := uint32s('U', oid)
	if tag != 0 {
		b = append(append(b, tag), before...)
	}
	return append(append(b, 'N'), after...)
}

func deleteMessage(oid uint32, tag byte, before row.Row) []byte {
	return append(append(uint32s('D', oid), tag), before...)
}

func logicalMessage(flags byte, lsn pglogrepl.LSN, prefix, content string) []byte {
	b := binary.BigEndian.AppendUint64([]byte{'M', flags}, uint64(lsn))
	b = append(append(b, prefix...), 0)
	b = binary.BigEndian.AppendUint32(b, uint32(len(content)))
	return append(b, content...)
}

func relationMessage(oid uint32, namespace, name string, columns ...string) []byte {
	b := uint32s('R', oid)
	b = append(append(b, namespace...), 0)
	b = append(append(b, name...), 0)
	b = append(b, 'd')
	b = binary.BigEndian.AppendUint16(b, uint16(len(columns)))
	for i, c := range columns {
		flags := byte(0)
		if i == 0 {
			flags = 1
		}
		b = append(append(append(b, flags), c...), 0)
		b = binary.BigEndian.AppendUint32(b, 25)
		b = binary.BigEndian.AppendUint32(b, 0xffffffff)
	}
	return b
}

func text(values ...string) row.Row {
	var all []row.Value
	for _, v := range values {
		switch v {
		case "NULL":
			all = append(all, row.Value{Kind: row.Null})
		case "SAME":
			all = append(all, row.Value{Kind: row.Unchanged})
		default:
			all = append(all, row.Value{Kind: row.Text, Text: []byte(v)})
		}
	}
	return row.New(all...)
}

func TestDecodeMessage(t *testing.T) {
	a, b := text("1", "NULL", "SAME"), text("2", "", "x")
	for _, test := range []struct {
		name  string
		input []byte
		want  message
	}{
		{"begin", beginMessage(0x16B3748, 99, 7), message{kind: 'B', lsn: 0x16B3748, micros: 99, xid: 7}},
		{"commit", commitMessage(5, 9), message{kind: 'C', lsn: 5, endLSN: 9, micros: 42}},
		{"insert", insertMessage(3, a), message{kind: 'I', relation: 3, after: a}},
		{"update", updateMessage(3, 0, nil, a), message{kind: 'U', relation: 3, after: a}},
		{"update with key", updateMessage(3, 'K', a, b), message{kind: 'U', relation: 3, before: a, after: b}},
		{"update with old row", updateMessage(3, 'O', a, b), message{kind: 'U', relation: 3, before: a, after: b}},
		{"delete with key", deleteMessage(3, 'K', a), message{kind: 'D', relation: 3, before: a}},
		{"delete with old row", deleteMessage(3, 'O', b), message{kind: 'D', relation: 3, before: b}},
		{"truncate", append(append(uint32s('T', 2), 3), uint32s('x', 10, 11)[1:]...), message{kind: 'T', relations: []byte{0, 0, 0, 10, 0, 0, 0, 11}}},
		{"transactional message", logicalMessage(1, 77, "p", "c\x00d"), message{kind: 'M', transactional: true, lsn: 77, prefix: []byte("p"), content: []byte("c\x00d")}},
		{"message", logicalMessage(0, 77, "", ""), message{kind: 'M', lsn: 77, prefix: []byte{}, content: []byte{}}},
		{"origin", append([]byte("O"), "\x00\x00\x00\x00\x00\x00\x00\x01name\x00"...), message{kind: 'O'}},
		{"type", append(uint32s('Y', 9), "public\x00mood\x00"...), message{kind: 'Y'}},
	} {
		t.Run(test.name, func(t *testing.T) {
			var got message
			if err := decodeMessage(test.input, &got); err != nil {
				t.Fatal(err)
			}
			if g, w := fmt.Sprintf("%+v", got), fmt.Sprintf("%+v", test.want); g != w {
				t.Errorf("got  %s\nwant %s", g, w)
			}
			// Every message that is cut short is refused, except those whose rest is not looked at.
			if strings.Contains("OY", string(test.input[0])) {
				return
			}
			for n := range test.input {
				if err := decodeMessage(test.input[:n], &got); !errors.Is(err, ErrProtocol) {
					t.Errorf("%d of %d bytes: %v, want ErrProtocol", n, len(test.input), err)
				}
			}
			if err := decodeMessage(append(test.input, 0), &got); !errors.Is(err, ErrProtocol) {
				t.Errorf("one byte more: %v, want ErrProtocol", err)
			}
		})
	}
}

func TestDecodeMessageRefusesWhatItDoesNotKnow(t *testing.T) {
	var m message
	for _, kind := range []byte{'S', 'E', 'c', 'A', 'b', 'P', 0, 255} { // streaming, two-phase, nonsense
		if err := decodeMessage([]byte{kind, 0, 0, 0, 0}, &m); !errors.Is(err, ErrProtocol) {
			t.Errorf("kind %q: %v, want ErrProtocol", kind, err)
		}
	}
	binaryValue := append(uint32s('I', 1), 'N', 0, 1, 'b', 0, 0, 0, 1, 'x')
	if err := decodeMessage(binaryValue, &m); !errors.Is(err, ErrProtocol) {
		t.Errorf("a binary value: %v, want ErrProtocol", err)
	}
}

func TestDecodeRelation(t *testing.T) {
	message := relationMessage(7, "public", "orders", "id", "note")
	got, err := decodeRelation(message[1:])
	if err != nil {
		t.Fatal(err)
	}
	want := relation{oid: 7, namespace: "public", name: "orders", identity: 'd', columns: []relationColumn{
		{name: "id", isKey: true, typ: 25, mod: -1}, {name: "note", typ: 25, mod: -1},
	}}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if r, err := decodeRelation(relationMessage(7, "", "pg_class")[1:]); err != nil || r.namespace != "pg_catalog" {
		t.Errorf("an empty namespace is %q, %v; want pg_catalog", r.namespace, err)
	}
	for n := range message[1:] {
		if _, err := decodeRelation(message[1 : 1+n]); !errors.Is(err, ErrProtocol) {
			t.Errorf("%d of %d bytes: %v, want ErrProtocol", n, len(message)-1, err)
		}
	}
}

func TestMicrosToTime(t *testing.T) {
	for micros, want := range map[int64]string{
		0:                   "2000-01-01T00:00:00Z",
		1_000_001:           "2000-01-01T00:00:01.000001Z",
		-1:                  "1999-12-31T23:59:59.999999Z",
		816_480_252_123_456: "2025-11-15T00:04:12.123456Z",
	} {
		if got := microsToTime(micros).Format(time.RFC3339Nano); got != want {
			t.Errorf("%d is %s, want %s", micros, got, want)
		}
	}
}

func seeds() [][]byte {
	return [][]byte{
		beginMessage(1, 2, 3), commitMessage(1, 2),
		insertMessage(1, text("1", "NULL", "SAME")),
		updateMessage(1, 0, nil, text("1", "x")), updateMessage(1, 'K', text("1", "NULL"), text("2", "x")),
		deleteMessage(1, 'O', text("1", "x")),
		relationMessage(1, "public", "t", "id", "v"),
		append(append(uint32s('T', 1), 0), 0, 0, 0, 1),
		logicalMessage(1, 9, "p", "content"), logicalMessage(0, 9, "p", ""),
		{'O'}, {'Y'}, {},
	}
}

// Whatever the bytes, decoding them does not panic, and what decodes holds valid rows. The input is a stream of
// messages, so that the assembler sees every order of them.
func FuzzDecode(f *testing.F) {
	for _, s := range seeds() {
		f.Add(s)
	}
	var stream []byte
	for _, s := range [][]byte{relationMessage(1, "public", "t", "id", "v"), beginMessage(5, 0, 1), insertMessage(1, text("1", "x")), commitMessage(5, 6)} {
		stream = append(binary.BigEndian.AppendUint16(stream, uint16(len(s))), s...)
	}
	f.Add(stream)
	f.Fuzz(func(t *testing.T, data []byte) {
		var m message
		_ = decodeMessage(data, &m)
		_, _ = decodeRelation(data)

		check := func(_ context.Context, d *Delivery) error {
			for _, tx := range d.Transactions {
				for _, c := range tx.Changes {
					for _, r := range []row.Row{c.Before, c.After} {
						if _, rest, err := row.Parse(r); r != nil && (err != nil || len(rest) != 0) {
							t.Fatalf("a malformed row was delivered: %v", err)
						}
					}
				}
			}
			return nil
		}
		a := newTestAssembler(8, 1<<10, check)
		for len(data) >= 2 {
			n := min(int(binary.BigEndian.Uint16(data)), len(data)-2)
			one := data[2 : 2+n]
			data = data[2+n:]
			if decodeMessage(one, &m) != nil {
				return
			}
			if a.message(t.Context(), &m, len(one), 0) != nil {
				return
			}
		}
		if err := a.flush(t.Context(), false); err != nil {
			t.Fatal(err)
		}
	})
}

func newTestAssembler(maxChanges, maxBytes int, deliver func(context.Context, *Delivery) error) *assembler {
	a := &assembler{maxChanges: maxChanges, maxBytes: maxBytes, deliver: deliver}
	a.resolve = func(_ context.Context, definition []byte) (*row.Schema, error) {
		rel, err := decodeRelation(definition)
		if err != nil {
			return nil, err
		}
		s := &row.Schema{OID: rel.oid, Namespace: rel.namespace, Name: rel.name, Identity: rel.identity}
		for _, c := range rel.columns {
			s.Columns = append(s.Columns, row.Column{Name: c.name})
		}
		return s, nil
	}
	a.connected()
	return a
}

// A reader whose connection breaks at any message, and that starts again from what the server would send, hands
// over the same transactions as one whose connection never breaks.
func TestAssemblerResumesAtAnyMessage(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		// A log of transactions, some empty, with logical messages between them.
		type logged struct {
			lsn, end pglogrepl.LSN
			messages [][]byte
		}
		var log []logged
		lsn := pglogrepl.LSN(100)
		for i := range rapid.IntRange(1, 8).Draw(t, "transactions") {
			l := logged{lsn: lsn, end: lsn + 8}
			if rapid.IntRange(0, 5).Draw(t, "kind") == 0 {
				l.end = lsn + 1
				l.messages = [][]byte{logicalMessage(0, lsn, "note", fmt.Sprint(i))}
			} else {
				l.messages = append(l.messages, beginMessage(lsn, 0, uint32(i)))
				for c := range rapid.IntRange(0, 9).Draw(t, "changes") {
					l.messages = append(l.messages, insertMessage(1, text(fmt.Sprint(i, ".", c), "v")))
				}
				l.messages = append(l.messages, commitMessage(l.lsn, l.end))
			}
			log = append(log, l)
			lsn += 10
		}
		maxChanges := rapid.IntRange(1, 12).Draw(t, "maxChanges")
		var got []string
		var last pglogrepl.LSN
		open := map[pglogrepl.LSN]bool{}
		deliver := func(_ context.Context, d *Delivery) error {
			n := 0
			for i, tx := range d.Transactions {
				if tx.CommitLSN < last || (!tx.Last && i != len(d.Transactions)-1) || (tx.CommitLSN == last && !open[last]) {
					t.Fatalf("part of %s after %s", tx.CommitLSN, last)
				}
				last, open[tx.CommitLSN] = tx.CommitLSN, !tx.Last
				if tx.Last != (tx.EndLSN != 0) {
					t.Fatalf("Last %v with end %s", tx.Last, tx.EndLSN)
				}
				for k, c := range tx.Changes {
					what := string(c.Content)
					if c.Op == event.Insert {
						what = string(c.After.Column(0).Text)
					}
					got = append(got, fmt.Sprintf("%d#%d %s", tx.XID, int(tx.First)+k, what))
				}
				n += len(tx.Changes)
			}
			if n > maxChanges {
				t.Fatalf("%d changes in a delivery, at most %d wanted", n, maxChanges)
			}
			return nil
		}
		a := newTestAssembler(maxChanges, 1<<20, deliver)
		send := func(b []byte) {
			var m message
			if err := decodeMessage(b, &m); err != nil {
				t.Fatal(err)
			}
			if err := a.message(context.Background(), &m, len(b), 0); err != nil {
				t.Fatal(err)
			}
		}
		connections := rapid.IntRange(0, 5).Draw(t, "breaks")
		for c := 0; c <= connections; c++ {
			a.connected()
			send(relationMessage(1, "public", "t", "id", "v"))
			left := 1 << 30
			if c < connections {
				left = rapid.IntRange(0, 30).Draw(t, "messages until it breaks")
			}
			for _, l := range log {
				if l.lsn < a.position.EndLSN {
					continue // the server does not send it again
				}
				for _, b := range l.messages {
					if left--; left < 0 {
						break
					}
					send(b)
				}
				if left > 0 && rapid.Bool().Draw(t, "flush") {
					if err := a.flush(context.Background(), false); err != nil {
						t.Fatal(err)
					}
				}
			}
			if c == connections || rapid.Bool().Draw(t, "flush before it breaks") {
				if err := a.flush(context.Background(), false); err != nil {
					t.Fatal(err)
				}
			}
		}
		var want []string
		for i, l := range log {
			n := 0
			for _, b := range l.messages {
				switch b[0] {
				case 'I':
					want = append(want, fmt.Sprintf("%d#%d %d.%d", i, n, i, n))
					n++
				case 'M':
					want = append(want, fmt.Sprintf("0#0 %d", i))
				}
			}
		}
		if g, w := strings.Join(got, "\n"), strings.Join(want, "\n"); g != w {
			t.Fatalf("got\n%s\nwant\n%s", g, w)
		}
		for commit, still := range open {
			if still {
				t.Fatalf("transaction %s never ended", commit)
			}
		}
	})
}

func TestAssemblerTakesAKeepaliveOnlyBetweenTransactions(t *testing.T) {
	var got []*Delivery
	a := newTestAssembler(100, 1<<20, func(_ context.Context, d *Delivery) error {
		got = append(got, d)
		return nil
	})
	var m message
	send := func(b []byte) {
		t.Helper()
		if err := decodeMessage(b, &m); err != nil {
			t.Fatal(err)
		}
		if err := a.message(t.Context(), &m, len(b), 0); err != nil {
			t.Fatal(err)
		}
	}
	flush := func(want int) *Delivery {
		t.Helper()
		if err := a.flush(t.Context(), false); err != nil {
			t.Fatal(err)
		}
		if len(got) != want {
			t.Fatalf("%d deliveries, want %d", len(got), want)
		}
		return got[want-1]
	}
	send(relationMessage(1, "public", "t", "id", "v"))
	send(beginMessage(10, 0, 1))
	send(insertMessage(1, text("1", "x")))
	a.keepalive(500, false) // says nothing: the transaction that is being sent commits before it
	if err := a.flush(t.Context(), false); err != nil || len(got) != 0 {
		t.Fatalf("an open transaction was delivered: %v, %v", got, err)
	}
	send(commitMessage(10, 18))
	a.keepalive(20, false)
	send(beginMessage(30, 0, 2))
	send(insertMessage(1, text("2", "x")))
	if d := flush(1); d.WALEnd != 20 || len(d.Transactions) != 1 || d.AcknowledgeNow {
		t.Errorf("got %+v, want the first transaction and WAL end 20", d)
	}
	send(commitMessage(30, 38))
	if d := flush(2); d.WALEnd != 0 || d.Transactions[0].EndLSN != 38 || len(d.Transactions[0].Changes) != 1 {
		t.Errorf("got %+v, want the second transaction", d)
	}
	a.keepalive(38, false) // nothing new
	a.keepalive(25, false) // an old one
	flush(2)
	send(beginMessage(40, 0, 3))
	send(commitMessage(40, 48)) // without changes: progress only
	if d := flush(3); d.WALEnd != 48 || len(d.Transactions) != 0 {
		t.Errorf("got %+v, want WAL end 48", d)
	}
	a.keepalive(48, true) // the server asks: nothing new, but it wants to hear of it
	if d := flush(4); d.WALEnd != 48 || !d.AcknowledgeNow {
		t.Errorf("got %+v, want WAL end 48 to be acknowledged now", d)
	}
}

func TestAssemblerRefusesImpossibleOrders(t *testing.T) {
	relation, begin := relationMessage(1, "public", "t", "id", "v"), beginMessage(10, 0, 1)
	for name, messages := range map[string][][]byte{
		"begin inside a transaction":       {begin, begin},
		"commit without begin":             {commitMessage(10, 18)},
		"commit of another transaction":    {begin, commitMessage(11, 18)},
		"change without begin":             {relation, insertMessage(1, text("1", "x"))},
		"change of an undescribed table":   {begin, insertMessage(1, text("1", "x"))},
		"truncate of an undescribed table": {begin, append(append(uint32s('T', 1), 0), 0, 0, 0, 1)},
		"row with too few columns":         {relation, begin, insertMessage(1, text("1"))},
		"transactional message outside":    {logicalMessage(1, 5, "p", "c")},
	} {
		t.Run(name, func(t *testing.T) {
			a := newTestAssembler(100, 1<<20, func(context.Context, *Delivery) error { return nil })
			var m message
			for i, b := range messages {
				if err := decodeMessage(b, &m); err != nil {
					t.Fatal(err)
				}
				err := a.message(t.Context(), &m, len(b), 0)
				if last := i == len(messages)-1; last != (err != nil) || last && !errors.Is(err, ErrProtocol) {
					t.Fatalf("message %d: %v", i, err)
				}
			}
		})
	}
}

// BenchmarkDecode measures decoding and assembling, per change.
func BenchmarkDecode(b *testing.B) {
	a := newTestAssembler(16384, 1<<20, func(context.Context, *Delivery) error { return nil })
	var m message
	one := insertMessage(1, text("123456", "some words of ordinary length", "2026-11-20 23:04:12+00", "NULL", "99.95", "t"))
	send := func(msg []byte) {
		if err := decodeMessage(msg, &m); err != nil {
			b.Fatal(err)
		}
		if err := a.message(context.Background(), &m, len(msg), 0); err != nil {
			b.Fatal(err)
		}
	}
	send(relationMessage(1, "public", "t", "a", "b", "c", "d", "e", "f"))
	b.SetBytes(int64(len(one)))
	b.ReportAllocs()
	lsn := pglogrepl.LSN(100)
	for i := 0; b.Loop(); i++ {
		if i%10 == 0 {
			if i > 0 {
				send(commitMessage(lsn, lsn+8))
				lsn += 10
			}
			send(beginMessage(lsn, 0, 1))
		}
		send(one)
	}
}
