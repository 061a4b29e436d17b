package views

import (
	"fmt"
	"slices"
	"strconv"
	"testing"

	"github.com/lanternist/lanternist/event"
	"github.com/lanternist/lanternist/row"
)

const affectedViews = orderSummary + `
---
view: catalog
from: categories
fields:
  name:
  parent: {one: categories, on: {id: parent_id}, fields: {name: , parent: {one: categories, on: {id: parent_id}, value: name}}}
  products: {many: products, on: {category_id: id}, order_by: sku, fields: {sku: }}
search:
---
view: buyers
from: customers
fields:
  name:
  orders: {many: orders, on: {customer_id: id}, where: "row.status != 'draft'", fields: {id: , items: {many: order_items, on: {order_id: id}, fields: {product: {one: products, on: {id: product_id}, value: name}}}}}
search:
---
view: lines
from: order_items
fields: {qty: , order: {one: orders, on: {id: order_id}, fields: {status: }}}
search:
`

// Each change must name exactly these roots: neither more, where a change has no effect, nor less.
func TestAffected(t *testing.T) {
	for name, c := range map[string]struct {
		view   string
		change func(w *world) []*event.Event
		want   []string
	}{
		"root inserted": {"order_summary", func(w *world) []*event.Event {
			return w.commit(w.insert("orders", record{"id": "20"}))
		}, []string{"20"}},
		"root updated": {"order_summary", func(w *world) []*event.Event {
			return w.commit(w.update("orders", "10\x00", record{"status": "sent"}))
		}, []string{"10"}},
		"root key changed": {"order_summary", func(w *world) []*event.Event {
			return w.commit(w.update("orders", "10\x00", record{"id": "13"}))
		}, []string{"10", "13"}},
		"root deleted": {"order_summary", func(w *world) []*event.Event {
			return w.commit(w.remove("orders", "12\x00"))
		}, []string{"12"}},
		"column that is not in use": {"order_summary", func(w *world) []*event.Event {
			return w.commit(w.update("orders", "10\x00", record{"note": "{}"}), w.update("products", "7\x00", record{"weight": "2"}))
		}, nil},
		"column of where only": {"buyers", func(w *world) []*event.Event {
			return w.commit(w.update("orders", "11\x00", record{"status": "new"}))
		}, []string{"2"}},
		"child inserted": {"order_summary", func(w *world) []*event.Event {
			return w.commit(w.insert("order_items", record{"order_id": "12", "line_no": "1", "product_id": "7"}))
		}, []string{"12"}},
		"child moved": {"order_summary", func(w *world) []*event.Event {
			return w.commit(w.update("payments", "00000000-0000-0000-0000-000000000001\x00", record{"order_id": "12"}))
		}, []string{"10", "12"}},
		"child moved by its key": {"order_summary", func(w *world) []*event.Event {
			return w.commit(w.update("order_items", "10\x002\x00", record{"order_id": "12"}))
		}, []string{"10", "12"}},
		"child deleted": {"order_summary", func(w *world) []*event.Event {
			return w.commit(w.remove("payments", "00000000-0000-0000-0000-000000000002\x00"))
		}, []string{"10"}},
		"child made an orphan": {"order_summary", func(w *world) []*event.Event {
			return w.commit(w.update("payments", "00000000-0000-0000-0000-000000000001\x00", record{"order_id": "NULL"}))
		}, []string{"10"}},
		"sort column changed": {"order_summary", func(w *world) []*event.Event {
			return w.commit(w.update("payments", "00000000-0000-0000-0000-000000000001\x00", record{"paid_at": "2027-01-01 00:00:00+00"}))
		}, []string{"10"}},
		"grandchild": {"buyers", func(w *world) []*event.Event {
			return w.commit(w.insert("order_items", record{"order_id": "10", "line_no": "3"}))
		}, []string{"1"}},
		"grandchild of an order that moves in the same transaction": {"buyers", func(w *world) []*event.Event {
			return w.commit(w.insert("order_items", record{"order_id": "10", "line_no": "3"}), w.update("orders", "10\x00", record{"customer_id": "2"}))
		}, []string{"1", "2"}},
		"grandchild of an order that is deleted in the same transaction": {"buyers", func(w *world) []*event.Event {
			return w.commit(w.remove("order_items", "10\x002\x00"), w.remove("orders", "10\x00"))
		}, []string{"1"}},
		"lookup renamed": {"order_summary", func(w *world) []*event.Event {
			return w.commit(w.update("customers", "1\x00", record{"name": "Ada L."}))
		}, []string{"10"}},
		"lookup renamed after the rows that point to it": {"order_summary", func(w *world) []*event.Event {
			return w.commit(w.update("orders", "12\x00", record{"customer_id": "1"}), w.update("customers", "1\x00", record{"name": "Ada L."}))
		}, []string{"10", "12"}},
		"lookup key changed": {"order_summary", func(w *world) []*event.Event {
			return w.commit(w.update("customers", "1\x00", record{"id": "3"}))
		}, []string{"10"}},
		"lookup inserted after the row that points to it": {"order_summary", func(w *world) []*event.Event {
			w.commit(w.update("orders", "12\x00", record{"customer_id": "5"}))
			return w.commit(w.insert("customers", record{"id": "5", "name": "Eve"}))
		}, []string{"12"}},
		"lookup deleted": {"order_summary", func(w *world) []*event.Event {
			return w.commit(w.remove("customers", "1\x00"))
		}, []string{"10"}},
		"lookup of a grandchild": {"buyers", func(w *world) []*event.Event {
			return w.commit(w.update("products", "8\x00", record{"name": "Wicks"}))
		}, []string{"1"}},
		"target of a link table": {"order_summary", func(w *world) []*event.Event {
			return w.commit(w.update("products", "7\x00", record{"sku": "L-70"}))
		}, []string{"10"}},
		"link table": {"order_summary", func(w *world) []*event.Event {
			return w.commit(w.update("order_items", "10\x002\x00", record{"product_id": "8"}))
		}, []string{"10"}},
		"parent in the same table": {"catalog", func(w *world) []*event.Event {
			return w.commit(w.update("categories", "2\x00", record{"name": "lights"}))
		}, []string{"2", "3"}},
		"grandparent in the same table": {"catalog", func(w *world) []*event.Event {
			return w.commit(w.update("categories", "1\x00", record{"name": "everything"}))
		}, []string{"1", "2", "3"}},
		"moved in the tree": {"catalog", func(w *world) []*event.Event {
			return w.commit(w.update("categories", "2\x00", record{"parent_id": "NULL"}))
		}, []string{"2", "3"}},
		"first columns of a root's key": {"lines", func(w *world) []*event.Event {
			w.commit(w.insert("order_items", record{"order_id": "1", "line_no": "1"}), w.insert("order_items", record{"order_id": "11", "line_no": "1"}))
			return w.commit(w.update("orders", "10\x00", record{"status": "sent"}))
		}, []string{"10:10", "10:2", "10:9"}},
		"table of another view": {"lines", func(w *world) []*event.Event {
			return w.commit(w.update("products", "7\x00", record{"name": "x"}))
		}, nil},
		"logical message": {"lines", func(w *world) []*event.Event {
			return w.commit(&event.Event{Op: event.Message, Prefix: "p"})
		}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			list := compileViews(t, affectedViews)
			v := list[slices.IndexFunc(list, func(v *View) bool { return v.Name() == c.view })]
			w := openShop(t, list...)
			events := c.change(w)
			got, all := w.affected(v, events)
			if all {
				t.Fatal("all documents are said to be affected")
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("affected %q, want %q", got, c.want)
			}
		})
	}
}

// TRUNCATE of any table of a view, and only of those, affects all its documents.
func TestAffectedTruncate(t *testing.T) {
	list := compileViews(t, affectedViews)
	w := openShop(t, list...)
	for _, s := range catalog {
		if len(s.Key) == 0 {
			continue
		}
		events := w.commit(w.truncate(s.Name))
		for _, v := range list {
			if _, all := w.affected(v, events); all != slices.Contains(v.Tables(), s.OID) {
				t.Errorf("truncate of %s, view %s: all is %v", s.Name, v.Name(), all)
			}
		}
	}
}

// An old row that is not known can be anywhere. Where the key alone leads up, it is enough.
func TestAffectedWithoutOldRow(t *testing.T) {
	list := compileViews(t, affectedViews)
	summary, lines := list[0], list[3]
	w := openShop(t, list...)
	unknown := func(op event.Op, name string, before, after record) *event.Event {
		ev := &event.Event{Op: op, Schema: w.tableNamed(name)}
		if before != nil {
			ev.Before = encode(ev.Schema, before)
		}
		if after != nil {
			ev.After = encode(ev.Schema, after)
		}
		return ev
	}
	for i, c := range []struct {
		view *View
		ev   *event.Event
		want []string
		all  bool
	}{
		{summary, unknown(event.Update, "orders", nil, record{"id": "10"}), []string{"10"}, false},
		{summary, unknown(event.Update, "orders", record{"id": "9"}, record{"id": "10"}), []string{"10", "9"}, false},
		{summary, unknown(event.Delete, "orders", record{"id": "10"}, nil), []string{"10"}, false},
		{summary, unknown(event.Delete, "orders", nil, nil), nil, true},
		{summary, unknown(event.Update, "payments", nil, record{"id": "1", "order_id": "12"}), []string{"12"}, true},
		{summary, unknown(event.Delete, "payments", record{"id": "1"}, nil), nil, true},
		{lines, unknown(event.Update, "order_items", nil, record{"order_id": "10", "line_no": "3"}), []string{"10:3"}, false},
		{lines, unknown(event.Update, "orders", nil, record{"id": "10"}), []string{"10:10", "10:2", "10:9"}, false},
	} {
		got, all := w.affected(c.view, []*event.Event{c.ev})
		if !slices.Equal(got, c.want) || all != c.all {
			t.Errorf("case %d: affected %q, all %v, want %q, %v", i, got, all, c.want, c.all)
		}
	}
	ev := unknown(event.Update, "payments", record{"id": "1", "order_id": "10"}, nil)
	ev.After = row.New(row.Value{Kind: row.Text, Text: []byte("1")}, row.Value{Kind: row.Unchanged}, row.Value{Kind: row.Null}, row.Value{Kind: row.Null})
	if _, all := w.affected(summary, []*event.Event{ev}); !all {
		t.Error("a join column that is not known does not affect all documents")
	}
}

// A lookup row that ten thousand documents use names each of them, without holding them all.
func TestAffectedFanOut(t *testing.T) {
	if testing.Short() {
		t.Skip("writes 10,000 rows")
	}
	v := compileView(t, orderSummary)
	w := openShop(t, v)
	const orders = 10_000
	var events []*event.Event
	for i := range orders {
		events = append(events, w.insert("orders", record{"id": strconv.Itoa(100 + i), "customer_id": "2"}))
	}
	w.commit(events...)
	change := w.commit(w.update("customers", "2\x00", record{"name": "Bob"}))
	s := w.snapshot()
	defer s.Close()
	n := 0
	emit := func([]byte) error { n++; return nil }
	if _, err := v.Affected(s, change[0], emit); err != nil || n != orders+1 {
		t.Fatalf("%d documents (%v), want %d", n, err, orders+1)
	}
	if allocs := testing.AllocsPerRun(5, func() {
		if _, err := v.Affected(s, change[0], emit); err != nil {
			t.Fatal(err)
		}
	}); allocs > 100 {
		t.Errorf("%.0f allocations for %d documents", allocs, orders)
	}
	stop := fmt.Errorf("enough")
	if _, err := v.Affected(s, change[0], func([]byte) error { return stop }); err == nil {
		t.Error("the error of emit is lost")
	}
}
