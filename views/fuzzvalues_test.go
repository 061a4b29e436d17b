package views

import (
	"cmp"
	"encoding/json"
	"math/big"
	"strings"
	"testing"

	"github.com/lanternist/lanternist/row"
)

// valueTypes are types of each class, by the class.
func valueTypes() []*row.Type {
	var list []*row.Type
	for class := row.Other; class <= row.Vector; class++ {
		t := &row.Type{Class: class, Mod: -1, Name: "t"}
		if class == row.Array {
			t.Elem = &row.Type{Class: row.String, Mod: -1, Name: "text"}
		}
		list = append(list, t)
	}
	return list
}

// Whatever text a value has: it is compared without panic and the same both ways round, expressions get a value or an error, and its
// lookup and its JSON agree.
func FuzzValues(f *testing.F) {
	for _, pair := range [][2]string{
		{"1.10", "-Infinity"}, {"NaN", "1e400"}, {"-0.0", "0"}, {"$1,234.56", "-$0.01"}, {"infinity", "0044-03-15 BC"}, {"12026-01-31 12:00:00+00", "2026-01-31"},
		{"{1,NULL}", "[0:1]={1,2}"}, {`{"a":1e400}`, "[1,"}, {`"a"=>NULL`, "(1,2)"}, {`\x00ff`, `\x0`}, {"", "-"}, {"t", "f"}, {"[1,2]", "0101"}, {"1 year", "."},
	} {
		f.Add(pair[0], pair[1], uint8(row.Numeric))
		f.Add(pair[0], pair[1], uint8(row.TimestampTZ))
		f.Add(pair[0], pair[1], uint8(row.Money))
		f.Add(pair[0], pair[1], uint8(row.JSON))
	}
	types := valueTypes()
	f.Fuzz(func(t *testing.T, a, b string, class uint8) {
		typ := types[int(class)%len(types)]
		if one, other := cmp.Compare(compareText(typ.Class, []byte(a), []byte(b)), 0), cmp.Compare(compareText(typ.Class, []byte(b), []byte(a)), 0); one != -other {
			t.Fatalf("class %d: %q to %q is %d, the other way round %d", typ.Class, a, b, one, other)
		}
		v, err := celValue(typ, row.Value{Kind: row.Text, Text: []byte(a)})
		if err == nil {
			if out, err := appendCEL(nil, v); err == nil && !json.Valid(out) {
				t.Fatalf("class %d, %q: %q is not JSON", typ.Class, a, out)
			}
		}
		_ = lookupText(typ, []byte(a))
		var sum decimalSum
		sum.add([]byte(a))
		sum.add([]byte(b))
		if text := sum.append(nil); len(text) == 0 {
			t.Fatalf("the sum of %q and %q is nothing", a, b)
		}
	})
}

// Numbers that Postgres writes are compared and added as what they are.
func FuzzNumeric(f *testing.F) {
	for _, pair := range [][2]string{{"0", "-0.00"}, {"9223372036854775807", "1"}, {"-1.5", "0.0001"}, {strings.Repeat("9", 400), "-0." + strings.Repeat("3", 300)}} {
		f.Add(pair[0], pair[1])
	}
	isNumeric := func(s string) bool {
		s = strings.TrimPrefix(s, "-")
		whole, fraction, point := strings.Cut(s, ".")
		digits := func(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }
		return digits(whole) && (!point || digits(fraction))
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		if len(a)+len(b) > 4000 || !isNumeric(a) || !isNumeric(b) {
			return
		}
		x, okX := new(big.Rat).SetString(a)
		y, okY := new(big.Rat).SetString(b)
		if !okX || !okY {
			t.Fatalf("%q or %q is no number", a, b)
		}
		if got, want := compareNumeric([]byte(a), []byte(b)), x.Cmp(y); got != want {
			t.Fatalf("%s to %s is %d, want %d", a, b, got, want)
		}
		var sum decimalSum
		sum.add([]byte(a))
		sum.add([]byte(b))
		got, ok := new(big.Rat).SetString(string(sum.append(nil)))
		if want := new(big.Rat).Add(x, y); !ok || got.Cmp(want) != 0 {
			t.Fatalf("%s + %s is %s", a, b, sum.append(nil))
		}
	})
}
