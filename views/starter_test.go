package views

import (
	"os"
	"strings"
	"testing"

	"github.com/lanternist/lanternist/row"
)

var shopKeys = []ForeignKey{
	{"public.orders", []string{"customer_id"}, "public.customers", []string{"id"}},
	{"public.order_items", []string{"order_id"}, "public.orders", []string{"id"}},
	{"public.order_items", []string{"product_id"}, "public.products", []string{"id"}},
	{"public.products", []string{"category_id"}, "public.categories", []string{"id"}},
	{"public.categories", []string{"parent_id"}, "public.categories", []string{"id"}},
	{"public.payments", []string{"order_id"}, "public.orders", []string{"id"}},
	{"public.payments", []string{"account"}, "public.accounts", []string{"id"}},
}

func TestStarter(t *testing.T) {
	var all strings.Builder
	for _, v := range Starter(catalog, shopKeys) {
		all.Write(v.Text)
		all.WriteString("---\n")
		compileStarter(t, v, catalog)
	}
	const golden = "testdata/starter.yaml"
	if *update {
		if err := os.WriteFile(golden, []byte(all.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if all.String() != string(want) {
		t.Errorf("guessed:\n%s\nwant:\n%s", all.String(), want)
	}
}

// Names that YAML or views do not take as they are, and tables that do not fit, still give views that compile.
func TestStarterOddTables(t *testing.T) {
	odd := table(1, 1, "Odd table", "*on text", "a int", "b bytea")
	odd.Columns[1].Name = "a.b"
	odd.Columns[2].Name = "null"
	other := table(2, 2, "other", "*id int", "odd_id text", "other_id int", "code citext", "odd text")
	other.Namespace = "sales"
	binary := table(3, 3, "3binary", "*id bytea")
	long := table(4, 4, strings.Repeat("long", 20), "*id int")
	twin := table(5, 5, strings.Repeat("long", 20)+"x", "*id int")
	keyless := table(6, 6, "keyless", "id int")
	blobs := table(7, 7, "blobs", "*other_id int", "data bytea")
	tables := []*row.Schema{blobs, odd, other, binary, long, twin, keyless}
	keys := []ForeignKey{
		{"sales.other", []string{"odd_id"}, "public.Odd table", []string{"on"}},
		{"sales.other", []string{"code"}, "public.Odd table", []string{"on"}},
		{"sales.other", []string{"other_id"}, "sales.other", []string{"id"}},
		{"public.keyless", []string{"id"}, "sales.other", []string{"id"}},
		{"sales.other", []string{"id"}, "public.keyless", []string{"id"}},
		{"public.blobs", []string{"other_id"}, "sales.other", []string{"id"}},
	}
	list := Starter(tables, keys)
	if len(list) != 5 {
		t.Errorf("%d views, want 5", len(list))
	}
	for _, v := range list {
		compileStarter(t, v, tables)
	}
}

func compileStarter(t *testing.T, v StarterView, tables []*row.Schema) {
	t.Helper()
	defs, err := Parse(v.Name+".yaml", v.Text)
	if err != nil {
		t.Errorf("parse: %v\n%s", err, v.Text)
		return
	}
	if _, err := Compile(defs, tables); err != nil {
		t.Errorf("compile: %v\n%s", err, v.Text)
	}
	if len(defs) != 1 || defs[0].Name != v.Name {
		t.Errorf("view %s has definitions %v", v.Name, defs)
	}
}
