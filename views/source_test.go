package views

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// sourceHolds says that the text a view gives of itself makes the same view, and gives itself.
func sourceHolds(t *testing.T, v *View) {
	t.Helper()
	defs, err := Parse("source", []byte(v.Source()))
	if err != nil {
		t.Fatalf("%v in\n%s", err, v.Source())
	}
	again, err := Compile(defs, catalog)
	if err != nil || len(again) != 1 {
		t.Fatalf("%d views, %v in\n%s", len(again), err, v.Source())
	}
	if again[0].Hash() != v.Hash() {
		t.Errorf("hash %s, want %s, of\n%s", again[0].Hash(), v.Hash(), v.Source())
	}
	if again[0].Source() != v.Source() {
		t.Errorf("source of\n%s\nis\n%s", v.Source(), again[0].Source())
	}
}

func TestSource(t *testing.T) {
	texts := []string{orderSummary, affectedViews, modelViews, benchView,
		// Anchors of another view, expressions over several lines, values that must stay text, and comments.
		`
- view: first # not part of it
  from: orders
  fields: &common {id: , status: {as: keyword}}
  search: {settings: &s {a: "1", b: 1, c: 1.50, d: 0x10, e: ~, f: "null", g: true, "h": "yes", i: [1, "2"], j: 2026-01-01, k: ""}}
- view: second
  from: orders
  fields: *common
  where: |
    doc.status != 'x'

      && doc.status != "  y: 'z' # "
  search: {settings: {<<: *s, b: 2}, analysis: {analyzer: {a: {pattern: "\\W+\t\u2028\x01", note: >-
    folded
    text }}}}
  cache: {ttl: 90m, lookups: [status, [id, status]]}
`}
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		texts = append(texts, string(data))
	}
	seen := 0
	for _, text := range texts {
		defs, err := Parse("f.yaml", []byte(text))
		if err != nil {
			t.Logf("%v", err)
			continue // of the tests of problems
		}
		list, err := Compile(defs, catalog)
		if err != nil {
			t.Logf("%v", err)
			continue
		}
		for _, v := range list {
			sourceHolds(t, v)
			if strings.Contains(v.Source(), "not part of it") {
				t.Errorf("a comment is part of\n%s", v.Source())
			}
			seen++
		}
	}
	if seen < 6 {
		t.Errorf("only %d views seen", seen)
	}
	large := strings.Replace(orderSummary, "number_of_shards: 1", "a: "+strings.Repeat("x", sourceMax), 1)
	if v := compileView(t, large); v.Source() != "" {
		t.Errorf("a definition gives %d bytes of itself", len(v.Source()))
	}
}
