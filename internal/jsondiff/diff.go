// Package jsondiff compares two JSON documents and names the fields in which they differ. The order of members and the way
// a number is written do not count. What is compared, and what a difference means, its callers decide.
package jsondiff

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/big"
	"slices"
	"strings"
)

// FieldsMax is how many fields Fields lists at most.
const FieldsMax = 20

// Field is a value that is not as it should be. No Got or no Want is: there is none.
type Field struct {
	Path string          `json:"path"` // "items[2].sku"; "" is the whole document
	Got  json.RawMessage `json:"got,omitempty"`
	Want json.RawMessage `json:"want,omitempty"`
}

// Same says that two documents are the same JSON.
func Same(got, want []byte) bool {
	return bytes.Equal(got, want) || len(Fields(got, want)) == 0
}

// Fields lists the fields in which a document differs from what it should be, at most FieldsMax.
func Fields(got, want []byte) []Field {
	a, errA := decode(got)
	b, errB := decode(want)
	if errA != nil || errB != nil {
		return []Field{{Got: show(got, errA), Want: show(want, errB)}}
	}
	var d differ
	d.value("", a, b)
	return d.fields
}

// show is the text itself, or as a string when it is no JSON.
func show(text []byte, err error) json.RawMessage {
	if err == nil {
		return bytes.Clone(text)
	}
	return encode(string(text))
}

func decode(text []byte) (any, error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, err
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, fmt.Errorf("more follows the document: %w", err)
	}
	return v, nil
}

// encode writes a decoded value.
func encode(v any) json.RawMessage {
	text, err := json.Marshal(v)
	if err != nil { // a value that was decoded from JSON always can be
		return json.RawMessage(fmt.Sprintf("%q", err.Error()))
	}
	return text
}

type differ struct{ fields []Field }

func (d *differ) add(f Field) {
	if len(d.fields) < FieldsMax {
		d.fields = append(d.fields, f)
	}
}

func (d *differ) value(path string, got, want any) {
	switch w := want.(type) {
	case map[string]any:
		if g, ok := got.(map[string]any); ok {
			d.object(path, g, w)
			return
		}
	case []any:
		if g, ok := got.([]any); ok {
			d.list(path, g, w)
			return
		}
	case json.Number:
		if g, ok := got.(json.Number); ok && equalNumbers(string(g), string(w)) {
			return
		}
	default:
		if scalar(got) && got == want {
			return
		}
	}
	d.add(Field{Path: path, Got: encode(got), Want: encode(want)})
}

// scalar says that a decoded value can be compared with ==.
func scalar(v any) bool {
	switch v.(type) {
	case map[string]any, []any:
		return false
	}
	return true
}

func (d *differ) object(path string, got, want map[string]any) {
	names := maps.Clone(got)
	maps.Copy(names, want)
	for _, name := range slices.Sorted(maps.Keys(names)) {
		at := name
		if path != "" {
			at = path + "." + name
		}
		g, had := got[name]
		w, has := want[name]
		switch {
		case !had:
			d.add(Field{Path: at, Want: encode(w)})
		case !has:
			d.add(Field{Path: at, Got: encode(g)})
		default:
			d.value(at, g, w)
		}
	}
}

func (d *differ) list(path string, got, want []any) {
	for i := range max(len(got), len(want)) {
		at := fmt.Sprintf("%s[%d]", path, i)
		switch {
		case i >= len(got):
			d.add(Field{Path: at, Want: encode(want[i])})
		case i >= len(want):
			d.add(Field{Path: at, Got: encode(got[i])})
		default:
			d.value(at, got[i], want[i])
		}
	}
}

// equalNumbers says that two JSON numbers are equal, exactly. Those with exponents must be written the same: they may
// stand for more digits than there is memory for.
func equalNumbers(a, b string) bool {
	if a == b {
		return true
	}
	if strings.ContainsAny(a+b, "eE") {
		return false
	}
	x, okX := new(big.Rat).SetString(a)
	y, okY := new(big.Rat).SetString(b)
	return okX && okY && x.Cmp(y) == 0
}
