package views

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
	"time"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"

	"github.com/lanternist/lanternist/row"
)

// activation binds the variables of an expression to an instance.
type activation instance

// ResolveName finds doc and row.
func (a *activation) ResolveName(name string) (any, bool) {
	switch name {
	case "doc":
		return (*documentValue)(a), true
	case "row":
		return (*rowValue)(a), true
	}
	return nil, false
}

// Parent is nil: there are no other variables.
func (a *activation) Parent() cel.Activation { return nil }

// documentValue is an instance as CEL sees its document: fields, joined objects and aggregates, each read from
// the mirror only when the expression asks for it.
type documentValue instance

// ConvertToNative is not needed: results are written by appendCEL.
func (d *documentValue) ConvertToNative(t reflect.Type) (any, error) {
	return nil, fmt.Errorf("an object of a document is not a %s", t)
}

// ConvertToType knows only the type of the object itself.
func (d *documentValue) ConvertToType(t ref.Type) ref.Val {
	if t == types.TypeType {
		return types.NewObjectType(d.object.typ)
	}
	return types.NewErr("an object of a document is not a %s", t.TypeName())
}

// Equal compares what the two objects look like in the document.
func (d *documentValue) Equal(other ref.Val) ref.Val {
	o, ok := other.(*documentValue)
	if !ok {
		return types.False
	}
	a, err := (*instance)(d).appendObject(nil)
	if err != nil {
		return types.WrapErr(err)
	}
	b, err := (*instance)(o).appendObject(nil)
	if err != nil {
		return types.WrapErr(err)
	}
	return types.Bool(string(a) == string(b))
}

// Type is the type of the object.
func (d *documentValue) Type() ref.Type { return types.NewObjectType(d.object.typ) }

// Value is the object itself.
func (d *documentValue) Value() any { return d }

// rowValue is an instance as CEL sees its row: the columns of its table.
type rowValue instance

// ConvertToNative is not possible: a row is no value of its own.
func (r *rowValue) ConvertToNative(t reflect.Type) (any, error) {
	return nil, fmt.Errorf("a row is not a %s", t)
}

// ConvertToType knows only the type of the row itself.
func (r *rowValue) ConvertToType(t ref.Type) ref.Val {
	if t == types.TypeType {
		return types.NewObjectType(r.object.rowType)
	}
	return types.NewErr("a row is not a %s", t.TypeName())
}

// Equal is true for the same row.
func (r *rowValue) Equal(other ref.Val) ref.Val {
	o, ok := other.(*rowValue)
	return types.Bool(ok && o == r)
}

// Type is the type of the row.
func (r *rowValue) Type() ref.Type { return types.NewObjectType(r.object.rowType) }

// Value is the row itself.
func (r *rowValue) Value() any { return r }

// fieldValue is the CEL value of a field of the instance.
func (in *instance) fieldValue(f *field) (ref.Val, error) {
	switch f.kind {
	case columnField:
		return celValue(&f.typ, in.values[f.slot])
	case joinField:
		return in.joinValue(f.join)
	case aggregateField:
		joined, err := in.rows(f.aggregate.join)
		if err != nil {
			return nil, err
		}
		text, ok := f.aggregate.appendText(nil, joined.all)
		if !ok {
			return types.NullValue, nil
		}
		return celValue(&f.typ, row.Value{Kind: row.Text, Text: text})
	}
	return in.exprValue(f)
}

// joinValue is the CEL value of a join: an object, a scalar, or a list of them.
func (in *instance) joinValue(j *join) (ref.Val, error) {
	joined, err := in.rows(j)
	if err != nil {
		return nil, err
	}
	shown := joined.shown(j)
	element := func(i int) (ref.Val, error) {
		if j.value >= 0 {
			return celValue(&j.target.slots[j.value].typ, shown[i].values[j.value])
		}
		return (*documentValue)(&shown[i]), nil
	}
	if !j.many {
		if len(shown) == 0 {
			return types.NullValue, nil
		}
		return element(0)
	}
	list := make([]ref.Val, len(shown))
	for i := range shown {
		if list[i], err = element(i); err != nil {
			return nil, err
		}
	}
	return types.NewRefValList(types.DefaultTypeAdapter, list), nil
}

// exprValue is the value of an expression field, evaluated once for the instance.
func (in *instance) exprValue(f *field) (ref.Val, error) {
	if in.computed == nil {
		in.computed = make([]ref.Val, len(in.object.exprs))
	}
	if v := in.computed[f.computed]; v != nil {
		return v, nil
	}
	v, err := f.program.eval(in)
	if err != nil {
		return nil, err
	}
	in.computed[f.computed] = v
	return v, nil
}

// celValue is the CEL value of a column.
func celValue(t *row.Type, v row.Value) (ref.Val, error) {
	if v.Kind != row.Text {
		return types.NullValue, nil
	}
	text := string(v.Text)
	switch t.Class {
	case row.Int:
		n, err := strconv.ParseInt(text, 10, 64)
		return types.Int(n), err
	case row.Float, row.Numeric:
		f, err := strconv.ParseFloat(text, 64)
		if err != nil && math.IsInf(f, 0) {
			err = nil // a numeric beyond the range of floats
		}
		return types.Double(f), err
	case row.Money:
		f, err := strconv.ParseFloat(string(row.AppendMoneyDigits(nil, v.Text)), 64)
		return types.Double(f), err
	case row.Bool:
		return types.Bool(text == "t"), nil
	case row.Bytea:
		b, err := hex.DecodeString(strings.TrimPrefix(text, `\x`))
		return types.Bytes(b), err
	case row.Date, row.Timestamp, row.TimestampTZ:
		at, err := parseTime(t.Class, text)
		return types.Timestamp{Time: at}, err
	case row.JSON:
		return celJSON([]byte(text))
	case row.Array, row.Point, row.Vector, row.HStore, row.Geometry:
		return celJSON(row.AppendJSON(nil, t, v.Text))
	}
	return types.String(text), nil
}

// celJSON is the CEL value of JSON. Whole numbers that fit are ints, as those of columns are.
func celJSON(text []byte) (ref.Val, error) {
	decoder := json.NewDecoder(strings.NewReader(string(text)))
	decoder.UseNumber()
	var v any
	if err := decoder.Decode(&v); err != nil {
		return nil, err
	}
	v, err := numbers(v)
	if err != nil {
		return nil, err
	}
	return types.DefaultTypeAdapter.NativeToValue(v), nil
}

// numbers replaces each json.Number below v.
func numbers(v any) (any, error) {
	var err error
	switch v := v.(type) {
	case json.Number:
		if n, err := strconv.ParseInt(string(v), 10, 64); err == nil {
			return n, nil
		}
		f, err := strconv.ParseFloat(string(v), 64)
		if err != nil && math.IsInf(f, 0) {
			err = nil
		}
		return f, err
	case []any:
		for i := range v {
			if v[i], err = numbers(v[i]); err != nil {
				return nil, err
			}
		}
	case map[string]any:
		for k := range v {
			if v[k], err = numbers(v[k]); err != nil {
				return nil, err
			}
		}
	}
	return v, nil
}

// parseTime reads a date or timestamp of the years that CEL has, 1 to 9999.
func parseTime(class row.Class, text string) (time.Time, error) {
	layout := "2006-01-02 15:04:05.999999"
	switch class {
	case row.Date:
		layout = time.DateOnly
	case row.TimestampTZ:
		layout += "-07"
		if i := strings.LastIndexAny(text, "+-"); i >= 0 && len(text)-i > 3 {
			layout += ":00"
		}
	}
	at, err := time.Parse(layout, text)
	if err != nil {
		return time.Time{}, fmt.Errorf("%q is not a time that expressions can work with", text)
	}
	return at.UTC(), nil
}
