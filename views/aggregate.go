package views

import (
	"math"
	"strconv"
	"strings"

	"github.com/lanternist/lanternist/row"
)

// aggregate is a compiled count, sum, min or max over the rows of a join: those that its where lets through,
// before its limit. As in SQL, nulls are passed over, the count of nothing is 0, and the sum, the least and the
// greatest of nothing are null.
type aggregate struct {
	op   string
	join *join
	slot int // of the join's target; -1 for the count of rows
	typ  row.Type
}

var (
	bigintType  = row.Type{OID: 20, Mod: -1, Name: "bigint", Class: row.Int}
	numericType = row.Type{OID: 1700, Mod: -1, Name: "numeric", Class: row.Numeric}
)

// aggregateField compiles an aggregate over a join declared beside it.
func (c *compiler) aggregateField(o *object, def *fieldDef, siblings []*fieldDef) *field {
	name, of, hasColumn := strings.Cut(def.of.text, ".")
	j, declared := findJoin(o, siblings, name)
	if !declared {
		c.failf(def.of.line, "%s of %q: no join %q is declared beside it%s", def.op.text, def.of.text, name, meant(name, joinNames(siblings)))
		return nil
	}
	if j == nil {
		return nil // the join has a problem of its own
	}
	a := &aggregate{op: def.op.text, join: j, slot: -1}
	switch {
	case hasColumn:
		if a.slot = c.memberSlot(j.target, word{of, def.of.line}); a.slot < 0 {
			return nil
		}
	case j.value >= 0:
		a.slot = j.value
	case a.op != "count":
		c.failf(def.of.line, "%s needs a column, such as {%s: %s.%s}", a.op, a.op, name, j.target.schema.Columns[0].Name)
		return nil
	}
	if !c.aggregateType(a, def) {
		return nil
	}
	return &field{name: def.name.text, kind: aggregateField, as: def.as, aggregate: a, typ: a.typ}
}

// findJoin is the compiled join of that name, and whether one is declared at all.
func findJoin(o *object, siblings []*fieldDef, name string) (*join, bool) {
	for _, j := range o.joins {
		if j.name == name {
			return j, true
		}
	}
	for _, f := range siblings {
		if f.kind == joinField && f.name.text == name {
			return nil, true
		}
	}
	return nil, false
}

func joinNames(defs []*fieldDef) []string {
	var names []string
	for _, f := range defs {
		if f.kind == joinField {
			names = append(names, f.name.text)
		}
	}
	return names
}

// memberSlot is the slot of what a name means in a joined object: its field of that name when that is a column,
// else the column of the table.
func (c *compiler) memberSlot(o *object, w word) int {
	for _, f := range o.fields {
		if f.name == w.text && f.kind == columnField {
			return f.slot
		}
	}
	i := c.column(o, w)
	if i < 0 {
		return -1
	}
	return o.slot(i)
}

// aggregateType sets the type of the result, as Postgres has it, or reports that there is none.
func (c *compiler) aggregateType(a *aggregate, def *fieldDef) bool {
	if a.op == "count" {
		a.typ = bigintType
		return true
	}
	t := a.join.target.slots[a.slot].typ
	if a.op != "sum" {
		if !isOrdered(&t) {
			c.failf(def.of.line, "%s of %q: %s has no order here", a.op, def.of.text, t.Name)
			return false
		}
		a.typ = t
		return true
	}
	switch {
	case t.Class == row.Int && t.Name != "bigint":
		a.typ = bigintType
	case t.Class == row.Int || t.Class == row.Numeric:
		a.typ = numericType
	case t.Class == row.Float:
		a.typ = t
	default:
		c.failf(def.of.line, "sum of %q: %s is not a number", def.of.text, t.Name)
		return false
	}
	return true
}

// appendText appends the result's text over rows to dst; false is null.
func (a *aggregate) appendText(dst []byte, rows []instance) ([]byte, bool) {
	switch a.op {
	case "count":
		return strconv.AppendInt(dst, a.count(rows), 10), true
	case "sum":
		return a.sum(dst, rows)
	}
	var best []byte
	for i := range rows {
		v := rows[i].values[a.slot]
		if v.Kind != row.Text {
			continue
		}
		if best != nil {
			if c := compareText(a.typ.Class, v.Text, best); c == 0 || (c < 0) != (a.op == "min") {
				continue
			}
		}
		best = v.Text
	}
	return append(dst, best...), best != nil
}

func (a *aggregate) count(rows []instance) int64 {
	if a.slot < 0 {
		return int64(len(rows))
	}
	n := int64(0)
	for i := range rows {
		if rows[i].values[a.slot].Kind == row.Text {
			n++
		}
	}
	return n
}

// sum adds up the values: integers and numerics exactly, floats in the order of the rows.
func (a *aggregate) sum(dst []byte, rows []instance) ([]byte, bool) {
	var exact decimalSum
	var float float64
	n := 0
	isFloat := a.typ.Class == row.Float
	for i := range rows {
		v := rows[i].values[a.slot]
		if v.Kind != row.Text {
			continue
		}
		n++
		if !isFloat {
			exact.add(v.Text)
			continue
		}
		f, err := strconv.ParseFloat(string(v.Text), 64)
		if err != nil {
			f = math.NaN()
		}
		float += f
	}
	if n == 0 {
		return dst, false
	}
	if !isFloat {
		return exact.append(dst), true
	}
	return appendFloat(dst, float, a.typ.Name == "real"), true
}
