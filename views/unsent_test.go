package views

import (
	"strings"
	"testing"

	"github.com/lanternist/lanternist/row"
)

// A column that the table has and the stream does not send is refused with the reason, wherever a view names it.
func TestUnsentColumns(t *testing.T) {
	schema := table(1, 1, "t", "*id int", "price int")
	schema.Unsent = []row.Unsent{{Name: "total", Generated: true}, {Name: "secret"}}
	for fields, want := range map[string]string{
		`{id: , total: }`:                   "generated",
		`{id: , x: {column: total}}`:        "generated",
		`{id: , secret: }`:                  "column list",
		`{id: , x: {cel: "row.total * 2"}}`: "generated",
		`{id: , totl: }`:                    "is not in",
		`{id: , s: {sum: js.total}, js: {many: t, on: {id: id}, hidden: true}}`: "generated",
		`{id: , js: {many: t, on: {total: id}, fields: {id: }}}`:                "generated",
	} {
		defs, err := Parse("t.yaml", []byte("view: v\nfrom: t\nfields: "+fields+"\nsearch:\n"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err = Compile(defs, []*row.Schema{schema}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q in it", fields, err, want)
		}
	}
}
