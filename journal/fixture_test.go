package journal

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pglogrepl"
	"go.uber.org/goleak"

	"github.com/lanternist/lanternist/event"
	"github.com/lanternist/lanternist/row"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// tables are the definitions that the tests' events have.
type tables map[uint32]*row.Schema

// Schema implements Schemas.
func (t tables) Schema(id uint32) (*row.Schema, bool) {
	s, ok := t[id]
	return s, ok
}

var orders = &row.Schema{
	ID: 7, Version: 1, OID: 16400, Namespace: "public", Name: "orders", Key: []int{0}, Identity: 'd',
	Columns: []row.Column{
		{Name: "id", Type: row.Type{OID: 20, Mod: -1, Name: "bigint", Class: row.Int}, NotNull: true},
		{Name: "status", Type: row.Type{OID: 25, Mod: -1, Name: "text", Class: row.String}},
		{Name: "total", Type: row.Type{OID: 1700, Mod: -1, Name: "numeric", Class: row.Numeric}},
	},
}

var items = &row.Schema{
	ID: 300, Version: 2, OID: 16410, Namespace: "sales", Name: "items", Key: []int{0}, Identity: 'f',
	Columns: []row.Column{{Name: "sku", Type: row.Type{OID: 25, Mod: -1, Name: "text", Class: row.String}, NotNull: true}},
}

var known = tables{7: orders, 300: items}

// text is a row of text values; "-" is null and "?" unchanged.
func text(values ...string) row.Row {
	var vs []row.Value
	for _, v := range values {
		switch v {
		case "-":
			vs = append(vs, row.Value{Kind: row.Null})
		case "?":
			vs = append(vs, row.Value{Kind: row.Unchanged})
		default:
			vs = append(vs, row.Value{Kind: row.Text, Text: []byte(v)})
		}
	}
	return row.New(vs...)
}

var epoch = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// transaction is the n-th of the tests' transactions: complete, with the given number of events. Its commit
// record is at n*1000 and ends at n*1000+50; it committed n seconds after the epoch.
func transaction(n, events int) Part {
	p := Part{
		Transaction: event.Transaction{
			XID: uint32(n), CommitLSN: pglogrepl.LSN(n * 1000), EndLSN: pglogrepl.LSN(n*1000 + 50),
			CommitTime: epoch.Add(time.Duration(n) * time.Second),
		},
		Complete: true,
	}
	p.Events = changes(n, 0, events)
	return p
}

// part is a part of the n-th transaction: events first..first+events-1; last says that it ends there.
func part(n, first, events int, last bool) Part {
	p := transaction(n, 0)
	p.First, p.Complete, p.Events = uint32(first), last, changes(n, first, events)
	if !last {
		p.EndLSN = 0
	}
	return p
}

// changes are events of the n-th transaction, of all kinds in turn.
func changes(n, first, count int) []event.Event {
	var events []event.Event
	for i := first; i < first+count; i++ {
		id := fmt.Sprint(n*100000 + i)
		e := event.Event{Ordinal: uint32(i)}
		switch (n + i) % 6 {
		case 0, 1:
			e.Op, e.Schema, e.After = event.Insert, orders, text(id, "new", "10.50")
		case 2:
			e.Op, e.Schema, e.After = event.Update, orders, text(id, "?", "-")
			e.Before, e.BeforeComplete = text(id, "new", "10.50"), true
		case 3:
			e.Op, e.Schema, e.Before = event.Delete, items, text("sku-"+id)
		case 4:
			e.Op, e.Schema = event.Truncate, items
		case 5:
			e.Op, e.Prefix, e.Content = event.Message, "audit", []byte("by "+id)
		}
		events = append(events, e)
	}
	return events
}

// randomParts are parts that may follow a complete transaction n-1.
func randomParts(r *rand.Rand, n int) []Part {
	var parts []Part
	for i := range 1 + r.IntN(4) {
		p := transaction(n+i, r.IntN(6))
		for k := range p.Events {
			if r.IntN(4) == 0 && p.Events[k].After != nil {
				p.Events[k].After = text("1", strings.Repeat("x", r.IntN(5000)), "2")
			}
		}
		parts = append(parts, p)
	}
	return parts
}

// describe writes what a part says, for comparison.
func describe(p *Part) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d %s-%s %s first=%d complete=%t\n", p.XID, p.CommitLSN, p.EndLSN, p.CommitTime.UTC(), p.First, p.Complete)
	for i := range p.Events {
		e := &p.Events[i]
		name := "-"
		if e.Schema != nil {
			name = e.Schema.QualifiedName()
		}
		fmt.Fprintf(&b, "  %d %s %s before=%x(%t) after=%x %q %q\n", e.Ordinal, e.Op, name, []byte(e.Before), e.BeforeComplete, []byte(e.After), e.Prefix, e.Content)
	}
	return b.String()
}

// describeAll is describe for several parts.
func describeAll(parts []Part) string {
	var b strings.Builder
	for i := range parts {
		b.WriteString(describe(&parts[i]))
	}
	return b.String()
}
