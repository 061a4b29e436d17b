package views

import (
	"strconv"

	"cel.dev/cel-go/common/types"

	"github.com/lanternist/lanternist/row"
)

// lookupPath finds the value of one declared lookup in a composed document.
type lookupPath struct {
	parts []lookupPart
}

// lookupPart is a chain of one joins, and the field at its end: a field of the document, or a column.
type lookupPart struct {
	joins []*join
	field *field
}

// lookups compiles the declared lookups.
func (c *compiler) lookups(root *object, def *cacheDef) {
	for _, words := range def.lookups {
		var path lookupPath
		var names []string
		for _, w := range words {
			if w.text == "" {
				continue
			}
			names = append(names, w.text)
			if part, ok := c.lookupPart(root, w); ok {
				path.parts = append(path.parts, part)
			}
		}
		lookup := Lookup{Fields: names}
		for _, other := range c.made.cache.Lookups {
			if other.Name() == lookup.Name() {
				c.failf(words[0].line, "lookup %s is declared twice", lookup.Name())
			}
		}
		c.made.lookups = append(c.made.lookups, path)
		c.made.cache.Lookups = append(c.made.cache.Lookups, lookup)
	}
}

// lookupPart finds the field that a path names.
func (c *compiler) lookupPart(root *object, w word) (lookupPart, bool) {
	var part lookupPart
	o, rest := root, w.text
	for {
		name, tail, nested := cutPath(rest)
		f := c.env.members[o][name]
		if _, declared := c.env.members[o][name]; declared && f == nil {
			return part, false // the field has a problem of its own
		}
		switch {
		case f == nil && o == root && !nested:
			column := o.column(name)
			if column < 0 {
				c.noLookup(o, w, name)
				return part, false
			}
			slot := o.slot(column)
			part.field = &field{kind: columnField, slot: slot, typ: o.slots[slot].typ}
			return part, true
		case f == nil:
			c.noLookup(o, w, name)
			return part, false
		case f.kind != joinField && !nested:
			if (f.kind == exprField && f.program.many) || !isOneValue(&f.typ) {
				c.failf(w.line, "lookup %q: %s is not one value", w.text, name)
				return part, false
			}
			part.field = f
			return part, true
		case f.kind == joinField && f.join.many:
			c.failf(w.line, "lookup %q: %s is a list; a lookup has one value for each document", w.text, name)
			return part, false
		case f.kind != joinField || (f.join.value >= 0) == nested:
			c.failf(w.line, "lookup %q does not name one value", w.text)
			return part, false
		}
		part.joins = append(part.joins, f.join)
		o = f.join.target
		if f.join.value >= 0 {
			part.field = &field{kind: columnField, slot: f.join.value, typ: o.slots[f.join.value].typ}
			return part, true
		}
		rest = tail
	}
}

// isOneValue says whether the JSON of a type is a string, a number or a boolean.
func isOneValue(t *row.Type) bool {
	switch t.Class {
	case row.JSON, row.Array, row.Point, row.Vector, row.HStore, row.Geometry:
		return false
	}
	return true
}

func (c *compiler) noLookup(o *object, w word, name string) {
	names := append(columnNames(o.schema), c.env.names(o)...)
	c.failf(w.line, "lookup %q: neither a field of the document nor a column of %s%s", w.text, o.schema.QualifiedName(), meant(name, names))
}

func cutPath(path string) (name, tail string, nested bool) {
	for i := range len(path) {
		if path[i] == '.' {
			return path[:i], path[i+1:], true
		}
	}
	return path, "", false
}

// value is the lookup's value for a document; "" when a part of it is null.
func (l *lookupPath) value(root *instance) (string, error) {
	parts := make([]string, len(l.parts))
	for i := range l.parts {
		text, err := l.parts[i].value(root)
		if err != nil || text == "" {
			return "", err
		}
		parts[i] = text
	}
	return joinParts(parts), nil
}

// value is the text of the field: what the document has, without the quotes of JSON.
func (p *lookupPart) value(in *instance) (string, error) {
	for _, j := range p.joins {
		r, err := in.rows(j)
		if err != nil || len(r.all) == 0 {
			return "", err
		}
		in = &r.all[0]
	}
	switch p.field.kind {
	case aggregateField:
		r, err := in.rows(p.field.aggregate.join)
		if err != nil {
			return "", err
		}
		text, _ := p.field.aggregate.appendText(nil, r.all)
		return lookupText(&p.field.typ, text), nil
	case exprField:
		v, err := in.exprValue(p.field)
		if err != nil || v == types.NullValue {
			return "", err
		}
		text, err := appendCEL(nil, v)
		if err != nil {
			return "", err
		}
		if s, ok := v.(types.String); ok {
			return string(s), nil
		}
		return trimQuotes(string(text)), nil
	}
	v := in.values[p.field.slot]
	if v.Kind != row.Text {
		return "", nil
	}
	return lookupText(&p.field.typ, v.Text), nil
}

// lookupText is the text of a column's value in a lookup.
func lookupText(t *row.Type, text []byte) string {
	switch t.Class {
	case row.Bool:
		return strconv.FormatBool(string(text) == "t")
	case row.Timestamp, row.TimestampTZ, row.Money:
		return trimQuotes(string(row.AppendJSON(nil, t, text)))
	}
	return string(text)
}

func trimQuotes(s string) string {
	if len(s) >= 2 && s[0] == '"' && s[len(s)-1] == '"' {
		return s[1 : len(s)-1]
	}
	return s
}
