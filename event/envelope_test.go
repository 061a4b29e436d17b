package event_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/lanternist/lanternist/event"
	"github.com/lanternist/lanternist/row"
)

var source = event.Source{SystemID: "7351234567890123456", Database: "shop"}

var orders = &row.Schema{
	ID: 3, Version: 2, OID: 16400, Namespace: "public", Name: "orders", Key: []int{0}, Identity: 'd',
	Columns: []row.Column{
		{Name: "id", Type: row.Type{Name: "bigint", Class: row.Int}, NotNull: true},
		{Name: "status", Type: row.Type{Name: "text", Class: row.String}},
		{Name: "total", Type: row.Type{Name: "numeric", Class: row.Numeric}},
		{Name: "note", Type: row.Type{Name: "jsonb", Class: row.JSON}},
	},
}

var lines = &row.Schema{
	ID: 4, Version: 1, OID: 16410, Namespace: "sales", Name: `odd "lines"`, Key: []int{0, 1},
	Columns: []row.Column{
		{Name: "order_id", Type: row.Type{Name: "bigint", Class: row.Int}, NotNull: true},
		{Name: "sku", Type: row.Type{Name: "text", Class: row.String}, NotNull: true},
	},
}

// values is a row: nil is null, "?" unchanged.
func values(vs ...any) row.Row {
	var out []row.Value
	for _, v := range vs {
		switch v {
		case nil:
			out = append(out, row.Value{Kind: row.Null})
		case "?":
			out = append(out, row.Value{Kind: row.Unchanged})
		default:
			out = append(out, row.Value{Kind: row.Text, Text: fmt.Append(nil, v)})
		}
	}
	return row.New(out...)
}

func TestEnvelope(t *testing.T) {
	tx := &event.Transaction{XID: 771, CommitLSN: 0x16B374800, EndLSN: 0x16B374830,
		CommitTime: time.Date(2026, 11, 20, 23, 4, 12, 123456000, time.FixedZone("", 3600))}
	offset := event.NewOffset(812, 3)
	at := func(e event.Event) event.Event {
		e.Transaction, e.Offset = tx, offset
		return e
	}
	envelope := func(ordinal int, kind string, version int, subject, key, data string) string {
		return fmt.Sprintf(`{"event_id":"6604d4e417a9bac0-000000016b374800-%d","event_type":%q,"event_version":%d,`+
			`"timestamp":"2026-11-20T22:04:12.123456Z","source":"lanternist://7351234567890123456/shop","subject":%q,"key":%s,"data":%s,`+
			`"metadata":null,"correlation_id":null,"causation_id":null,"offset":"53215235","transaction":{"xid":771,"lsn":"1/6B374800","index":%d}}`,
			ordinal, kind, version, subject, key, data, ordinal)
	}
	for name, test := range map[string]struct {
		e    event.Event
		want string
	}{
		"insert": {
			at(event.Event{Op: event.Insert, Schema: orders, After: values(42, "new", "10.50", `{"a": 1}`)}),
			envelope(0, "orders.created", 2, "public.orders/42", `{"id":42}`,
				`{"before":null,"after":{"id":42,"status":"new","total":10.50,"note":{"a": 1}},"before_complete":false,"changed":null}`),
		},
		"update": {
			at(event.Event{Op: event.Update, Ordinal: 7, Schema: orders, BeforeComplete: true,
				Before: values(42, "new", "10.50", "1"), After: values(42, "shipped", nil, "1")}),
			envelope(7, "orders.updated", 2, "public.orders/42", `{"id":42}`,
				`{"before":{"id":42,"status":"new","total":10.50,"note":1},"after":{"id":42,"status":"shipped","total":null,"note":1},`+
					`"before_complete":true,"changed":["status","total"]}`),
		},
		"update of which only the key was known": {
			at(event.Event{Op: event.Update, Schema: orders, Before: values(41, nil, nil, nil), After: values(42, "a", "1", "?")}),
			envelope(0, "orders.updated", 2, "public.orders/42", `{"id":42}`,
				`{"before":{"id":41},"after":{"id":42,"status":"a","total":1},"before_complete":false,"changed":null}`),
		},
		"delete": {
			at(event.Event{Op: event.Delete, Schema: lines, Before: values(42, "a/b, ü"), BeforeComplete: true}),
			envelope(0, `sales.odd "lines".deleted`, 1, `sales.odd "lines"/42,a%2Fb%2C%20%C3%BC`, `{"order_id":42,"sku":"a/b, ü"}`,
				`{"before":{"order_id":42,"sku":"a/b, ü"},"after":null,"before_complete":true,"changed":null}`),
		},
		"delete without a key": {
			at(event.Event{Op: event.Delete, Schema: orders}),
			envelope(0, "orders.deleted", 2, "public.orders", "null", `{"before":null,"after":null,"before_complete":false,"changed":null}`),
		},
		"truncate": {
			at(event.Event{Op: event.Truncate, Schema: orders}),
			envelope(0, "orders.truncated", 2, "public.orders", "null", `{"before":null,"after":null,"before_complete":false,"changed":null}`),
		},
		"a row older than the table's last column": {
			at(event.Event{Op: event.Insert, Schema: orders, After: values(1, "a", "2")}),
			envelope(0, "orders.created", 2, "public.orders/1", `{"id":1}`,
				`{"before":null,"after":{"id":1,"status":"a","total":2,"note":null},"before_complete":false,"changed":null}`),
		},
		"message": {
			at(event.Event{Op: event.Message, Prefix: "audit", Content: []byte("by \"me\"\n")}),
			envelope(0, "message", 1, "audit", "null", `{"prefix":"audit","content":"by \"me\"\n"}`),
		},
		"message of bytes": {
			at(event.Event{Op: event.Message, Prefix: "audit", Content: []byte{0xff, 0, 1}}),
			envelope(0, "message", 1, "audit", "null", `{"prefix":"audit","content_base64":"/wAB"}`),
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := string(event.AppendEnvelope([]byte("before"), &test.e, source))
			if got != "before"+test.want {
				t.Errorf("\n%s\nwant\n%s", got, test.want)
			}
			if !json.Valid([]byte(got[6:])) || strings.Contains(got, "\n") {
				t.Error("not one line of JSON")
			}
		})
	}
}

// TestIDIsTheSameOnRedelivery: it does not depend on the journal, nor on how the transaction was cut into batches.
func TestIDIsTheSameOnRedelivery(t *testing.T) {
	first := event.Event{Offset: 5, Ordinal: 9, Transaction: &event.Transaction{XID: 1, CommitLSN: 77}}
	again := event.Event{Offset: 1 << 40, Ordinal: 9, Transaction: &event.Transaction{XID: 1, CommitLSN: 77, EndLSN: 99}}
	if a, b := string(first.AppendID(nil, source)), string(again.AppendID(nil, source)); a != b {
		t.Errorf("%s and %s", a, b)
	}
	other := again
	other.Ordinal = 10
	if string(other.AppendID(nil, source)) == string(again.AppendID(nil, source)) {
		t.Error("two events have one id")
	}
}

func TestType(t *testing.T) {
	want := map[event.Op]string{event.Insert: "created", event.Update: "updated", event.Delete: "deleted", event.Truncate: "truncated"}
	for op, last := range want {
		e := event.Event{Op: op, Schema: orders}
		if got := e.Type(); got != "orders."+last {
			t.Errorf("%s of orders is %s", op, got)
		}
	}
	if got := event.Type(event.Message, nil); got != "message" {
		t.Errorf("a message is %s", got)
	}
}

func TestEnvelopeDoesNotAllocate(t *testing.T) {
	e := event.Event{Op: event.Update, Schema: orders, Before: values(42, "new", "10.50", "1"), After: values(42, "shipped", nil, "1"),
		BeforeComplete: true, Transaction: &event.Transaction{XID: 771, CommitLSN: 0x16B374800}}
	buf := make([]byte, 0, 4096)
	// The LSN's String is not ours.
	if n := testing.AllocsPerRun(100, func() { buf = event.AppendEnvelope(buf[:0], &e, source) }); n > 3 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkEnvelope(b *testing.B) {
	e := event.Event{Op: event.Update, Schema: orders, Before: values(42, "new", "10.50", "1"), After: values(42, "shipped", nil, "1"),
		BeforeComplete: true, Transaction: &event.Transaction{XID: 771, CommitLSN: 0x16B374800}}
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		buf = event.AppendEnvelope(buf[:0], &e, source)
	}
	b.SetBytes(int64(len(buf)))
}
