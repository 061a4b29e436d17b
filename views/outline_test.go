package views

import (
	"slices"
	"strings"
	"testing"
)

func TestOutline(t *testing.T) {
	outline := func(text string) []Line { return compileView(t, text).Outline() }
	base := outline(orderSummary)
	if !slices.Equal(base, outline("# a comment\n\n"+orderSummary)) {
		t.Error("a comment changes the outline")
	}
	for path, want := range map[string]string{
		"from":                            "public.orders",
		"fields.status":                   "column status, text, as keyword",
		"fields.placed_at":                "column created_at, timestamp with time zone",
		"fields.total":                    "column total, numeric(10,2)",
		"fields.customer":                 "one public.customers on id = customer_id",
		"fields.customer.country":         "column country, text, as keyword",
		"fields.items":                    "many public.order_items on order_id = id, order by line_no",
		"fields.items.product.sku":        "column sku, text",
		"fields.products":                 "many public.products through public.order_items on order_id = id to id = product_id, order by sku, value sku",
		"fields.item_count":               "count items",
		"fields.big":                      "cel doc.total > 1000.0",
		"where":                           "doc.status != 'draft'",
		"search.settings":                 `{"number_of_shards":1}`,
		"cache.ttl":                       "24h0m0s",
		"cache.lookups.customer_id":       "yes",
		"key of public.orders":            "id",
		"type of status in public.orders": "text",
	} {
		i := slices.IndexFunc(base, func(l Line) bool { return l.Path == path })
		if i < 0 {
			t.Errorf("no line %s", path)
		} else if base[i].Text != want {
			t.Errorf("%s is %q, want %q", path, base[i].Text, want)
		}
	}
	for _, change := range [][2]string{
		{"count: items", "count: products"}, {"line: {column: line_no}", "line: {column: qty}"}, {"order_by: -paid_at", "order_by: paid_at"},
		{"1000.0", "1001.0"}, {"'draft'", "'new'"}, {"number_of_shards: 1", "number_of_shards: 2"}, {"[customer_id, ", "["},
		{"  id:\n  status: {as: keyword}\n", "  status: {as: keyword}\n  id:\n"}, {"ttl: 24h", "ttl: 23h"}, {"country: {as: keyword}", "country: "},
	} {
		changed := strings.Replace(orderSummary, change[0], change[1], 1)
		if slices.Equal(outline(changed), base) {
			t.Errorf("%q in place of %q does not change the outline", change[1], change[0])
		}
	}
}
