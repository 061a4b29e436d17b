package e2e

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
	"unicode/utf8"
)

// millis is what the index keeps of a time; infinities have no place in it.
const (
	millis     = "date_trunc('milliseconds', CASE WHEN isfinite(%s) THEN %s END)"
	finiteOnly = "CASE WHEN isfinite(%s) THEN %s END"
)

// valueColumns is a column of every type, with how its values are made and what is expected of them.
func valueColumns() []valueColumn {
	number := "CASE WHEN %s::text NOT IN ('NaN', 'Infinity', '-Infinity') AND abs(%s::numeric) < 1.7e308 THEN %s::text::float8 END"
	text := func(g func(*rand.Rand) string) func(*rand.Rand) *string {
		return func(r *rand.Rand) *string { s := g(r); return &s }
	}
	one := func(values ...string) func(*rand.Rand) *string {
		return text(func(r *rand.Rand) string { return values[r.IntN(len(values))] })
	}
	asText := "%s::text"
	columns := []valueColumn{
		{name: "a_smallint", typ: "smallint", generate: text(integers(16)), filter: "%s", ordered: true},
		{name: "an_integer", typ: "integer", generate: text(integers(32)), filter: "%s", ordered: true},
		{name: "a_bigint", typ: "bigint", generate: text(integers(64)), filter: "%s", ordered: true},
		{name: "an_oid", typ: "oid", generate: one("0", "1", "4294967295", "16384"), truth: "to_jsonb(%s::bigint)", filter: "%s"},
		{name: "a_numeric", typ: "numeric", generate: text(numerics), truth: "CASE WHEN length(%s::text) > 1000 THEN to_jsonb(%s::text) ELSE to_jsonb(%s) END", filter: number, ordered: true},
		{name: "a_price", typ: "price", generate: text(func(r *rand.Rand) string { return fmt.Sprintf("%.2f", r.NormFloat64()*1e5) }), filter: number, ordered: true},
		{name: "a_real", typ: "real", generate: text(floats(32)), filter: number, ordered: true},
		{name: "a_double", typ: "double precision", generate: text(floats(64)), filter: number, ordered: true},
		{name: "a_money", typ: "money", generate: text(func(r *rand.Rand) string { return fmt.Sprintf("%d.%02d", r.Int64N(1<<54)-1<<53, r.IntN(100)) }), truth: "to_jsonb(%s::numeric)", filter: "%s::numeric::float8", ordered: true},
		{name: "a_bool", typ: "boolean", generate: one("t", "f"), filter: "%s"},
		{name: "a_text", typ: "text", generate: text(texts), filter: "CASE WHEN length(%s) <= 1024 THEN %s COLLATE \"C\" END"},
		{name: "a_varchar", typ: "varchar(20)", generate: text(func(r *rand.Rand) string { return firstRunes(texts(r), 20) }), filter: "%s COLLATE \"C\""},
		{name: "a_bpchar", typ: "character(7)", generate: text(func(r *rand.Rand) string { return firstRunes(texts(r), 7) })},
		{name: "a_name", typ: "name", generate: one("x", `a "quoted" Name`, "é"), filter: asText},
		{name: "a_char", typ: `"char"`, generate: one("a", "", "~", "\\")},
		{name: "an_xml", typ: "xml", generate: one("<a b=\"1\">é</a>", "text &amp; <b/>", "")},
		{name: "a_bytea", typ: "bytea", generate: text(bytesText)},
		{name: "a_uuid", typ: "uuid", generate: text(func(r *rand.Rand) string { return fmt.Sprintf("%016x%016x", r.Uint64(), r.Uint64()) }), filter: "%s"},
		{name: "a_date", typ: "date", generate: text(dates), filter: finiteOnly, ordered: true},
		{name: "a_timestamp", typ: "timestamp", generate: text(timestamps("")), filter: millis, ordered: true},
		{name: "a_timestamp0", typ: "timestamp(0)", generate: text(timestamps("")), filter: millis, ordered: true},
		{name: "a_timestamptz", typ: "timestamptz", generate: text(timestamps("+05:45")), filter: millis, ordered: true},
		{name: "a_time", typ: "time", generate: text(clocks), filter: asText},
		{name: "a_timetz", typ: "timetz", generate: text(func(r *rand.Rand) string { return clocks(r) + []string{"+00", "-03:30", "+15:59:59"}[r.IntN(3)] }), filter: asText},
		{name: "an_interval", typ: "interval", generate: text(intervals), filter: asText},
		{name: "a_json", typ: "json", generate: text(func(r *rand.Rand) string { return jsonText(r, 3, "\n") })},
		{name: "a_jsonb", typ: "jsonb", generate: text(func(r *rand.Rand) string { return jsonText(r, 3, " ") })},
		{name: "an_inet", typ: "inet", generate: one("10.0.0.1", "10.0.0.1/8", "::1", "2001:db8::/32"), filter: "NULLIF(concat(%s, ''), '')"}, // a cast adds a mask
		{name: "a_cidr", typ: "cidr", generate: one("10.0.0.0/8", "2001:db8::/32"), filter: asText},
		{name: "a_macaddr", typ: "macaddr", generate: one("08:00:2b:01:02:03", "ffffffffffff"), filter: asText},
		{name: "a_macaddr8", typ: "macaddr8", generate: one("08:00:2b:01:02:03:04:05"), filter: asText},
		{name: "a_bit", typ: "bit(5)", generate: one("00000", "10101"), filter: asText},
		{name: "a_varbit", typ: "bit varying", generate: one("", "1", strings.Repeat("10", 70)), filter: "NULLIF(%s::text, '')"},
		{name: "a_tsvector", typ: "tsvector", generate: one("", "'a':1A 'it''s':2,3B", "'\\\\'"), truth: "to_jsonb(%s::text)"},
		{name: "a_tsquery", typ: "tsquery", generate: one("'a' & !'b' <-> 'c':*B"), filter: asText},
		{name: "a_jsonpath", typ: "jsonpath", generate: one(`$."a b"[*] ? (@ > 1)`), filter: asText},
		{name: "a_point", typ: "point", generate: text(points), truth: "CASE WHEN %s IS NULL THEN 'null' WHEN %s[0]::text ~ 'a|I' OR %s[1]::text ~ 'a|I' THEN to_jsonb(%s::text) ELSE jsonb_build_array(%s[0], %s[1]) END"},
		{name: "a_line", typ: "line", generate: one("{1,-2.5,0}")},
		{name: "a_lseg", typ: "lseg", generate: one("[(1,2),(3,4)]")},
		{name: "a_box", typ: "box", generate: one("(3,4),(1,2)")},
		{name: "a_path", typ: "path", generate: one("((0,0),(1,1))", "[(0,0),(1e300,1)]")},
		{name: "a_polygon", typ: "polygon", generate: one("((0,0),(1,1),(1,0))")},
		{name: "a_circle", typ: "circle", generate: one("<(1,2),3>")},
		{name: "a_lsn", typ: "pg_lsn", generate: one("0/0", "16/B374D848", "FFFFFFFF/FFFFFFFF"), filter: asText},
		{name: "a_snapshot", typ: "pg_snapshot", generate: one("10:20:10,14,15"), filter: asText},
		{name: "a_txid_snapshot", typ: "txid_snapshot", generate: one("10:20:10,14,15"), filter: asText},
		{name: "an_xid", typ: "xid", generate: one("0", "4294967295"), filter: asText},
		{name: "an_xid8", typ: "xid8", generate: one("18446744073709551615"), filter: asText},
		{name: "a_cid", typ: "cid", generate: one("7"), filter: asText},
		{name: "a_tid", typ: "tid", generate: one("(4294967295,65535)"), filter: asText},
		{name: "a_regclass", typ: "regclass", generate: one("pg_class", "every", "information_schema.tables"), truth: "to_jsonb(CASE WHEN %s = 'every'::regclass THEN 'public.every' ELSE %s::text END)"},
		{name: "a_regtype", typ: "regtype", generate: one("integer", "timestamptz", `"char"`), filter: asText},
		{name: "a_regrole", typ: "regrole", generate: one("pg_monitor"), filter: asText},
		{name: "a_regproc", typ: "regprocedure", generate: one("lower(text)"), filter: asText},
		{name: "an_int2vector", typ: "int2vector", generate: one("1 2 3", ""), truth: "to_jsonb(%s::text)"},
		{name: "an_int4range", typ: "int4range", generate: one("[1,5)", "empty", "(,)", "[,3]"), filter: asText},
		{name: "a_numrange", typ: "numrange", generate: one("[1.10,NaN]", "(-Infinity,1e50)"), filter: asText},
		{name: "a_daterange", typ: "daterange", generate: one("[2026-01-01,infinity]", "[0044-03-15 BC,)"), filter: asText},
		{name: "a_tstzrange", typ: "tstzrange", generate: one("[2026-01-01 00:00+02,infinity)", "(,2026-01-01 12:00:00.000001+00]"), filter: asText},
		{name: "a_multirange", typ: "nummultirange", generate: one("{}", "{[1,2),(5.5,)}"), filter: asText},
		{name: "a_mood", typ: "mood", generate: one("sad", `so "so"`, "häppy"), filter: asText},
		{name: "a_pair", typ: "pair", generate: one(`(1,"a b")`, `(,)`, `(-1,"q""\\,(")`), truth: "to_jsonb(%s::text)", filter: asText},
		{name: "some_pairs", typ: "pairs", generate: one(`("(1,x)","{""(2,\\""y z\\"")"",NULL}")`), truth: "to_jsonb(%s::text)"},
		{name: "an_hstore", typ: "hstore", generate: one("", `a=>1, b=>NULL, "q\"\\"=>"é 1", ""=>""`)},
		{name: "the_tags", typ: "tags", generate: arrays(texts)},
		{name: "boxes", typ: "boxed[]", generate: one("{(3,4),(1,2);(2,2),(1,1)}")},
		{name: "prices", typ: "price[]", generate: arrays(func(r *rand.Rand) string { return strconv.Itoa(r.IntN(100)) })},
	}
	lists := map[string]bool{
		"a_smallint": true, "a_bigint": true, "a_numeric": true, "a_double": true, "a_bool": true, "a_text": true, "a_bytea": true, "a_uuid": true, "a_date": true,
		"a_timestamp": true, "a_timestamptz": true, "a_time": true, "an_interval": true, "a_json": true, "a_jsonb": true, "an_inet": true, "a_varbit": true, "a_lsn": true,
		"a_tstzrange": true, "a_mood": true, "an_hstore": true, "an_xml": true, "a_circle": true,
	}
	for _, c := range columns {
		if lists[c.name] {
			element := c.generate
			if c.name == "a_numeric" { // Postgres has no notion of a number that is too long
				element = text(func(r *rand.Rand) string { return digitsOf(r, 1+r.IntN(900)) + "." + digitsOf(r, 20) })
			}
			columns = append(columns, valueColumn{name: c.name + "s", typ: c.typ + "[]", generate: arrays(func(r *rand.Rand) string { return *element(r) })})
		}
	}
	return columns
}

// arrays makes arrays in text form: empty, with nulls, of two dimensions, with other lower bounds.
func arrays(element func(*rand.Rand) string) func(*rand.Rand) *string {
	list := func(r *rand.Rand, n int) string {
		parts := make([]string, n)
		for i := range parts {
			parts[i] = "NULL"
			if r.IntN(4) > 0 {
				parts[i] = `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(element(r)) + `"`
			}
		}
		return "{" + strings.Join(parts, ",") + "}"
	}
	return func(r *rand.Rand) *string {
		var text string
		switch r.IntN(4) {
		case 0:
			text = "{}"
		case 1:
			text = "{" + list(r, 2) + "," + list(r, 2) + "}"
		case 2:
			text = "[-1:0]=" + list(r, 2)
		default:
			text = list(r, 1+r.IntN(3))
		}
		return &text
	}
}

func integers(bits int) func(*rand.Rand) string {
	return func(r *rand.Rand) string {
		most := int64(math.MaxInt64) >> (64 - bits)
		edges := []int64{0, 1, -1, most, -most - 1, most - 1, int64(1)<<53&most + 1&most}
		if r.IntN(2) == 0 {
			return strconv.FormatInt(edges[r.IntN(len(edges))], 10)
		}
		return strconv.FormatInt(int64(r.Uint64())>>(64-bits)>>r.IntN(bits), 10)
	}
}

func digitsOf(r *rand.Rand, n int) string {
	var b strings.Builder
	for range n {
		b.WriteByte('0' + byte(r.IntN(10)))
	}
	return b.String()
}

func numerics(r *rand.Rand) string {
	sign := []string{"", "-"}[r.IntN(2)]
	switch r.IntN(8) {
	case 0:
		return []string{"NaN", "Infinity", "-Infinity", "0", "0.000", "-0.10", "1e400", "1e-400"}[r.IntN(8)]
	case 1:
		return sign + digitsOf(r, 1+r.IntN(1000))
	case 2:
		return sign + digitsOf(r, 500) + "." + digitsOf(r, 499)
	case 3:
		return sign + "1" + digitsOf(r, 1000+r.IntN(1000)) // more than a number of JSON may have
	}
	return sign + digitsOf(r, 1+r.IntN(30)) + "." + digitsOf(r, 1+r.IntN(20))
}

func floats(bits int) func(*rand.Rand) string {
	return func(r *rand.Rand) string {
		if r.IntN(3) == 0 {
			return []string{"NaN", "Infinity", "-Infinity", "-0", "0", "1e-30", "16777217", "0.1", "1e15", "123456.7"}[r.IntN(10)]
		}
		f := math.Float64frombits(r.Uint64())
		if bits == 32 {
			f = float64(math.Float32frombits(r.Uint32()))
		}
		return strconv.FormatFloat(f, 'g', -1, bits)
	}
}

// texts makes texts of any characters but zero, now and then long enough to be stored out of line.
func texts(r *rand.Rand) string {
	if r.IntN(12) == 0 {
		return strings.Repeat("long ø 😀\t", 300+r.IntN(900))
	}
	var b strings.Builder
	for range r.IntN(12) {
		switch r.IntN(5) {
		case 0:
			b.WriteRune(rune(1 + r.IntN(31))) // control characters
		case 1:
			b.WriteString([]string{`"`, `\`, "'", "{", "}", ",", "NULL", "\u2028", "\ufeff", "\u007f", "\ufffd", "\uffff", "\U0010ffff"}[r.IntN(13)])
		case 2:
			if c := rune(0x80 + r.IntN(0x10ff7f)); utf8.ValidRune(c) {
				b.WriteRune(c)
			}
		default:
			b.WriteByte(' ' + byte(r.IntN(95)))
		}
	}
	return b.String()
}

func firstRunes(s string, n int) string {
	runes := []rune(s)
	return strings.TrimRight(string(runes[:min(n, len(runes))]), " ")
}

func bytesText(r *rand.Rand) string {
	n := r.IntN(10)
	if r.IntN(10) == 0 {
		n = 5000
	}
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return fmt.Sprintf(`\x%x`, b)
}

// dates makes dates of all years: 4714 BC to 5874897.
func dates(r *rand.Rand) string {
	switch r.IntN(6) {
	case 0:
		return []string{"infinity", "-infinity", "4714-11-24 BC", "5874897-12-31", "0001-01-01", "0001-12-31 BC", "9999-12-31", "10000-01-01"}[r.IntN(8)]
	case 1:
		return fmt.Sprintf("%04d-%02d-%02d BC", 1+r.IntN(4713), 1+r.IntN(10), 1+r.IntN(28))
	case 2:
		return fmt.Sprintf("%d-%02d-%02d", 10000+r.IntN(5_000_000), 1+r.IntN(12), 1+r.IntN(28))
	}
	return fmt.Sprintf("%04d-%02d-%02d", 1+r.IntN(9999), 1+r.IntN(12), 1+r.IntN(28))
}

func clocks(r *rand.Rand) string {
	if r.IntN(6) == 0 {
		return []string{"24:00:00", "00:00:00", "23:59:59.999999"}[r.IntN(3)]
	}
	clock := fmt.Sprintf("%02d:%02d:%02d", r.IntN(24), r.IntN(60), r.IntN(60))
	return clock + []string{"", ".5", ".123", ".000001", ".999999", ".123450"}[r.IntN(6)]
}

// timestamps makes timestamps of all years: 4714 BC to 294276.
func timestamps(zone string) func(*rand.Rand) string {
	return func(r *rand.Rand) string {
		if r.IntN(8) == 0 {
			return []string{"infinity", "-infinity", "4714-11-25 00:00:00+00 BC", "294276-12-31 23:59:59.999999+00"}[r.IntN(4)]
		}
		for {
			date, era, _ := strings.Cut(dates(r), " ")
			if era != "" {
				era = " " + era
			}
			year, _, dated := strings.Cut(date, "-")
			if n, err := strconv.Atoi(year); !dated || err != nil || n > 294000 || (era != "" && n > 4712) {
				continue
			}
			return date + " " + clocks(r) + zone + era
		}
	}
}

func intervals(r *rand.Rand) string {
	switch r.IntN(4) {
	case 0:
		return []string{"0", "-178000000 years", "178000000 years", "-00:00:00.000001"}[r.IntN(4)]
	case 1:
		return fmt.Sprintf("%d mons", r.IntN(100)-50)
	}
	return fmt.Sprintf("%d years %d mons %d days %d hours %d.%06d secs", r.IntN(20)-10, r.IntN(30)-15, r.IntN(80)-40, r.IntN(99)-50, r.IntN(200)-100, r.IntN(1_000_000))
}

func points(r *rand.Rand) string {
	coordinate := floats(64)
	return "(" + coordinate(r) + "," + coordinate(r) + ")"
}

// jsonText makes JSON. Members of an object have different names: Elasticsearch refuses others.
func jsonText(r *rand.Rand, depth int, space string) string {
	kind := r.IntN(8)
	if depth == 0 {
		kind = r.IntN(6)
	}
	switch kind {
	case 0:
		return []string{"null", "true", "false"}[r.IntN(3)]
	case 1:
		return []string{"0", "-0", "1e400", "-1.50e-7", "9007199254740993", "1" + digitsOf(r, 400), "0." + digitsOf(r, 300)}[r.IntN(7)]
	case 2, 3, 4, 5:
		return []string{`""`, `"a\nb\tc"`, `"\u00e9\ud83d\ude00"`, `"é😀\"\\/"`, `"` + digitsOf(r, 5) + `"`}[r.IntN(5)]
	case 6:
		parts := make([]string, r.IntN(4))
		for i := range parts {
			parts[i] = jsonText(r, depth-1, space)
		}
		return "[" + strings.Join(parts, ","+space) + "]"
	}
	var parts []string
	for _, name := range []string{"", "a", "a.b", `q\"`, "é", "_id"}[:r.IntN(7)] {
		parts = append(parts, `"`+name+`":`+space+jsonText(r, depth-1, space))
	}
	return "{" + space + strings.Join(parts, ","+space) + "}"
}
