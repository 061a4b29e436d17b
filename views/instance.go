package views

import (
	"cel.dev/cel-go/common/types/ref"

	"github.com/lanternist/lanternist/row"
)

// instance is one row of one object, while a document is composed.
type instance struct {
	object   *object
	values   []row.Value // by slot of the object
	joined   []joined    // by join of the object; nil until one is needed
	computed []ref.Val   // by expression field of the object; nil until one is needed
	composer *Composer
}

// joined is the rows of one join of one instance.
type joined struct {
	all  []instance // that the join's where lets through, in order
	done bool
}

// shown is the rows that are part of the document.
func (r *joined) shown(j *join) []instance {
	switch {
	case !j.many && len(r.all) > 1:
		return r.all[:1]
	case j.limit > 0 && len(r.all) > j.limit:
		return r.all[:j.limit]
	}
	return r.all
}

// rows is the rows of a join, read from the mirror when first asked for.
func (in *instance) rows(j *join) (*joined, error) {
	if in.joined == nil {
		in.joined = in.composer.newJoined(len(in.object.joins))
	}
	r := &in.joined[j.index]
	if r.done {
		return r, nil
	}
	all, err := in.composer.gather(in, j)
	if err != nil {
		if in.composer.failure == nil {
			in.composer.failure = err // an expression may be what asked: its error is not the cause
		}
		return nil, err
	}
	r.all, r.done = all, true
	return r, nil
}

// appendObject appends the instance as a JSON object.
func (in *instance) appendObject(dst []byte) ([]byte, error) {
	var err error
	empty := true
	for _, f := range in.object.fields {
		if f.prefix == nil {
			continue
		}
		empty = false
		dst = append(dst, f.prefix...)
		if dst, err = in.appendField(dst, f); err != nil {
			return dst, err
		}
	}
	if empty {
		dst = append(dst, '{')
	}
	return append(dst, '}'), nil
}

// appendField appends the JSON value of a field.
func (in *instance) appendField(dst []byte, f *field) ([]byte, error) {
	switch f.kind {
	case columnField:
		return appendColumn(dst, &f.typ, in.values[f.slot]), nil
	case joinField:
		return in.appendJoin(dst, f.join)
	case aggregateField:
		r, err := in.rows(f.aggregate.join)
		if err != nil {
			return dst, err
		}
		return in.composer.appendAggregate(dst, f, r.all), nil
	}
	v, err := in.exprValue(f)
	if err != nil {
		return dst, err
	}
	return appendCEL(dst, v)
}

// appendColumn appends the JSON value of a column.
func appendColumn(dst []byte, t *row.Type, v row.Value) []byte {
	if v.Kind != row.Text {
		return append(dst, "null"...)
	}
	return row.AppendJSON(dst, t, v.Text)
}

// appendJoin appends the JSON value of a join.
func (in *instance) appendJoin(dst []byte, j *join) ([]byte, error) {
	r, err := in.rows(j)
	if err != nil {
		return dst, err
	}
	shown := r.shown(j)
	if !j.many {
		if len(shown) == 0 {
			return append(dst, "null"...), nil
		}
		return shown[0].appendElement(dst, j)
	}
	dst = append(dst, '[')
	for i := range shown {
		if i > 0 {
			dst = append(dst, ',')
		}
		if dst, err = shown[i].appendElement(dst, j); err != nil {
			return dst, err
		}
		if err = in.composer.checkSize(len(dst)); err != nil {
			return dst, err
		}
	}
	return append(dst, ']'), nil
}

// appendElement appends one joined row: its one value, or an object.
func (in *instance) appendElement(dst []byte, j *join) ([]byte, error) {
	if j.value >= 0 {
		return appendColumn(dst, &in.object.slots[j.value].typ, in.values[j.value]), nil
	}
	return in.appendObject(dst)
}
