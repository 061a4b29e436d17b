package shop

import "testing"

func TestDiffer(t *testing.T) {
	for _, c := range []struct{ want, got, diff string }{
		{`{"a":1,"b":[1.50,{"c":null}]}`, `{"b":[1.5,{"c":null}],"a":1.0}`, ""},
		{`{"a":1}`, `{"a":2}`, "a: 2, want 1"},
		{`{"a":null}`, `{}`, "a: in the source true, in the sink false"},
		{`{"a":[1,2]}`, `{"a":[1]}`, "a: 1 elements, want 2"},
		{`{"a":[{"b":"x"}]}`, `{"a":[{"b":"y"}]}`, `a[0].b: "y", want "x"`},
		{`{"a":"1"}`, `{"a":1}`, `a: 1, want "1"`},
		{`{"a":123456789012345678901}`, `{"a":123456789012345678902}`, "a: 123456789012345678902, want 123456789012345678901"},
		{`{"a":{}}`, `{"a":[]}`, "a: [], want {}"},
	} {
		if diff := differ([]byte(c.want), []byte(c.got)); diff != c.diff {
			t.Errorf("differ(%s, %s) = %q, want %q", c.want, c.got, diff, c.diff)
		}
	}
}

func TestEveryViewHasItsTruth(t *testing.T) {
	if len(Views()) < 4 {
		t.Fatalf("views: %v", Views())
	}
	for _, v := range Views() {
		if Truth(v) == "" || len(Definition(v)) == 0 {
			t.Errorf("%s has no truth or no definition", v)
		}
	}
}
