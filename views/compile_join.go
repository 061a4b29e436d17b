package views

import (
	"strconv"
	"strings"

	"github.com/lanternist/lanternist/row"
)

// joinField compiles a join and everything below it. It is nil when the joined table is not known.
func (c *compiler) joinField(o *object, def *fieldDef) *field {
	d := def.join
	path := joinPath(o.path, def.name.text)
	from, pairs := o, d.on
	var link *object
	if d.through.text != "" {
		pairs = d.to
		if schema := c.table(d.through); schema != nil {
			link = c.object(schema, o, path+"(through)")
			link.isLink = true
			c.connect(link, o, d.on)
			from = link
		}
	}
	schema := c.table(d.table)
	if schema == nil {
		return nil
	}
	target := c.object(schema, from, path)
	if link != nil || d.through.text == "" {
		c.connect(target, from, pairs)
	}
	j := &join{
		name: def.name.text, many: d.many, hidden: d.hidden, link: link, target: target,
		value: -1, limit: d.limit, unique: link == nil && target.down.kind == byKey, index: len(o.joins),
	}
	o.joins = append(o.joins, j)
	c.joinContent(j, d)
	c.joinOrder(j, d)
	return &field{name: def.name.text, kind: joinField, join: j}
}

// joinContent compiles what a join gives: an object of fields, or one value; and its filter.
func (c *compiler) joinContent(j *join, d *joinDef) {
	c.fields(j.target, d.fields)
	if d.value.text != "" {
		if i := c.column(j.target, d.value); i >= 0 {
			j.value = j.target.slot(i)
		}
	}
	if d.where != nil {
		j.where = c.filter(j.target, d.where, false)
	}
}

// joinOrder compiles order_by. Rows that it leaves equal are in the order of the primary key.
func (c *compiler) joinOrder(j *join, d *joinDef) {
	for _, by := range d.orderBy {
		i := c.column(j.target, by.column)
		if i < 0 {
			continue
		}
		t := j.target.schema.Columns[i].Type
		if !isOrdered(&t) {
			c.failf(by.column.line, "column %q of %s cannot be sorted by: %s has no order here", by.column.text, j.target.schema.QualifiedName(), t.Name)
			continue
		}
		j.order = append(j.order, orderColumn{slot: j.target.slot(i), class: t.Class, descending: by.descending})
	}
	if j.unique {
		return
	}
	j.target.useKey()
	for n, i := range j.target.keySlots {
		class := j.target.schema.Columns[j.target.schema.Key[n]].Type.Class
		j.order = append(j.order, orderColumn{slot: i, class: class})
	}
}

// connect joins child to parent on the given columns.
func (c *compiler) connect(child, parent *object, pairs []pairDef) {
	var childColumns, parentColumns []int
	for _, pair := range pairs {
		if swapped(child, parent, pair) {
			c.failf(pair.joined.line, "column %q is not in %s: a pair is a column of the joined table, then one of %s; did you mean {%s: %s}?",
				pair.joined.text, child.schema.QualifiedName(), parent.schema.QualifiedName(), pair.from.text, pair.joined.text)
			continue
		}
		a, b := c.column(child, pair.joined), c.column(parent, pair.from)
		if a < 0 || b < 0 {
			continue
		}
		left, right := &child.schema.Columns[a], &parent.schema.Columns[b]
		if why := notJoinable(&left.Type, &right.Type); why != "" {
			c.failf(pair.joined.line, "%s.%s (%s) cannot be joined to %s.%s (%s): %s",
				child.schema.QualifiedName(), left.Name, typeName(&left.Type), parent.schema.QualifiedName(), right.Name, typeName(&right.Type), why)
			continue
		}
		childColumns, parentColumns = append(childColumns, a), append(parentColumns, b)
	}
	childSlots, parentSlots := make([]int, len(childColumns)), make([]int, len(parentColumns))
	for i := range childColumns {
		childSlots[i], parentSlots[i] = child.slot(childColumns[i]), parent.slot(parentColumns[i])
	}
	child.down = newAccess(child, childColumns, parentSlots)
	child.up = newAccess(parent, parentColumns, childSlots)
}

// swapped says whether a pair would be right the other way round, and is wrong as it stands.
func swapped(child, parent *object, pair pairDef) bool {
	return child.column(pair.joined.text) < 0 && child.column(pair.from.text) >= 0 && parent.column(pair.joined.text) >= 0
}

// typeName is a type's name with its modifier, where that matters for a message.
func typeName(t *row.Type) string {
	if t.Class == row.Numeric && t.Mod >= 4 {
		return t.Name + "(" + strconv.Itoa(int((t.Mod-4)>>16&0xffff)) + "," + strconv.Itoa(int((t.Mod-4)&0x7ff)) + ")"
	}
	return t.Name
}

// notJoinable says why columns of two types cannot be joined, or nothing when they can. Rows are found by the
// text of their values, so equal values must have equal texts.
func notJoinable(a, b *row.Type) string {
	if a.Class != b.Class {
		return "the types do not compare"
	}
	switch a.Class {
	case row.Int, row.Bool, row.UUID, row.Date, row.Timestamp, row.TimestampTZ, row.Bytea, row.Money:
		return ""
	case row.String:
		if isCaseless(a) || isCaseless(b) {
			return "citext values can be equal and look different"
		}
		if (isPadded(a) || isPadded(b)) && (a.Name != b.Name || a.Mod != b.Mod) {
			return "character(n) is padded with blanks and joins only its own length"
		}
		return ""
	case row.Numeric:
		if a.Mod != b.Mod || a.Mod < 0 {
			return "numeric joins only the same declared precision and scale, because 1.0 and 1.00 are equal and look different"
		}
		return ""
	case row.Enum, row.Time, row.Network:
		if a.Name != b.Name {
			return "the types are not the same"
		}
		if a.Name == "time with time zone" {
			return "equal values can look different"
		}
		return ""
	}
	return "values of this type can be equal and look different"
}

func isPadded(t *row.Type) bool { return t.Name == "character" || t.Name == "bpchar" }

func isCaseless(t *row.Type) bool { return t.Name == "citext" || strings.HasSuffix(t.Name, ".citext") }
