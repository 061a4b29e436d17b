package row_test

import (
	"context"
	"encoding/json"
	"math/big"
	"reflect"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/lanternist/lanternist/internal/devstack"
	"github.com/lanternist/lanternist/row"
)

// postgresValues are expressions by the class and element class of their type.
var postgresValues = []struct {
	typ   *row.Type
	exprs []string
}{
	{scalar(row.Int), []string{"0::int", "'-32768'::int2", "9223372036854775807::int8"}},
	{scalar(row.Numeric), []string{"1.10::numeric", "-0.0001::numeric", "12345678901234567890.123456789::numeric", "1e30::numeric", "'NaN'::numeric", "'Infinity'::numeric", "7::numeric(10,2)"}},
	{scalar(row.Float), []string{"0.5::float8", "1e20::float8", "1e-7::float8", "123456789012345678::float8", "'NaN'::float8", "'-Infinity'::float8", "0.1::float4", "1e10::float4"}},
	{scalar(row.Bool), []string{"true", "false"}},
	{scalar(row.String), []string{"''::text", `E'a"b\\c\n\t\x01é€😀'::text`, "'ab'::char(5)", "'x'::name", "'<a>b</a>'::xml"}},
	{scalar(row.UUID), []string{"'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid"}},
	{scalar(row.Date), []string{"'2026-01-02'::date", "'infinity'::date", "'0044-03-15 BC'::date", "'12026-01-02'::date"}},
	{scalar(row.Timestamp), []string{"'2026-01-02 03:04:05'::timestamp", "'2026-01-02 03:04:05.120'::timestamp", "'-infinity'::timestamp", "'0044-03-15 01:02:03 BC'::timestamp", "'12026-01-02 03:04:05.000001'::timestamp"}},
	{scalar(row.TimestampTZ), []string{"'2026-01-02 03:04:05+02'::timestamptz", "'2026-01-02 03:04:05.123456+00'::timestamptz", "'infinity'::timestamptz", "'0044-03-15 01:02:03+00 BC'::timestamptz"}},
	{scalar(row.Time), []string{"'03:04:05.5'::time", "'03:04:05+02'::timetz"}},
	{scalar(row.Interval), []string{"'1 year 2 days 03:04:05'::interval"}},
	{scalar(row.Bytea), []string{`'\x00ff'::bytea`, `''::bytea`}},
	{scalar(row.JSON), []string{`'{"b": [1, 2.50, null], "a": "x\ny"}'::jsonb`, "E'{\"b\":\\n [1, 2]}'::json", "'null'::jsonb", `'"text"'::json`}},
	{scalar(row.Range), []string{"'[1,5)'::int4range", "'{[1,3),[5,6)}'::int4multirange", "'empty'::tstzrange"}},
	{scalar(row.Network), []string{"'10.0.0.1/8'::inet", "'10.0.0.0/8'::cidr", "'08:00:2b:01:02:03'::macaddr"}},
	{scalar(row.Other), []string{"'a & b'::tsquery", "'101'::bit(3)", "'((0,0),(1,1))'::path", "'<(1,2),3>'::circle"}},
	{arrayOf(scalar(row.Int)), []string{"'{}'::int[]", "'{1,NULL,3}'::int[]", "'{{1,2},{3,4}}'::int8[]", "'[0:1]={1,2}'::int[]", "'[2:3][-1:0]={{1,2},{3,4}}'::int[]"}},
	{arrayOf(scalar(row.String)), []string{`ARRAY['a','b c','NULL',NULL,'q"\','','{x}','1,2']::text[]`}},
	{arrayOf(scalar(row.Bool)), []string{"'{t,f,NULL}'::bool[]"}},
	{arrayOf(scalar(row.Float)), []string{"'{1.5,NaN,-Infinity,1e20}'::float8[]"}},
	{arrayOf(scalar(row.TimestampTZ)), []string{"'{2026-01-02 03:04:05+00,infinity}'::timestamptz[]"}},
	{arrayOf(scalar(row.JSON)), []string{`ARRAY['{"a": [1, "x"]}', 'null', '"s"']::jsonb[]`}},
	{arrayOf(scalar(row.Bytea)), []string{`ARRAY['\x01', '']::bytea[]`}},
	{arrayOf(&row.Type{Name: "box"}), []string{"'{(1,1),(0,0);(2,2),(1,1)}'::box[]"}},
}

// What AppendJSON makes of a value's text means what Postgres' to_jsonb makes of the value.
func TestAppendJSONAgreesWithPostgres(t *testing.T) {
	ctx := context.Background()
	conn := devstack.Postgres(t).Conn(ctx)
	if _, err := conn.Exec(ctx, "SET timezone = 'UTC'"); err != nil {
		t.Fatal(err)
	}
	for _, c := range postgresValues {
		for _, expr := range c.exprs {
			text, want := ask(t, conn, expr)
			got := row.AppendJSON(nil, c.typ, text)
			if !reflect.DeepEqual(meaning(t, got), meaning(t, want)) {
				t.Errorf("%s: text %s is %s, and in Postgres %s", expr, text, got, want)
			}
		}
	}
}

// ask is the text form and the JSON of an expression. The text comes from the type's output function, as in
// logical replication: a cast of a boolean or a char(n) to text would be another one.
func ask(t *testing.T, conn *pgx.Conn, expr string) (text, want []byte) {
	t.Helper()
	result := conn.PgConn().ExecParams(context.Background(), "SELECT v, to_jsonb(v) FROM (SELECT "+expr+" AS v) AS q", nil, nil, nil, nil).Read()
	if result.Err != nil {
		t.Fatalf("%s: %v", expr, result.Err)
	}
	return result.Rows[0][0], result.Rows[0][1]
}

// meaning is JSON as values that compare equal when they mean the same; numbers exactly.
func meaning(t *testing.T, text []byte) any {
	t.Helper()
	var v any
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatalf("%s is not JSON: %v", text, err)
	}
	return exactNumbers(text, v)
}

// exactNumbers replaces what floats would round: it decodes again with the digits kept.
func exactNumbers(text []byte, v any) any {
	switch v := v.(type) {
	case float64:
		exact, ok := new(big.Rat).SetString(string(text))
		if !ok {
			return v
		}
		return exact.String()
	case []any:
		var parts []json.RawMessage
		if json.Unmarshal(text, &parts) != nil {
			return v
		}
		for i := range v {
			v[i] = exactNumbers(parts[i], v[i])
		}
	case map[string]any:
		var parts map[string]json.RawMessage
		if json.Unmarshal(text, &parts) != nil {
			return v
		}
		for k := range v {
			v[k] = exactNumbers(parts[k], v[k])
		}
	}
	return v
}
