package views

import (
	"github.com/lanternist/lanternist/row"
)

// field is one compiled field of an object.
type field struct {
	name   string
	kind   fieldKind
	typ    row.Type // of the value, or of each value of a computed list; unused for joins
	as     string
	prefix []byte // what stands before the value in JSON: `{"id":` or `,"total":`; nil when the field is hidden

	slot      int        // columnField
	join      *join      // joinField
	aggregate *aggregate // aggregateField
	program   *program   // exprField
	computed  int        // exprField: index into object.exprs
}

// join is a compiled one or many join.
type join struct {
	name   string
	index  int // in the joins of the object it belongs to
	many   bool
	hidden bool
	link   *object // link table, or nil
	target *object
	value  int // slot of the target whose value is the result; -1 when it is an object
	limit  int
	order  []orderColumn // what order_by says, then the primary key
	unique bool          // at most one row matches: nothing to order
	where  *program
}

// describe is the fields for View.Fields.
func (o *object) describe(path string) []Field {
	var list []Field
	for _, f := range o.fields {
		if f.prefix == nil {
			continue
		}
		d := Field{Name: f.name, Path: joinPath(path, f.name), Type: f.typ, As: f.as}
		switch f.kind {
		case joinField:
			d.Many = f.join.many
			if f.join.value < 0 {
				d.Children = f.join.target.describe(d.Path)
				break
			}
			d.Type = f.join.target.slots[f.join.value].typ
		case exprField:
			d.Many = f.program.many
		}
		list = append(list, d)
	}
	return list
}

// joinPath is the path of a field in the object at path.
func joinPath(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}
