package search

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/lanternist/lanternist/cdc"
	"github.com/lanternist/lanternist/internal/devstack"
	"github.com/lanternist/lanternist/row"
	"github.com/lanternist/lanternist/views"
)

// typeRow is a row of the table in docs/types.md.
type typeRow struct {
	line     int
	names    []string // as they stand in CREATE TABLE
	search   string   // type in Elasticsearch, "kept", or "" when it follows from other rows
	cel      string
	sorts    bool
	literal  string // of the first name's type
	document string
}

var (
	backquoted  = regexp.MustCompile("`([^`]+)`")
	typeExample = regexp.MustCompile("^`(.+)` → `(.+)`$")
)

// typesTable reads the first table of docs/types.md.
func typesTable(t *testing.T) (rows []typeRow) {
	t.Helper()
	text, err := os.ReadFile("../../docs/types.md")
	if err != nil {
		t.Fatal(err)
	}
	for i, line := range strings.Split(string(text), "\n") {
		if !strings.HasPrefix(line, "|") {
			if len(rows) > 0 {
				return rows
			}
			continue
		}
		cells := strings.Split(strings.Trim(line, "|"), "|")
		if len(cells) != 6 {
			t.Fatalf("docs/types.md:%d: %d cells, want 6", i+1, len(cells))
		}
		for j := range cells {
			cells[j] = strings.TrimSpace(cells[j])
		}
		if cells[0] == "Postgres" || strings.HasPrefix(cells[0], "---") {
			continue
		}
		r := typeRow{line: i + 1, search: cells[2], cel: cells[3], sorts: strings.HasPrefix(cells[4], "yes")}
		for _, m := range backquoted.FindAllStringSubmatch(cells[0], -1) {
			r.names = append(r.names, m[1])
		}
		switch cells[0] {
		case "enums":
			r.names = []string{"mood"}
		case "composites":
			r.names = []string{"pair"}
		case "domains", "all other types":
			continue
		case "arrays":
			r.names, r.search = []string{"integer[]", "integer[][]", "text[]", "mood[]"}, ""
		}
		if strings.Contains(cells[0], "multiranges") {
			for _, name := range slices.Clone(r.names) {
				r.names = append(r.names, strings.TrimSuffix(name, "range")+"multirange")
			}
		}
		if m := backquoted.FindStringSubmatch(cells[2]); m != nil {
			r.search = m[1]
		}
		if m := typeExample.FindStringSubmatch(cells[5]); m != nil {
			r.literal, r.document = m[1], m[2]
		} else if cells[5] != "" {
			t.Fatalf("docs/types.md:%d: example %q", i+1, cells[5])
		}
		rows = append(rows, r)
	}
	return rows
}

// extensionTypes stand in for types whose extension the server does not have.
var extensionTypes = map[string]row.Type{
	"geometry":  {Class: row.Geometry, Name: "public.geometry", Mod: 4326<<8 | 1<<2},
	"geography": {Class: row.Geometry, Name: "public.geography", Mod: 4326<<8 | 1<<2},
	"vector":    {Class: row.Vector, Name: "public.vector", Mod: 3},
	"halfvec":   {Class: row.Vector, Name: "public.halfvec", Mod: 3},
}

// celNames are by the column types that stand for the results of expressions.
var celNames = map[string]string{
	"bigint": "int", "double precision": "double", "boolean": "bool", "text": "string", "bytea": "bytes",
	"timestamp with time zone": "timestamp", "jsonb": "dyn",
}

// TestTypesTable holds docs/types.md to the code and to the server: each type has a row, and is what the row says.
func TestTypesTable(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	database := devstack.Postgres(t)
	conn, err := cdc.Connect(ctx, cdc.Config{URL: database.URL()})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	execute(t, conn, `SET search_path = public`, `CREATE TYPE mood AS ENUM ('sad', 'happy')`, `CREATE TYPE pair AS (a int, b text)`)
	installed := map[string]bool{}
	for _, name := range []string{"citext", "hstore", "postgis", "vector"} {
		if _, err := conn.Exec(ctx, "CREATE EXTENSION "+name); err != nil {
			t.Logf("extension %s: %v", name, err)
			continue
		}
		installed[name] = true
	}
	rows := typesTable(t)
	if len(rows) < 25 {
		t.Fatalf("%d rows", len(rows))
	}
	var columns, missing []string
	named := map[string]bool{}
	for i, r := range rows {
		for j, name := range r.names {
			if _, ok := extensionTypes[name]; ok {
				continue
			}
			if (name == "citext" || name == "hstore") && !installed[name] {
				missing = append(missing, name)
				continue
			}
			if name == "character" {
				name = "character(1)"
			}
			columns = append(columns, fmt.Sprintf("c%d_%d %s", i, j, name))
		}
	}
	if len(missing) > 0 {
		t.Logf("not tried, for want of the extensions: %v", missing)
	}
	execute(t, conn, "CREATE TABLE every (id int PRIMARY KEY, "+strings.Join(columns, ", ")+")")
	catalog, err := cdc.LoadCatalog(ctx, conn, []string{"every"})
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range rows {
		for j, name := range r.names {
			typ, ok := extensionTypes[name]
			column := ""
			if !ok {
				column = fmt.Sprintf("c%d_%d", i, j)
				at := catalog[0].Column(column)
				if at < 0 {
					continue // its extension is missing
				}
				typ = catalog[0].Columns[at].Type
				named[strings.TrimPrefix(typ.Name, "public.")] = true
			}
			r.check(t, name, &typ)
			if column != "" {
				r.checkViews(t, name, column, catalog)
			}
			if j == 0 && r.literal != "" {
				r.checkExample(t, conn, name, &typ, ok)
			}
		}
	}
	// Every type that a column of this server can have, but those that only catalogs and planner have.
	unnamed, err := conn.Query(ctx, `SELECT format_type(oid, NULL) FROM pg_type WHERE typnamespace = 'pg_catalog'::regnamespace AND typtype IN ('b', 'r', 'm')
		AND typcategory NOT IN ('A', 'Z') AND typname NOT IN ('gtsvector', 'pg_ndistinct', 'pg_dependencies', 'pg_node_tree', 'pg_mcv_list') AND typname !~ '^pg_brin_'`)
	if err != nil {
		t.Fatal(err)
	}
	types, err := pgx.CollectRows(unnamed, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range types {
		if !named[name] {
			t.Errorf("docs/types.md has no row for %s", name)
		}
	}
}

func execute(t *testing.T, conn *pgx.Conn, statements ...string) {
	t.Helper()
	for _, sql := range statements {
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
}

// check compares the type in Elasticsearch.
func (r *typeRow) check(t *testing.T, name string, typ *row.Type) {
	t.Helper()
	if r.search == "" {
		return
	}
	m := scalarMapping(typ, "")
	got, _ := m["type"].(string)
	if m["enabled"] == false || m["index"] == false {
		got = "kept"
	}
	if got != r.search {
		t.Errorf("docs/types.md:%d: %s is %v in Elasticsearch, there %s", r.line, name, m, r.search)
	}
}

// checkViews compares what the type is in expressions and whether it is sorted by.
func (r *typeRow) checkViews(t *testing.T, name, column string, catalog []*row.Schema) {
	t.Helper()
	compile := func(fields string) (*views.View, error) {
		defs, err := views.Parse("t.yaml", []byte("view: v\nfrom: every\nfields: {"+fields+"}\nsearch:\n"))
		if err != nil {
			t.Fatal(err)
		}
		list, err := views.Compile(defs, catalog)
		if err != nil {
			return nil, err
		}
		return list[0], nil
	}
	v, err := compile(`x: {cel: "row.` + column + `"}`)
	if err != nil {
		t.Errorf("docs/types.md:%d: %s: %v", r.line, name, err)
		return
	}
	if got := celNames[v.Fields()[0].Type.Name]; got != r.cel {
		t.Errorf("docs/types.md:%d: %s is %s in CEL, there %s", r.line, name, got, r.cel)
	}
	_, err = compile(`x: {many: every, on: {id: id}, order_by: ` + column + `, value: id}`)
	if sorts := err == nil; sorts != r.sorts {
		t.Errorf("docs/types.md:%d: %s sorts: %t, there %t (%v)", r.line, name, sorts, r.sorts, err)
	}
}

// checkExample compares the document's form of the example.
func (r *typeRow) checkExample(t *testing.T, conn *pgx.Conn, name string, typ *row.Type, isText bool) {
	t.Helper()
	text := []byte(r.literal)
	if !isText {
		if name == "character" {
			name = "character(1)"
		}
		quoted := "'" + strings.ReplaceAll(r.literal, "'", "''") + "'"
		result := conn.PgConn().ExecParams(t.Context(), "SELECT "+quoted+"::"+name, nil, nil, nil, nil).Read()
		if result.Err != nil {
			t.Errorf("docs/types.md:%d: %v", r.line, result.Err)
			return
		}
		text = result.Rows[0][0]
	}
	if got := string(row.AppendJSON(nil, typ, text)); got != r.document {
		t.Errorf("docs/types.md:%d: %s %s is %s in a document, there %s", r.line, name, text, got, r.document)
	}
}
