package row

import "slices"

// Class says what a type's text form means, whatever the type is called. Domains have the class of their base.
type Class uint8

// The classes of types.
const (
	Other       Class = iota // a type without a class of its own: its text is a string
	String                   // text, varchar, bpchar, name, citext, xml
	Bool                     // t or f
	Int                      // int2, int4, int8, oid
	Float                    // float4, float8; may be NaN or ±Infinity
	Numeric                  // numeric, exact; may be NaN or ±Infinity
	UUID                     //
	Date                     // may be ±infinity or BC
	Timestamp                // without time zone; may be ±infinity or BC
	TimestampTZ              // with time zone, sent in UTC
	Time                     // time and timetz
	Interval                 //
	Bytea                    // hexadecimal: \x…
	JSON                     // json and jsonb
	Enum                     //
	Array                    // Elem is the type of its elements
	Range                    // ranges and multiranges
	Composite                //
	Network                  // inet, cidr, macaddr
	Money                    // "-$1,234.56": sent under lc_monetary C, exact
	Point                    // "(1,2)"
	HStore                   // extension hstore: texts by name
	Geometry                 // extension postgis, geometry and geography: EWKB in hexadecimal
	Vector                   // extension vector, vector and halfvec: "[1,2,3]"
)

// Type is a column's Postgres type.
type Type struct {
	OID   uint32 `json:"oid"`
	Mod   int32  `json:"mod"`            // typmod, -1 when the type has none
	Name  string `json:"name"`           // as format_type prints it, without the modifier: "integer", "public.mood"
	Class Class  `json:"class"`          //
	Elem  *Type  `json:"elem,omitempty"` // element type when Class is Array
	// Delim separates elements of this type in the text of an array; 0 is a comma. "box" and the types of postgis have others.
	Delim byte `json:"delim,omitempty"`
}

// Column is one column of a table.
type Column struct {
	Name    string `json:"name"`
	Type    Type   `json:"type"`
	NotNull bool   `json:"not_null,omitempty"`
	// Number is pg_attribute.attnum: the column's identity, stable over renames and never given again. 0: not known.
	Number int16 `json:"number,omitempty"`
	// Missing is the value that rows have which were written before the column was added, in text form
	// (pg_attribute.attmissingval); nil: null.
	Missing *string `json:"missing,omitempty"`
}

// Schema is one version of a table's definition. It is immutable once shared.
type Schema struct {
	ID        uint32   `json:"id"`        // given by the schema registry, unique over all tables and versions; 0 before
	Version   int      `json:"version"`   // of this table's event types: 1, 2, …; given by the registry
	OID       uint32   `json:"oid"`       // of the relation: the table's identity, stable over renames
	Namespace string   `json:"namespace"` // "public"
	Name      string   `json:"name"`      // "orders"
	Columns   []Column `json:"columns"`   // in the order of the rows' values
	Key       []int    `json:"key"`       // indexes into Columns of the primary key, else of the replica identity index
	Identity  byte     `json:"identity"`  // pg_class.relreplident: 'd' default, 'i' index, 'f' full, 'n' nothing
	// Width is how many columns the table ever had (pg_class.relnatts): numbers up to it have been given. 0: not known.
	Width int16 `json:"width,omitempty"`
	// Unsent are the columns that the table has and the stream does not send, when that is known: it explains why a column is not
	// there, and is not part of the definition.
	Unsent []Unsent `json:"-"`
}

// Unsent is a column that is not sent: because it is generated, or because the publication's column list leaves it out.
type Unsent struct {
	Name      string
	Generated bool
}

// QualifiedName is "namespace.name".
func (s *Schema) QualifiedName() string { return s.Namespace + "." + s.Name }

// Column is the index of the named column, or -1.
func (s *Schema) Column(name string) int {
	return slices.IndexFunc(s.Columns, func(c Column) bool { return c.Name == name })
}

// AppendKey appends the encoded primary key of r to dst: the text of each key column followed by a zero byte,
// which Postgres text never contains, so that keys of one table are prefix-free and compare equal exactly when
// their texts do. It reports false when a key column is null or unchanged, or there is no key.
func (s *Schema) AppendKey(dst []byte, r Row) ([]byte, bool) {
	return AppendColumns(dst, r, s.Key)
}

// AppendColumns appends the values of the given columns in the encoding of AppendKey.
func AppendColumns(dst []byte, r Row, columns []int) ([]byte, bool) {
	if len(columns) == 0 {
		return dst, false
	}
	from := len(dst)
	for _, i := range columns {
		v := r.Column(i)
		if v.Kind != Text {
			return dst[:from], false
		}
		dst = append(dst, v.Text...)
		dst = append(dst, 0)
	}
	return dst, true
}

// SplitKey calls yield with the text of each part of an encoded key.
func SplitKey(key []byte) [][]byte {
	var parts [][]byte
	for len(key) > 0 {
		i := slices.Index(key, 0)
		if i < 0 {
			break
		}
		parts = append(parts, key[:i])
		key = key[i+1:]
	}
	return parts
}
