package views

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lanternist/lanternist/mirror"
)

var update = flag.Bool("update", false, "write what was found into testdata")

// Each testdata/bad-*.yaml is a file with mistakes; beside it is every problem that is to be reported.
func TestProblems(t *testing.T) {
	files, err := filepath.Glob("testdata/bad-*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no test data: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			defs, parseErr := Parse("views/"+filepath.Base(file), data)
			_, compileErr := Compile(defs, catalog)
			var lines []string
			for _, err := range []error{parseErr, compileErr} {
				if err != nil {
					lines = append(lines, err.Error())
				}
			}
			got := strings.Join(lines, "\n") + "\n"
			golden := strings.TrimSuffix(file, ".yaml") + ".txt"
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("found:\n%s\nwant:\n%s", got, want)
			}
		})
	}
}

func TestCompile(t *testing.T) {
	v := compileView(t, orderSummary)
	if v.Name() != "order_summary" || v.Root() != orders {
		t.Errorf("name %s, root %s", v.Name(), v.Root().QualifiedName())
	}
	if want := []uint32{101, 102, 103, 104, 106}; !slices.Equal(v.Tables(), want) {
		t.Errorf("tables %v, want %v", v.Tables(), want)
	}
	// Down: payments by order. Up: orders by customer, items by product. All else goes by primary key.
	want := []mirror.Index{
		{OID: 102, Columns: []string{"customer_id"}},
		{OID: 103, Columns: []string{"product_id"}},
		{OID: 106, Columns: []string{"order_id"}},
	}
	if fmt.Sprint(v.Indexes()) != fmt.Sprint(want) {
		t.Errorf("indexes %v, want %v", v.Indexes(), want)
	}
	if v.Search().Settings["number_of_shards"] != 1 {
		t.Errorf("search %+v", v.Search())
	}
	if v.Cache().TTL != 24*time.Hour || v.Cache().Lookups[1].Name() != "status+customer.country" {
		t.Errorf("cache %+v", v.Cache())
	}
}

func TestFields(t *testing.T) {
	v := compileView(t, `
view: v
from: orders
fields:
  id:
  tags:
  customer: {one: customers, on: {id: customer_id}, fields: {name: {as: keyword}}}
  skus: {many: products, through: order_items, on: {order_id: id}, to: {id: product_id}, value: sku}
  lines: {many: order_items, on: {order_id: id}, hidden: true}
  n: {count: lines}
  spent: {sum: lines.price}
  names: {cel: "[doc.customer.name]"}
  late: {cel: "row.created_at > timestamp('2026-01-01T00:00:00Z')", as: keyword}
  any: {cel: "row.note"}
search:
`)
	var lines []string
	var list func(fields []Field)
	list = func(fields []Field) {
		for _, f := range fields {
			lines = append(lines, fmt.Sprintf("%s %s as=%q many=%v", f.Path, f.Type.Name, f.As, f.Many))
			list(f.Children)
		}
	}
	list(v.Fields())
	want := []string{
		`id integer as="" many=false`,
		`tags text[] as="" many=false`,
		`customer  as="" many=false`,
		`customer.name text as="keyword" many=false`,
		`skus text as="" many=true`,
		`n bigint as="" many=false`,
		`spent numeric as="" many=false`,
		`names text as="" many=true`,
		`late boolean as="keyword" many=false`,
		`any jsonb as="" many=false`,
	}
	if !slices.Equal(lines, want) {
		t.Errorf("fields:\n%s\nwant:\n%s", strings.Join(lines, "\n"), strings.Join(want, "\n"))
	}
	if v.Cache() != nil {
		t.Error("a view without a cache section has one")
	}
}

func TestHash(t *testing.T) {
	hash := func(text string) string { return compileView(t, text).Hash() }
	base := hash(orderSummary)
	if again := hash(orderSummary); again != base {
		t.Errorf("the same definition has hashes %s and %s", base, again)
	}
	if moved := hash("# a comment\n\n" + orderSummary); moved != base {
		t.Error("a comment changes the hash")
	}
	for _, change := range [][2]string{
		{"count: items", "count: products"}, {"line: {column: line_no}", "line: {column: qty}"}, {"order_by: -paid_at", "order_by: paid_at"},
		{"1000.0", "1001.0"}, {"'draft'", "'new'"}, {"number_of_shards: 1", "number_of_shards: 2"}, {"[customer_id, ", "["},
		{"  id:\n  status: {as: keyword}\n", "  status: {as: keyword}\n  id:\n"},
	} {
		changed := strings.Replace(orderSummary, change[0], change[1], 1)
		if changed == orderSummary {
			t.Fatalf("%q is not in the definition", change[0])
		}
		if hash(changed) == base {
			t.Errorf("%q in place of %q does not change the hash", change[1], change[0])
		}
	}

	wide := *orders
	wide.Columns = slices.Clone(orders.Columns)
	wide.Columns[7].Type = testTypes["text"] // took is not in use
	withTables := func() string {
		defs, _ := Parse("f", []byte(orderSummary))
		list, err := Compile(defs, append(slices.Clone(catalog[:1]), append(slices.Clone(catalog[2:]), &wide)...))
		if err != nil {
			t.Fatal(err)
		}
		return list[0].Hash()
	}
	if withTables() != base {
		t.Error("the type of a column not in use changes the hash")
	}
	wide.Columns[2].Type = testTypes["int"]
	defs, _ := Parse("f", []byte(strings.Replace(orderSummary, "where: \"doc.status != 'draft'\"", "", 1)))
	before, err := Compile(defs, catalog)
	if err != nil {
		t.Fatal(err)
	}
	after, err := Compile(defs, append(slices.Clone(catalog[:1]), append(slices.Clone(catalog[2:]), &wide)...))
	if err != nil {
		t.Fatal(err)
	}
	if before[0].Hash() == after[0].Hash() {
		t.Error("the type of a column in use does not change the hash")
	}
}

func TestID(t *testing.T) {
	single := compileView(t, "{view: v, from: orders, fields: {id: }, search: }")
	double := compileView(t, "{view: v, from: order_items, fields: {qty: }, search: }")
	for _, c := range []struct {
		view *View
		key  string
		id   string
	}{
		{single, "7\x00", "7"},
		{single, "a:b%\x00", "a:b%"},
		{single, "\x00", ""},
		{double, "7\x001\x00", "7:1"},
		{double, "a:b\x00%3A\x00", "a%3Ab:%253A"},
		{double, "\x00\x00", ":"},
	} {
		if id := c.view.ID([]byte(c.key)); id != c.id {
			t.Errorf("id of %q is %q, want %q", c.key, id, c.id)
		}
		key, err := c.view.Key(c.id)
		if err != nil || string(key) != c.key {
			t.Errorf("key of %q is %q (%v), want %q", c.id, key, err, c.key)
		}
	}
	for _, id := range []string{"7", "7:1:2", "7:%41", "7:%", "7:\x00"} {
		if key, err := double.Key(id); err == nil {
			t.Errorf("%q is an id, with key %q", id, key)
		}
	}
}
