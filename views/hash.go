package views

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"strings"

	"github.com/lanternist/lanternist/row"
)

// hashFormat changes when documents change though the definition does not, that is when this package composes
// them in another way.
const hashFormat = "view 1"

// hashOf is the hash of a compiled view. It covers what was declared in the order it was declared, since fields
// have an order in a document, and for each table its name, its key and the types of the columns in use. Line
// numbers, comments and columns not in use do not change it.
func hashOf(v *View, def *Definition) string {
	h := hasher{sha256.New()}
	h.add(hashFormat, def.Name)
	for _, o := range v.objects {
		h.add("table", o.path, o.schema.QualifiedName())
		for _, i := range o.schema.Key {
			h.add("key", o.schema.Columns[i].Name)
		}
		for _, s := range o.slots {
			h.add("column", s.name, shownAs(&s.typ), s.typ.Mod, s.typ.Class)
			for e := s.typ.Elem; e != nil; e = e.Elem {
				if e.Class > row.Network { // the classes before are as old as the hash, and the name tells them apart
					h.add("element", e.Class)
				}
			}
		}
	}
	h.fields(def.fields)
	h.expr("where", def.where)
	if def.search != nil {
		h.json("search", def.search.options)
	}
	if c := def.cache; c != nil {
		h.add("cache", c.ttl)
		for _, lookup := range v.cache.Lookups {
			h.add("lookup", lookup.Name())
		}
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// shownAs is a type's name where it makes a difference to documents; see shownAlike.
func shownAs(t *row.Type) string {
	last := t
	for last.Elem != nil {
		last = last.Elem
	}
	switch last.Class {
	case row.Enum, row.Composite, row.Range, row.Other:
		return t.Name
	}
	if strings.Contains(t.Name, ".") {
		return "domain"
	}
	return t.Name
}

// hasher writes values so that no two lists of values look the same.
type hasher struct{ hash.Hash }

func (h hasher) add(values ...any) {
	for _, v := range values {
		text := fmt.Sprint(v)
		fmt.Fprintf(h, "%d:%s", len(text), text)
	}
	h.Write([]byte{'\n'})
}

func (h hasher) json(name string, v any) {
	text, err := json.Marshal(v)
	if err != nil {
		text = fmt.Appendf(nil, "%v", v) // Parse refuses what cannot be marshalled
	}
	h.add(name, string(text))
}

func (h hasher) expr(name string, def *exprDef) {
	if def != nil {
		h.add(name, def.text)
	}
}

func (h hasher) fields(defs []*fieldDef) {
	h.add("fields", len(defs))
	for _, f := range defs {
		h.add("field", f.name.text, f.kind, f.as)
		switch f.kind {
		case columnField:
			h.add(f.column.text)
		case aggregateField:
			h.add(f.op.text, f.of.text)
		case exprField:
			h.expr("cel", f.expr)
		case joinField:
			h.join(f.join)
		}
	}
}

func (h hasher) join(j *joinDef) {
	h.add("join", j.many, j.table.text, j.through.text, j.value.text, j.limit, j.hidden)
	for _, pair := range j.on {
		h.add("on", pair.joined.text, pair.from.text)
	}
	for _, pair := range j.to {
		h.add("to", pair.joined.text, pair.from.text)
	}
	for _, by := range j.orderBy {
		h.add("order", by.column.text, by.descending)
	}
	h.expr("where", j.where)
	h.fields(j.fields)
}
