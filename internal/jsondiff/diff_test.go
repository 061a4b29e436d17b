package jsondiff

import (
	"fmt"
	"strings"
	"testing"
)

func TestFields(t *testing.T) {
	for _, c := range []struct{ got, want, diff string }{
		{`{"a":1}`, `{"a":1}`, ""},
		{`{"b":2, "a":1.50}`, `{"a":1.5,"b":2}`, ""},
		{`{"a":1}`, `{"a":2}`, "a: 1, 2"},
		{`{"a":12345678901234567890}`, `{"a":12345678901234567891}`, "a: 12345678901234567890, 12345678901234567891"},
		{`{"a":"1"}`, `{"a":1}`, `a: "1", 1`},
		{`{"a":null}`, `{}`, "a: null, "},
		{`{}`, `{"a":null}`, "a: , null"},
		{`{"a":{"b":[1,{"c":true}]}}`, `{"a":{"b":[1,{"c":false},3]}}`, "a.b[1].c: true, false; a.b[2]: , 3"},
		{`{"a":[1,2]}`, `{"a":[1]}`, "a[1]: 2, "},
		{`{"a":[]}`, `{"a":{}}`, "a: [], {}"},
		{`{"a":{}}`, `{"a":null}`, "a: {}, null"},
		{`{"a":null}`, `{"a":[]}`, "a: null, []"},
		{`{"a":1e999999999}`, `{"a":2}`, "a: 1e999999999, 2"},
		{`nothing`, `{"a":2}`, `: "nothing", {"a":2}`},
		{`{"a":2}{}`, `{"a":2}`, `: "{\"a\":2}{}", {"a":2}`},
	} {
		var texts []string
		for _, f := range Fields([]byte(c.got), []byte(c.want)) {
			texts = append(texts, fmt.Sprintf("%s: %s, %s", f.Path, f.Got, f.Want))
		}
		if got := strings.Join(texts, "; "); got != c.diff {
			t.Errorf("%s, want %s: got %q, want %q", c.got, c.want, got, c.diff)
		}
		if Same([]byte(c.got), []byte(c.want)) != (c.diff == "") {
			t.Errorf("%s and %s: Same is wrong", c.got, c.want)
		}
	}
}

func TestFieldsAreBounded(t *testing.T) {
	long := "[0" + strings.Repeat(",1", 1000) + "]"
	if n := len(Fields([]byte("[]"), []byte(long))); n != FieldsMax {
		t.Errorf("%d fields, want %d", n, FieldsMax)
	}
}
