package search

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/lanternist/lanternist/projectors"
	"github.com/lanternist/lanternist/row"
	"github.com/lanternist/lanternist/views"
)

var update = flag.Bool("update", false, "write the golden files again")

// everyClass is a view with a column of every class.
func everyClass() []views.Field {
	list := []views.Field{
		scalar("small", "small", row.Int, "smallint", ""),
		scalar("int", "int", row.Int, "integer", ""),
		scalar("big", "big", row.Int, "bigint", ""),
		scalar("oid", "oid", row.Int, "oid", ""),
		scalar("real", "real", row.Float, "real", ""),
		scalar("numeric", "numeric", row.Numeric, "numeric", ""),
		scalar("text", "text", row.String, "text", ""),
		scalar("bool", "bool", row.Bool, "boolean", ""),
		scalar("uuid", "uuid", row.UUID, "uuid", ""),
		scalar("enum", "enum", row.Enum, "public.mood", ""),
		scalar("date", "date", row.Date, "date", ""),
		scalar("timestamp", "timestamp", row.Timestamp, "timestamp without time zone", ""),
		scalar("timestamptz", "timestamptz", row.TimestampTZ, "timestamp with time zone", ""),
		scalar("time", "time", row.Time, "time without time zone", ""),
		scalar("interval", "interval", row.Interval, "interval", ""),
		scalar("bytea", "bytea", row.Bytea, "bytea", ""),
		scalar("json", "json", row.JSON, "jsonb", ""),
		scalar("range", "range", row.Range, "int4range", ""),
		scalar("composite", "composite", row.Composite, "public.address", ""),
		scalar("inet", "inet", row.Network, "inet", ""),
		scalar("other", "other", row.Other, "tsvector", ""),
		scalar("money", "money", row.Money, "money", ""),
		scalar("point", "point", row.Point, "point", ""),
		scalar("pairs", "pairs", row.HStore, "public.hstore", ""),
		scalar("place", "place", row.Geometry, "public.geometry", ""),
		{Name: "at", Path: "at", Type: row.Type{Class: row.Geometry, Name: "public.geometry", Mod: 4326<<8 | 1<<2}},
		{Name: "vector", Path: "vector", Type: row.Type{Class: row.Vector, Name: "public.vector", Mod: 3}},
		{Name: "vectors", Path: "vectors", Type: row.Type{Class: row.Array, Elem: &row.Type{Class: row.Vector, Name: "public.vector", Mod: 3}}},
		{Name: "ints", Path: "ints", Type: row.Type{Class: row.Array, Elem: &row.Type{Class: row.Array, Elem: &row.Type{Class: row.Int, Name: "integer"}}}},
		{Name: "objects", Path: "objects", Type: row.Type{Class: row.Array, Elem: &row.Type{Class: row.JSON, Name: "jsonb"}}},
	}
	for _, as := range []string{"keyword", "text", "string", "integer", "double", "date", "ip", "boolean", "flattened", "none", "geo_point", "scaled_float"} {
		list = append(list, scalar("as_"+as, "as_"+as, row.String, "text", as))
	}
	return append(list,
		scalar("cents", "cents", row.Numeric, "numeric", "float"),
		views.Field{Name: "one", Path: "one", Children: []views.Field{scalar("one.id", "id", row.Int, "bigint", "")}},
		views.Field{Name: "list", Path: "list", Many: true, Children: []views.Field{scalar("list.id", "id", row.Int, "bigint", "")}},
		views.Field{Name: "nested", Path: "nested", Many: true, As: "nested", Children: []views.Field{scalar("nested.id", "id", row.Int, "bigint", "")}},
		views.Field{Name: "blob", Path: "blob", Many: true, As: "none", Children: []views.Field{scalar("blob.id", "id", row.Int, "bigint", "")}},
	)
}

func TestIndexRequestIsGolden(t *testing.T) {
	options := &views.SearchOptions{
		Settings: map[string]any{"number_of_shards": 1, "index.number_of_replicas": 0, "index": map[string]any{"refresh_interval": "5s", "codec": "best_compression"}},
		Analysis: map[string]any{"analyzer": map[string]any{"folded": map[string]any{"tokenizer": "standard"}}},
		Mappings: map[string]any{
			"text":      map[string]any{"analyzer": "folded"},
			"uuid":      map[string]any{"type": "text"}, // another type replaces all
			"one":       map[string]any{"type": "nested"},
			"list":      map[string]any{"properties": map[string]any{"id": map[string]any{"type": "keyword"}}},
			"nested.id": map[string]any{"store": true},
			"all":       map[string]any{"type": "text"},
			"new.below": map[string]any{"type": "keyword"},
		},
	}
	d := defineIndex(everyClass(), options, time.Hour)
	if d.refreshInterval != "5s" {
		t.Errorf("refresh interval %v", d.refreshInterval)
	}
	about := meta{Format: metaFormat, View: "all", Info: projectors.Info{Number: 7, Hash: "h", Epoch: "e", Created: time.Date(2026, 11, 20, 0, 0, 0, 0, time.UTC)}}
	var got bytes.Buffer
	enc := json.NewEncoder(&got)
	enc.SetIndent("", "  ")
	if err := enc.Encode(d.request("all-g7-w", about)); err != nil {
		t.Fatal(err)
	}
	golden := filepath.Join("testdata", "index.golden.json")
	if *update {
		if err := os.WriteFile(golden, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Bytes(), want) {
		t.Errorf("the request is not that of %s (run with -update and look at the difference):\n%s", golden, got.Bytes())
	}
}

// TestElasticsearchTakesEveryMapping creates the index for real and writes a document of every class into it.
func TestElasticsearchTakesEveryMapping(t *testing.T) {
	t.Parallel()
	c := client(t)
	fields := everyClass()
	fields = fields[:len(fields)-7] // without geo_point and scaled_float, which a distribution may leave out
	fields = append(fields, everyClass()[len(everyClass())-5:]...)
	s := newStore(c, "all", fields, nil)
	g := live(t, s, 1)
	long := bytes.Repeat([]byte("ø"), 40_000) // more than Lucene takes as one term
	full := views.Document{ID: "1", Body: []byte(`{"small":1,"int":-2147483648,"big":9223372036854775807,"oid":4294967295,"real":1.5e-7,"numeric":12345678901234567890.123456789,
"text":"` + string(long) + `","bool":true,"uuid":"0b1f","enum":"ok","date":"2026-01-02","timestamp":"2026-01-02T03:04:05.123456","timestamptz":"2026-01-02T03:04:05+00:00",
"time":"03:04:05.1","interval":"1 day","bytea":"\\x` + string(bytes.Repeat([]byte("00"), 40_000)) + `","json":[1,{"":2},"x"],"range":"[1,2)","composite":"(1,2)","inet":"10.0.0.0/8","other":"` + string(long) + `",
"money":-92233720368547758.08,"point":[1,2],"pairs":{"a":"1","b":null,"":"x"},"place":{"type":"Point","coordinates":[]},"at":{"type":"Point","coordinates":[1,2]},"vector":[0,0,0],"vectors":[[1,2],[3]],"ints":[[1,2],[3,null]],"objects":[{"a":1},2],"as_keyword":"` + string(long) + `","as_none":{"x":1},"as_ip":"10.0.0.0/8","as_date":"soon"}`)}
	full.Body = bytes.ReplaceAll(full.Body, []byte("\n"), nil)
	put(t, g, 5, full)
	put(t, g, 5, doc("2", `{"real":"NaN","numeric":"Infinity","cents":"-Infinity","date":"infinity","timestamp":"0044-03-15 BC","timestamptz":"-infinity","ints":[],"json":null,"bool":null,"point":"(Infinity,1)","place":"0108","at":null,"vector":null}`))
	put(t, g, 5, doc("3", `{"date":"4713-01-01 BC","timestamp":"294276-12-31T23:59:59.999999","text":null,"nested":null,"one":null,"list":[]}`))
	if r := found(t, s, Query{After: 5}); r.Total != 3 {
		t.Errorf("%d documents", r.Total)
	}
	for path := range s.fields.fields { // every field can be asked for, or says why not
		if _, err := s.Search(t.Context(), Query{SinglePage: true, Filters: []Filter{{Field: path, Op: Exists}}}); err != nil {
			t.Errorf("%s: %v", path, err)
		}
		if s.fields.fields[path].exact == "" {
			continue
		}
		if _, err := s.Search(t.Context(), Query{SinglePage: true, Facets: []string{path}, Sort: []Sort{{Field: path}}}); err != nil {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// What a geometry or a vector is found by follows from its modifier. A modifier of PostGIS has the SRID from bit 8, the type from bit 2.
func TestMappingOfPlacesAndVectors(t *testing.T) {
	geometry := func(name string, mod int32) row.Type { return row.Type{Class: row.Geometry, Name: name, Mod: mod} }
	vector := func(mod int32) row.Type { return row.Type{Class: row.Vector, Name: "public.vector", Mod: mod} }
	list := func(elem row.Type) row.Type { return row.Type{Class: row.Array, Elem: &elem} }
	for _, c := range []struct {
		typ  row.Type
		as   string
		want string
	}{
		{geometry("public.geometry", -1), "", "object"},
		{geometry("public.geometry", 1<<2), "", "object"},             // Point, SRID unknown
		{geometry("public.geometry", 1107460), "", "geo_point"},       // Point, 4326
		{geometry("public.geometry", 1107462), "", "geo_point"},       // PointZ, 4326
		{geometry("public.geometry", 1107468), "", "geo_shape"},       // Polygon, 4326
		{geometry("public.geometry", 3857<<8|1<<2), "", "object"},     // Point, 3857
		{geometry("public.geography", -1), "", "geo_shape"},           //
		{geometry("public.geography", 1107460), "", "geo_point"},      //
		{geometry("public.geometry", -1), "geo_shape", "geo_shape"},   //
		{list(geometry("public.geometry", 1107460)), "", "geo_point"}, // a field may have several places
		{vector(3), "", "dense_vector"}, {vector(-1), "", "object"}, {vector(16000), "", "object"}, {list(vector(3)), "", "object"},
	} {
		m := scalarMapping(&c.typ, c.as)
		if m["type"] != c.want {
			t.Errorf("%+v as %q is %v, want %s", c.typ, c.as, m, c.want)
		}
		if c.want == "dense_vector" && m["dims"] != c.typ.Mod {
			t.Errorf("%+v: %v", c.typ, m)
		}
		if m["ignore_malformed"] != nil {
			t.Errorf("%+v: places that are nowhere would be moved: %v", c.typ, m)
		}
	}
}

// A document has one vector in a field: those of a list of objects, and lists of vectors, are only kept.
func TestVectorsInListsAreKept(t *testing.T) {
	vector := views.Field{Name: "v", Type: row.Type{Class: row.Vector, Name: "public.vector", Mod: 3}}
	many := vector
	many.Many = true
	props := deriveProperties([]views.Field{
		{Name: "one", Children: []views.Field{vector}},
		{Name: "list", Many: true, Children: []views.Field{vector, {Name: "below", Children: []views.Field{vector}}}},
		{Name: "nested", Many: true, As: "nested", Children: []views.Field{vector}},
		many,
	}, false)
	at := func(m any, path ...string) any {
		for _, name := range path {
			m = m.(map[string]any)["properties"].(map[string]any)[name]
		}
		return m.(map[string]any)["type"]
	}
	for want, got := range map[string][]any{
		"dense_vector": {at(map[string]any{"properties": props}, "one", "v")},
		"object": {
			at(map[string]any{"properties": props}, "list", "v"), at(map[string]any{"properties": props}, "list", "below", "v"),
			at(map[string]any{"properties": props}, "nested", "v"), props["v"].(map[string]any)["type"],
		},
	} {
		for _, g := range got {
			if g != want {
				t.Errorf("%v, want %s", got, want)
			}
		}
	}
}

func TestManyFieldsRaiseTheLimit(t *testing.T) {
	var fields []views.Field
	for i := range 900 {
		name := "c" + string(rune('a'+i%26)) + string(rune('a'+i/26%26)) + string(rune('a'+i/676))
		fields = append(fields, scalar(name, name, row.String, "text", ""))
	}
	d := defineIndex(fields, &views.SearchOptions{}, time.Hour)
	if limit, _ := d.settings["index.mapping.total_fields.limit"].(int); limit < 1801 {
		t.Errorf("limit %v for 1801 fields", d.settings["index.mapping.total_fields.limit"])
	}
}

func TestCatalogFollowsTheMapping(t *testing.T) {
	d := defineIndex(orderFields(), &views.SearchOptions{Mappings: map[string]any{
		"hidden": map[string]any{"type": "keyword", "index": false, "doc_values": false},
		"apart":  map[string]any{"type": "nested", "include_in_root": false, "properties": map[string]any{"x": map[string]any{"type": "keyword"}}},
	}}, time.Hour)
	c := newCatalog(d.properties, false)
	for path, want := range map[string]string{"status": "status", "note": "note.keyword", "plain": "", "hidden": "", "items.qty": "items.qty", "meta.a.b": "meta.a.b", "customer.name": "customer.name.keyword"} {
		if f := c.find(path); f == nil || f.exact != want {
			t.Errorf("%s: %+v, want exact values in %q", path, f, want)
		}
	}
	for _, path := range []string{"", "customer", "raw", "raw.x", "nothing", checkpointField, "_source", "metadata"} {
		if f := c.find(path); f != nil {
			t.Errorf("%s was found: %+v", path, f)
		}
	}
	if f := c.find("items.qty"); f.nest != "items" || f.apart {
		t.Errorf("items.qty: %+v", f)
	}
	if _, err := c.plan(Query{Facets: []string{"apart.x"}}); err == nil {
		t.Error("a facet of a nested list without include_in_root was planned")
	}
	if f := newCatalog(d.properties, true).find("new.field"); f == nil || f.kind != kindAny {
		t.Errorf("field of a dynamic mapping: %+v", f)
	}
}
