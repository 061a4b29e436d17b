package views

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/lanternist/lanternist/event"
	"github.com/lanternist/lanternist/mirror"
)

// Views of many shapes. Each expression has its meaning in modelExprs.
const modelViews = `
view: order_summary
from: public.orders
fields:
  id:
  state: {column: status}
  total:
  placed_at: {column: created_at}
  customer: {one: customers, on: {id: customer_id}, fields: {name: , country: , orders: {many: orders, on: {customer_id: id}, value: id}}}
  items:
    many: order_items
    on: {order_id: id}
    order_by: [-qty, price]
    limit: 2
    fields:
      line: {column: line_no}
      price:
      product: {one: products, on: {id: product_id}, fields: {sku: , category: {one: categories, on: {id: category_id}, value: name}}}
  products: {many: products, through: order_items, on: {order_id: id}, to: {id: product_id}, order_by: -sku, fields: {sku: , name: }}
  payment: {one: payments, on: {order_id: id}, order_by: -paid_at, fields: {amount: , paid_at: }}
  n: {count: items}
  value: {sum: items.price}
  qty: {sum: items.qty}
  last: {max: payments.paid_at}
  payments: {many: payments, on: {order_id: id}, hidden: true, where: "row.amount != null && row.amount > 1.0"}
  big: {cel: "has(doc.total) && doc.total > 5.0"}
  label: {cel: "has(doc.customer.name) ? doc.customer.name + '/' + string(doc.n) : 'nobody'"}
where: "doc.state != 'draft'"
cache: {lookups: [customer_id, customer.name]}
---
view: catalog
from: categories
fields:
  name:
  parent: {one: categories, on: {id: parent_id}, fields: {name: , parent: {one: categories, on: {id: parent_id}, value: name}}}
  children: {many: categories, on: {parent_id: id}, order_by: name, fields: {name: , children: {many: categories, on: {parent_id: id}, value: id}}}
  products: {many: products, on: {category_id: id}, where: "row.name != 'b'", limit: 2, fields: {sku: , sold: {sum: lines.qty}, lines: {many: order_items, on: {product_id: id}, hidden: true}}}
  cheapest: {min: products.sku}
search:
---
view: buyers
from: customers
fields:
  id:
  orders:
    many: orders
    on: {customer_id: id}
    order_by: [-total]
    where: "row.status != 'draft'"
    fields: {id: , items: {many: order_items, on: {order_id: id}, order_by: [product_id, qty], fields: {qty: }}, priced: {count: items.price}}
  spent: {sum: orders.total}
search:
---
view: lines
from: order_items
fields:
  qty:
  order: {one: orders, on: {id: order_id}, fields: {status: , customer: {one: customers, on: {id: customer_id}, value: name}}}
  siblings: {many: order_items, on: {order_id: order_id}, fields: {line_no: , product_id: }}
  same: {many: order_items, on: {order_id: order_id, product_id: product_id}, order_by: -line_no, value: line_no}
  itself: {one: order_items, on: {line_no: line_no, order_id: order_id}, value: qty}
search:
`

var modelExprs = map[string]func(n *naive, doc map[string]any, r record) any{
	"row.amount != null && row.amount > 1.0": func(_ *naive, _ map[string]any, r record) any { return number(r["amount"]) > 1 },
	"has(doc.total) && doc.total > 5.0": func(_ *naive, doc map[string]any, _ record) any {
		return doc["total"] != nil && number(string(doc["total"].(json.Number))) > 5
	},
	"has(doc.customer.name) ? doc.customer.name + '/' + string(doc.n) : 'nobody'": func(_ *naive, doc map[string]any, _ record) any {
		customer, _ := doc["customer"].(map[string]any)
		if customer["name"] == nil {
			return "nobody"
		}
		return customer["name"].(string) + "/" + string(doc["n"].(json.Number))
	},
	"doc.state != 'draft'":  func(_ *naive, doc map[string]any, _ record) any { return doc["state"] != "draft" },
	"row.name != 'b'":       func(_ *naive, _ map[string]any, r record) any { return r["name"] != "b" },
	"row.status != 'draft'": func(_ *naive, _ map[string]any, r record) any { return r["status"] != "draft" },
}

func number(text string) float64 {
	f, _ := strconv.ParseFloat(text, 64)
	return f
}

// columnDomains are the few values that each column takes, so that rows meet. "NULL" is null, and comes last:
// the first values are drawn more often.
var columnDomains = map[string]map[string][]string{
	"customers":   {"id": {"1", "2", "10"}, "name": {"a", "b", "NULL"}, "country": {"SE", "NULL"}, "vip": {"t", "f"}},
	"orders":      {"id": {"1", "2", "9", "10"}, "customer_id": {"1", "2", "10", "NULL"}, "status": {"paid", "draft", "NULL"}, "total": {"5.00", "10.50", "-1.00", "NULL"}, "created_at": {"2026-01-02 03:04:05+00", "NULL"}},
	"order_items": {"order_id": {"1", "2", "9", "10"}, "line_no": {"1", "2", "10"}, "product_id": {"1", "2", "10", "NULL"}, "qty": {"1", "2", "10", "NULL"}, "price": {"0.50", "2.00", "10.00", "NULL"}},
	"products":    {"id": {"1", "2", "10"}, "sku": {"x", "Y", "z\"", "NULL"}, "name": {"a", "b", "NULL"}, "category_id": {"1", "2", "3", "NULL"}},
	"categories":  {"id": {"1", "2", "3"}, "name": {"a", "b", "c", "NULL"}, "parent_id": {"1", "2", "3", "NULL"}},
	"payments": {"id": {"00000000-0000-0000-0000-000000000001", "00000000-0000-0000-0000-000000000002", "00000000-0000-0000-0000-000000000003"},
		"order_id": {"1", "2", "9", "NULL"}, "amount": {"1.00", "3.00", "NULL"}, "paid_at": {"2026-01-02 03:04:05+00", "2026-01-02 03:04:05.5+00", "NULL"}},
}

// drawRecord draws a value for each of the columns.
func drawRecord(t *rapid.T, name string, columns []string) record {
	r := record{}
	for _, c := range columns {
		r[c] = rapid.SampledFrom(columnDomains[name][c]).Draw(t, c)
	}
	return r
}

func withoutNulls(r record) record {
	maps.DeleteFunc(r, func(_, text string) bool { return text == "NULL" })
	return r
}

// drawRows draws rows for every table to begin with.
func drawRows(t *rapid.T, w *world) []*event.Event {
	var events []*event.Event
	for _, name := range slices.Sorted(maps.Keys(columnDomains)) {
		columns := slices.Sorted(maps.Keys(columnDomains[name]))
		for range rapid.IntRange(5, 15).Draw(t, name) {
			events = append(events, w.insert(name, withoutNulls(drawRecord(t, name, columns))))
		}
	}
	return events
}

// drawEvents draws a transaction, which may change the same row several times.
func drawEvents(t *rapid.T, w *world) []*event.Event {
	tables := slices.Sorted(maps.Keys(columnDomains))
	var events []*event.Event
	for range rapid.IntRange(1, 6).Draw(t, "changes") {
		name := rapid.SampledFrom(tables).Draw(t, "table")
		columns := slices.Sorted(maps.Keys(columnDomains[name]))
		keys := slices.Sorted(maps.Keys(w.tables[name]))
		op := rapid.SampledFrom([]string{"insert", "insert", "update", "update", "update", "delete", "truncate"}).Draw(t, "op")
		switch {
		case op == "insert" || len(keys) == 0:
			events = append(events, w.insert(name, withoutNulls(drawRecord(t, name, columns))))
		case op == "update":
			some := rapid.SliceOfNDistinct(rapid.SampledFrom(columns), 1, 2, rapid.ID).Draw(t, "columns")
			events = append(events, w.update(name, rapid.SampledFrom(keys).Draw(t, "key"), drawRecord(t, name, some)))
		case op == "delete":
			events = append(events, w.remove(name, rapid.SampledFrom(keys).Draw(t, "key")))
		case rapid.IntRange(0, 4).Draw(t, "really") == 0:
			events = append(events, w.truncate(name))
		}
	}
	return events
}

// Whatever happens, each document is what its definition says about the tables, and each root whose document
// is another one than before is named by Affected.
func TestModel(t *testing.T) {
	defs, err := Parse("views/test.yaml", []byte(modelViews))
	if err != nil {
		t.Fatal(err)
	}
	list := compileViews(t, modelViews)
	w := newWorld(t, list...)
	model := &naive{w: w, exprs: modelExprs}
	composers := make([]*Composer, len(list))
	for i, v := range list {
		composers[i] = v.Composer()
	}
	rapid.Check(t, func(t *rapid.T) {
		for name := range columnDomains {
			w.commit(w.truncate(name))
		}
		w.commit(drawRows(t, w)...)
		before := make([]map[string]string, len(list))
		populated := w.snapshot()
		for i, v := range list {
			before[i] = composeAll(t, composers[i], populated, v, w)
			compareWithModel(t, model, defs[i], v, before[i])
		}
		if err := populated.Close(); err != nil {
			t.Fatal(err)
		}
		for range rapid.IntRange(1, 8).Draw(t, "rounds") {
			var events []*event.Event
			for range rapid.IntRange(1, 2).Draw(t, "transactions") {
				events = append(events, w.commit(drawEvents(t, w)...)...)
			}
			s := w.snapshot()
			for i, v := range list {
				after := composeAll(t, composers[i], s, v, w)
				compareWithModel(t, model, defs[i], v, after)
				checkAffected(t, v, s, events, before[i], after)
				before[i] = after
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// composeAll is the body of every root that there is, by key, in the model's form.
func composeAll(t *rapid.T, c *Composer, s *mirror.Snapshot, v *View, w *world) map[string]string {
	bodies := map[string]string{}
	for key := range w.tables[v.Root().Name] {
		doc, err := c.Compose(s, []byte(key))
		if err != nil {
			t.Fatalf("compose: %v", err)
		}
		if doc.Body == nil {
			continue
		}
		decoder := json.NewDecoder(strings.NewReader(string(doc.Body)))
		decoder.UseNumber()
		var value any
		if err := decoder.Decode(&value); err != nil {
			t.Fatalf("view %s, document %q is not JSON: %v\n%s", v.Name(), key, err, doc.Body)
		}
		bodies[key] = text(value) + fmt.Sprintf(" %q", doc.Lookups)
	}
	c.Reset()
	return bodies
}

func compareWithModel(t *rapid.T, model *naive, def *Definition, v *View, got map[string]string) {
	for key := range model.w.tables[v.Root().Name] {
		want := text(model.document(def, key))
		body, _, _ := strings.Cut(got[key], "\n} ")
		if body != "" {
			body += "\n}"
		}
		if body != want {
			t.Fatalf("view %s, document %q is\n%s\nand should be\n%s", v.Name(), key, body, want)
		}
	}
}

func checkAffected(t *rapid.T, v *View, s *mirror.Snapshot, events []*event.Event, before, after map[string]string) {
	named := map[string]bool{}
	for _, ev := range events {
		all, err := v.Affected(s, ev, func(key []byte) error {
			named[string(key)] = true
			return nil
		})
		if err != nil {
			t.Fatalf("affected: %v", err)
		}
		if all {
			if ev.Op != event.Truncate {
				t.Fatalf("view %s: %c of %s is said to affect all documents", v.Name(), ev.Op, ev.Schema.Name)
			}
			return
		}
	}
	for _, list := range []map[string]string{before, after} {
		for key := range list {
			if before[key] != after[key] && !named[key] {
				t.Fatalf("view %s, document %q changed and is not among the affected %v:\n%s\n%s", v.Name(), key, slices.Sorted(maps.Keys(named)), before[key], after[key])
			}
		}
	}
}
