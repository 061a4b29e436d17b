package views

import (
	"strings"
	"testing"

	"github.com/lanternist/lanternist/row"
)

// TestConflicts changes a table under a view, in every way.
func TestConflicts(t *testing.T) {
	text := row.Type{OID: 25, Mod: -1, Name: "text", Class: row.String}
	number := row.Type{OID: 23, Mod: -1, Name: "integer", Class: row.Int}
	table := func(change func(*row.Schema)) *row.Schema {
		s := &row.Schema{OID: 1, Namespace: "public", Name: "orders", Width: 4, Key: []int{0}, Columns: []row.Column{
			{Name: "id", Number: 1, Type: number}, {Name: "status", Number: 2, Type: text}, {Name: "total", Number: 3, Type: number}, {Name: "other", Number: 4, Type: text},
		}}
		if change != nil {
			change(s)
		}
		return s
	}
	defs, err := Parse("views/order.yaml", []byte("view: order\nfrom: orders\nfields:\n  id:\n  status:\n  big: {cel: \"row.total > 10\"}\ncache:\n"))
	if err != nil {
		t.Fatal(err)
	}
	list, err := Compile(defs, []*row.Schema{table(nil)})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		change func(*row.Schema)
		want   []string // each in the conflict of its place; none: the view goes on
	}{
		"nothing": {nil, nil},
		"added": {func(s *row.Schema) {
			s.Columns = append(s.Columns, row.Column{Name: "new", Number: 5, Type: text})
			s.Width = 5
		}, nil},
		"a column not in use is dropped": {func(s *row.Schema) { s.Columns = s.Columns[:3] }, nil},
		"a column not in use is renamed": {func(s *row.Schema) { s.Columns[3].Name = "another" }, nil},
		"dropped":                        {func(s *row.Schema) { s.Columns = append(s.Columns[:1:1], s.Columns[2:]...) }, []string{`views/order.yaml:5: column "status" of public.orders is not there any more`}},
		"renamed":                        {func(s *row.Schema) { s.Columns[1].Name = "state_of_it" }, []string{`views/order.yaml:5: column "status" of public.orders was renamed; did you mean "state_of_it"?`}},
		"retyped in an expression":       {func(s *row.Schema) { s.Columns[2].Type = text }, []string{`views/order.yaml:6: column "total" of public.orders was integer and is now text`}},
		"table renamed":                  {func(s *row.Schema) { s.Name = "purchases" }, []string{`views/order.yaml:2: table public.orders is now public.purchases; did you mean "public.purchases"?`}},
		"key changed":                    {func(s *row.Schema) { s.Key = []int{0, 1} }, []string{`views/order.yaml:2: the key of public.orders was [id] and is now [id status]`}},
		"key dropped":                    {func(s *row.Schema) { s.Key = nil }, []string{`views/order.yaml:2: table public.orders has no primary key any more`}},
		"key renamed":                    {func(s *row.Schema) { s.Columns[0].Name = "number" }, []string{`views/order.yaml:4: column "id" of public.orders was renamed; did you mean "number"?`}},
		"two columns swapped":            {func(s *row.Schema) { s.Columns[1].Name, s.Columns[3].Name = "other", "status" }, []string{`renamed; did you mean "other"?`}},
		"dropped and added again":        {func(s *row.Schema) { s.Columns[1].Number, s.Width = 5, 5 }, nil},
	} {
		found := list[0].Conflicts(map[uint32]*row.Schema{1: table(c.change), 2: nil})
		if len(found) != len(c.want) {
			t.Errorf("%s: %v", name, found)
			continue
		}
		for i, want := range c.want {
			if !strings.Contains(found[i].Error(), want) {
				t.Errorf("%s: %s, want %s", name, found[i].Error(), want)
			}
		}
	}
	if found := list[0].Conflicts(map[uint32]*row.Schema{1: nil}); len(found) != 1 || !strings.Contains(found[0].Error(), "views/order.yaml:2: table public.orders is not there any more") {
		t.Errorf("a table that is gone: %v", found)
	}
}
