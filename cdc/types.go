package cdc

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/lanternist/lanternist/row"
)

// builtinClasses maps the names of pg_catalog's base types to what their text means. Other types that are
// neither domains, enums, ranges, composites nor arrays are row.Other.
var builtinClasses = map[string]row.Class{
	"text": row.String, "varchar": row.String, "bpchar": row.String, "name": row.String, "char": row.String, "xml": row.String,
	"bool": row.Bool,
	"int2": row.Int, "int4": row.Int, "int8": row.Int, "oid": row.Int,
	"float4": row.Float, "float8": row.Float,
	"numeric": row.Numeric,
	"uuid":    row.UUID,
	"date":    row.Date, "timestamp": row.Timestamp, "timestamptz": row.TimestampTZ,
	"time": row.Time, "timetz": row.Time, "interval": row.Interval,
	"bytea": row.Bytea,
	"json":  row.JSON, "jsonb": row.JSON,
	"inet": row.Network, "cidr": row.Network, "macaddr": row.Network, "macaddr8": row.Network,
	"money": row.Money,
	"point": row.Point,
}

// extensionClasses is the same for base types of extensions, which may be in any schema. Base types are made of functions in C, so
// that nobody has one of these names by chance.
var extensionClasses = map[string]row.Class{
	"citext": row.String,
	"hstore": row.HStore,
	"vector": row.Vector, "halfvec": row.Vector,
	"geometry": row.Geometry, "geography": row.Geometry,
}

// typeInfo is a row of pg_type.
type typeInfo struct {
	oid       uint32
	formatted string // as format_type prints it without a modifier, with the schema unless it is pg_catalog
	namespace string
	name      string
	kind      string // pg_type.typtype
	base      uint32 // of a domain
	baseMod   int32  // of a domain: the modifier of its base, or -1
	element   uint32 // of an array
	delim     string // between elements of this type in the text of an array
}

// catalogTypes holds the types that some columns need, with their bases and elements.
type catalogTypes map[uint32]typeInfo

// loadTypes reads the given types, and the types that they are made of, from the catalog. A type that does not
// exist any more is left out.
func loadTypes(ctx context.Context, conn *pgx.Conn, oids []uint32) (catalogTypes, error) {
	types, tried := catalogTypes{}, map[uint32]bool{}
	for {
		var missing []uint32
		for _, oid := range oids {
			if oid != 0 && !tried[oid] {
				tried[oid] = true
				missing = append(missing, oid)
			}
		}
		if len(missing) == 0 {
			return types, nil
		}
		// int2vector and oidvector are arrays in the catalog, but their text is not that of an array.
		rows, err := conn.Query(ctx, `
			SELECT t.oid, CASE WHEN n.nspname = 'pg_catalog' THEN format_type(t.oid, NULL)
			                   ELSE quote_ident(n.nspname) || '.' || quote_ident(t.typname) END, n.nspname, t.typname, t.typtype::text, t.typbasetype, t.typtypmod,
			       CASE WHEN t.typcategory = 'A' AND t.typlen = -1 AND t.typtype = 'b'
			             AND t.oid NOT IN ('int2vector'::regtype, 'oidvector'::regtype) THEN t.typelem ELSE 0 END, t.typdelim::text
			  FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
			 WHERE t.oid = ANY($1::oid[])`, missing)
		if err != nil {
			return nil, fmt.Errorf("read types: %w", err)
		}
		oids = nil
		var t typeInfo
		_, err = pgx.ForEachRow(rows, []any{&t.oid, &t.formatted, &t.namespace, &t.name, &t.kind, &t.base, &t.baseMod, &t.element, &t.delim}, func() error {
			types[t.oid] = t
			oids = append(oids, t.base, t.element)
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("read types: %w", err)
		}
	}
}

// column is the type of a column with the given modifier.
func (types catalogTypes) column(oid uint32, mod int32) row.Type {
	info, ok := types[oid]
	if !ok {
		return row.Type{OID: oid, Mod: mod, Name: fmt.Sprintf("unknown (%d)", oid)}
	}
	class, element := types.classify(info)
	for base := info; mod < 0 && base.kind == "d"; base = types[base.base] {
		mod = base.baseMod
	}
	t := row.Type{OID: oid, Mod: mod, Name: info.formatted, Class: class}
	if info.delim != "" && info.delim != "," {
		t.Delim = info.delim[0]
	}
	if class == row.Array {
		elem := types.column(element, mod)
		t.Elem = &elem
		if info.kind != "d" {
			t.Name = elem.Name + "[]"
		}
	}
	return t
}

// classify says what a type's text means, and for an array, or a domain over one, the type of its elements.
func (types catalogTypes) classify(t typeInfo) (class row.Class, element uint32) {
	switch t.kind {
	case "d":
		base, ok := types[t.base]
		if !ok {
			return row.Other, 0
		}
		return types.classify(base)
	case "e":
		return row.Enum, 0
	case "r", "m":
		return row.Range, 0
	case "c":
		return row.Composite, 0
	}
	if t.element != 0 {
		return row.Array, t.element
	}
	if t.namespace == "pg_catalog" {
		return builtinClasses[t.name], 0
	}
	return extensionClasses[t.name], 0
}
