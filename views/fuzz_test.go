package views

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// Whatever a file says, it is refused with problems that name it, or it is a view that describes itself.
func FuzzDefinitions(f *testing.F) {
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil || len(files) == 0 {
		f.Fatalf("no test data: %v", err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	for _, text := range []string{
		orderSummary, affectedViews, modelViews, benchView,
		"view: v\nfrom: orders\nfields: &f {id: , o: {one: orders, on: {id: id}, fields: *f}}\nsearch:\n",
		"view: v\nfrom: orders\nfields: &f {a: {one: orders, on: {id: id}, fields: *f}, b: {one: orders, on: {id: id}, fields: *f}}\nsearch:\n",
		"view: v\nfrom: orders\nfields: {id: }\nsearch: &s {settings: {a: *s}}\n",
		"{view: v, from: orders, fields: {e: {cel: '[1, 2].map(x, [x, row.note])'}}, search: , cache: {lookups: [[e, id]]}}",
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		defs, parseErr := Parse("f.yaml", data)
		list, err := Compile(defs, catalog)
		for _, err := range []error{parseErr, err} {
			var problems Problems
			if err != nil && !errors.As(err, &problems) {
				t.Fatalf("an error that is no problem of the file: %v", err)
			}
			for _, p := range problems {
				if p.File != "f.yaml" || p.Line < 1 || p.Text == "" {
					t.Fatalf("problem %+v", p)
				}
			}
		}
		if parseErr != nil || err != nil {
			return
		}
		for _, v := range list {
			if v.Name() == "" || v.Hash() == "" || v.Root() == nil || (v.Search() == nil && v.Cache() == nil) || len(v.Tables()) == 0 {
				t.Fatalf("view %+v", v)
			}
			if v.Source() != "" {
				sourceHolds(t, v)
			}
		}
	})
}
