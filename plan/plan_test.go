package plan

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	"github.com/lanternist/lanternist/row"
	"github.com/lanternist/lanternist/views"
)

var update = flag.Bool("update", false, "write what was found into testdata")

func column(name string, class row.Class, typ string) row.Column {
	return row.Column{Name: name, Type: row.Type{Mod: -1, Name: typ, Class: class}}
}

func table(oid uint32, name string, columns ...row.Column) *row.Schema {
	return &row.Schema{ID: oid, Version: 1, OID: oid, Namespace: "public", Name: name, Identity: 'd', Key: []int{0}, Columns: columns}
}

var (
	orders    = table(1, "orders", column("id", row.Int, "bigint"), column("customer_id", row.Int, "bigint"), column("status", row.String, "text"))
	customers = table(2, "customers", column("id", row.Int, "bigint"), column("name", row.String, "text"), column("country", row.String, "text"))
	countries = table(3, "countries", column("id", row.Int, "bigint"), column("code", row.String, "text"), column("name", row.String, "text"))
	rates     = table(4, "rates", column("id", row.Int, "bigint"))
)

const (
	summary = `
view: order_summary
from: orders
fields:
  id:
  status:
  customer: {one: customers, on: {id: customer_id}, fields: {name: }}
search:
cache:
`
	summaryWithCountry = `
view: order_summary
from: orders
fields:
  id:
  status: {as: keyword}
  customer:
    one: customers
    on: {id: customer_id}
    fields: {country: {one: countries, on: {code: country}, fields: {name: }}}
search:
cache:
`
	card     = "view: customer_card\nfrom: customers\nfields: {id: , name: }\ncache:\n"
	rateList = "view: rate_list\nfrom: rates\nfields: {id: }\nsearch:\n"
)

// deployment is the tables and the views of the definitions.
func deployment(t *testing.T, tables []*row.Schema, definitions ...string) *Deployment {
	t.Helper()
	d := &Deployment{}
	for i, s := range tables {
		d.Tables = append(d.Tables, Table{OID: s.OID, Name: s.QualifiedName(), Rows: int64(1000 * (i + 1))})
	}
	for _, text := range definitions {
		defs, err := views.Parse("f.yaml", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		compiled, err := views.Compile(defs, tables)
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range compiled {
			if v.Search() != nil {
				d.Projectors = append(d.Projectors, Describe(v, "search"))
			}
			if v.Cache() != nil {
				d.Projectors = append(d.Projectors, Describe(v, "cache"))
			}
		}
	}
	return d
}

// Each case is printed, as people and as machines read it, into testdata.
func TestPlan(t *testing.T) {
	deployed := deployment(t, []*row.Schema{orders, customers, rates}, summary, rateList)
	for i := range deployed.Projectors {
		deployed.Projectors[i].Generations = []int{i + 1, i + 2}
	}
	deployed.Settings = []Setting{{"http.listen", "127.0.0.1:8080"}, {"redis.url", "redis://localhost"}}
	restart := deployment(t, []*row.Schema{orders, customers, rates}, summary, rateList)
	restart.Settings = []Setting{{"http.listen", "127.0.0.1:9090"}, {"elasticsearch.url", "http://localhost:9200"}}
	oneSink := deployment(t, []*row.Schema{orders, customers, rates}, summary[:len(summary)-len("cache:\n")], rateList+"cache:\n")
	other := deployment(t, []*row.Schema{orders, customers, rates}, summary, rateList)
	other.Projectors[0].Hash = "of another version of Lanternist"
	for name, c := range map[string]struct {
		deployed, wanted *Deployment
		options          Options
	}{
		"nothing":       {deployed, deployment(t, []*row.Schema{rates, customers, orders}, rateList, summary), Options{}},
		"first":         {&Deployment{}, deployed, Options{}},
		"everything":    {deployed, deployment(t, []*row.Schema{orders, customers, countries}, summaryWithCountry, card), Options{}},
		"keep":          {deployed, deployment(t, []*row.Schema{orders, customers}, summary), Options{KeepData: true}},
		"sinks":         {deployed, oneSink, Options{}},
		"restart":       {deployed, restart, Options{}},
		"same_outline":  {deployed, other, Options{}},
		"made_anew":     {deployed, deployment(t, []*row.Schema{orders, customers, table(9, "rates", rates.Columns...)}, summary, rateList), Options{}},
		"another_order": {deployed, deployment(t, []*row.Schema{orders, customers, rates}, "view: order_summary\nfrom: orders\nfields: {status: , id: , customer: {one: customers, on: {id: customer_id}, fields: {name: }}}\nsearch:\ncache:\n", rateList), Options{}},
	} {
		t.Run(name, func(t *testing.T) {
			if c.wanted.Settings == nil {
				c.wanted.Settings = deployed.Settings
			}
			p := New(c.deployed, c.wanted, c.options)
			asJSON, err := json.MarshalIndent(p, "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			got := p.Text() + "\n" + string(asJSON) + "\n"
			golden := filepath.Join("testdata", name+".txt")
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
				t.Errorf("got:\n%s\nwant:\n%s", got, want)
			}
		})
	}
}

// A plan does not depend on the order in which either side lists what it has, and what was carried out leaves nothing to do.
func TestPlanIsStable(t *testing.T) {
	deployed := deployment(t, []*row.Schema{orders, customers, rates}, summary, rateList)
	wanted := deployment(t, []*row.Schema{orders, customers, countries}, summaryWithCountry, card)
	p := New(deployed, wanted, Options{})
	for _, d := range []*Deployment{deployed, wanted} {
		slices.Reverse(d.Tables)
		slices.Reverse(d.Projectors)
	}
	if again := New(deployed, wanted, Options{}); !reflect.DeepEqual(p, again) {
		t.Errorf("another order makes another plan:\n%s\n%s", p.Text(), again.Text())
	}
	if p := New(wanted, wanted, Options{}); !p.Empty() {
		t.Errorf("there is something to do after all was done:\n%s", p.Text())
	}
}

// What is deployed is stored, and asked for through the API.
func TestDeploymentAsJSON(t *testing.T) {
	d := deployment(t, []*row.Schema{orders, customers, countries}, summaryWithCountry, card)
	text, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	var back Deployment
	if err := json.Unmarshal(text, &back); err != nil {
		t.Fatal(err)
	}
	if p := New(&back, d, Options{}); !p.Empty() || !reflect.DeepEqual(back.Tables, d.Tables) {
		t.Errorf("what was stored differs:\n%s", p.Text())
	}
}
