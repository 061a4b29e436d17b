package views

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"github.com/lanternist/lanternist/event"
	"github.com/lanternist/lanternist/mirror"
	"github.com/lanternist/lanternist/row"
)

// openShop is a world with a few rows in it.
func openShop(t testing.TB, list ...*View) *world {
	w := newWorld(t, list...)
	w.commit(
		w.insert("customers", record{"id": "1", "name": "Ada", "country": "GB", "vip": "t"}),
		w.insert("customers", record{"id": "2", "name": "Bo"}),
		w.insert("categories", record{"id": "1", "name": "all"}),
		w.insert("categories", record{"id": "2", "name": "lamps", "parent_id": "1"}),
		w.insert("categories", record{"id": "3", "name": "oil lamps", "parent_id": "2"}),
		w.insert("products", record{"id": "7", "sku": "L-7", "name": "Lantern", "category_id": "3", "weight": "1.5"}),
		w.insert("products", record{"id": "8", "sku": "W-8", "name": "Wick", "category_id": "2"}),
		w.insert("orders", record{"id": "10", "customer_id": "1", "status": "paid", "total": "1234.50", "created_at": "2026-01-02 03:04:05.5+00", "note": `{"gift": true}`, "tags": `{a,"b c"}`}),
		w.insert("orders", record{"id": "11", "customer_id": "2", "status": "draft", "total": "5.00"}),
		w.insert("orders", record{"id": "12", "status": "new", "total": "1.00"}),
		w.insert("order_items", record{"order_id": "10", "line_no": "10", "product_id": "8", "qty": "3", "price": "0.50"}),
		w.insert("order_items", record{"order_id": "10", "line_no": "2", "product_id": "7", "qty": "1", "price": "1233.00"}),
		w.insert("order_items", record{"order_id": "10", "line_no": "9", "product_id": "8", "qty": "1"}),
		w.insert("payments", record{"id": "00000000-0000-0000-0000-000000000001", "order_id": "10", "amount": "34.50", "paid_at": "2026-01-02 04:00:00+00"}),
		w.insert("payments", record{"id": "00000000-0000-0000-0000-000000000002", "order_id": "10", "amount": "1200.00", "paid_at": "2026-01-03 04:00:00+00"}),
		w.insert("payments", record{"id": "00000000-0000-0000-0000-000000000003", "order_id": "10", "amount": "9.00"}),
	)
	return w
}

func TestCompose(t *testing.T) {
	v := compileView(t, orderSummary)
	w := openShop(t, v)
	doc := w.document(v, "10")
	want := `{"id":10,"status":"paid","total":1234.50,"placed_at":"2026-01-02T03:04:05.5+00:00",` +
		`"customer":{"name":"Ada","country":"GB"},"items":[` +
		`{"line":2,"qty":1,"price":1233.00,"product":{"sku":"L-7","name":"Lantern"}},` +
		`{"line":9,"qty":1,"price":null,"product":{"sku":"W-8","name":"Wick"}},` +
		`{"line":10,"qty":3,"price":0.50,"product":{"sku":"W-8","name":"Wick"}}],` +
		`"products":["L-7","W-8"],"payment":{"amount":1200.00},"item_count":3,"value":1233.50,"cheapest":0.50,"big":true}`
	if string(doc.Body) != want {
		t.Errorf("document:\n%s\nwant:\n%s", doc.Body, want)
	}
	if doc.ID != "10" || string(doc.Key) != "10\x00" {
		t.Errorf("id %q, key %q", doc.ID, doc.Key)
	}
	if !slices.Equal(doc.Lookups, []string{"1", "paid:GB"}) {
		t.Errorf("lookups %q", doc.Lookups)
	}

	if draft := w.document(v, "11"); draft.Body != nil || !slices.Equal(draft.Lookups, []string{"", ""}) {
		t.Errorf("the draft, which where excludes, is %s %q", draft.Body, draft.Lookups)
	}
	if missing := w.document(v, "99"); missing.Body != nil || missing.ID != "99" {
		t.Errorf("a row that is not there is %s", missing.Body)
	}
	want = `{"id":12,"status":"new","total":1.00,"placed_at":null,"customer":null,"items":[],"products":[],"payment":null,` +
		`"item_count":0,"value":null,"cheapest":null,"big":false}`
	if bare := w.document(v, "12"); string(bare.Body) != want || !slices.Equal(bare.Lookups, []string{"", ""}) {
		t.Errorf("order without anything:\n%s %q\nwant:\n%s", bare.Body, bare.Lookups, want)
	}
}

// Each view is composed for its first root, and must have this document.
func TestComposeForms(t *testing.T) {
	for name, c := range map[string]struct{ view, id, want string }{
		"limit keeps the first, aggregates see all": {`
view: v
from: orders
fields:
  top: {many: order_items, on: {order_id: id}, order_by: [-qty, line_no], limit: 2, value: line_no}
  n: {count: top}
  most: {max: top}
  priced: {count: top.price}
search:`, "10", `{"top":[10,2],"n":3,"most":10,"priced":2}`},
		"where on a join": {`
view: v
from: orders
fields:
  many: {many: order_items, on: {order_id: id}, where: "row.qty > 1", fields: {line_no: }}
  n: {count: many}
search:`, "10", `{"many":[{"line_no":10}],"n":1}`},
		"nulls last in both directions": {`
view: v
from: orders
fields:
  up: {many: order_items, on: {order_id: id}, order_by: price, value: line_no}
  down: {many: order_items, on: {order_id: id}, order_by: -price, value: line_no}
search:`, "10", `{"up":[10,2,9],"down":[2,10,9]}`},
		"hidden join": {`
view: v
from: orders
fields:
  lines: {many: order_items, on: {order_id: id}, hidden: true}
  total: {sum: lines.qty}
search:`, "10", `{"total":5}`},
		"first field hidden": {`
view: v
from: customers
fields:
  o: {many: orders, on: {customer_id: id}, hidden: true}
  id:
search:`, "1", `{"id":1}`},
		"self joins": {`
view: v
from: categories
fields:
  name:
  parent: {one: categories, on: {id: parent_id}, fields: {name: , parent: {one: categories, on: {id: parent_id}, value: name}}}
  children: {many: categories, on: {parent_id: id}, value: name}
search:`, "3", `{"name":"oil lamps","parent":{"name":"lamps","parent":"all"},"children":[]}`},
		"cel over joins": {`
view: v
from: orders
fields:
  customer: {one: customers, on: {id: customer_id}, fields: {name: , vip: }}
  items: {many: order_items, on: {order_id: id}, fields: {line_no: , qty: , price: , sum: {cel: "has(doc.price) ? double(doc.qty) * doc.price : 0.0"}}}
  names: {cel: "[doc.customer.name, row.status].map(s, s.upperAscii())"}
  priced: {cel: "doc.items.filter(i, has(i.price)).map(i, i.line_no)"}
  free: {cel: "doc.items.exists(i, i.price == null)"}
  first: {cel: "doc.items[0]"}
  gift: {cel: "row.note.gift"}
  note: {cel: "row.note"}
  tags: {cel: "row.tags.size()"}
  when: {cel: "row.created_at + duration('1h')"}
  vip: {cel: "doc.customer.vip && doc.free"}
  map: {cel: "{'b': 1, 'a': [1.5, null, b'x']}"}
  took: {cel: "duration('90s')"}
search:`, "10", `{"customer":{"name":"Ada","vip":true},"items":[{"line_no":2,"qty":1,"price":1233.00,"sum":1233},` +
			`{"line_no":9,"qty":1,"price":null,"sum":0},{"line_no":10,"qty":3,"price":0.50,"sum":1.5}],` +
			`"names":["ADA","PAID"],"priced":[2,10],"free":true,"first":{"line_no":2,"qty":1,"price":1233.00,"sum":1233},` +
			`"gift":true,"note":{"gift":true},"tags":2,"when":"2026-01-02T04:04:05.5+00:00","vip":true,` +
			`"map":{"a":[1.5,null,"\\x78"],"b":1},"took":"90s"}`},
		"cel sees an aggregate declared below it": {`
view: v
from: orders
fields:
  two: {cel: "doc.n * 2"}
  items: {many: order_items, on: {order_id: id}, hidden: true}
  n: {count: items}
search:`, "10", `{"two":6,"n":3}`},
		"has on a missing one": {`
view: v
from: orders
fields:
  customer: {one: customers, on: {id: customer_id}, fields: {name: }}
  known: {cel: "has(doc.customer)"}
  name: {cel: "doc.customer == null ? 'nobody' : doc.customer.name"}
  named: {cel: "has(doc.customer.name)"}
search:`, "12", `{"customer":null,"known":false,"name":"nobody","named":false}`},
		"composite key": {`
view: v
from: order_items
fields: {qty: , order: {one: orders, on: {id: order_id}, fields: {status: }}, again: {one: order_items, on: {line_no: line_no, order_id: order_id}, value: price}}
search:`, "10:9", `{"qty":1,"order":{"status":"paid"},"again":null}`},
		"names that need escaping": {`
view: v
from: orders
fields: {"a\"b": {column: id}, "é": {column: status}}
search:`, "10", `{"a\"b":10,"é":"paid"}`},
		"through gives each target once": {`
view: v
from: orders
fields:
  products: {many: products, through: order_items, on: {order_id: id}, to: {id: product_id}, order_by: -sku, fields: {sku: , category: {one: categories, on: {id: category_id}, value: name}}}
  n: {count: products}
  one: {one: products, through: order_items, on: {order_id: id}, to: {id: product_id}, order_by: name, value: name}
search:`, "10", `{"products":[{"sku":"W-8","category":"lamps"},{"sku":"L-7","category":"oil lamps"}],"n":2,"one":"Lantern"}`},
	} {
		t.Run(name, func(t *testing.T) {
			v := compileView(t, c.view)
			w := openShop(t, v)
			got := w.compose(v, c.id)
			if got != c.want {
				t.Errorf("document:\n%s\nwant:\n%s", got, c.want)
			}
			if !json.Valid([]byte(got)) {
				t.Error("not JSON")
			}
		})
	}
}

// An expression that fails is the document's error, and does not stand in the way of the next document.
func TestComposeEvaluateError(t *testing.T) {
	for name, text := range map[string]string{
		"null in a field":      `{view: v, from: orders, fields: {id: , e: {cel: "row.customer_id + 1"}}, search: }`,
		"null in where":        `{view: v, from: orders, fields: {id: }, where: "row.customer_id > 1", search: }`,
		"member of null":       `{view: v, from: orders, fields: {id: , c: {one: customers, on: {id: customer_id}, fields: {name: }}, e: {cel: "doc.c.name"}}, search: }`,
		"missing json member":  `{view: v, from: orders, fields: {id: , e: {cel: "row.note.gift"}}, search: }`,
		"where is not boolean": `{view: v, from: orders, fields: {id: }, where: "row.note == null ? dyn(1) : dyn(true)", search: }`,
		"a filter inside": `{view: v, from: orders, fields: {id: , p: {many: payments, on: {order_id: id}, where: "row.order_id / 0 > 1", hidden: true},
			e: {cel: "doc.n > 1"}, n: {count: p}}, search: }`,
	} {
		t.Run(name, func(t *testing.T) {
			v := compileView(t, text)
			w := openShop(t, v)
			w.commit(w.insert("payments", record{"id": "00000000-0000-0000-0000-000000000009", "order_id": "12"}))
			s := w.snapshot()
			defer s.Close()
			c := v.Composer()
			doc, err := c.Compose(s, []byte("12\x00"))
			if !errors.Is(err, ErrEvaluate) {
				t.Fatalf("error is %v, document %s", err, doc.Body)
			}
			for _, part := range []string{"view v, document 12", "views/test.yaml:"} {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("%q does not say %q", err, part)
				}
			}
			if doc.Body != nil || doc.ID != "12" {
				t.Errorf("document %s %s", doc.ID, doc.Body)
			}
			if name == "a filter inside" {
				return // which fails for every order with a payment
			}
			if _, err := c.Compose(s, []byte("10\x00")); err != nil && name != "null in a field" {
				t.Errorf("the next document: %v", err)
			}
		})
	}
}

func TestComposeTooLarge(t *testing.T) {
	v := compileView(t, "{view: v, from: orders, fields: {status: , items: {many: order_items, on: {order_id: id}, fields: {qty: }}}, search: }")
	w := openShop(t, v)
	s := w.snapshot()
	defer s.Close()
	c := v.Composer()
	whole, err := c.Compose(s, []byte("10\x00"))
	if err != nil {
		t.Fatal(err)
	}
	c.Limit(len(whole.Body))
	if _, err := c.Compose(s, []byte("10\x00")); err != nil {
		t.Errorf("a document of exactly the limit: %v", err)
	}
	c.Limit(len(whole.Body) - 1)
	if doc, err := c.Compose(s, []byte("10\x00")); !errors.Is(err, ErrTooLarge) || doc.Body != nil {
		t.Errorf("a document above the limit: %v, %s", err, doc.Body)
	}

	big := strings.Repeat("x", 100_000)
	w.commit(w.update("orders", "12\x00", record{"status": big}))
	later := w.snapshot()
	defer later.Close()
	c.Limit(10_000)
	if _, err := c.Compose(later, []byte("12\x00")); !errors.Is(err, ErrTooLarge) {
		t.Errorf("a large value: %v", err)
	}
	c.Limit(DefaultMaxDocument)
	if doc, err := c.Compose(later, []byte("12\x00")); err != nil || !strings.Contains(string(doc.Body), big) {
		t.Errorf("within the limit: %v", err)
	}
}

// Documents composed since the last Reset stay as they are, however many follow.
func TestComposerKeepsDocuments(t *testing.T) {
	v := compileView(t, orderSummary)
	w := openShop(t, v)
	s := w.snapshot()
	defer s.Close()
	c := v.Composer()
	for round := range 3 {
		var docs []Document
		for range 200 {
			for _, id := range []string{"10", "12", "11", "99"} {
				key, err := v.Key(id)
				if err != nil {
					t.Fatal(err)
				}
				doc, err := c.Compose(s, key)
				if err != nil {
					t.Fatal(err)
				}
				docs = append(docs, doc)
			}
		}
		for i, doc := range docs {
			first := docs[i%4]
			if string(doc.Body) != string(first.Body) || doc.ID != first.ID || string(doc.Key) != string(first.Key) || !slices.Equal(doc.Lookups, first.Lookups) {
				t.Fatalf("round %d: document %d is not what it was", round, i)
			}
		}
		if !json.Valid(docs[0].Body) || docs[2].Body != nil || unsafe.SliceData(docs[0].Body) == unsafe.SliceData(docs[4].Body) {
			t.Fatalf("round %d: documents share memory", round)
		}
		c.Reset()
	}
}

// A row that is older than a column has null there, and one whose columns moved is read by name.
func TestComposeOlderRows(t *testing.T) {
	v := compileView(t, "{view: v, from: customers, fields: {id: , name: , country: }, search: }")
	w := newWorld(t, v)
	old := table(50, customers.OID, "customers", "country text", "*id int")
	old.Version = 0
	w.schemas[old.ID] = old
	w.commit(&event.Event{Op: event.Insert, Schema: old, After: encode(old, record{"id": "1", "country": "SE"})})
	w.commit(w.insert("customers", record{"id": "2", "name": "Bo", "country": "NO"}))
	for id, want := range map[string]string{"1": `{"id":1,"name":null,"country":"SE"}`, "2": `{"id":2,"name":"Bo","country":"NO"}`} {
		if got := w.compose(v, id); got != want {
			t.Errorf("%s is %s, want %s", id, got, want)
		}
	}
}

// The lookup values are what Lookup.Value makes of the parts.
func TestLookupValues(t *testing.T) {
	v := compileView(t, `
view: v
from: orders
fields:
  id:
  customer: {one: customers, on: {id: customer_id}, fields: {vip: }}
  who: {one: customers, on: {id: customer_id}, value: name}
  items: {many: order_items, on: {order_id: id}, hidden: true}
  n: {count: items}
  kind: {cel: "row.status + ':' + string(doc.n)"}
  big: {cel: "row.total > 1000"}
cache: {lookups: [created_at, customer.vip, who, n, kind, big, [status, kind, big], [customer_id, status]]}
`)
	w := openShop(t, v)
	got := w.document(v, "10").Lookups
	want := []string{"2026-01-02T03:04:05.5+00:00", "true", "Ada", "3", "paid:3", "true", "paid:paid%3A3:true", "1:paid"}
	if !slices.Equal(got, want) {
		t.Errorf("lookups %q, want %q", got, want)
	}
	if value := v.Cache().Lookups[6].Value("paid", "paid:3", "true"); value != want[6] {
		t.Errorf("value %q, want %q", value, want[6])
	}
	if got := w.document(v, "12").Lookups; !slices.Equal(got, []string{"", "", "", "0", "new:0", "false", "new:new%3A0:false", ""}) {
		t.Errorf("lookups of an order without a customer: %q", got)
	}
}

// An unchanged value in the mirror is an error, never null.
func TestComposeUnchangedIsNotNull(t *testing.T) {
	v := compileView(t, "{view: v, from: customers, fields: {id: , name: }, search: }")
	r := row.New(
		row.Value{Kind: row.Text, Text: []byte("1")}, row.Value{Kind: row.Unchanged}, row.Value{Kind: row.Null},
		row.Value{Kind: row.Null}, row.Value{Kind: row.Null})
	if in, err := v.Composer().newInstance(v.root, mirror.Record{Schema: customers, Row: r}); !errors.Is(err, ErrIncomplete) {
		t.Errorf("error is %v, instance %v", err, in)
	}
}
