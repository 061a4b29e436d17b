package views

import (
	"errors"
	"fmt"
	"slices"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"

	"github.com/lanternist/lanternist/row"
)

// celTypes tells CEL what the variables doc and row have: each object of a view is a type whose fields are those
// of the definition, and a type whose fields are the table's columns. A misspelt field is found when the view is
// compiled, and at run time a field is read by its place and not by its name.
type celTypes struct {
	types.Provider
	view    string
	line    int                           // of the expression that is compiled
	objects map[string]*object            // by the type name of its documents
	rows    map[string]*object            // by the type name of its rows
	members map[*object]map[string]*field // fields that expressions may use so far; nil when broken
}

func newCELTypes(view string) *celTypes {
	return &celTypes{view: view, objects: map[string]*object{}, rows: map[string]*object{}, members: map[*object]map[string]*field{}}
}

// add makes the two types of an object. Their names cannot be written in CEL.
func (t *celTypes) add(o *object) {
	o.typ = fmt.Sprintf("document(%s)", joinPath(t.view, o.path))
	o.rowType = fmt.Sprintf("row(%s)", joinPath(t.view, o.path))
	t.objects[o.typ], t.rows[o.rowType] = o, o
	t.members[o] = map[string]*field{}
}

// declare makes a compiled field known to the expressions that follow. f is nil when the field is not compiled
// yet, or has a problem.
func (t *celTypes) declare(o *object, name string, f *field) { t.members[o][name] = f }

// names is the fields that expressions may use so far, sorted.
func (t *celTypes) names(o *object) []string {
	var names []string
	for name, f := range t.members[o] {
		if f != nil {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// FindStructType knows the types of the view beside those of CEL.
func (t *celTypes) FindStructType(name string) (*types.Type, bool) {
	if t.objects[name] != nil || t.rows[name] != nil {
		return types.NewTypeTypeWithParam(types.NewObjectType(name)), true
	}
	return t.Provider.FindStructType(name)
}

// FindStructFieldNames lists the fields of a type.
func (t *celTypes) FindStructFieldNames(name string) ([]string, bool) {
	if o := t.objects[name]; o != nil {
		return t.names(o), true
	}
	if o := t.rows[name]; o != nil {
		return columnNames(o.schema), true
	}
	return t.Provider.FindStructFieldNames(name)
}

// FindStructFieldType is the type of a field and how it is read. Asking for a column makes the view use it.
func (t *celTypes) FindStructFieldType(name, member string) (*types.FieldType, bool) {
	if o := t.objects[name]; o != nil {
		f := t.members[o][member]
		if f == nil {
			return nil, false
		}
		return documentField(f), true
	}
	if o := t.rows[name]; o != nil {
		column := o.column(member)
		if column < 0 {
			return nil, false
		}
		o.names(member, t.line)
		return rowField(o, o.slot(column)), true
	}
	return t.Provider.FindStructFieldType(name, member)
}

// errAbsent is what reading a member of null says.
var errAbsent = errors.New("is null; guard it with has() or compare it with null first")

// documentField reads a field of a document or of a joined object.
func documentField(f *field) *types.FieldType {
	get := func(target any) (any, error) {
		d, ok := target.(*documentValue)
		if !ok {
			return nil, fmt.Errorf("the object that .%s is read from %w", f.name, errAbsent)
		}
		return (*instance)(d).fieldValue(f)
	}
	return &types.FieldType{
		Type: fieldCELType(f),
		IsSet: func(target any) bool {
			v, err := get(target)
			return err != nil && !errors.Is(err, errAbsent) || err == nil && v != types.NullValue
		},
		GetFrom: get,
	}
}

// rowField reads a column.
func rowField(o *object, at int) *types.FieldType {
	s := o.slots[at]
	return &types.FieldType{
		Type: celType(&s.typ),
		IsSet: func(target any) bool {
			r, ok := target.(*rowValue)
			return ok && r.values[at].Kind == row.Text
		},
		GetFrom: func(target any) (any, error) {
			r, ok := target.(*rowValue)
			if !ok {
				return nil, fmt.Errorf("column %s is read from something that is not a row", s.name)
			}
			return celValue(&s.typ, r.values[at])
		},
	}
}

// fieldCELType is the CEL type of a field.
func fieldCELType(f *field) *types.Type {
	switch f.kind {
	case joinField:
		t := types.NewObjectType(f.join.target.typ)
		if f.join.value >= 0 {
			t = celType(&f.join.target.slots[f.join.value].typ)
		}
		if f.join.many {
			return types.NewListType(t)
		}
		return t
	case exprField:
		return f.program.celType
	}
	return celType(&f.typ)
}

var (
	nullableInt    = types.NewNullableType(types.IntType)
	nullableDouble = types.NewNullableType(types.DoubleType)
	nullableBool   = types.NewNullableType(types.BoolType)
	nullableString = types.NewNullableType(types.StringType)
	nullableBytes  = types.NewNullableType(types.BytesType)
)

// celType is the CEL type of a column. Every column may be null, also in rows older than the column.
func celType(t *row.Type) *types.Type {
	switch t.Class {
	case row.Int:
		return nullableInt
	case row.Float, row.Numeric, row.Money:
		return nullableDouble
	case row.Bool:
		return nullableBool
	case row.Bytea:
		return nullableBytes
	case row.Date, row.Timestamp, row.TimestampTZ:
		return types.TimestampType
	case row.JSON, row.Array, row.Point, row.Vector, row.HStore, row.Geometry:
		return types.DynType
	}
	return nullableString
}

// resultType is the column type that stands for a CEL type, for mappings, and whether the value is a list of it.
func resultType(t *cel.Type) (row.Type, bool) {
	switch t.Kind() {
	case types.IntKind, types.UintKind:
		return bigintType, false
	case types.DoubleKind:
		return row.Type{OID: 701, Mod: -1, Name: "double precision", Class: row.Float}, false
	case types.BoolKind:
		return row.Type{OID: 16, Mod: -1, Name: "boolean", Class: row.Bool}, false
	case types.StringKind, types.DurationKind:
		return row.Type{OID: 25, Mod: -1, Name: "text", Class: row.String}, false
	case types.BytesKind:
		return row.Type{OID: 17, Mod: -1, Name: "bytea", Class: row.Bytea}, false
	case types.TimestampKind:
		return row.Type{OID: 1184, Mod: -1, Name: "timestamp with time zone", Class: row.TimestampTZ}, false
	case types.ListKind:
		elem, _ := resultType(t.Parameters()[0])
		return elem, true
	}
	return row.Type{OID: 3802, Mod: -1, Name: "jsonb", Class: row.JSON}, false
}

var _ ref.Val = (*documentValue)(nil)
