package views

import (
	"bytes"
	"cmp"
	"strconv"

	"github.com/lanternist/lanternist/row"
)

// orderColumn is one column that joined rows are sorted by.
type orderColumn struct {
	slot       int
	class      row.Class
	descending bool
}

// isOrdered says whether values of a type can be sorted here. Text, enums and uuids are sorted by their bytes,
// which for enums is by label and not by position; types whose text has no order of its own are not sorted.
func isOrdered(t *row.Type) bool {
	switch t.Class {
	case row.String, row.Bool, row.Int, row.Float, row.Numeric, row.UUID, row.Date, row.Timestamp, row.TimestampTZ, row.Bytea, row.Enum, row.Money:
		return true
	case row.Time:
		return t.Name != "time with time zone"
	}
	return false
}

// compareRows orders two rows of one object. Nulls are last in either direction.
func compareRows(a, b []row.Value, order []orderColumn) int {
	for i := range order {
		by := &order[i]
		va, vb := a[by.slot], b[by.slot]
		aNull, bNull := va.Kind != row.Text, vb.Kind != row.Text
		if aNull || bNull {
			if aNull == bNull {
				continue
			}
			if aNull {
				return 1
			}
			return -1
		}
		c := compareText(by.class, va.Text, vb.Text)
		if c == 0 {
			continue
		}
		if by.descending {
			return -c
		}
		return c
	}
	return 0
}

// compareText orders two values of a class as Postgres does, text as in collation "C".
func compareText(class row.Class, a, b []byte) int {
	switch class {
	case row.Int, row.Numeric:
		return compareNumeric(a, b)
	case row.Money:
		return compareNumeric(row.AppendMoneyDigits(nil, a), row.AppendMoneyDigits(nil, b))
	case row.Float:
		return compareFloat(a, b)
	case row.Date, row.Timestamp, row.TimestampTZ:
		return compareTime(a, b)
	}
	return bytes.Compare(a, b)
}

// compareNumeric orders decimal texts exactly. -Infinity is least, then the numbers, Infinity, NaN.
func compareNumeric(a, b []byte) int {
	ra, rb := numericRank(a), numericRank(b)
	if ra != rb || ra != 0 {
		return cmp.Compare(ra, rb)
	}
	na, nb := a[0] == '-', b[0] == '-'
	if na {
		a = a[1:]
	}
	if nb {
		b = b[1:]
	}
	c := compareMagnitude(a, b)
	switch {
	case na && nb:
		return -c
	case na != nb && isZero(a) && isZero(b):
		return 0
	case na:
		return -1
	case nb:
		return 1
	}
	return c
}

// numericRank is 0 for a number, and tells the other values apart. An empty text, which no number is, comes first.
func numericRank(text []byte) int {
	if len(text) == 0 {
		return -2
	}
	switch text[0] {
	case 'N':
		return 2
	case 'I':
		return 1
	case '-':
		if len(text) > 1 && text[1] == 'I' {
			return -1
		}
	}
	return 0
}

// compareMagnitude orders two unsigned decimals.
func compareMagnitude(a, b []byte) int {
	wholeA, fractionA := splitDecimal(a)
	wholeB, fractionB := splitDecimal(b)
	if c := cmp.Compare(len(wholeA), len(wholeB)); c != 0 {
		return c
	}
	if c := bytes.Compare(wholeA, wholeB); c != 0 {
		return c
	}
	return bytes.Compare(bytes.TrimRight(fractionA, "0"), bytes.TrimRight(fractionB, "0"))
}

// splitDecimal is the digits before the point, without leading zeros, and those behind it.
func splitDecimal(text []byte) (whole, fraction []byte) {
	whole = text
	if i := bytes.IndexByte(text, '.'); i >= 0 {
		whole, fraction = text[:i], text[i+1:]
	}
	return bytes.TrimLeft(whole, "0"), fraction
}

func isZero(text []byte) bool {
	for _, c := range text {
		if c != '0' && c != '.' {
			return false
		}
	}
	return true
}

// compareFloat orders floating point texts; NaN is greatest.
func compareFloat(a, b []byte) int {
	fa, errA := strconv.ParseFloat(string(a), 64)
	fb, errB := strconv.ParseFloat(string(b), 64)
	if errA != nil || errB != nil {
		return bytes.Compare(a, b)
	}
	switch {
	case fa != fa && fb != fb:
		return 0
	case fa != fa:
		return 1
	case fb != fb:
		return -1
	}
	return cmp.Compare(fa, fb)
}

// compareTime orders dates and timestamps of one type in ISO text form: infinities at the ends, years BC
// before all others, and within an era the year by its number and the rest by its text.
func compareTime(a, b []byte) int {
	ea, eb := timeEra(a), timeEra(b)
	if ea != eb || ea == -2 || ea == 2 {
		return cmp.Compare(ea, eb)
	}
	yearA, restA := splitYear(a)
	yearB, restB := splitYear(b)
	c := compareMagnitude(yearA, yearB)
	if ea < 0 {
		c = -c
	}
	if c != 0 {
		return c
	}
	return bytes.Compare(restA, restB)
}

// timeEra is -2 for -infinity, -1 for BC, 1 for AD, 2 for infinity.
func timeEra(text []byte) int {
	switch {
	case bytes.HasPrefix(text, []byte("-i")):
		return -2
	case bytes.HasPrefix(text, []byte("i")):
		return 2
	case bytes.HasSuffix(text, []byte("BC")):
		return -1
	}
	return 1
}

func splitYear(text []byte) (year, rest []byte) {
	if i := bytes.IndexByte(text, '-'); i >= 0 {
		return text[:i], text[i:]
	}
	return text, nil
}
