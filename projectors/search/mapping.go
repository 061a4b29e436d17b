package search

import (
	"maps"
	"slices"
	"strings"

	"github.com/lanternist/lanternist/row"
	"github.com/lanternist/lanternist/views"
)

const (
	// keywordIgnoreAbove is in UTF-16 code units, of up to 3 bytes in UTF-8: Lucene takes 32,766 bytes. Longer values are kept, and not found.
	keywordIgnoreAbove = 8191
	// exactIgnoreAbove is the same for the keyword beside a text, which long texts do not need.
	exactIgnoreAbove = 1024
	// dateFormat takes what row.AppendJSON writes, infinities excepted: ISO 8601, years BC, and years of five to seven digits.
	dateFormat = "strict_date_optional_time_nanos||strict_date_optional_time" +
		"||yyyy-MM-dd['T'HH:mm:ss" + fractionFormat + "[XXX]] G" +
		"||[uuuuuuu][uuuuuu][uuuuu]-MM-dd['T'HH:mm:ss" + fractionFormat + "[XXX]]"
	fractionFormat = "[.SSSSSS][.SSSSS][.SSSS][.SSS][.SS][.S]"
	// vectorDimensionsMax is what a dense_vector may have.
	vectorDimensionsMax = 4096
)

// properties is the "properties" object of a mapping.
type properties = map[string]any

// deriveProperties is the mapping of fields, from their column types and the types that the definition asks for. inList says that they
// are those of an object in a list.
func deriveProperties(fields []views.Field, inList bool) properties {
	props := make(properties, len(fields))
	for i := range fields {
		props[fields[i].Name] = deriveField(&fields[i], inList || fields[i].Many)
	}
	return props
}

func deriveField(f *views.Field, inList bool) map[string]any {
	if len(f.Children) == 0 {
		t := &f.Type
		if inList {
			t = &row.Type{Class: row.Array, Elem: t}
		}
		return scalarMapping(t, f.As)
	}
	switch f.As {
	case "", "object":
		return map[string]any{"properties": deriveProperties(f.Children, inList)}
	case "nested":
		// Filters need the elements apart. Text, sorting and facets look at the document as a whole, so it has the values too.
		return map[string]any{"type": "nested", "include_in_root": true, "properties": deriveProperties(f.Children, inList)}
	default: // flattened, none, …: the whole object is one field
		return namedMapping(f.As, row.JSON)
	}
}

// scalarMapping is the mapping of a column or computed value. Elasticsearch has no arrays: a field holds one value or many.
func scalarMapping(t *row.Type, as string) map[string]any {
	list := t.Class == row.Array
	for t.Class == row.Array && t.Elem != nil {
		t = t.Elem
	}
	if as == "" && t.Class == row.Vector && !list { // a field has one vector
		as = vectorType(t)
	}
	if as != "" {
		m := namedMapping(as, t.Class)
		if as == "dense_vector" && t.Class == row.Vector && t.Mod > 0 {
			m["dims"] = t.Mod
		}
		return m
	}
	switch t.Class {
	case row.String:
		return namedMapping("string", t.Class)
	case row.Bool:
		return namedMapping("boolean", t.Class)
	case row.Int:
		if t.Name == "smallint" || t.Name == "integer" {
			return namedMapping("integer", t.Class)
		}
		return namedMapping("long", t.Class)
	case row.Float, row.Numeric, row.Money:
		return namedMapping("double", t.Class)
	case row.HStore:
		return namedMapping("flattened", t.Class)
	case row.Geometry:
		return namedMapping(geometryType(t), t.Class)
	case row.Date, row.Timestamp, row.TimestampTZ:
		return namedMapping("date", t.Class)
	case row.JSON, row.Point, row.Vector:
		return namedMapping("none", t.Class)
	case row.Bytea:
		return map[string]any{"type": "keyword", "index": false, "doc_values": false}
	default: // ids, enums, times, networks and whatever has no class: found by their exact text
		return namedMapping("keyword", t.Class)
	}
}

// vectorType is what a vector is found by: one without a declared number of elements, or with too many, is only kept.
func vectorType(t *row.Type) string {
	if t.Mod < 1 || t.Mod > vectorDimensionsMax {
		return "none"
	}
	return "dense_vector"
}

// geometryType is what a geometry is found by. Elasticsearch knows longitude and latitude only: a geometry is one when its type
// says so, else it is kept.
func geometryType(t *row.Type) string {
	const srid, kind, point = 0x1fffff00, 0xfc, 1 // in a modifier of PostGIS
	geography := strings.HasSuffix(t.Name, "geography")
	switch {
	case t.Mod < 0 && geography:
		return "geo_shape"
	case t.Mod < 0 || (t.Mod&srid)>>8 != 4326:
		return "none"
	case t.Mod&kind>>2 == point:
		return "geo_point"
	}
	return "geo_shape"
}

// namedMapping is the mapping of a type by name, with what it needs to take every value of the class that can be taken. Names other
// than "string" (a text with a keyword beside it) and "none" (kept, not indexed) are Elasticsearch's.
//
// Whatever is left out of the index for ignore_above or ignore_malformed, Elasticsearch names in _ignored, which hits show and
// filters find. Places are not among it: with ignore_malformed Elasticsearch moves those that are nowhere to somewhere else.
func namedMapping(name string, class row.Class) map[string]any {
	m := map[string]any{"type": name}
	switch name {
	case "string":
		m["type"] = "text"
		m["fields"] = map[string]any{"keyword": map[string]any{"type": "keyword", "ignore_above": exactIgnoreAbove}}
	case "none":
		m["type"] = "object"
		m["enabled"] = false
	case "keyword", "flattened", "wildcard":
		m["ignore_above"] = keywordIgnoreAbove
	case "date", "date_nanos":
		m["format"] = dateFormat
		m["ignore_malformed"] = true // infinity; for date_nanos also what is not in 1970 to 2262
	case "ip":
		m["ignore_malformed"] = true // networks with a mask
	case "scaled_float":
		m["scaling_factor"] = 100
	case "dense_vector":
		m["similarity"] = "l2_norm" // the others refuse a vector of zeros
	}
	if class == row.Float || class == row.Numeric {
		switch m["type"] {
		case "byte", "short", "integer", "long", "unsigned_long", "half_float", "float", "double", "scaled_float":
			m["ignore_malformed"] = true // NaN and infinity
		}
	}
	return m
}

// overlay lays the definition's own properties over derived ones. A name may be a path ("items.sku"). An entry
// with another type replaces the derived one, other entries are merged into it.
func overlay(props properties, own map[string]any) properties {
	props = maps.Clone(props)
	for _, name := range slices.Sorted(maps.Keys(own)) { // an object before its paths
		value := own[name]
		if parent, rest, dotted := strings.Cut(name, "."); dotted {
			name, value = parent, map[string]any{"properties": map[string]any{rest: value}}
		}
		entry, isMap := value.(map[string]any)
		derived, known := props[name].(map[string]any)
		if isMap && known {
			value = overlayField(derived, entry)
		} else if isMap && isObject(entry["type"]) {
			value = overlayField(map[string]any{"properties": properties{}}, entry) // paths below it
		}
		props[name] = value
	}
	return props
}

func overlayField(derived, own map[string]any) map[string]any {
	newType, has := own["type"]
	oldType := derived["type"]
	objects := isObject(oldType) && isObject(newType)
	if has && newType != oldType && !objects {
		return own
	}
	merged := maps.Clone(derived)
	if newType == "nested" {
		merged["include_in_root"] = true // as in deriveField, unless own says otherwise
	}
	for key, value := range own {
		below, isMap := value.(map[string]any)
		had, hadMap := derived[key].(map[string]any)
		switch {
		case key == "properties" && isMap && hadMap:
			merged[key] = overlay(had, below)
		default:
			merged[key] = value
		}
	}
	return merged
}

func isObject(kind any) bool { return kind == nil || kind == "object" || kind == "nested" }

// countProperties is how many fields a mapping has, as index.mapping.total_fields.limit counts them.
func countProperties(props properties) int {
	n := 0
	for _, value := range props {
		n++
		if m, ok := value.(map[string]any); ok {
			for _, key := range []string{"properties", "fields"} {
				if below, ok := m[key].(map[string]any); ok {
					n += countProperties(below)
				}
			}
		}
	}
	return n
}
