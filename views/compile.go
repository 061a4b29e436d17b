package views

import (
	"cmp"
	"slices"
	"strings"

	"github.com/lanternist/lanternist/mirror"
	"github.com/lanternist/lanternist/row"
)

// Compile checks definitions against the tables that are captured and returns a View for each, in order.
// The error is Problems: every mistake in every definition, each with file, line and, where there is one, the
// word that was probably meant. Then no view is returned.
func Compile(defs []*Definition, catalog []*row.Schema) ([]*View, error) {
	var problems problemList
	checkNames(defs, &problems)
	var list []*View
	for _, def := range defs {
		c := &compiler{def: def, catalog: catalog, problemList: &problems}
		list = append(list, c.view())
	}
	if err := problems.err(); err != nil {
		return nil, err
	}
	return list, nil
}

// checkNames reports names that two views have, at both places.
func checkNames(defs []*Definition, problems *problemList) {
	for i, def := range defs {
		for j, other := range defs {
			if i != j && def.Name == other.Name && def.Name != "" {
				problems.addf(def.File, def.Line, "view %q is also declared at %s:%d", def.Name, other.File, other.Line)
				break
			}
		}
	}
}

// compiler compiles one definition. After a problem it goes on as well as it can, to find the others.
type compiler struct {
	*problemList
	def     *Definition
	catalog []*row.Schema
	made    *View
	env     *celTypes

	tableLines map[uint32]int // where each table is named, by OID; the place that was read last
}

func (c *compiler) failf(line int, format string, args ...any) {
	c.addf(c.def.File, line, format, args...)
}

// view compiles the definition.
func (c *compiler) view() *View {
	v := &View{name: c.def.Name, file: c.def.File, byTable: map[uint32][]*object{}}
	c.made, c.env = v, newCELTypes(c.def.Name)
	if c.def.from.text == "" {
		return v
	}
	schema := c.table(c.def.from)
	if schema == nil {
		return v
	}
	v.root = c.object(schema, nil, "")
	v.root.useKey()
	c.fields(v.root, c.def.fields)
	if c.def.where != nil {
		v.where = c.filter(v.root, c.def.where, true)
	}
	if s := c.def.search; s != nil {
		options := s.options
		v.search = &options
	}
	if c.def.cache != nil {
		v.cache = &CacheOptions{TTL: c.def.cache.ttl}
		c.lookups(v.root, c.def.cache)
	}
	if len(c.found) > 0 {
		return v
	}
	v.fields = v.root.describe("")
	v.tables, v.indexes = tablesOf(v.objects), indexesOf(v.objects)
	v.hash, v.source = hashOf(v, c.def), c.def.Source()
	v.outline = outlineOf(v, c.def)
	return v
}

// object adds an object for a table to the view.
func (c *compiler) object(schema *row.Schema, parent *object, path string) *object {
	o := &object{schema: schema, parent: parent, path: path, slotNames: map[string]int{}, lines: map[string]int{}, line: c.tableLines[schema.OID]}
	c.env.add(o)
	c.made.objects = append(c.made.objects, o)
	c.made.byTable[schema.OID] = append(c.made.byTable[schema.OID], o)
	return o
}

// table finds a table of the catalog by its name, without a schema in "public".
func (c *compiler) table(w word) *row.Schema {
	name := w.text
	if !strings.Contains(name, ".") {
		name = "public." + name
	}
	names := make([]string, 0, len(c.catalog))
	for _, s := range c.catalog {
		if s.QualifiedName() == name {
			if len(s.Key) == 0 {
				c.failf(w.line, "table %s has no primary key, and no replica identity index in its place", name)
				return nil
			}
			if c.tableLines == nil {
				c.tableLines = map[uint32]int{}
			}
			c.tableLines[s.OID] = w.line
			return s
		}
		names = append(names, s.QualifiedName())
	}
	c.failf(w.line, "table %q is not among the captured tables%s", w.text, meant(name, names))
	return nil
}

// column finds a column of an object's table, or reports that there is none and returns -1.
func (c *compiler) column(o *object, w word) int {
	if w.text == "" {
		return -1
	}
	i := o.column(w.text)
	if i < 0 {
		c.noColumn(o, w)
		return i
	}
	o.names(w.text, w.line)
	return i
}

func (c *compiler) noColumn(o *object, w word) {
	if why := unsent(o.schema, w.text); why != "" {
		c.failf(w.line, "column %q of %s %s", w.text, o.schema.QualifiedName(), why)
		return
	}
	c.failf(w.line, "column %q is not in %s%s", w.text, o.schema.QualifiedName(), meant(w.text, columnNames(o.schema)))
}

// unsent says why a column that the table has is not among those that are sent, or nothing.
func unsent(s *row.Schema, name string) string {
	for _, u := range s.Unsent {
		switch {
		case u.Name != name:
		case u.Generated:
			return "is generated, and Postgres does not send it: write it as a cel field, or, from Postgres 18 on and when it is stored, " +
				"publish it (ALTER PUBLICATION … SET (publish_generated_columns = stored))"
		default:
			return "is not in the column list of the publication"
		}
	}
	return ""
}

func columnNames(s *row.Schema) []string {
	names := make([]string, len(s.Columns))
	for i, c := range s.Columns {
		names[i] = c.Name
	}
	return names
}

// tablesOf is the OIDs of the objects' tables, sorted, each once.
func tablesOf(objects []*object) []uint32 {
	var oids []uint32
	for _, o := range objects {
		oids = append(oids, o.schema.OID)
	}
	slices.Sort(oids)
	return slices.Compact(oids)
}

// indexesOf is the mirror indexes that the objects' accesses go through, sorted, each once.
func indexesOf(objects []*object) []mirror.Index {
	var list []mirror.Index
	for _, o := range objects {
		if o.parent == nil {
			continue
		}
		for _, a := range []*access{&o.down, &o.up} {
			if a.kind == byIndex {
				list = append(list, a.index)
			}
		}
	}
	slices.SortFunc(list, func(a, b mirror.Index) int {
		return cmp.Or(cmp.Compare(a.OID, b.OID), slices.Compare(a.Columns, b.Columns))
	})
	return slices.CompactFunc(list, func(a, b mirror.Index) bool {
		return a.OID == b.OID && slices.Equal(a.Columns, b.Columns)
	})
}
