package cdc_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/lanternist/lanternist/cdc"
	"github.com/lanternist/lanternist/internal/devstack"
	"github.com/lanternist/lanternist/row"
)

// A registry gives the same version to what the catalog and the stream say only if both say the same.
func TestCatalogAndStreamDescribeTheSame(t *testing.T) {
	s := newSource(t, devstack.Postgres(t), everyType, `
		CREATE SCHEMA "Odd.Schema"; CREATE TYPE "Odd.Schema"."Odd Type" AS ENUM ('x');
		CREATE TABLE "Odd.Schema"."Odd ""T""" ("The Key" int, "b" "Odd.Schema"."Odd Type" NOT NULL, PRIMARY KEY ("The Key"));
		CREATE TABLE composite (a int, b text, c varchar(7), PRIMARY KEY (c, a));
		CREATE TABLE by_index (a int, u text NOT NULL); CREATE UNIQUE INDEX by_index_u ON by_index (u) INCLUDE (a); ALTER TABLE by_index REPLICA IDENTITY USING INDEX by_index_u;
		CREATE TABLE whole (a int PRIMARY KEY, b text); ALTER TABLE whole REPLICA IDENTITY FULL;
		CREATE TABLE generated (a int, b int GENERATED ALWAYS AS (a * 2) STORED, c int, PRIMARY KEY (c));
		CREATE TABLE parts (id int, day date, PRIMARY KEY (day, id)) PARTITION BY RANGE (day);
		CREATE TABLE parts1 PARTITION OF parts FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');`)
	s.cfg.Tables = []string{"public.*", `"Odd.Schema".*`}
	s.setup()
	st := s.follow(cdc.Start{})
	s.Exec(`INSERT INTO every (id) VALUES (1)`, `INSERT INTO "Odd.Schema"."Odd ""T""" VALUES (1, 'x')`, `INSERT INTO composite VALUES (1, 'b', 'c')`,
		`INSERT INTO by_index VALUES (1, 'u')`, `INSERT INTO whole VALUES (1, 'b')`, `INSERT INTO generated VALUES (1, DEFAULT, 2)`, `INSERT INTO parts VALUES (1, '2026-01-02')`)
	st.transactions(7)
	catalog := s.catalog(s.cfg.Tables...)
	if len(catalog) != 7 || len(st.schemas.given) != 7 {
		t.Fatalf("%d tables in the catalog, %d in the stream, want 7", len(catalog), len(st.schemas.given))
	}
	byOID := map[uint32]*row.Schema{}
	for _, c := range catalog {
		byOID[c.OID] = c
	}
	for _, given := range st.schemas.given {
		if got, want := describeSchema(given), describeSchema(byOID[given.OID]); got != want {
			t.Errorf("the stream says\n%s\nthe catalog\n%s", got, want)
		}
	}
	keys := map[string]string{"composite": "[2 0]", "by_index": "[1]", "whole": "[0]", "generated": "[1]", "parts": "[1 0]", "every": "[0]"}
	for _, c := range catalog {
		if want, ok := keys[c.Name]; ok && fmt.Sprint(c.Key) != want {
			t.Errorf("key of %s is %v, want %s", c.Name, c.Key, want)
		}
	}
}

func TestCatalogTypes(t *testing.T) {
	s := newSource(t, devstack.Postgres(t), everyType)
	schema := s.catalog("every")[0]
	for name, want := range map[string]struct {
		class row.Class
		typ   string
		elem  row.Class
	}{
		"a_bpchar": {row.String, "character", 0}, "a_varchar": {row.String, "character varying", 0}, "an_oid": {row.Int, "oid", 0},
		"a_timestamptz": {row.TimestampTZ, "timestamp with time zone", 0}, "a_timetz": {row.Time, "time with time zone", 0},
		"a_mood": {row.Enum, "public.mood", 0}, "a_pair": {row.Composite, "public.pair", 0}, "a_price": {row.Numeric, "public.price", 0},
		"some_tags": {row.Array, "public.tags", row.String}, "moods": {row.Array, "public.mood[]", row.Enum}, "grid": {row.Array, "integer[]", row.Int},
		"a_range": {row.Range, "int4range", 0}, "ranges": {row.Range, "tstzmultirange", 0}, "a_cidr": {row.Network, "cidr", 0},
		"a_point": {row.Point, "point", 0}, "a_vector": {row.Other, "int2vector", 0}, "an_xml": {row.String, "xml", 0}, "a_bool": {row.Bool, "boolean", 0},
		"a_bytea": {row.Bytea, "bytea", 0}, "a_uuid": {row.UUID, "uuid", 0}, "a_jsonb": {row.JSON, "jsonb", 0}, "a_float8": {row.Float, "double precision", 0},
	} {
		i := schema.Column(name)
		if i < 0 {
			t.Errorf("%s is missing", name)
			continue
		}
		got := schema.Columns[i].Type
		elem := row.Other
		if got.Elem != nil {
			elem = got.Elem.Class
		}
		if got.Class != want.class || got.Name != want.typ || elem != want.elem {
			t.Errorf("%s is %+v (element class %d), want %+v", name, got, elem, want)
		}
	}
	if schema.Column("a_generated") >= 0 || schema.Column("a_dropped") >= 0 {
		t.Error("a generated or dropped column is captured")
	}
	if want := []row.Unsent{{Name: "a_generated", Generated: true}}; !slices.Equal(schema.Unsent, want) {
		t.Errorf("not sent are %+v, want %+v", schema.Unsent, want)
	}
}

// The modifier of a domain's base is the domain's, and a type whose elements are separated otherwise says so.
func TestCatalogTypesOfDomains(t *testing.T) {
	s := newSource(t, devstack.Postgres(t), `
		CREATE DOMAIN cents AS numeric(12,2); CREATE DOMAIN amount AS cents; CREATE DOMAIN corner AS box;
		CREATE TABLE d (id int PRIMARY KEY, a amount, many amount[], own numeric(4,1), corners corner[], m money, at point)`)
	schema := s.catalog("d")[0]
	for name, want := range map[string]row.Type{
		"a": {Class: row.Numeric, Mod: 12<<16 | 2 + 4}, "many": {Class: row.Array, Mod: -1, Elem: &row.Type{Class: row.Numeric, Mod: 12<<16 | 2 + 4}},
		"own": {Class: row.Numeric, Mod: 4<<16 | 1 + 4}, "corners": {Class: row.Array, Mod: -1, Elem: &row.Type{Class: row.Other, Mod: -1, Delim: ';'}},
		"m": {Class: row.Money, Mod: -1}, "at": {Class: row.Point, Mod: -1},
	} {
		got := schema.Columns[schema.Column(name)].Type
		if got.Class != want.Class || got.Mod != want.Mod {
			t.Errorf("%s is %+v, want %+v", name, got, want)
		}
		if want.Elem != nil && (got.Elem == nil || got.Elem.Class != want.Elem.Class || got.Elem.Mod != want.Elem.Mod || got.Elem.Delim != want.Elem.Delim) {
			t.Errorf("elements of %s are %+v, want %+v", name, got.Elem, want.Elem)
		}
	}
}

func TestLoadPublishedTakesTheColumnList(t *testing.T) {
	s := newSource(t, devstack.Postgres(t), `CREATE TABLE t (id int PRIMARY KEY, public text, secret text)`)
	if s.setup().ServerVersion < 150000 {
		t.Skip("column lists came with Postgres 15")
	}
	s.Exec(`ALTER PUBLICATION lanternist SET TABLE t (id, public)`)
	st := s.follow(cdc.Start{})
	s.Exec(`INSERT INTO t VALUES (1, 'p', 's')`)
	expect(t, st.transactions(1), "[I t {1,p}]")
	schemas, err := cdc.LoadPublished(t.Context(), s.conn, "lanternist", []string{"t"})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := describeSchema(st.schemas.given[0]), describeSchema(schemas[0]); got != want {
		t.Errorf("the stream says\n%s\nthe catalog\n%s", got, want)
	}
	if want := []row.Unsent{{Name: "secret"}}; !slices.Equal(schemas[0].Unsent, want) {
		t.Errorf("not sent are %+v, want %+v", schemas[0].Unsent, want)
	}
}

func TestForeignKeys(t *testing.T) {
	s := newSource(t, devstack.Postgres(t), `
		CREATE TABLE customers (id int PRIMARY KEY);
		CREATE TABLE orders (id int PRIMARY KEY, customer_id int REFERENCES customers);
		CREATE TABLE lines (order_id int REFERENCES orders ON DELETE CASCADE, no int, PRIMARY KEY (order_id, no));
		CREATE TABLE notes (id int PRIMARY KEY, order_id int, no int, FOREIGN KEY (no, order_id) REFERENCES lines (no, order_id));
		CREATE TABLE profiles (customer_id int PRIMARY KEY REFERENCES customers)`)
	if _, err := cdc.ForeignKeys(t.Context(), s.conn, []string{"orderz"}); err == nil || !strings.Contains(err.Error(), `did you mean "public.orders"?`) {
		t.Errorf("an unknown table: %v", err)
	}
	keys, err := cdc.ForeignKeys(t.Context(), s.conn, []string{"public.*"})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, k := range keys {
		got = append(got, fmt.Sprintf("%s%v -> %s%v unique %v", k.Table, k.Columns, k.References, k.ReferencedColumns, k.Unique))
	}
	want := []string{
		"public.lines[order_id] -> public.orders[id] unique false",
		"public.notes[no order_id] -> public.lines[no order_id] unique false",
		"public.orders[customer_id] -> public.customers[id] unique false",
		"public.profiles[customer_id] -> public.customers[id] unique true",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
