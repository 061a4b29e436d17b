package schemas_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/lanternist/lanternist/event"
	"github.com/lanternist/lanternist/row"
	"github.com/lanternist/lanternist/schemas"
)

// samples are types with texts that Postgres writes for them.
var samples = []struct {
	t     row.Type
	texts []string
}{
	{row.Type{Name: "bigint", Class: row.Int}, []string{"0", "-9223372036854775808", "9223372036854775807"}},
	{row.Type{Name: "boolean", Class: row.Bool}, []string{"t", "f"}},
	{row.Type{Name: "text", Class: row.String}, []string{"", "a \"b\"\n\\", "Łódź"}},
	{row.Type{Name: "double precision", Class: row.Float}, []string{"1.5", "-1e-300", "NaN", "Infinity", "-Infinity"}},
	{row.Type{Name: "numeric", Class: row.Numeric}, []string{"10.50", "NaN", "-Infinity", "123456789012345678901234567890.1"}},
	{row.Type{Name: "uuid", Class: row.UUID}, []string{"0d9e1f2a-3b4c-4d5e-8f60-718293a4b5c6"}},
	{row.Type{Name: "date", Class: row.Date}, []string{"2026-11-20", "infinity", "-infinity", "0044-03-15 BC", "12026-11-20"}},
	{row.Type{Name: "timestamp without time zone", Class: row.Timestamp},
		[]string{"2026-11-20 23:04:12", "2026-11-20 23:04:12.123456", "infinity", "0044-03-15 12:00:00 BC", "12026-11-20 00:00:00"}},
	{row.Type{Name: "timestamp with time zone", Class: row.TimestampTZ},
		[]string{"2026-11-20 23:04:12+00", "2026-11-20 23:04:12.5+05:30", "-infinity", "0044-03-15 12:00:00+00 BC", "12026-11-20 00:00:00+00"}},
	{row.Type{Name: "time without time zone", Class: row.Time}, []string{"23:04:12.5"}},
	{row.Type{Name: "interval", Class: row.Interval}, []string{"1 year 2 mons 3 days 04:05:06"}},
	{row.Type{Name: "bytea", Class: row.Bytea}, []string{`\x`, `\x00ff`}},
	{row.Type{Name: "jsonb", Class: row.JSON}, []string{"null", `{"a": [1, "x"]}`, "3"}},
	{row.Type{Name: "mood", Class: row.Enum}, []string{"happy"}},
	{row.Type{Name: "text[]", Class: row.Array, Elem: &row.Type{Name: "text", Class: row.String}}, []string{"{}", `{a,NULL,"b c"}`, "{{a,b},{c,NULL}}"}},
	{row.Type{Name: "date[]", Class: row.Array, Elem: &row.Type{Name: "date", Class: row.Date}}, []string{"{2026-11-20,infinity}"}},
	{row.Type{Name: "int4range", Class: row.Range}, []string{"[1,10)"}},
	{row.Type{Name: "inet", Class: row.Network}, []string{"10.0.0.0/8"}},
	{row.Type{Name: "point", Class: row.Other}, []string{"(1,2)"}},
	{row.Type{Name: "address", Class: row.Composite}, []string{`("Main St",12)`}},
}

// wide is a table with two columns of each type, the second of which may be null.
func wide() *row.Schema {
	s := &row.Schema{ID: 1, Version: 1, OID: 1, Namespace: "public", Name: "wide", Key: []int{0}, Identity: 'd'}
	for i, sample := range samples {
		s.Columns = append(s.Columns,
			row.Column{Name: fmt.Sprint("c", i), Type: sample.t, NotNull: true},
			row.Column{Name: fmt.Sprint("n", i), Type: sample.t})
	}
	return s
}

// sampleRow is a row of wide: the n-th text of each type, with null in every nullable column when nulls is set.
func sampleRow(n int, nulls bool) row.Row {
	var values []row.Value
	for _, sample := range samples {
		v := row.Value{Kind: row.Text, Text: []byte(sample.texts[n%len(sample.texts)])}
		values = append(values, v)
		if nulls {
			v = row.Value{Kind: row.Null}
		}
		values = append(values, v)
	}
	return row.New(values...)
}

// compile compiles the derived schema of an event's data, with formats asserted.
func compile(t *testing.T, s *row.Schema, op event.Op) *jsonschema.Schema {
	t.Helper()
	text, err := schemas.JSONSchema(s, op)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	if err := c.AddResource("urn:test", doc); err != nil {
		t.Fatal(err)
	}
	compiled, err := c.Compile("urn:test")
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return compiled
}

// data is the member "data" of an event's envelope.
func data(t *testing.T, e event.Event) map[string]any {
	t.Helper()
	e.Transaction = &event.Transaction{XID: 1, CommitLSN: 1}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(event.AppendEnvelope(nil, &e, event.Source{SystemID: "1", Database: "d"})))
	if err != nil {
		t.Fatal(err)
	}
	return doc.(map[string]any)["data"].(map[string]any)
}

func TestEnvelopesMatchTheirJSONSchema(t *testing.T) {
	s := wide()
	byOp := map[event.Op]*jsonschema.Schema{}
	for _, op := range []event.Op{event.Insert, event.Update, event.Delete, event.Truncate} {
		byOp[op] = compile(t, s, op)
	}
	check := func(e event.Event) {
		t.Helper()
		e.Schema = s
		d := data(t, e)
		if err := byOp[e.Op].Validate(d); err != nil {
			t.Errorf("%s: %v", e.Type(), err)
		}
		for op, other := range byOp {
			if op != e.Op && !(op == event.Update && e.Op == event.Insert) && other.Validate(d) == nil && d["after"] != nil {
				t.Errorf("data of %s is valid for %s", e.Type(), event.Type(op, s))
			}
		}
	}
	key := row.New(append([]row.Value{{Kind: row.Text, Text: []byte("5")}}, make2n(len(s.Columns)-1)...)...)
	for n := range 6 {
		for _, nulls := range []bool{false, true} {
			r := sampleRow(n, nulls)
			check(event.Event{Op: event.Insert, After: r})
			check(event.Event{Op: event.Update, Before: sampleRow(n+1, !nulls), BeforeComplete: true, After: r})
			check(event.Event{Op: event.Update, Before: key, After: r})
			check(event.Event{Op: event.Update, After: unsent(s, r)})
			check(event.Event{Op: event.Delete, Before: r, BeforeComplete: true})
		}
	}
	check(event.Event{Op: event.Delete, Before: key})
	check(event.Event{Op: event.Delete})
	check(event.Event{Op: event.Truncate})
}

// make2n is n nulls.
func make2n(n int) []row.Value {
	values := make([]row.Value, n)
	for i := range values {
		values[i].Kind = row.Null
	}
	return values
}

// unsent makes the values of types that may be TOASTed unchanged.
func unsent(s *row.Schema, r row.Row) row.Row {
	values := r.Values(nil)
	for i := range values {
		switch s.Columns[i].Type.Class {
		case row.String, row.Numeric, row.Bytea, row.JSON, row.Array:
			values[i] = row.Value{Kind: row.Unchanged}
		}
	}
	return row.New(values...)
}

// TestJSONSchemaRefuses changes valid data so that it is none of the table's.
func TestJSONSchemaRefuses(t *testing.T) {
	s := wide()
	compiled := compile(t, s, event.Insert)
	for name, change := range map[string]func(after map[string]any){
		"a string for an integer":      func(a map[string]any) { a["c0"] = "1" },
		"null in a not-null column":    func(a map[string]any) { a["c2"] = nil },
		"a missing column":             func(a map[string]any) { delete(a, "n3") },
		"an unknown column":            func(a map[string]any) { a["more"] = 1 },
		"no uuid":                      func(a map[string]any) { a["c5"] = "0d9e1f2a" },
		"no date":                      func(a map[string]any) { a["c6"] = "20.11.2026" },
		"no timestamp":                 func(a map[string]any) { a["c7"] = "2026-11-20 23:04:12" },
		"no date-time":                 func(a map[string]any) { a["c8"] = "2026-11-20T23:04:12" },
		"a word for a number":          func(a map[string]any) { a["c4"] = "many" },
		"a number in an array of text": func(a map[string]any) { a["c14"] = []any{"a", 1} },
		"no bytea":                     func(a map[string]any) { a["c11"] = "00ff" },
	} {
		d := data(t, event.Event{Op: event.Insert, Schema: s, After: sampleRow(0, false)})
		if err := compiled.Validate(d); err != nil {
			t.Fatal(err)
		}
		change(d["after"].(map[string]any))
		if compiled.Validate(d) == nil {
			t.Errorf("%s is valid", name)
		}
	}
}

func TestJSONSchemaSaysWhatItDescribes(t *testing.T) {
	s := wide()
	s.Version = 4
	text, err := schemas.JSONSchema(s, event.Update)
	if err != nil || !strings.Contains(string(text), `"title":"wide.updated, version 4"`) ||
		!strings.Contains(string(text), `"$schema":"https://json-schema.org/draft/2020-12/schema"`) {
		t.Errorf("%s, %v", text, err)
	}
	if _, err := schemas.JSONSchema(s, event.Message); err == nil {
		t.Error("a message has a JSON Schema")
	}
}
