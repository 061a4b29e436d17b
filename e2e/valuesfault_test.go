package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/lanternist/lanternist/examples/shop"
	"github.com/lanternist/lanternist/internal/devstack"
	"github.com/lanternist/lanternist/internal/faults"
)

// valueFault is one table t and one view of it, in both sinks, while values come that something cannot take.
type valueFault struct {
	*faults.Result
	t     *testing.T
	in    *installation
	d     *daemon
	truth string // of the view: id and document
}

const (
	notIndexedAnswer = "`curl -s 'localhost:8080/v1/views/VIEW/search?filter=_ignored:*'` lists the documents; correct the row, or give the field another type with `as:`"
	valueParkedFix   = "`lanternist deadletters list` names document and reason; correct the row, or the field's mapping in the view and then `lanternist rebuild VIEW`: the letter resolves itself"
)

// startValueFault starts a daemon on a table that a statement makes and fills, and waits until both sinks have it.
func startValueFault(t *testing.T, f faults.Fault, schema, fields, truth string) *valueFault {
	t.Helper()
	if testing.Short() {
		t.Skip("needs real services; run without -short")
	}
	f.Area = "Values"
	v := &valueFault{Result: faults.Cause(t, f), t: t, truth: "SELECT id::text, " + truth + " FROM t"}
	database := devstack.Postgres(t)
	database.Exec(schema)
	v.in = install(t, options{database: database, tables: []string{"public.t"}, views: map[string][]byte{
		"t": []byte("view: t\nfrom: t\nfields:\n" + fields + "\ncache:\n"),
	}})
	v.d = v.in.start()
	v.d.ready()
	v.d.reach()
	return v
}

// write makes a change and waits until both sinks have it, or have parked it.
func (v *valueFault) write(sql ...string) {
	v.t.Helper()
	v.in.database.Exec(sql...)
	v.d.reach()
}

// judge compares all documents of both sinks with the truth, but those that Elasticsearch is known not to have, of which there must be
// a letter each that says why.
func (v *valueFault) judge(parked map[string]string) {
	v.t.Helper()
	ctx := v.t.Context()
	conn := v.in.database.Conn(ctx)
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, `SET timezone = 'UTC'`); err != nil {
		v.t.Fatal(err)
	}
	without := slices.Sorted(maps.Keys(parked))
	for sink, docs := range map[string]documents{"Redis": v.in.cacheDocuments("t"), "Elasticsearch": v.in.searchDocuments("t")} {
		truth := v.truth
		if sink == "Elasticsearch" && len(without) > 0 {
			truth += " WHERE id::text NOT IN ('" + strings.Join(without, "', '") + "')"
		}
		var result shop.Comparison
		err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) (err error) {
			result, err = shop.CompareWith(ctx, tx, func(string) string { return truth }, map[string]map[string]shop.Documents{"t": {sink: docs}})
			return err
		})
		if err != nil {
			v.t.Fatal(err)
		}
		if !result.Equal() || result.Compared == 0 {
			v.t.Errorf("%s: %+v", sink, result)
		}
	}
	reasons := v.letters()
	for id, why := range parked {
		if !strings.Contains(reasons[id], why) {
			v.t.Errorf("document %s is parked because of %q, want %q in it", id, reasons[id], why)
		}
	}
	if len(reasons) != len(parked) {
		v.t.Errorf("letters of %v, want of %v", slices.Sorted(maps.Keys(reasons)), without)
	}
	for _, p := range v.in.status().Projectors {
		// A table that was rewritten is loaded again, and its view built anew, while the live generation is served.
		if p.State != "running" && p.State != "waiting" && p.State != "building" || p.Error != "" {
			v.t.Errorf("%s is %s: %s", p.Projector, p.State, p.Error)
		}
	}
}

// letters are the reasons of dead letters by document.
func (v *valueFault) letters() map[string]string {
	v.t.Helper()
	var page struct {
		Letters []struct {
			Document string `json:"document_id"`
			Reason   string `json:"reason"`
		} `json:"letters"`
	}
	if err := v.in.get("/v1/deadletters", &page); err != nil {
		v.t.Fatal(err)
	}
	reasons := map[string]string{}
	for _, l := range page.Letters {
		reasons[l.Document] = l.Reason
	}
	return reasons
}

// finds compares what a filter finds.
func (v *valueFault) finds(filter string, want ...string) {
	v.t.Helper()
	slices.Sort(want)
	if got := v.in.findIDs("t", filter); !slices.Equal(got, want) {
		v.t.Errorf("filter %s finds %v, want %v", filter, got, want)
	}
}

// corrected makes a change after which nothing is parked any more, and notes how long that took.
func (v *valueFault) corrected(sql ...string) {
	v.t.Helper()
	v.Parked(len(v.letters()))
	since := time.Now()
	v.in.database.Exec(sql...)
	devstack.Eventually(v.t, reachWithin, func() error {
		v.d.alive()
		if left := v.letters(); len(left) > 0 {
			return fmt.Errorf("%d letters are left: %v", len(left), left)
		}
		return nil
	})
	v.d.reach()
	v.Recovered(time.Since(since))
	v.judge(nil)
}

// notIndexed is what a search says of a document.
func (v *valueFault) notIndexed(id string) []string {
	v.t.Helper()
	a, err := v.in.ask(http.MethodGet, "/v1/views/t/search", url.Values{"filter": {"id:" + id}})
	if err != nil {
		v.t.Fatal(err)
	}
	var found struct {
		Documents []struct {
			NotIndexed []string `json:"not_indexed"`
		}
	}
	if err := json.Unmarshal(a.body, &found); err != nil || len(found.Documents) != 1 {
		v.t.Fatalf("document %s: %d %s %v", id, a.status, a.body, err)
	}
	return found.Documents[0].NotIndexed
}

func TestFaultDateOutOfRange(t *testing.T) {
	t.Parallel()
	v := startValueFault(t, faults.Fault{
		Heavy: true, ID: "values-date-out-of-range", Fault: "dates and timestamps that Elasticsearch has no number for (infinity), and dates BC and after the year 9999",
		Promise: "every document is in both sinks with Postgres' value; BC and far years are found and sorted; documents with an infinity are found by their other fields, and searches name the field that is not indexed",
		Answer:  notIndexedAnswer,
	}, `CREATE TABLE t (id int PRIMARY KEY, label text, ends_at timestamptz, day date);
		INSERT INTO t VALUES (1, 'a', 'infinity', '2026-01-31'), (2, 'a', '2026-01-31 12:00+00', '-infinity'), (3, 'a', '0044-03-15 12:00:00.5+00 BC', '0044-03-15 BC')`,
		"  id:\n  label: {as: keyword}\n  ends_at:\n  day:\nsearch:", `to_jsonb(t)`)
	v.write(`INSERT INTO t VALUES (4, 'a', '-infinity', 'infinity'), (5, 'b', '12026-01-31 12:00+00', '5874897-12-31'), (6, 'b', NULL, NULL)`)
	v.judge(nil)
	v.finds("label:a", "1", "2", "3", "4")
	v.finds("_ignored:*", "1", "2", "4")
	v.finds("_ignored:ends_at", "1", "4")
	v.finds("_ignored:day", "2", "4")
	v.finds("ends_at<2000-01-01", "3")
	v.finds("ends_at>9999-12-31", "5")
	v.finds(`day:"0044-03-15 BC","5874897-12-31"`, "3", "5")
	if got := v.notIndexed("4"); !slices.Equal(slices.Sorted(slices.Values(got)), []string{"day", "ends_at"}) {
		t.Errorf("document 4: not indexed %v", got)
	}
	v.write(`UPDATE t SET ends_at = '2026-02-01', day = '2026-02-01' WHERE id IN (1, 2, 4)`)
	v.finds("_ignored:*")
	v.judge(nil)
	v.Parked(0)
	v.d.stop()
}

func TestFaultNumberBeyondDouble(t *testing.T) {
	t.Parallel()
	v := startValueFault(t, faults.Fault{
		Heavy: true, ID: "values-number-beyond-double", Fault: "numerics of thousands of digits, beyond the range of a double, NaN and infinities",
		Promise: "documents have every digit in both sinks; what a double can hold is found, and searches name the field of the others",
		Answer:  notIndexedAnswer,
	}, `CREATE TABLE t (id int PRIMARY KEY, n numeric, f float8, m int8);
		INSERT INTO t VALUES (1, 1e400, 'NaN', 9223372036854775807), (2, 'NaN', 'Infinity', 9007199254740993), (3, 12345678901234567890.123456789, -0.0, -9223372036854775808)`,
		"  id:\n  n:\n  f:\n  m:\nsearch:", `jsonb_build_object('id', id, 'n', CASE WHEN length(n::text) > 1000 THEN to_jsonb(n::text) ELSE to_jsonb(n) END, 'f', f, 'm', m)`)
	v.write(`INSERT INTO t VALUES (4, ('1' || repeat('7', 5000))::numeric, 1, 1), (5, ('0.' || repeat('3', 5000))::numeric, 1, 1), (6, '-Infinity', '-Infinity', 1), (7, repeat('9', 1000)::numeric, 1, 1)`)
	v.judge(nil)
	v.finds("_ignored:n", "1", "2", "4", "6", "7")
	v.finds("_ignored:f", "1", "2", "6")
	v.finds("n>1", "3")
	v.finds("n<1", "5")
	v.finds("m>=9007199254740993", "1", "2")
	v.finds("m:9007199254740993", "2")
	var digits map[string]json.RawMessage
	for sink, docs := range map[string]documents{"Redis": v.in.cacheDocuments("t"), "Elasticsearch": v.in.searchDocuments("t")} {
		for id, want := range map[string]string{"3": "12345678901234567890.123456789", "4": `"1` + strings.Repeat("7", 5000) + `"`, "7": strings.Repeat("9", 1000)} {
			if err := json.Unmarshal(docs[id], &digits); err != nil || string(digits["n"]) != want {
				t.Errorf("%s, document %s: %.60s %v", sink, id, digits["n"], err)
			}
		}
	}
	v.Parked(0)
	v.d.stop()
}

func TestFaultTextTooLongToIndex(t *testing.T) {
	t.Parallel()
	v := startValueFault(t, faults.Fault{
		Heavy: true, ID: "values-keyword-too-long", Fault: "texts, keys of json and hstore values that are longer than the 32,766 bytes that Elasticsearch takes as a term",
		Promise: "every document is taken whole, is found by its other fields, and searches name the field that is not indexed",
		Answer:  notIndexedAnswer,
	}, `CREATE TABLE t (id int PRIMARY KEY, code text, note text, raw jsonb);
		INSERT INTO t VALUES (1, repeat('x', 40000), 'one', '{}'), (2, 'x', repeat('word ', 20000), '{}')`,
		"  id:\n  code: {as: keyword}\n  note:\n  raw:\nsearch:", `to_jsonb(t)`)
	v.write(`INSERT INTO t VALUES (3, repeat('€', 8191), 'three', jsonb_build_object(repeat('k', 60000), repeat('v', 60000))), (4, repeat('😀', 4096), 'four', NULL)`)
	v.judge(nil)
	v.finds("_ignored:code", "1", "4")
	v.finds("code:x", "2")
	v.finds("code:x*", "2")
	v.finds("note:four", "4")
	v.Parked(0)
	v.d.stop()
}

func TestFaultPlaceOutOfBounds(t *testing.T) {
	t.Parallel()
	v := startValueFault(t, faults.Fault{
		Heavy: true, ID: "values-place-out-of-bounds", Fault: "a point whose latitude is beyond 90 degrees, in a field that is a geo_point",
		Promise: "the document is parked with the reason and never indexed at another place; Redis has it; the others flow; it resolves itself when the row is corrected",
		Answer:  valueParkedFix,
	}, `CREATE TABLE t (id int PRIMARY KEY, place point, label text); INSERT INTO t VALUES (1, '(10.75,59.9)', 'a'), (2, NULL, 'a')`,
		"  id:\n  place: {as: geo_point}\n  label: {as: keyword}\nsearch:",
		`jsonb_build_object('id', id, 'label', label, 'place', CASE WHEN place IS NULL THEN 'null' WHEN place[0] = 'Infinity' THEN to_jsonb(place::text) ELSE jsonb_build_array(place[0], place[1]) END)`)
	v.write(`INSERT INTO t VALUES (3, '(200,100)', 'a'), (4, '(-180,90)', 'a'), (5, '(Infinity,0)', 'a'); UPDATE t SET place = '(59.9,100)' WHERE id = 2`)
	// Document 2 was there: the index has it as it was before.
	v.finds("place:*", "1", "4")
	v.in.elasticsearch(http.MethodDelete, v.in.search+"/"+v.in.searchPrefix+"t/_doc/2", nil, nil)
	v.judge(map[string]string{"2": "latitude", "3": "latitude", "5": "parse"})
	v.corrected(`UPDATE t SET place = '(20,40)' WHERE id IN (2, 3, 5)`)
	v.finds("place:*", "1", "2", "3", "4", "5")
	v.d.stop()
}

func TestFaultVectorOfAnotherDimension(t *testing.T) {
	t.Parallel()
	v := startValueFault(t, faults.Fault{
		Heavy: true, ID: "values-vector-dimension", Fault: "vectors with another number of elements than the index was made for, or too long for a float",
		Promise: "their documents are parked with the reason, in Redis they are; vectors of zeros are taken; each letter resolves itself when the row has a vector that fits, or is gone",
		Answer:  valueParkedFix,
	}, `CREATE TABLE t (id int PRIMARY KEY, embedding real[]); INSERT INTO t VALUES (1, '{1,2,3}'), (2, '{0,0,0}'), (3, NULL)`,
		"  id:\n  embedding: {as: dense_vector}\nsearch: {mappings: {embedding: {dims: 3}}}", `to_jsonb(t)`)
	v.write(`INSERT INTO t VALUES (4, '{1,2}'), (5, '{1,2,3,4}'), (6, '{3e38,3e38,3e38}'), (7, '{-1,0.5,1e-30}')`)
	v.judge(map[string]string{"4": "dimensions", "5": "dimensions", "6": "magnitude"})
	v.corrected(`UPDATE t SET embedding = '{4,5,6}' WHERE id IN (4, 6); DELETE FROM t WHERE id = 5`)
	v.d.stop()
}

func TestFaultJSONThatElasticsearchCannotRead(t *testing.T) {
	t.Parallel()
	v := startValueFault(t, faults.Fault{
		Heavy: true, ID: "values-json-unreadable", Fault: "json with the same key twice, with a number of more than 1,000 digits, or nested deeper than 1,000: valid for Postgres, refused by Elasticsearch",
		Promise: "the document is parked with Elasticsearch's reason, Redis has it byte by byte, documents in the same bulk are taken; the letter resolves itself when the row is corrected",
		Answer:  valueParkedFix,
	}, `CREATE TABLE t (id int PRIMARY KEY, raw json); INSERT INTO t VALUES (1, '{"a": 1e400, "b": [1e40000]}'), (2, '{"a": 1, "a": 2}')`,
		"  id:\n  raw:\nsearch:", `jsonb_build_object('id', id, 'raw', raw)`)
	v.write(`INSERT INTO t VALUES (3, ('{"n": ' || repeat('7', 1001) || '}')::json), (4, (repeat('[', 1100) || repeat(']', 1100))::json), (5, '{"s": "\ud800 \u0000"}'), (6, '{"a": {"b": 1}}')`)
	cached := v.in.cacheDocuments("t")
	if want := `{"id":2,"raw":{"a": 1, "a": 2}}`; string(cached["2"]) != want {
		t.Errorf("document 2 in Redis is %s, want %s", cached["2"], want)
	}
	if want := `{"id":5,"raw":{"s": "\ud800 \u0000"}}`; string(cached["5"]) != want {
		t.Errorf("document 5 in Redis is %s, want %s", cached["5"], want)
	}
	v.truth = `SELECT id::text, jsonb_build_object('id', id, 'raw', CASE WHEN id = 5 THEN '{"s": "\ufffd"}' ELSE raw::jsonb END) FROM t`
	v.in.database.Exec(`DELETE FROM t WHERE id = 5`) // jsonb, the truth, cannot hold it
	v.d.reach()
	v.judge(map[string]string{"2": "Duplicate field", "3": "Number value length", "4": "nesting depth"})
	v.corrected(`UPDATE t SET raw = raw::jsonb::json WHERE id = 2; UPDATE t SET raw = '[]' WHERE id IN (3, 4)`)
	v.d.stop()
}

func TestFaultIDTooLong(t *testing.T) {
	t.Parallel()
	v := startValueFault(t, faults.Fault{
		Heavy: true, ID: "values-id-too-long", Fault: "a primary key of more than the 512 bytes that the id of a document in Elasticsearch may have",
		Promise: "the document is parked with the reason, Redis has it, and its deletion resolves the letter; shorter keys flow, whatever characters they have",
		Answer:  "`lanternist deadletters list` names the documents; drop `search:` from views of such tables, or give them a shorter key",
	}, `CREATE TABLE t (id text PRIMARY KEY, label text); INSERT INTO t VALUES (repeat('k', 512), 'a'), (E'\t/ø:%\n"\\', 'b')`,
		"  id: {as: keyword}\n  label:\nsearch:", `to_jsonb(t)`)
	v.write(`INSERT INTO t VALUES (repeat('l', 513), 'c'), (repeat('m', 2000), 'd'), (' ', 'e')`)
	v.judge(map[string]string{strings.Repeat("l", 513): "512", strings.Repeat("m", 2000): "512"})
	v.corrected(`DELETE FROM t WHERE length(id) > 512`)
	v.d.stop()
}

func TestFaultDatabaseSettingsChanged(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("needs real services; run without -short")
	}
	f := faults.Cause(t, faults.Fault{
		ID: "values-settings-changed", Area: "Values", Heavy: true,
		Fault:   "DateStyle, IntervalStyle, bytea_output, TimeZone, extra_float_digits, lc_monetary and others are changed for database and role, and the connections are lost",
		Promise: "not a byte of a document changes, whether its row was written before or after",
		Answer:  "nothing: every session of Lanternist has its own settings",
	})
	random := randomSource(t)
	w := newValuesWorld(t, devstack.Postgres(t))
	for id := range 20 {
		w.insert(random, id)
	}
	in := install(t, options{database: w.database, tables: []string{"public.every"}, views: map[string][]byte{"every": w.view()}})
	d := in.start()
	d.ready()
	d.reach()
	before := in.cacheDocuments("every")
	setOddly(t, w.database)
	since := time.Now()
	w.exec(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND (datname = current_database() OR backend_type = 'walsender' AND application_name = 'lanternist' AND datname = current_database())`)
	for id := 20; id < 40; id++ {
		w.insert(random, id)
	}
	w.exec(`UPDATE every SET touched = touched`) // sent again, by the new session
	d.reach()
	f.Recovered(time.Since(since))
	w.compare(in)
	for id, body := range in.cacheDocuments("every") {
		if old, ok := before[id]; ok && string(old) != string(body) {
			t.Errorf("document %s was %.300s and is %.300s", id, old, body)
		}
	}
	d.nothingParked()
	d.stop()
}

func TestFaultEnumLabelAdded(t *testing.T) {
	t.Parallel()
	v := startValueFault(t, faults.Fault{
		Heavy: true, ID: "values-enum-label-added", Fault: "a label is added to an enum while rows flow, before, between and after the others",
		Promise: "rows with the new label arrive and are found by it, with no restart and no rebuild",
		Answer:  "nothing: labels are texts",
	}, `CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE TABLE t (id int PRIMARY KEY, mood mood, moods mood[]); INSERT INTO t VALUES (1, 'sad', '{ok,sad}')`,
		"  id:\n  mood:\n  moods:\nsearch:", `to_jsonb(t)`)
	before := v.in.status().generations()
	v.write(`ALTER TYPE mood ADD VALUE 'so "so"' BEFORE 'ok'`, `ALTER TYPE mood ADD VALUE 'häppy'`,
		`INSERT INTO t VALUES (2, 'so "so"', '{häppy}'), (3, 'häppy', '{}')`, `UPDATE t SET moods = moods || 'häppy'::mood WHERE id = 1`)
	v.judge(nil)
	v.finds("mood:häppy", "3")
	v.finds("moods:häppy", "1", "2")
	if now := v.in.status().generations(); !maps.Equal(before, now) {
		t.Errorf("generations were %v, are %v", before, now)
	}
	v.Parked(0)
	v.d.stop()
}

func TestFaultEnumLabelRenamed(t *testing.T) {
	t.Parallel()
	v := startValueFault(t, faults.Fault{
		Heavy: true, ID: "values-enum-label-renamed", Fault: "a label of an enum is renamed: every row has another text, and Postgres sends none of them",
		Promise: "rows written afterwards have the new label at once; the documents of the others are found by a verification against the source, and have it as soon as their rows are written again",
		Answer:  "`lanternist verify VIEW --against source`, then `UPDATE t SET mood = mood WHERE …` in the source",
	}, `CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE TABLE t (id int PRIMARY KEY, mood mood); INSERT INTO t VALUES (1, 'sad'), (2, 'ok')`,
		"  id:\n  mood:\nsearch:", `to_jsonb(t)`)
	v.write(`ALTER TYPE mood RENAME VALUE 'sad' TO 'blue'`, `INSERT INTO t VALUES (3, 'blue')`)
	v.finds("mood:blue", "3")
	v.finds("mood:sad", "1")
	if code, result := v.in.verify("t", "--against", "source"); code == 0 {
		t.Errorf("the verification found nothing: %+v", result)
	}
	v.write(`UPDATE t SET mood = mood`)
	v.judge(nil)
	if code, result := v.in.verify("t", "--against", "source"); code != 0 {
		t.Errorf("after the update: exit code %d, %+v", code, result)
	}
	v.Parked(0)
	v.d.stop()
}

func TestFaultDomainChanged(t *testing.T) {
	t.Parallel()
	v := startValueFault(t, faults.Fault{
		Heavy: true, ID: "values-domain-changed", Fault: "a domain's constraint is dropped and another one made, the domain is renamed, and a domain over it is put in its place, while rows flow",
		Promise: "every row arrives with its value, and both sinks are right, before and after a restart",
		Answer:  "nothing: a value of a domain is one of its base",
	}, `CREATE DOMAIN price AS numeric(12,2) CONSTRAINT positive CHECK (VALUE > 0); CREATE TABLE t (id int PRIMARY KEY, p price, ps price[]); INSERT INTO t VALUES (1, 1.5, '{1,2.5}')`,
		"  id:\n  p:\n  ps:\nsearch:", `to_jsonb(t)`)
	v.write(`ALTER DOMAIN price DROP CONSTRAINT positive`, `INSERT INTO t VALUES (2, -7, '{-1,NULL}')`,
		`ALTER DOMAIN price ADD CONSTRAINT small CHECK (VALUE < 1000000) NOT VALID`, `INSERT INTO t VALUES (3, 999999.99, '{}')`,
		`ALTER DOMAIN price RENAME TO amount`, `INSERT INTO t VALUES (4, 4, '{4}')`)
	v.judge(nil)
	v.write(`CREATE DOMAIN fee AS amount`, `ALTER TABLE t ALTER p TYPE fee`, `INSERT INTO t VALUES (5, 5, '{5}')`)
	v.judge(nil)
	since := time.Now()
	v.d.stop()
	v.d = v.in.start()
	v.d.ready()
	v.write(`INSERT INTO t VALUES (6, 6, '{6}')`)
	v.Recovered(time.Since(since))
	v.judge(nil)
	v.finds("p>=5", "3", "5", "6")
	v.Parked(0)
	v.d.stop()
}

func TestFaultTextThatIsNotUTF8(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("needs real services; run without -short")
	}
	f := faults.Cause(t, faults.Fault{
		ID: "values-not-utf8", Area: "Values", Heavy: true,
		Fault:   "a database without an encoding (SQL_ASCII) has texts, and json, that are not UTF-8",
		Promise: "first load and stream go on, rows behind them arrive; in documents each run of such bytes is U+FFFD; check warns of the database",
		Answer:  "`lanternist check` names it; restore the database into one made with `ENCODING 'UTF8'`",
	})
	server := devstack.Postgres(t)
	name := server.Name() + "_ascii"
	address, err := url.Parse(server.URL())
	if err != nil {
		t.Fatal(err)
	}
	address.Path = "/" + name
	server.Exec(`CREATE DATABASE ` + name + ` ENCODING 'SQL_ASCII' TEMPLATE template0 LOCALE 'C'`)
	ctx := context.WithoutCancel(t.Context())
	conn, err := pgx.Connect(ctx, address.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // after the daemon's end
		_, err := conn.Exec(ctx, `SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = current_database() AND NOT active`)
		if err != nil {
			t.Error(err)
		}
		if err := conn.Close(ctx); err != nil {
			t.Error(err)
		}
		server.Exec(`DROP DATABASE ` + name + ` WITH (FORCE)`)
	})
	exec := func(sql string) {
		t.Helper()
		if _, err := conn.Exec(ctx, sql); err != nil {
			t.Fatal(err)
		}
	}
	exec(`CREATE TABLE t (id int PRIMARY KEY, label text, raw json);
		CREATE FUNCTION raw(b bytea) RETURNS text LANGUAGE sql AS $$ SELECT convert_from(b, 'SQL_ASCII') $$;
		INSERT INTO t VALUES (1, raw('\x41ff42'), ('"' || raw('\xfe') || '"')::json), (2, raw('\xc3a9'), '[1]')`)
	in := install(t, options{database: server, source: address.String(), tables: []string{"public.t"}, views: map[string][]byte{
		"t": []byte("view: t\nfrom: t\nfields: {id: , label: , raw: }\nsearch:\ncache:\n"),
	}})
	_, problems := in.check()
	if !slices.ContainsFunc(problems, func(p found) bool { return p.Warning && strings.Contains(p.What, "SQL_ASCII") }) {
		t.Errorf("check does not warn of the encoding: %+v", problems)
	}
	d := in.start()
	d.ready()
	exec(`INSERT INTO t VALUES (3, raw('\x80'), ('{"' || raw('\xff') || '": 1}')::json), (4, 'after', '{}')`)
	d.reach()
	for sink, docs := range map[string]documents{"Redis": in.cacheDocuments("t"), "Elasticsearch": in.searchDocuments("t")} {
		for id, want := range map[string]string{
			"1": "{\"id\":1,\"label\":\"A\ufffdB\",\"raw\":\"\ufffd\"}", "2": `{"id":2,"label":"é","raw":[1]}`,
			"3": "{\"id\":3,\"label\":\"\ufffd\",\"raw\":{\"\ufffd\": 1}}", "4": `{"id":4,"label":"after","raw":{}}`,
		} {
			if string(docs[id]) != want {
				t.Errorf("%s: document %s is %q, want %q", sink, id, docs[id], want)
			}
		}
	}
	d.nothingParked()
	f.Parked(0)
	d.stop()
}

func TestFaultGeneratedColumnNamed(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("needs real services; run without -short")
	}
	f := faults.Cause(t, faults.Fault{
		ID: "values-generated-column", Area: "Values", Heavy: true,
		Fault:   "a view names a generated column, which Postgres does not send; from Postgres 18 on it does when the publication says so",
		Promise: "check and start refuse the view and say why, instead of documents with null; where the column is published it is in documents like any other",
		Answer:  "`lanternist check` names file, line and column; write the expression as a `cel` field, or publish generated columns",
	})
	const schema = `CREATE TABLE t (id int PRIMARY KEY, price numeric(8,2), qty int, total numeric(12,2) GENERATED ALWAYS AS (price * qty) STORED);
		INSERT INTO t VALUES (1, 1.50, 2), (2, NULL, 1)`
	view := []byte("view: t\nfrom: t\nfields:\n  id:\n  price:\n  total:\nsearch:\ncache:\n")
	database := devstack.Postgres(t)
	database.Exec(schema)
	in := install(t, options{database: database, tables: []string{"public.t"}, views: map[string][]byte{"t": view}})
	code, problems := in.check()
	if code == 0 || !slices.ContainsFunc(problems, func(p found) bool {
		return strings.Contains(p.What, "generated") && strings.Contains(p.What, "t.yaml:6")
	}) {
		t.Errorf("check: exit code %d, %+v", code, problems)
	}
	d := in.start()
	if code := d.exit(readyWithin); code == 0 || !strings.Contains(d.log.text(), "is generated") {
		t.Errorf("run: exit code %d", code)
	}

	published := devstack.Postgres(t, devstack.Version("18"))
	published.Exec(schema)
	in = install(t, options{database: published, tables: []string{"public.t"}, views: map[string][]byte{"t": view}})
	published.Exec(`CREATE PUBLICATION ` + in.slot + ` FOR TABLE t WITH (publish_generated_columns = stored)`)
	v := &valueFault{Result: f, t: t, in: in, truth: `SELECT id::text, jsonb_build_object('id', id, 'price', price, 'total', total) FROM t`, d: in.start()}
	v.d.ready()
	v.write(`INSERT INTO t VALUES (3, 2.25, 4)`, `UPDATE t SET qty = 10 WHERE id = 1`)
	v.judge(nil)
	v.finds("total:15", "1")
	v.Parked(0)
	v.d.stop()
}
