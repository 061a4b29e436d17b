package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/lanternist/lanternist/cdc"
	"github.com/lanternist/lanternist/examples/shop"
	"github.com/lanternist/lanternist/internal/devstack"
	"github.com/lanternist/lanternist/internal/faults"
)

// oddSettings are settings of a database and its role that change the text of values, unless a session has its own.
var oddSettings = []string{
	"DateStyle = 'SQL, DMY'", "IntervalStyle = 'sql_standard'", "bytea_output = 'escape'", "TimeZone = 'Asia/Kolkata'", "extra_float_digits = -10",
	"lc_monetary = 'C.UTF-8'", "xmloption = 'document'", "quote_all_identifiers = on", "search_path = 'public'", "client_encoding = 'LATIN1'",
}

// setOddly gives the database and the role that connects to it odd settings.
func setOddly(t *testing.T, database *devstack.Database) {
	t.Helper()
	for _, setting := range oddSettings {
		database.Exec("ALTER DATABASE "+database.Name()+" SET "+setting,
			`DO $$ BEGIN EXECUTE format('ALTER ROLE %I IN DATABASE `+database.Name()+` SET `+strings.ReplaceAll(setting, "'", "''")+`', current_user); END $$`)
	}
}

// valuesRows is how many rows of random values there are: LANTERNIST_VALUES, or enough for a few seconds.
func valuesRows(t *testing.T) int {
	t.Helper()
	text := os.Getenv("LANTERNIST_VALUES")
	if text == "" {
		return 60
	}
	rows, err := strconv.Atoi(text)
	if err != nil || rows < 2 {
		t.Fatalf("LANTERNIST_VALUES is %q, want a number of rows", text)
	}
	return rows
}

// TestValuesRoundTrip writes random values of every type through first load and stream, and compares documents in both sinks, and what
// filters find, with what Postgres says of the values: in JSON, and for numbers digit by digit. Database and role have odd settings.
// With heavy faults it runs on every version that is supported.
func TestValuesRoundTrip(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("needs real services; run without -short")
	}
	t.Run("default", func(t *testing.T) { valuesRoundTrip(t, devstack.Postgres(t)) })
	if !faults.Heavy() {
		return
	}
	for _, version := range []string{"14", "16", "17", "18"} {
		t.Run(version, func(t *testing.T) { valuesRoundTrip(t, devstack.Postgres(t, devstack.Version(version))) })
	}
}

func valuesRoundTrip(t *testing.T, database *devstack.Database) {
	random := randomSource(t)
	w := newValuesWorld(t, database)
	setOddly(t, w.database)
	rows := valuesRows(t)
	for id := range rows / 2 {
		w.insert(random, id)
	}
	in := install(t, options{database: w.database, tables: []string{"public.every"}, views: map[string][]byte{"every": w.view()}})
	d := in.start()
	d.ready()
	for id := rows / 2; id < rows; id++ {
		w.insert(random, id)
	}
	for id := range rows {
		if id%5 == 0 { // values that are stored out of line are not sent
			w.exec(`UPDATE every SET touched = touched + 1 WHERE id = $1`, strconv.Itoa(id))
		}
	}
	d.reach()
	w.compare(in)
	d.nothingParked()
	digits := w.compareDigits(in.cacheDocuments("every")) + w.compareDigits(in.searchDocuments("every"))
	finds := in.compareFilters(random, w, rows)
	t.Logf("%d rows of %d columns, %d numbers digit by digit, %d filters", rows, len(w.columns), digits, finds)
	d.stop()
}

// valuesWorld is a database with a table that has a column of every type.
type valuesWorld struct {
	t        *testing.T
	database *devstack.Database
	conn     *pgx.Conn // with the session settings of the reader: the truth is what Postgres says under these
	columns  []valueColumn
}

// valueColumn is a column with random values.
type valueColumn struct {
	name     string
	typ      string
	truth    string                          // an expression that gives the document's form as jsonb; %s is the column
	generate func(random *rand.Rand) *string // the text of a value; nil is null
	filter   string                          // an expression that gives what the index has of it; "" when no filter is tried
	ordered  bool                            // filters of order are tried, too
}

func newValuesWorld(t *testing.T, database *devstack.Database) *valuesWorld {
	t.Helper()
	conn, err := cdc.Connect(t.Context(), cdc.Config{URL: database.URL()})
	if err != nil {
		t.Fatal(err)
	}
	w := &valuesWorld{t: t, database: database, conn: conn}
	t.Cleanup(func() {
		if err := conn.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	w.exec(`SET search_path = public`)
	w.exec(`CREATE TYPE mood AS ENUM ('sad', 'so "so"', 'häppy')`)
	w.exec(`CREATE TYPE pair AS (a int, "B b" text)`)
	w.exec(`CREATE TYPE pairs AS (one pair, more pair[])`)
	w.exec(`CREATE DOMAIN price AS numeric(12,2) CHECK (VALUE > -1000000)`)
	w.exec(`CREATE DOMAIN tags AS text[]`)
	w.exec(`CREATE DOMAIN boxed AS box`)
	w.columns = valueColumns()
	if _, err := conn.Exec(t.Context(), `CREATE EXTENSION hstore`); err != nil {
		t.Logf("hstore is not tried: %v", err)
		w.columns = slices.DeleteFunc(w.columns, func(c valueColumn) bool { return strings.HasPrefix(c.typ, "hstore") })
	}
	definitions := []string{"id int PRIMARY KEY", "touched int NOT NULL DEFAULT 0"}
	for _, c := range w.columns {
		definitions = append(definitions, c.name+" "+c.typ)
	}
	w.exec(`CREATE TABLE every (` + strings.Join(definitions, ", ") + `)`)
	for _, name := range []string{"a_text", "a_jsonb", "a_bytea", "a_numeric"} { // out of line as soon as they are long
		w.exec(`ALTER TABLE every ALTER ` + name + ` SET STORAGE EXTERNAL`)
	}
	return w
}

// exec runs a statement with parameters in text form.
func (w *valuesWorld) exec(sql string, values ...string) {
	w.t.Helper()
	texts := make([]*string, len(values))
	for i := range values {
		texts[i] = &values[i]
	}
	w.execNullable(sql, texts)
}

func (w *valuesWorld) execNullable(sql string, values []*string) {
	w.t.Helper()
	params := make([][]byte, len(values))
	for i, v := range values {
		if v != nil {
			params[i] = []byte(*v)
		}
	}
	if err := w.conn.PgConn().ExecParams(w.t.Context(), sql, params, nil, nil, nil).Read().Err; err != nil {
		var shown []string
		for i, v := range values {
			if v != nil && i < len(w.columns) {
				shown = append(shown, fmt.Sprintf("%s %.200q", w.columns[i].name, *v))
			}
		}
		w.t.Fatalf("%.300s: %v\n%s", sql, err, strings.Join(shown, "\n"))
	}
}

// insert inserts a row of random values.
func (w *valuesWorld) insert(random *rand.Rand, id int) {
	w.t.Helper()
	names, places := []string{"id"}, []string{strconv.Itoa(id)}
	var values []*string
	for i, c := range w.columns {
		var v *string
		if random.IntN(12) > 0 {
			v = c.generate(random)
		}
		names, places, values = append(names, c.name), append(places, fmt.Sprintf("$%d", i+1)), append(values, v)
	}
	w.execNullable("INSERT INTO every ("+strings.Join(names, ", ")+") VALUES ("+strings.Join(places, ", ")+")", values)
}

// view shows every column.
func (w *valuesWorld) view() []byte {
	var b bytes.Buffer
	b.WriteString("view: every\nfrom: every\nfields:\n  id:\n  touched:\n")
	for _, c := range w.columns {
		fmt.Fprintf(&b, "  %s:\n", c.name)
	}
	b.WriteString("search:\ncache:\n")
	return b.Bytes()
}

// truth is the documents by Postgres' own conversion to JSON. An object of jsonb_build_object has at most 50 members.
func (w *valuesWorld) truth() string {
	parts := []string{"jsonb_build_object('id', id, 'touched', touched)"}
	for _, c := range w.columns {
		expr := "to_jsonb(" + c.name + ")"
		if c.truth != "" {
			expr = strings.ReplaceAll(c.truth, "%s", c.name)
		}
		parts = append(parts, fmt.Sprintf("jsonb_build_object('%s', %s)", c.name, expr))
	}
	return "SELECT id::text, " + strings.Join(parts, " || ") + " FROM every"
}

// compare compares every document in both sinks with the truth, as a session with the reader's settings sees it.
func (w *valuesWorld) compare(in *installation) {
	w.t.Helper()
	sinks := map[string]map[string]shop.Documents{"every": {"Elasticsearch": in.searchDocuments("every"), "Redis": in.cacheDocuments("every")}}
	var result shop.Comparison
	err := pgx.BeginTxFunc(w.t.Context(), w.conn, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) (err error) {
		result, err = shop.CompareWith(w.t.Context(), tx, func(string) string { return w.truth() }, sinks)
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	if result.Compared == 0 || !result.Equal() {
		w.t.Errorf("%d documents compared: %d different, %d missing, %d extra", result.Compared, result.Different, result.Missing, result.Extra)
	}
	for _, d := range result.Differences {
		w.t.Error(d)
	}
}

// compareDigits compares the numbers of documents with the text of the values, and returns how many there were.
func (w *valuesWorld) compareDigits(docs documents) int {
	w.t.Helper()
	exact := []string{"a_numeric", "a_price", "a_bigint", "a_double", "a_real"}
	rows, err := w.conn.Query(w.t.Context(), `SELECT id::text, `+strings.Join(exact, "::text, ")+`::text FROM every`)
	if err != nil {
		w.t.Fatal(err)
	}
	compared := 0
	var id string
	texts := make([]*string, len(exact))
	into := []any{&id}
	for i := range texts {
		into = append(into, &texts[i])
	}
	if _, err := pgx.ForEachRow(rows, into, func() error {
		var doc map[string]json.RawMessage
		if err := json.Unmarshal(docs[id], &doc); err != nil {
			return fmt.Errorf("document %s: %w", id, err)
		}
		for i, name := range exact {
			if texts[i] == nil {
				continue
			}
			compared++
			if got := strings.Trim(string(doc[name]), `"`); got != *texts[i] {
				w.t.Errorf("document %s: %s is %.80s, in Postgres %.80s", id, name, got, *texts[i])
			}
		}
		return nil
	}); err != nil {
		w.t.Fatal(err)
	}
	return compared
}

// compareFilters asks the search API for the rows whose column equals, or is at least, the value of some row, and compares with what
// Postgres finds. It returns how many filters it has tried.
func (in *installation) compareFilters(random *rand.Rand, w *valuesWorld, rows int) (tried int) {
	in.t.Helper()
	for _, c := range w.columns {
		if c.filter == "" {
			continue
		}
		value := strings.ReplaceAll(c.filter, "%s", c.name)
		var id, text string
		err := w.conn.QueryRow(in.t.Context(), fmt.Sprintf(`SELECT id::text, (%s)::text FROM every WHERE %s IS NOT NULL ORDER BY (id * 7919 + $1) %% 101, id LIMIT 1`, value, value),
			random.IntN(rows)).Scan(&id, &text)
		if err != nil {
			continue // nothing but nulls
		}
		if strings.HasPrefix(c.typ, "timestamp") { // as in documents
			text = strings.Replace(text, " ", "T", 1)
			if i := strings.LastIndexAny(text, "+-"); i > len("2026-01-31T") && c.typ == "timestamptz" {
				text = text[:i+3] + ":00" + text[i+3:]
			}
		}
		operators := []string{":"}
		if c.ordered {
			operators = append(operators, ">=", "<")
		}
		for _, operator := range operators {
			sql := operator
			if operator == ":" {
				sql = "="
			}
			var want []string
			if err := w.conn.QueryRow(in.t.Context(), fmt.Sprintf(`SELECT coalesce(array_agg(id::text ORDER BY id::text COLLATE "C"), '{}') FROM every WHERE %s %s (SELECT %s FROM every WHERE id = $1)`,
				value, sql, value), id).Scan(&want); err != nil {
				in.t.Fatal(err)
			}
			quoted := `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(text) + `"`
			if got := in.findIDs("every", c.name+operator+quoted); !slices.Equal(got, want) {
				in.t.Errorf("%s %s %.80q finds %v, in Postgres %v", c.name, operator, text, got, want)
			}
			tried++
		}
	}
	return tried
}

// findIDs are the ids of what a filter finds, sorted.
func (in *installation) findIDs(view, filter string) []string {
	in.t.Helper()
	a, err := in.ask(http.MethodGet, "/v1/views/"+view+"/search", url.Values{"filter": {filter}, "size": {"1000"}, "single_page": {"true"}})
	if err != nil {
		in.t.Fatal(err)
	}
	var found struct {
		Documents []struct {
			ID string `json:"id"`
		} `json:"documents"`
	}
	if err := json.Unmarshal(a.body, &found); err != nil || a.status != http.StatusOK {
		in.t.Fatalf("%s: %d %s %v", filter, a.status, a.body, err)
	}
	ids := []string{}
	for _, d := range found.Documents {
		ids = append(ids, d.ID)
	}
	slices.Sort(ids)
	return ids
}
