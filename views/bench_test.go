package views

import (
	"strconv"
	"testing"

	"github.com/lanternist/lanternist/event"
)

const benchView = `
view: order_summary
from: orders
fields:
  id:
  status:
  total:
  placed_at: {column: created_at}
  customer: {one: customers, on: {id: customer_id}, fields: {name: , country: }}
  items: {many: order_items, on: {order_id: id}, order_by: line_no, fields: {line_no: , qty: , price: , product: {one: products, on: {id: product_id}, fields: {sku: , name: }}}}
  item_count: {count: items}
  value: {sum: items.price}
cache: {lookups: [customer_id]}
`

// benchShop has 1,000 orders of 100 customers, with three items each.
func benchShop(b *testing.B, v *View) *world {
	b.Helper()
	w := newWorld(b, v)
	var events []*event.Event
	for i := range 100 {
		events = append(events, w.insert("customers", record{"id": strconv.Itoa(i), "name": "Customer " + strconv.Itoa(i), "country": "SE"}),
			w.insert("products", record{"id": strconv.Itoa(i), "sku": "SKU-" + strconv.Itoa(i), "name": "A product with a name"}))
	}
	for i := range 1000 {
		id := strconv.Itoa(i)
		events = append(events, w.insert("orders", record{"id": id, "customer_id": strconv.Itoa(i % 100), "status": "paid", "total": "1234.50", "created_at": "2026-01-02 03:04:05.123456+00"}))
		for line := range 3 {
			events = append(events, w.insert("order_items", record{"order_id": id, "line_no": strconv.Itoa(line + 1), "product_id": strconv.Itoa((i + line) % 100), "qty": "2", "price": "411.50"}))
		}
	}
	w.commit(events...)
	return w
}

func benchCompose(b *testing.B, text string) {
	v := compileView(b, text)
	w := benchShop(b, v)
	s := w.snapshot()
	defer s.Close()
	c := v.Composer()
	var keys [][]byte
	for i := range 1000 {
		keys = append(keys, []byte(strconv.Itoa(i)+"\x00"))
	}
	size, i := 0, 0
	b.ReportAllocs()
	for b.Loop() {
		doc, err := c.Compose(s, keys[i%1000])
		if err != nil || doc.Body == nil {
			b.Fatal(err)
		}
		size += len(doc.Body)
		if i++; i%500 == 0 {
			c.Reset()
		}
	}
	b.SetBytes(int64(size / i))
}

func BenchmarkCompose(b *testing.B) { benchCompose(b, benchView) }

func BenchmarkComposeCEL(b *testing.B) {
	benchCompose(b, benchView+"where: \"row.status != 'draft' && doc.item_count > 1\"\n")
}

func BenchmarkAffected(b *testing.B) {
	v := compileView(b, benchView)
	w := benchShop(b, v)
	for name, ev := range map[string]*event.Event{
		"root":   w.update("orders", "5\x00", record{"status": "sent"}),
		"child":  w.update("order_items", "5\x001\x00", record{"qty": "9"}),
		"lookup": w.update("products", "5\x00", record{"name": "Renamed"}),
		"unused": w.update("products", "6\x00", record{"weight": "5"}),
	} {
		b.Run(name, func(b *testing.B) {
			w.commit(ev)
			s := w.snapshot()
			defer s.Close()
			n := 0
			emit := func([]byte) error { n++; return nil }
			b.ReportAllocs()
			for b.Loop() {
				if _, err := v.Affected(s, ev, emit); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
