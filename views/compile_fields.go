package views

import (
	"github.com/lanternist/lanternist/row"
)

// fields compiles the fields of an object: columns and joins first, then the aggregates over those joins, then
// the expressions, which see all of them and the expressions above.
func (c *compiler) fields(o *object, defs []*fieldDef) {
	compiled := make([]*field, len(defs))
	for i, def := range defs {
		switch def.kind {
		case columnField:
			compiled[i] = c.columnField(o, def)
		case joinField:
			compiled[i] = c.joinField(o, def)
		}
		c.env.declare(o, def.name.text, compiled[i])
	}
	for i, def := range defs {
		if def.kind == aggregateField {
			compiled[i] = c.aggregateField(o, def, defs)
			c.env.declare(o, def.name.text, compiled[i])
		}
	}
	for i, def := range defs {
		if def.kind == exprField {
			compiled[i] = c.exprField(o, def)
			c.env.declare(o, def.name.text, compiled[i])
		}
	}
	shown := 0
	for _, f := range compiled {
		if f == nil {
			continue
		}
		if f.kind != joinField || !f.join.hidden {
			f.prefix = fieldPrefix(f.name, shown == 0)
			shown++
		}
		o.fields = append(o.fields, f)
	}
	if shown == 0 && len(defs) > 0 && len(o.fields) == len(defs) && !c.isHidden(o) {
		c.failf(defs[0].name.line, "every field here is hidden: the object would be empty")
	}
}

// isHidden says whether an object never is part of a document.
func (c *compiler) isHidden(o *object) bool {
	if o.parent == nil {
		return false
	}
	for _, j := range o.owner().joins {
		if j.target == o {
			return j.hidden
		}
	}
	return false
}

// owner is the object that the join to this one belongs to: its parent, or the link table's.
func (o *object) owner() *object {
	if p := o.parent; p != nil && p.isLink {
		return p.parent
	}
	return o.parent
}

// fieldPrefix is the JSON before a field's value.
func fieldPrefix(name string, first bool) []byte {
	prefix := []byte{','}
	if first {
		prefix[0] = '{'
	}
	return append(row.AppendJSONString(prefix, []byte(name)), ':')
}

// columnField compiles a field that is a column.
func (c *compiler) columnField(o *object, def *fieldDef) *field {
	i := c.column(o, def.column)
	if i < 0 {
		return nil
	}
	slot := o.slot(i)
	return &field{name: def.name.text, kind: columnField, as: def.as, slot: slot, typ: o.slots[slot].typ}
}

// exprField compiles a field that is an expression.
func (c *compiler) exprField(o *object, def *fieldDef) *field {
	p := c.program(o, def.expr, true)
	if p == nil {
		return nil
	}
	p.what = "field " + joinPath(o.path, def.name.text)
	f := &field{name: def.name.text, kind: exprField, as: def.as, program: p, typ: p.typ, computed: len(o.exprs)}
	o.exprs = append(o.exprs, f)
	return f
}
