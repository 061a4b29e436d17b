package schemas

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/lanternist/lanternist/event"
	"github.com/lanternist/lanternist/row"
)

// document is a JSON Schema, or a part of one.
type document map[string]any

// JSONSchema is the JSON Schema (draft 2020-12) of the data of events that changes of kind op of a table become:
// of the member "data" of their envelope. It follows from the table's definition alone. A value that may have
// been TOASTed may be missing from an update's rows, because Postgres does not send it when it did not change.
func JSONSchema(s *row.Schema, op event.Op) ([]byte, error) {
	data, err := dataOf(s, op)
	if err != nil {
		return nil, err
	}
	kind := event.Type(op, s)
	data["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	data["title"] = fmt.Sprintf("%s, version %d", kind, s.Version)
	out, err := json.Marshal(data)
	if err != nil {
		return nil, fmt.Errorf("write the JSON Schema of %s: %w", kind, err)
	}
	return out, nil
}

// dataOf describes the data of an event.
func dataOf(s *row.Schema, op event.Op) (document, error) {
	null := document{"type": "null"}
	before, after, changed := null, null, null
	complete := document{"const": false}
	old := document{"anyOf": []any{null, rowOf(s, nil)}}
	switch op {
	case event.Insert:
		after = rowOf(s, func(*row.Column) bool { return true })
	case event.Update:
		before, after, complete = old, rowOf(s, func(c *row.Column) bool { return alwaysSent(c.Type.Class) }), document{"type": "boolean"}
		names := make([]any, len(s.Columns))
		for i := range s.Columns {
			names[i] = s.Columns[i].Name
		}
		changed = document{"anyOf": []any{null, document{"type": "array", "uniqueItems": true, "items": document{"enum": names}}}}
	case event.Delete:
		before, complete = old, document{"type": "boolean"}
	case event.Truncate:
	default:
		return nil, fmt.Errorf("%s has no JSON Schema: what it holds is not known", op)
	}
	return document{
		"type":                 "object",
		"properties":           document{"before": before, "after": after, "before_complete": complete, "changed": changed},
		"required":             []string{"before", "after", "before_complete", "changed"},
		"additionalProperties": false,
	}, nil
}

// rowOf describes a row of which the columns that required names are there; nil requires none.
func rowOf(s *row.Schema, required func(*row.Column) bool) document {
	properties := document{}
	names := []string{}
	for i := range s.Columns {
		c := &s.Columns[i]
		value := valueOf(&c.Type, !c.NotNull)
		value["description"] = c.Type.Name
		properties[c.Name] = value
		if required != nil && (required(c) || slices.Contains(s.Key, i)) {
			names = append(names, c.Name)
		}
	}
	return document{"type": "object", "properties": properties, "required": names, "additionalProperties": false}
}

// alwaysSent says whether values of a class have a fixed length, so that they are never TOASTed.
func alwaysSent(class row.Class) bool {
	switch class {
	case row.Bool, row.Int, row.Float, row.UUID, row.Date, row.Timestamp, row.TimestampTZ, row.Time, row.Interval, row.Enum:
		return true
	default:
		return false
	}
}

// A numeric of more than 1,000 characters is a string.
const longNumber = `^-?[0-9]+(\.[0-9]+)?$`

// Texts of dates and timestamps that are not ISO 8601: infinity, years BC, years of more than four digits.
const outsideISO = "^(-?infinity|.* BC|[0-9]{5,}-.*)$"

// valueOf describes the JSON form of a value (row.AppendJSON).
func valueOf(t *row.Type, nullable bool) document {
	switch t.Class {
	case row.Bool:
		return plain("boolean", nullable)
	case row.Int:
		return plain("integer", nullable)
	case row.Float:
		return either(nullable, document{"type": "number"}, document{"enum": []any{"NaN", "Infinity", "-Infinity"}})
	case row.Numeric:
		return either(nullable, document{"type": "number"}, document{"enum": []any{"NaN", "Infinity", "-Infinity"}}, document{"type": "string", "pattern": longNumber})
	case row.Money:
		return plain("number", nullable)
	case row.UUID:
		return with(plain("string", nullable), "format", "uuid")
	case row.Date:
		return either(nullable, document{"type": "string", "format": "date"}, document{"type": "string", "pattern": outsideISO})
	case row.TimestampTZ:
		return either(nullable, document{"type": "string", "format": "date-time"}, document{"type": "string", "pattern": outsideISO})
	case row.Timestamp:
		const iso = `^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?$`
		return either(nullable, document{"type": "string", "pattern": iso}, document{"type": "string", "pattern": outsideISO})
	case row.Bytea:
		return with(plain("string", nullable), "pattern", `^\\x([0-9a-f]{2})*$`)
	case row.JSON:
		return document{} // anything, null among it
	case row.HStore:
		return with(plain("object", nullable), "additionalProperties", document{"type": []string{"string", "null"}})
	case row.Geometry:
		return either(nullable, document{"type": "object", "required": []string{"type"}}, document{"type": "string", "pattern": "^[0-9A-Fa-f]+$"})
	case row.Point:
		return either(nullable, document{"type": "array", "items": document{"type": "number"}}, document{"type": "string"})
	case row.Vector:
		return with(plain("array", nullable), "items", document{"type": "number"})
	case row.Array:
		return arrayOf(t, nullable)
	default:
		return plain("string", nullable)
	}
}

// arrayOf describes an array. How many dimensions it has is a matter of the value, not of the type.
func arrayOf(t *row.Type, nullable bool) document {
	array := plain("array", nullable)
	if t.Elem == nil {
		return document{"type": []string{"array", "string", "null"}}
	}
	element := valueOf(t.Elem, true)
	array["items"] = document{"anyOf": []any{element, document{"type": "array"}}}
	return array
}

// plain is a document of one JSON type.
func plain(kind string, nullable bool) document {
	if nullable {
		return document{"type": []string{kind, "null"}}
	}
	return document{"type": kind}
}

// either is a document of several forms.
func either(nullable bool, forms ...any) document {
	if nullable {
		forms = append(forms, document{"type": "null"})
	}
	return document{"anyOf": forms}
}

// with adds a keyword.
func with(d document, keyword string, value any) document {
	d[keyword] = value
	return d
}
