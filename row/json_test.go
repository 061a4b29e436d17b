package row_test

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/lanternist/lanternist/row"
)

func scalar(class row.Class) *row.Type { return &row.Type{Class: class, Mod: -1} }

func arrayOf(elem *row.Type) *row.Type { return &row.Type{Class: row.Array, Mod: -1, Elem: elem} }

func TestAppendJSON(t *testing.T) {
	box := &row.Type{Class: row.Other, Name: "box"}
	for _, c := range []struct {
		typ  *row.Type
		text string
		want string
	}{
		{scalar(row.Int), "-42", `-42`},
		{scalar(row.Int), "9223372036854775807", `9223372036854775807`},
		{scalar(row.Numeric), "1.10", `1.10`},
		{scalar(row.Numeric), "NaN", `"NaN"`},
		{scalar(row.Numeric), "-Infinity", `"-Infinity"`},
		{scalar(row.Float), "1e+20", `1e+20`},
		{scalar(row.Float), "-0", `-0`},
		{scalar(row.Float), "1.5e-07", `1.5e-07`},
		{scalar(row.Float), ".5", `".5"`},
		{scalar(row.Float), "1.", `"1."`},
		{scalar(row.Int), "007", `"007"`},
		{scalar(row.Int), "", `""`},
		{scalar(row.Bool), "t", `true`},
		{scalar(row.Bool), "f", `false`},
		{scalar(row.Bool), "maybe", `"maybe"`},
		{scalar(row.String), "a\"b\\c\n\r\t\x01\u00e9\u2028", `"a\"b\\c\n\r\t\u0001é` + "\u2028" + `"`},
		{scalar(row.String), "a\xffb", "\"a\ufffdb\""},
		{scalar(row.Date), "2026-01-02", `"2026-01-02"`},
		{scalar(row.Date), "infinity", `"infinity"`},
		{scalar(row.Date), "0044-03-15 BC", `"0044-03-15 BC"`},
		{scalar(row.Timestamp), "2026-01-02 03:04:05.123", `"2026-01-02T03:04:05.123"`},
		{scalar(row.Timestamp), "0044-03-15 12:00:00 BC", `"0044-03-15T12:00:00 BC"`},
		{scalar(row.Timestamp), "-infinity", `"-infinity"`},
		{scalar(row.TimestampTZ), "2026-01-02 03:04:05.123456+00", `"2026-01-02T03:04:05.123456+00:00"`},
		{scalar(row.TimestampTZ), "2026-01-02 03:04:05+05:30", `"2026-01-02T03:04:05+05:30"`},
		{scalar(row.TimestampTZ), "0044-03-15 12:00:00+00 BC", `"0044-03-15T12:00:00+00:00 BC"`},
		{scalar(row.JSON), "{\"a\":\n [1, 2]}", `{"a":  [1, 2]}`},
		{scalar(row.Bytea), `\x00ff`, `"\\x00ff"`},
		{scalar(row.Range), `[1,5)`, `"[1,5)"`},
		{scalar(row.Composite), `(1,"a b")`, `"(1,\"a b\")"`},
		{arrayOf(scalar(row.Int)), `{}`, `[]`},
		{arrayOf(scalar(row.Int)), `{1,NULL,3}`, `[1,null,3]`},
		{arrayOf(scalar(row.Int)), `{{1,2},{3,4}}`, `[[1,2],[3,4]]`},
		{arrayOf(scalar(row.Int)), `[0:1]={1,2}`, `[1,2]`},
		{arrayOf(scalar(row.Int)), `[0:1][2:3]={{1,2},{3,4}}`, `[[1,2],[3,4]]`},
		{arrayOf(scalar(row.String)), `{a,"b c","NULL",null,"q\"\\",""}`, `["a","b c","NULL",null,"q\"\\",""]`},
		{arrayOf(scalar(row.Bool)), `{t,f}`, `[true,false]`},
		{arrayOf(scalar(row.TimestampTZ)), `{"2026-01-02 03:04:05+00"}`, `["2026-01-02T03:04:05+00:00"]`},
		{arrayOf(scalar(row.JSON)), `{"{\"a\": [1, 2]}"}`, `[{"a": [1, 2]}]`},
		{arrayOf(scalar(row.Bytea)), `{"\\x01"}`, `["\\x01"]`},
		{arrayOf(box), `{(1,1),(0,0);(2,2),(1,1)}`, `["(1,1),(0,0)","(2,2),(1,1)"]`},
		{arrayOf(scalar(row.Int)), `{1,2`, `"{1,2"`},
		{arrayOf(scalar(row.Int)), `{1,,2}`, `"{1,,2}"`},
		{arrayOf(scalar(row.Int)), `{1}x`, `"{1}x"`},
		{arrayOf(scalar(row.Int)), `1 2 3`, `"1 2 3"`},
		{arrayOf(scalar(row.Int)), strings.Repeat("{", 100), `"` + strings.Repeat("{", 100) + `"`},
	} {
		got := string(row.AppendJSON([]byte("x"), c.typ, []byte(c.text)))[1:]
		if got != c.want {
			t.Errorf("class %d, %q: %s, want %s", c.typ.Class, c.text, got, c.want)
		}
		if !json.Valid([]byte(got)) {
			t.Errorf("class %d, %q: %s is not JSON", c.typ.Class, c.text, got)
		}
	}
}

// Whatever text a value has, what is written for it is JSON on one line; for a json value, if the text is JSON.
func FuzzAppendJSON(f *testing.F) {
	for _, text := range []string{"1", "-1.5e+10", "{1,NULL,\"a\\\"\"}", "[0:1]={t,f}", "2026-01-02 03:04:05+00", "infinity", "\xff\x00", "{{}}"} {
		f.Add(text, uint8(row.Array), uint8(row.String))
		f.Add(text, uint8(row.Numeric), uint8(row.Int))
		f.Add(text, uint8(row.TimestampTZ), uint8(row.JSON))
	}
	f.Fuzz(func(t *testing.T, text string, class, elem uint8) {
		typ := &row.Type{Class: row.Class(class) % (row.Vector + 1)}
		if typ.Class == row.Array {
			typ.Elem = &row.Type{Class: row.Class(elem) % (row.Vector + 1)}
			if typ.Elem.Class == row.JSON {
				t.Skip("the elements would have to be JSON")
			}
		}
		if typ.Class == row.JSON && !json.Valid([]byte(text)) {
			t.Skip("not JSON")
		}
		out := row.AppendJSON(nil, typ, []byte(text))
		if !json.Valid(out) {
			t.Fatalf("%+v %q: %q is not JSON", typ, text, out)
		}
		if strings.ContainsAny(string(out), "\n\r") {
			t.Fatalf("%+v %q: %q is more than one line", typ, text, out)
		}
	})
}

// A string read back from its JSON is the string.
func TestAppendJSONStringReadsBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := rapid.String().Draw(t, "text")
		var got string
		if err := json.Unmarshal(row.AppendJSONString(nil, []byte(want)), &got); err != nil {
			t.Fatal(err)
		}
		if utf8.ValidString(want) && got != want {
			t.Fatalf("%q became %q", want, got)
		}
	})
}

// An array read back from its JSON has the elements it was made of.
func TestAppendJSONArrayReadsBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := rapid.SliceOf(rapid.Ptr(rapid.StringMatching(`[ -~\n]{0,8}`), true)).Draw(t, "elements")
		var parts []string
		for _, e := range want {
			if e == nil {
				parts = append(parts, "NULL")
				continue
			}
			parts = append(parts, `"`+strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(*e)+`"`)
		}
		text := "{" + strings.Join(parts, ",") + "}"
		var got []*string
		if err := json.Unmarshal(row.AppendJSON(nil, arrayOf(scalar(row.String)), []byte(text)), &got); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if len(got) != len(want) {
			t.Fatalf("%s: %d elements, want %d", text, len(got), len(want))
		}
		for i := range got {
			if (got[i] == nil) != (want[i] == nil) || (got[i] != nil && *got[i] != *want[i]) {
				t.Fatalf("%s: element %d differs", text, i)
			}
		}
	})
}

func BenchmarkAppendJSON(b *testing.B) {
	var dst []byte
	text := []byte("A fairly usual product name with \"quotes\" in it")
	amount := []byte("1234.50")
	at := []byte("2026-01-02 03:04:05.123456+00")
	b.ReportAllocs()
	for b.Loop() {
		dst = row.AppendJSON(dst[:0], scalarString, text)
		dst = row.AppendJSON(dst, scalarNumeric, amount)
		dst = row.AppendJSON(dst, scalarTime, at)
	}
}

var scalarString, scalarNumeric, scalarTime = scalar(row.String), scalar(row.Numeric), scalar(row.TimestampTZ)
