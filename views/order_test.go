package views

import (
	"cmp"
	"math/big"
	"testing"

	"pgregory.net/rapid"

	"github.com/lanternist/lanternist/row"
)

// Each list is in Postgres' order.
func TestCompareText(t *testing.T) {
	for class, list := range map[row.Class][]string{
		row.Int:     {"-9223372036854775808", "-10", "-9", "0", "9", "10", "9223372036854775807"},
		row.Numeric: {"-Infinity", "-10.5", "-10.49", "-0.1", "0", "0.001", "0.01", "1", "1.01", "10", "123456789012345678901234567890", "Infinity", "NaN"},
		row.Float:   {"-Infinity", "-1e+20", "-0.5", "1e-07", "0.5", "2", "10", "1e+20", "Infinity", "NaN"},
		row.Date:    {"-infinity", "0100-01-01 BC", "0044-03-15 BC", "0044-12-31 BC", "0001-01-01", "1999-12-31", "2026-01-02", "9999-12-31", "10000-01-01", "infinity"},
		row.TimestampTZ: {"-infinity", "0044-03-15 12:00:00+00 BC", "2026-01-02 03:04:05+00", "2026-01-02 03:04:05.1+00", "2026-01-02 03:04:05.12+00",
			"2026-01-02 03:04:06+00", "10000-01-01 00:00:00+00", "infinity"},
		row.String: {"", "A", "B", "a", "ab", "é"},
		row.Bool:   {"f", "t"},
	} {
		for i, a := range list {
			for j, b := range list {
				if got := compareText(class, []byte(a), []byte(b)); cmp.Compare(got, 0) != cmp.Compare(i, j) {
					t.Errorf("class %d: %q against %q is %d", class, a, b, got)
				}
			}
		}
	}
	for _, pair := range [][2]string{{"1.0", "1.00"}, {"0", "0.00"}, {"-0", "0"}, {"007", "7"}} {
		if c := compareText(row.Numeric, []byte(pair[0]), []byte(pair[1])); c != 0 {
			t.Errorf("%s against %s is %d", pair[0], pair[1], c)
		}
	}
}

func decimalText() *rapid.Generator[string] {
	return rapid.StringMatching(`-?[0-9]{1,25}(\.[0-9]{1,6})?`)
}

func TestCompareNumericIsExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := decimalText().Draw(t, "a"), decimalText().Draw(t, "b")
		x, _ := new(big.Rat).SetString(a)
		y, _ := new(big.Rat).SetString(b)
		if got := compareNumeric([]byte(a), []byte(b)); got != x.Cmp(y) {
			t.Fatalf("%s against %s is %d, want %d", a, b, got, x.Cmp(y))
		}
	})
}

func TestDecimalSumIsExact(t *testing.T) {
	small := rapid.StringMatching(`-?[0-9]{1,5}(\.[0-9]{1,3})?`)
	rapid.Check(t, func(t *rapid.T) {
		texts := rapid.SliceOfN(rapid.OneOf(small, decimalText()), 1, 8).Draw(t, "addends")
		var sum decimalSum
		want, scale := new(big.Rat), 0
		for _, text := range texts {
			sum.add([]byte(text))
			v, _ := new(big.Rat).SetString(text)
			want.Add(want, v)
			_, fraction := splitDecimal([]byte(text))
			scale = max(scale, len(fraction))
		}
		if got := string(sum.append(nil)); got != want.FloatString(scale) {
			t.Fatalf("sum of %v is %s, want %s", texts, got, want.FloatString(scale))
		}
	})
}

func TestDecimalSumSpecial(t *testing.T) {
	for _, c := range []struct {
		addends []string
		want    string
	}{
		{[]string{"1", "NaN", "2"}, "NaN"},
		{[]string{"1", "Infinity", "Infinity"}, "Infinity"},
		{[]string{"-Infinity", "5"}, "-Infinity"},
		{[]string{"Infinity", "-Infinity"}, "NaN"},
		{[]string{"NaN", "Infinity"}, "NaN"},
		{[]string{"9223372036854775807", "1"}, "9223372036854775808"},
		{[]string{"-9223372036854775808", "-1"}, "-9223372036854775809"},
		{[]string{"999999999999999999", "0.000001"}, "999999999999999999.000001"},
		{[]string{"0.05", "-0.06"}, "-0.01"},
		{[]string{"0.05", "-0.05"}, "0.00"},
		{[]string{"0", "0"}, "0"},
	} {
		var sum decimalSum
		for _, text := range c.addends {
			sum.add([]byte(text))
		}
		if got := string(sum.append(nil)); got != c.want {
			t.Errorf("sum of %v is %s, want %s", c.addends, got, c.want)
		}
	}
}

func TestAppendFloat(t *testing.T) {
	for _, c := range []struct {
		f      float64
		single bool
		want   string
	}{{0, false, "0"}, {1.5, false, "1.5"}, {1e15, false, "1e+15"}, {123456789012345, false, "123456789012345"}, {1e-5, false, "1e-05"}, {0.0001, false, "0.0001"},
		{1e6, true, "1e+06"}, {float64(float32(0.1)), true, "0.1"}, {1e300, true, "Infinity"}} {
		if got := string(appendFloat(nil, c.f, c.single)); got != c.want {
			t.Errorf("%v is %s, want %s", c.f, got, c.want)
		}
	}
}
