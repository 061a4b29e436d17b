package views

import (
	"strings"
	"testing"

	"github.com/lanternist/lanternist/row"
)

var testTypes = map[string]row.Type{
	"int":         {OID: 23, Mod: -1, Name: "integer", Class: row.Int},
	"bigint":      {OID: 20, Mod: -1, Name: "bigint", Class: row.Int},
	"text":        {OID: 25, Mod: -1, Name: "text", Class: row.String},
	"citext":      {OID: 90001, Mod: -1, Name: "public.citext", Class: row.String},
	"char5":       {OID: 1042, Mod: 9, Name: "character", Class: row.String},
	"bool":        {OID: 16, Mod: -1, Name: "boolean", Class: row.Bool},
	"float":       {OID: 701, Mod: -1, Name: "double precision", Class: row.Float},
	"numeric":     {OID: 1700, Mod: -1, Name: "numeric", Class: row.Numeric},
	"money":       {OID: 1700, Mod: 4 + 10<<16 + 2, Name: "numeric", Class: row.Numeric},
	"uuid":        {OID: 2950, Mod: -1, Name: "uuid", Class: row.UUID},
	"date":        {OID: 1082, Mod: -1, Name: "date", Class: row.Date},
	"timestamptz": {OID: 1184, Mod: -1, Name: "timestamp with time zone", Class: row.TimestampTZ},
	"jsonb":       {OID: 3802, Mod: -1, Name: "jsonb", Class: row.JSON},
	"interval":    {OID: 1186, Mod: -1, Name: "interval", Class: row.Interval},
	"bytea":       {OID: 17, Mod: -1, Name: "bytea", Class: row.Bytea},
	"texts":       {OID: 1009, Mod: -1, Name: "text[]", Class: row.Array, Elem: &row.Type{OID: 25, Mod: -1, Name: "text", Class: row.String}},
}

// table makes a schema from a list of "column type" words, in which a "*" before a name makes it part of the key.
func table(id, oid uint32, name string, columns ...string) *row.Schema {
	s := &row.Schema{ID: id, Version: 1, OID: oid, Namespace: "public", Name: name, Identity: 'd'}
	for i, c := range columns {
		words := strings.Fields(c)
		typ, ok := testTypes[words[1]]
		if !ok {
			panic("no type " + words[1])
		}
		column, isKey := strings.CutPrefix(words[0], "*")
		if isKey {
			s.Key = append(s.Key, i)
		}
		s.Columns = append(s.Columns, row.Column{Name: column, Type: typ, NotNull: isKey})
	}
	return s
}

// The tables of a shop.
var (
	customers  = table(1, 101, "customers", "*id int", "name text", "country text", "email citext", "vip bool")
	orders     = table(2, 102, "orders", "*id int", "customer_id int", "status text", "total money", "created_at timestamptz", "note jsonb", "tags texts", "took interval")
	orderItems = table(3, 103, "order_items", "*order_id int", "*line_no int", "product_id int", "qty int", "price money", "discount numeric")
	products   = table(4, 104, "products", "*id int", "sku text", "name text", "category_id int", "weight float", "code char5")
	categories = table(5, 105, "categories", "*id int", "name text", "parent_id int")
	payments   = table(6, 106, "payments", "*id uuid", "order_id bigint", "amount money", "paid_at timestamptz")
	auditLog   = table(7, 107, "audit_log", "at timestamptz", "what text")
	catalog    = []*row.Schema{customers, orders, orderItems, products, categories, payments, auditLog}
)

// compileViews compiles the views of one file.
func compileViews(t testing.TB, text string) []*View {
	t.Helper()
	defs, err := Parse("views/test.yaml", []byte(text))
	if err != nil {
		t.Fatalf("parse:\n%v", err)
	}
	list, err := Compile(defs, catalog)
	if err != nil {
		t.Fatalf("compile:\n%v", err)
	}
	return list
}

// compileView compiles a file with one view.
func compileView(t testing.TB, text string) *View {
	t.Helper()
	list := compileViews(t, text)
	if len(list) != 1 {
		t.Fatalf("%d views, want 1", len(list))
	}
	return list[0]
}

const orderSummary = `
view: order_summary
from: public.orders
fields:
  id:
  status: {as: keyword}
  total:
  placed_at: {column: created_at}
  customer: {one: public.customers, on: {id: customer_id}, fields: {name: , country: {as: keyword}}}
  items:
    many: public.order_items
    on: {order_id: id}
    order_by: line_no
    fields:
      line: {column: line_no}
      qty:
      price:
      product: {one: public.products, on: {id: product_id}, fields: {sku: , name: }}
  products: {many: public.products, through: public.order_items, on: {order_id: id}, to: {id: product_id}, value: sku, order_by: sku}
  payment: {one: public.payments, on: {order_id: id}, order_by: -paid_at, fields: {amount: }}
  item_count: {count: items}
  value: {sum: items.price}
  cheapest: {min: items.price}
  big: {cel: "doc.total > 1000.0"}
where: "doc.status != 'draft'"
search: {settings: {number_of_shards: 1}}
cache: {ttl: 24h, lookups: [customer_id, [status, customer.country]]}
`
