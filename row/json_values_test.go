package row_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"math"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/lanternist/lanternist/row"
)

func TestAppendJSONOfExtensionsAndGeometry(t *testing.T) {
	long := strings.Repeat("7", 1001)
	elem := func(class row.Class, delim byte) *row.Type {
		return &row.Type{Class: row.Array, Mod: -1, Elem: &row.Type{Class: class, Delim: delim}}
	}
	for _, c := range []struct {
		typ  *row.Type
		text string
		want string
	}{
		{scalar(row.Numeric), long[1:], long[1:]},
		{scalar(row.Numeric), long, `"` + long + `"`},
		{scalar(row.Money), "$1,234,567.89", `1234567.89`},
		{scalar(row.Money), "-$0.05", `-0.05`},
		{scalar(row.Money), "-$92,233,720,368,547,758.08", `-92233720368547758.08`},
		{scalar(row.Money), "12,34 €", `"12,34 €"`},
		{scalar(row.Point), "(1,-2.5)", `[1,-2.5]`},
		{scalar(row.Point), "(1e+300,-0)", `[1e+300,-0]`},
		{scalar(row.Point), "(Infinity,NaN)", `"(Infinity,NaN)"`},
		{scalar(row.Point), "(1,2,3)", `"(1,2,3)"`},
		{scalar(row.Vector), "[1,2.5,-3e-05]", `[1,2.5,-3e-05]`},
		{scalar(row.Vector), "[]", `"[]"`},
		{scalar(row.Vector), "[1,]", `"[1,]"`},
		{scalar(row.HStore), ``, `{}`},
		{scalar(row.HStore), `"a"=>"1"`, `{"a":"1"}`},
		{scalar(row.HStore), `"a"=>"1", "b"=>NULL, ""=>"", "q\"\\"=>"NULL", "é\n"=>"=>"`, `{"a":"1","b":null,"":"","q\"\\":"NULL","én":"=>"}`},
		{scalar(row.HStore), `"a"=>1`, `"\"a\"=>1"`},
		{scalar(row.HStore), `"a"=>"1",`, `"\"a\"=>\"1\","`},
		// What PostGIS 3.4 writes, and what its ST_AsGeoJSON makes of it.
		{scalar(row.Geometry), "0101000020E6100000000000000000F03F0000000000000040", `{"type":"Point","coordinates":[1,2]}`},
		{scalar(row.Geometry), "0101000000000000000000F03F0000000000000040", `{"type":"Point","coordinates":[1,2]}`},
		{scalar(row.Geometry), "01010000A0E6100000000000000000F03F00000000000000400000000000000840", `{"type":"Point","coordinates":[1,2,3]}`},
		{scalar(row.Geometry), "0101000060E6100000000000000000F03F00000000000000400000000000000840", `{"type":"Point","coordinates":[1,2]}`}, // M
		{scalar(row.Geometry), "0101000020110F0000000000000000F03F0000000000000040", `{"type":"Point","crs":{"type":"name","properties":{"name":"EPSG:3857"}},"coordinates":[1,2]}`},
		{scalar(row.Geometry), "0101000020E6100000000000000000F87F000000000000F87F", `{"type":"Point","coordinates":[]}`},
		{scalar(row.Geometry), "00000000013FF00000000000004000000000000000", `{"type":"Point","coordinates":[1,2]}`}, // big-endian
		{scalar(row.Geometry), "010200000002000000000000000000F03F000000000000004000000000000008400000000000001040", `{"type":"LineString","coordinates":[[1,2],[3,4]]}`},
		{scalar(row.Geometry), "01030000000100000004000000000000000000000000000000000000000000000000000000000000000000F03F000000000000F03F000000000000F03F00000000000000000000000000000000", `{"type":"Polygon","coordinates":[[[0,0],[0,1],[1,1],[0,0]]]}`},
		{scalar(row.Geometry), "0104000000020000000101000000000000000000F03F0000000000000040010100000000000000000008400000000000001040", `{"type":"MultiPoint","coordinates":[[1,2],[3,4]]}`},
		{scalar(row.Geometry), "0107000020E6100000010000000101000000000000000000F03F0000000000000040", `{"type":"GeometryCollection","geometries":[{"type":"Point","coordinates":[1,2]}]}`},
		{scalar(row.Geometry), "010700000000000000", `{"type":"GeometryCollection","geometries":[]}`},
		{scalar(row.Geometry), "010300000000000000", `{"type":"Polygon","coordinates":[]}`},
		{scalar(row.Geometry), "010800000000000000", `"010800000000000000"`}, // a curve
		{scalar(row.Geometry), "0101000000000000000000F07F0000000000000040", `"0101000000000000000000F07F0000000000000040"`},
		{scalar(row.Geometry), "0101000000000000000000F03F", `"0101000000000000000000F03F"`},
		{scalar(row.Geometry), "0102000000FFFFFFFF", `"0102000000FFFFFFFF"`},
		{elem(row.Geometry, ':'), "{0101000000000000000000F03F0000000000000040:NULL}", `[{"type":"Point","coordinates":[1,2]},null]`},
		{elem(row.Other, ';'), "{(1,1),(0,0);(2,2),(1,1)}", `["(1,1),(0,0)","(2,2),(1,1)"]`},
		{elem(row.HStore, 0), `{"\"a\"=>\"1\"",NULL}`, `[{"a":"1"},null]`},
		{elem(row.Money, 0), `{"$1,000.00",-$0.01}`, `[1000.00,-0.01]`},
		{elem(row.Point, 0), `{"(1,2)","(3,4)"}`, `[[1,2],[3,4]]`},
		{elem(row.Vector, 0), `{"[1,2]","[3,4]"}`, `[[1,2],[3,4]]`},
		{scalar(row.JSON), "{\"a\":\"\xff\"}", "{\"a\":\"\ufffd\"}"},
	} {
		got := string(row.AppendJSON([]byte("x"), c.typ, []byte(c.text)))[1:]
		if got != c.want {
			t.Errorf("class %d, %.80q: %.200s, want %.200s", c.typ.Class, c.text, got, c.want)
		}
		if !json.Valid([]byte(got)) {
			t.Errorf("class %d, %.80q: %.200s is not JSON", c.typ.Class, c.text, got)
		}
	}
}

// hstoreText writes what hstore_out would.
func hstoreText(pairs [][2]*string) string {
	escape := strings.NewReplacer(`\`, `\\`, `"`, `\"`)
	var parts []string
	for _, p := range pairs {
		value := "NULL"
		if p[1] != nil {
			value = `"` + escape.Replace(*p[1]) + `"`
		}
		parts = append(parts, `"`+escape.Replace(*p[0])+`"=>`+value)
	}
	return strings.Join(parts, ", ")
}

// pairsOf reads a JSON object of strings and nulls in its order.
func pairsOf(t *testing.T, object []byte) (pairs [][2]*string) {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(object))
	next := func() json.Token {
		token, err := d.Token()
		if err != nil {
			t.Fatalf("%s: %v", object, err)
		}
		return token
	}
	next() // {
	for d.More() {
		name, _ := next().(string)
		pair := [2]*string{&name, nil}
		if value, ok := next().(string); ok {
			pair[1] = &value
		}
		pairs = append(pairs, pair)
	}
	return pairs
}

// What is read as an hstore reads the same after it was written again.
func FuzzHStore(f *testing.F) {
	for _, text := range []string{``, `"a"=>"1"`, `"a"=>"1", "b"=>NULL`, `"q\"\\"=>"\a", ""=>""`, `"a"=>"1",`, `"a"=>"NULL"`, `a=>1`} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		out := row.AppendJSON(nil, scalar(row.HStore), []byte(text))
		if !json.Valid(out) {
			t.Fatalf("%q: %q is not JSON", text, out)
		}
		if out[0] != '{' {
			return
		}
		again := row.AppendJSON(nil, scalar(row.HStore), []byte(hstoreText(pairsOf(t, out))))
		if !bytes.Equal(again, out) {
			t.Fatalf("%q: %s, and written again %s", text, out, again)
		}
	})
}

// arrayText writes an array of texts as array_out might: every element quoted.
func arrayText(v any) string {
	switch v := v.(type) {
	case nil:
		return "NULL"
	case string:
		return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(v) + `"`
	case []any:
		parts := make([]string, len(v))
		for i := range v {
			parts[i] = arrayText(v[i])
		}
		return "{" + strings.Join(parts, ",") + "}"
	}
	return ""
}

// What is read as an array reads the same after it was written again.
func FuzzArray(f *testing.F) {
	for _, text := range []string{"{}", "{a,NULL,\"b c\"}", "{{1,2},{3,NULL}}", "[0:1][-3:-2]={{1,2},{3,4}}", `{"q\"\\",""}`, "{{}}", "{1,,2}", "{{{{{{{{1}}}}}}}}"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		out := row.AppendJSON(nil, arrayOf(scalar(row.String)), []byte(text))
		var v any
		if err := json.Unmarshal(out, &v); err != nil {
			t.Fatalf("%q: %q: %v", text, out, err)
		}
		if out[0] != '[' {
			return
		}
		again := row.AppendJSON(nil, arrayOf(scalar(row.String)), []byte(arrayText(v)))
		if !bytes.Equal(again, out) {
			t.Fatalf("%q: %s, and written again %s", text, out, again)
		}
	})
}

// geoJSON is a geometry as it is read back.
type geoJSON struct {
	Type string
	CRS  *struct{ Properties struct{ Name string } }

	Coordinates json.RawMessage
	Geometries  []geoJSON
}

var ewkbKinds = map[string]uint32{"Point": 1, "LineString": 2, "Polygon": 3, "MultiPoint": 4, "MultiLineString": 5, "MultiPolygon": 6, "GeometryCollection": 7}

// appendEWKB writes a geometry as PostGIS would.
func appendEWKB(t *testing.T, dst []byte, g geoJSON) []byte {
	t.Helper()
	var coordinates any
	if g.Coordinates != nil {
		if err := json.Unmarshal(g.Coordinates, &coordinates); err != nil {
			t.Fatal(err)
		}
	}
	return appendEWKBOf(t, dst, g, coordinates)
}

func appendEWKBOf(t *testing.T, dst []byte, g geoJSON, coordinates any) []byte {
	t.Helper()
	kind := ewkbKinds[g.Type]
	word := kind
	if dimensions(coordinates) == 3 {
		word |= 0x80000000
	}
	if g.CRS != nil {
		word |= 0x20000000
	}
	dst = binary.LittleEndian.AppendUint32(append(dst, 1), word)
	if g.CRS != nil {
		srid, err := strconv.ParseUint(strings.TrimPrefix(g.CRS.Properties.Name, "EPSG:"), 10, 32)
		if err != nil {
			t.Fatal(err)
		}
		dst = binary.LittleEndian.AppendUint32(dst, uint32(srid))
	}
	list, _ := coordinates.([]any)
	switch {
	case kind == 7:
		dst = binary.LittleEndian.AppendUint32(dst, uint32(len(g.Geometries)))
		for _, inner := range g.Geometries {
			dst = appendEWKB(t, dst, inner)
		}
	case kind > 3:
		names := []string{4: "Point", 5: "LineString", 6: "Polygon"}
		dst = binary.LittleEndian.AppendUint32(dst, uint32(len(list)))
		for _, inner := range list {
			dst = appendEWKBOf(t, dst, geoJSON{Type: names[kind]}, inner)
		}
	default:
		dst = appendPositions(dst, list, int(kind)-1)
	}
	return dst
}

// appendPositions writes lists of positions, depth deep.
func appendPositions(dst []byte, list []any, depth int) []byte {
	if depth > 0 {
		dst = binary.LittleEndian.AppendUint32(dst, uint32(len(list)))
		for _, inner := range list {
			below, _ := inner.([]any)
			dst = appendPositions(dst, below, depth-1)
		}
		return dst
	}
	if len(list) == 0 {
		list = []any{math.NaN(), math.NaN()}
	}
	for _, v := range list {
		f, _ := v.(float64)
		dst = binary.LittleEndian.AppendUint64(dst, math.Float64bits(f))
	}
	return dst
}

// dimensions is how many numbers the first position has.
func dimensions(coordinates any) int {
	list, _ := coordinates.([]any)
	if len(list) == 0 {
		return 0
	}
	if _, ok := list[0].(float64); ok {
		return len(list)
	}
	for _, inner := range list {
		if n := dimensions(inner); n > 0 {
			return n
		}
	}
	return 0
}

// mixed says whether positions of one geometry differ in their dimensions, which GeoJSON cannot tell.
func mixed(t *testing.T, g geoJSON) bool {
	t.Helper()
	found := map[int]bool{}
	var visit func(v any)
	visit = func(v any) {
		list, _ := v.([]any)
		if len(list) > 0 {
			if _, ok := list[0].(float64); ok {
				found[len(list)] = true
			}
		}
		for _, inner := range list {
			visit(inner)
		}
	}
	var coordinates any
	if g.Coordinates != nil {
		if err := json.Unmarshal(g.Coordinates, &coordinates); err != nil {
			t.Fatal(err)
		}
	}
	visit(coordinates)
	for _, inner := range g.Geometries {
		if mixed(t, inner) {
			return true
		}
	}
	return len(found) > 1
}

// What is read as a geometry reads the same after it was written again.
func FuzzGeometry(f *testing.F) {
	for _, text := range []string{
		"0101000020E6100000000000000000F03F0000000000000040",
		"0107000020E6100000010000000101000000000000000000F03F0000000000000040",
		"0104000000020000000101000000000000000000F03F0000000000000040010100000000000000000008400000000000001040",
		"00000000013FF00000000000004000000000000000", "0102000000FFFFFFFF", "010300000000000000", "0101000020110F0000000000000000F03F0000000000000040",
	} {
		raw, err := hex.DecodeString(text)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		out := row.AppendJSON(nil, scalar(row.Geometry), []byte(hex.EncodeToString(raw)))
		if !json.Valid(out) {
			t.Fatalf("%x: %q is not JSON", raw, out)
		}
		if out[0] != '{' {
			return
		}
		var g geoJSON
		if err := json.Unmarshal(out, &g); err != nil {
			t.Fatal(err)
		}
		if mixed(t, g) {
			return
		}
		again := row.AppendJSON(nil, scalar(row.Geometry), []byte(hex.EncodeToString(appendEWKB(t, nil, g))))
		if !bytes.Equal(again, out) {
			t.Fatalf("%x: %s, and written again %s", raw, out, again)
		}
	})
}

// The bytes of a point are read back from its GeoJSON, whatever the coordinates.
func TestGeometryKeepsCoordinates(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		number := rapid.Float64().Filter(func(f float64) bool { return !math.IsNaN(f) && !math.IsInf(f, 0) })
		x, y := number.Draw(t, "x"), number.Draw(t, "y")
		raw := binary.LittleEndian.AppendUint32([]byte{1}, 1)
		raw = binary.LittleEndian.AppendUint64(raw, math.Float64bits(x))
		raw = binary.LittleEndian.AppendUint64(raw, math.Float64bits(y))
		var got struct{ Coordinates [2]float64 }
		out := row.AppendJSON(nil, scalar(row.Geometry), []byte(hex.EncodeToString(raw)))
		if err := json.Unmarshal(out, &got); err != nil {
			t.Fatalf("%s: %v", out, err)
		}
		if math.Float64bits(got.Coordinates[0]) != math.Float64bits(x) || math.Float64bits(got.Coordinates[1]) != math.Float64bits(y) {
			t.Fatalf("%v %v became %v", x, y, got.Coordinates)
		}
	})
}
