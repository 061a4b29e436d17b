package views

import (
	"fmt"
	"math"
	"slices"
	"strconv"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"

	"github.com/lanternist/lanternist/row"
)

// appendCEL appends the JSON of an expression's result, in the forms that columns have: bytes as \x…, timestamps
// with +00:00, NaN and infinities as strings. A duration is a string like "90s". Keys of maps are sorted.
func appendCEL(dst []byte, v ref.Val) ([]byte, error) {
	switch v := v.(type) {
	case types.Null:
		return append(dst, "null"...), nil
	case types.Bool:
		return strconv.AppendBool(dst, bool(v)), nil
	case types.Int:
		return strconv.AppendInt(dst, int64(v), 10), nil
	case types.Uint:
		return strconv.AppendUint(dst, uint64(v), 10), nil
	case types.Double:
		if f := float64(v); math.IsNaN(f) || math.IsInf(f, 0) {
			return append(appendFloat(append(dst, '"'), f, false), '"'), nil
		}
		return appendFloat(dst, float64(v), false), nil
	case types.String:
		return row.AppendJSONString(dst, []byte(v)), nil
	case types.Bytes:
		return fmt.Appendf(dst, `"\\x%x"`, []byte(v)), nil
	case types.Timestamp:
		return v.UTC().AppendFormat(dst, `"2006-01-02T15:04:05.999999+00:00"`), nil
	case types.Duration:
		return fmt.Appendf(dst, `"%ss"`, strconv.FormatFloat(v.Seconds(), 'f', -1, 64)), nil
	case *documentValue:
		return (*instance)(v).appendObject(dst)
	case traits.Lister:
		return appendCELList(dst, v)
	case traits.Mapper:
		return appendCELMap(dst, v)
	}
	return dst, fmt.Errorf("%w: a value of type %s has no JSON form", ErrEvaluate, v.Type().TypeName())
}

func appendCELList(dst []byte, list traits.Lister) ([]byte, error) {
	dst = append(dst, '[')
	first := true
	for it := list.Iterator(); it.HasNext() == types.True; first = false {
		if !first {
			dst = append(dst, ',')
		}
		var err error
		if dst, err = appendCEL(dst, it.Next()); err != nil {
			return dst, err
		}
	}
	return append(dst, ']'), nil
}

func appendCELMap(dst []byte, m traits.Mapper) ([]byte, error) {
	type member struct {
		key   string
		value ref.Val
	}
	var members []member
	for it := m.Iterator(); it.HasNext() == types.True; {
		key := it.Next()
		members = append(members, member{fmt.Sprint(key.Value()), m.Get(key)})
	}
	slices.SortFunc(members, func(a, b member) int {
		switch {
		case a.key < b.key:
			return -1
		case a.key > b.key:
			return 1
		}
		return 0
	})
	dst = append(dst, '{')
	for i, member := range members {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(row.AppendJSONString(dst, []byte(member.key)), ':')
		var err error
		if dst, err = appendCEL(dst, member.value); err != nil {
			return dst, err
		}
	}
	return append(dst, '}'), nil
}
