package search

import (
	"maps"
	"slices"
	"strings"

	"github.com/lanternist/lanternist/suggest"
)

// kind says what values a field has, for checking what a reader asks.
type kind uint8

const (
	kindString kind = iota
	kindInteger
	kindNumber
	kindBool
	kindDate
	kindIP
	kindAny // of a type that is not known here, or of a dynamic mapping
)

// field is one searchable field.
type field struct {
	path  string
	kind  kind
	exact string // what filters, sorts and facets use: the field itself or the keyword beside a text; "" when there is none
	words bool   // q looks here
	text  bool   // it is analyzed: can be highlighted
	bits  int    // of a kindInteger
	place
}

// place is where in a document a field is.
type place struct {
	nest  string // path of the innermost nested list around it; "" when there is none
	apart bool   // only the list's elements have its values, not the document (no include_in_root)
}

// catalog is what a view's mapping offers to readers.
type catalog struct {
	fields  map[string]*field
	paths   []string // of fields that a reader may name, sorted
	open    []*field // flattened objects: every path below them is a field
	objects map[string]bool
	dynamic bool // Elasticsearch may know fields that we do not
}

func newCatalog(props properties, dynamic bool) *catalog {
	c := &catalog{fields: map[string]*field{}, objects: map[string]bool{}, dynamic: dynamic}
	c.add("", place{}, props)
	c.paths = slices.Sorted(maps.Keys(c.fields))
	return c
}

// add enters the fields of an object.
func (c *catalog) add(prefix string, at place, props properties) {
	for name, value := range props {
		m, ok := value.(map[string]any)
		if !ok || (prefix == "" && name == checkpointField) {
			continue
		}
		path := prefix + name
		typ, _ := m["type"].(string)
		below, hasBelow := m["properties"].(map[string]any)
		switch {
		case m["enabled"] == false:
			c.objects[path] = true
		case typ == "nested":
			c.objects[path] = true
			c.add(path+".", place{nest: path, apart: m["include_in_root"] != true}, below)
		case typ == "object" || hasBelow:
			c.objects[path] = true
			c.add(path+".", at, below)
		default:
			c.addLeaf(path, typ, at, m)
		}
	}
}

// addLeaf enters one field and the fields beside it.
func (c *catalog) addLeaf(path, typ string, at place, m map[string]any) {
	f := &field{path: path, place: at}
	f.describe(typ)
	if m["index"] == false {
		f.words, f.exact = false, ""
	}
	if m["doc_values"] == false && !f.text {
		f.exact = ""
	}
	beside, _ := m["fields"].(map[string]any)
	for _, name := range slices.Sorted(maps.Keys(beside)) {
		sub, ok := beside[name].(map[string]any)
		if !ok {
			continue
		}
		subType, _ := sub["type"].(string)
		s := &field{path: path + "." + name, place: at}
		s.describe(subType)
		s.words = false // q looks in the field itself
		c.fields[s.path] = s
		if f.text && f.exact == "" && subType == "keyword" {
			f.exact = s.path
		}
	}
	c.fields[path] = f
	if typ == "flattened" {
		c.open = append(c.open, f)
	}
}

// describe sets what follows from a type alone.
func (f *field) describe(typ string) {
	f.exact = f.path
	switch typ {
	case "text", "match_only_text", "search_as_you_type":
		f.words, f.text, f.exact = true, true, ""
	case "keyword", "constant_keyword", "wildcard":
		f.words = true
	case "flattened":
	case "byte", "short", "integer", "long":
		f.kind, f.bits = kindInteger, map[string]int{"byte": 8, "short": 16, "integer": 32, "long": 64}[typ]
	case "half_float", "float", "double", "scaled_float", "unsigned_long":
		f.kind = kindNumber
	case "boolean":
		f.kind = kindBool
	case "date", "date_nanos":
		f.kind = kindDate
	case "ip":
		f.kind = kindIP
	case "geo_point", "geo_shape", "dense_vector", "sparse_vector":
		f.kind, f.exact = kindAny, "" // is there or not: the API has no operator for more
	default:
		f.kind = kindAny
	}
}

// ignoredField has the names of a document's fields of which a value is kept and not indexed. Elasticsearch writes it.
const ignoredField = "_ignored"

// find is the field that a reader names, or nil.
func (c *catalog) find(path string) *field {
	if path == ignoredField {
		return &field{path: path, exact: path}
	}
	if f, ok := c.fields[path]; ok {
		return f
	}
	for _, f := range c.open {
		if strings.HasPrefix(path, f.path+".") {
			return &field{path: path, exact: path, place: f.place}
		}
	}
	if c.dynamic && path != "" && !strings.HasPrefix(path, "_") && !c.objects[path] {
		return &field{path: path, exact: path, kind: kindAny}
	}
	return nil
}

// words lists the fields that q looks in.
func (c *catalog) words() []string {
	if c.dynamic {
		return []string{"*"}
	}
	return c.list(func(f *field) bool { return f.words && !f.apart })
}

// texts lists the fields that can be highlighted.
func (c *catalog) texts() []string {
	return c.list(func(f *field) bool { return f.text && f.words && !f.apart })
}

func (c *catalog) list(want func(f *field) bool) []string {
	var list []string
	for _, path := range c.paths {
		if want(c.fields[path]) {
			list = append(list, path)
		}
	}
	return list
}

// nearest is the known path most like an unknown one, or "".
func (c *catalog) nearest(path string) string {
	for _, known := range c.paths {
		if strings.HasSuffix(known, "."+path) {
			return known // named without its object
		}
	}
	if len(path) > suggestBytesMax {
		return ""
	}
	near, _ := suggest.Nearest(path, c.paths)
	return near
}

// suggestBytesMax bounds the work done for a name that is wrong anyway.
const suggestBytesMax = 128
