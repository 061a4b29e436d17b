package views

import (
	"strings"
	"testing"
	"time"
)

const fixable = `
# two in one file
view: order
from: orders
fields:
  id:
  state: {column: status}
  customer: &customer {one: customers, on: {id: customer_id}, fields: {name: , email: }}
where: "doc.state != 'draft'"
search: {mappings: {state: {type: keyword}}}
cache: {ttl: 24h, lookups: [customer_id]}
`

// TestFixed: the view has another name and nothing expires; all else is as it was, also when it is made again from the text that was kept.
func TestFixed(t *testing.T) {
	defs, err := Parse("a.yaml", []byte(fixable))
	if err != nil {
		t.Fatal(err)
	}
	list, err := Compile(defs, catalog)
	if err != nil {
		t.Fatal(err)
	}
	original := list[0]
	v, err := original.Fixed("order_then")
	if err != nil {
		t.Fatal(err)
	}
	if v.Name() != "order_then" || v.Cache().TTL != 0 || original.Cache().TTL != 24*time.Hour || original.Name() != "order" {
		t.Errorf("fixed: %s, expires after %v; the original: %s, %v", v.Name(), v.Cache().TTL, original.Name(), original.Cache().TTL)
	}
	if len(v.Fields()) != len(original.Fields()) || len(v.Fields()[2].Children) != 2 || len(v.Cache().Lookups) != 1 || v.Search() == nil {
		t.Errorf("fields %+v, lookups %+v", v.Fields(), v.Cache().Lookups)
	}
	again, err := Fixed("order_then", original.Source(), v.Schemas())
	if err != nil {
		t.Fatal(err)
	}
	if again.Hash() != v.Hash() {
		t.Errorf("made again it has hash %s, not %s", again.Hash(), v.Hash())
	}
	for _, name := range []string{"", "Order", "a-b", strings.Repeat("x", 64)} {
		if _, err := original.Fixed(name); err == nil {
			t.Errorf("%q was taken for a name", name)
		}
	}
}
