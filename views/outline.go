package views

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/lanternist/lanternist/row"
)

// Line is one thing that a definition says, for comparing two definitions of a view: the place and what stands there.
type Line struct {
	Path string `json:"path"` // "fields.items.sku", "where", "search.settings"
	Text string `json:"text"` // "column sku, text"
	// Follows says that the line follows from the others and from the table: it means something only where it differs.
	Follows bool `json:"follows,omitempty"`
}

// Outline lists what the definition says, in its order, with all that Hash covers: two views of the same outline and of different
// hashes differ in nothing that was declared.
func (v *View) Outline() []Line { return v.outline }

// outlineOf is the outline of a compiled view.
func outlineOf(v *View, def *Definition) []Line {
	o := outliner{}
	o.add("from", v.root.schema.QualifiedName())
	o.fields("fields.", v.root, def.fields)
	o.expr("where", def.where)
	if def.search != nil {
		o.search(def.search.options)
	}
	if def.cache != nil {
		o.cache(v.cache)
	}
	for _, object := range v.objects {
		o.table(object)
	}
	return o.lines
}

type outliner struct{ lines []Line }

func (o *outliner) add(path, text string) {
	o.lines = append(o.lines, Line{Path: path, Text: text})
}

func (o *outliner) expr(path string, def *exprDef) {
	if def != nil {
		o.add(path, oneLine(def.text))
	}
}

// oneLine is an expression as it is shown: one blank for each run of them.
func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }

func (o *outliner) fields(prefix string, of *object, defs []*fieldDef) {
	for _, def := range defs {
		path := prefix + def.name.text
		switch def.kind {
		case columnField:
			o.add(path, o.column(of, def))
		case aggregateField:
			o.add(path, def.op.text+" "+def.of.text+asText(def.as))
		case exprField:
			o.add(path, "cel "+oneLine(def.expr.text)+asText(def.as))
		case joinField:
			o.add(path, joinText(def.join)+asText(def.as))
			o.fields(path+".", joinedBy(of, def.name.text), def.join.fields)
		}
	}
}

// joinedBy is the object that a join of the name leads to; nil when there is none.
func joinedBy(of *object, name string) *object {
	if of == nil {
		return nil
	}
	for _, j := range of.joins {
		if j.name == name {
			return j.target
		}
	}
	return nil
}

func (o *outliner) column(of *object, def *fieldDef) string {
	text := "column " + def.column.text
	if of != nil {
		if i := of.column(def.column.text); i >= 0 {
			text += ", " + typeName(&of.schema.Columns[i].Type)
		}
	}
	return text + asText(def.as)
}

func asText(as string) string {
	if as == "" {
		return ""
	}
	return ", as " + as
}

// joinText is a join in one line.
func joinText(j *joinDef) string {
	var b strings.Builder
	b.WriteString("one ")
	if j.many {
		b.Reset()
		b.WriteString("many ")
	}
	b.WriteString(j.table.text)
	if j.through.text != "" {
		b.WriteString(" through " + j.through.text)
	}
	b.WriteString(" on " + pairsText(j.on))
	if len(j.to) > 0 {
		b.WriteString(" to " + pairsText(j.to))
	}
	if j.where != nil {
		b.WriteString(", where " + oneLine(j.where.text))
	}
	if len(j.orderBy) > 0 {
		var by []string
		for _, column := range j.orderBy {
			name := column.column.text
			if column.descending {
				name = "-" + name
			}
			by = append(by, name)
		}
		b.WriteString(", order by " + strings.Join(by, " "))
	}
	if j.limit > 0 {
		b.WriteString(", limit " + strconv.Itoa(j.limit))
	}
	if j.value.text != "" {
		b.WriteString(", value " + j.value.text)
	}
	if j.hidden {
		b.WriteString(", hidden")
	}
	return b.String()
}

func pairsText(pairs []pairDef) string {
	texts := make([]string, len(pairs))
	for i, p := range pairs {
		texts[i] = p.joined.text + " = " + p.from.text
	}
	return strings.Join(texts, " and ")
}

func (o *outliner) search(options SearchOptions) {
	o.add("search", "yes")
	for _, part := range []struct {
		name  string
		value map[string]any
	}{{"settings", options.Settings}, {"mappings", options.Mappings}, {"analysis", options.Analysis}} {
		if part.value == nil {
			continue
		}
		text, err := json.Marshal(part.value)
		if err != nil {
			text = fmt.Appendf(nil, "%v", part.value) // Parse refuses what cannot be marshalled
		}
		o.add("search."+part.name, string(text))
	}
	if options.Dynamic != "" {
		o.add("search.dynamic", options.Dynamic)
	}
}

func (o *outliner) cache(options *CacheOptions) {
	o.add("cache", "yes")
	if options.TTL > 0 {
		o.add("cache.ttl", options.TTL.String())
	}
	for _, l := range options.Lookups {
		o.add("cache.lookups."+l.Name(), "yes")
	}
}

// table adds what documents depend on besides what was declared: key and types of the columns in use.
func (o *outliner) table(of *object) {
	at := of.schema.QualifiedName()
	if of.path != "" {
		at += " (" + of.path + ")"
	}
	var key []string
	for _, i := range of.schema.Key {
		key = append(key, of.schema.Columns[i].Name)
	}
	o.lines = append(o.lines, Line{Path: "key of " + at, Text: strings.Join(key, ", "), Follows: true})
	names := make([]string, 0, len(of.slots))
	types := map[string]string{}
	for _, s := range of.slots {
		names, types[s.name] = append(names, s.name), fullType(&s.typ)
	}
	slices.Sort(names)
	for _, name := range names {
		o.lines = append(o.lines, Line{Path: "type of " + name + " in " + at, Text: types[name], Follows: true})
	}
}

// fullType is a type's name with all that Hash covers of it.
func fullType(t *row.Type) string {
	name := typeName(t)
	switch {
	case name != t.Name || t.Mod < 0:
		return name
	case t.Class == row.String && t.Mod >= 4: // the modifier of character types is their length and four
		return name + "(" + strconv.Itoa(int(t.Mod)-4) + ")"
	}
	return name + ", modifier " + strconv.Itoa(int(t.Mod))
}
