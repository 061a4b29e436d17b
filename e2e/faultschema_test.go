package e2e

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/lanternist/lanternist/examples/shop"
	"github.com/lanternist/lanternist/internal/devstack"
	"github.com/lanternist/lanternist/internal/faults"
)

// schemaFault is a change of a table under two views of it, of which one uses what changes. In texts, %[1]s is the table.
type schemaFault struct {
	faults.Fault
	table  string
	create string // instead of (id, n, body, note)
	// used and plain are the fields of the views before, instead of id, n, note and id, body.
	used, plain string
	sql         []string
	down        bool   // the daemon is down meanwhile
	write       string // the writer's statement afterwards, instead of an update of body
	// paused is in the reason why the view of what changed is paused; "" when it is not. both: the other one is, too.
	paused string
	both   bool
	// What ends the pause: SQL, an acknowledgement, or corrected views, of a table with another name or of none.
	mend    []string
	ack     bool
	newUsed string
	newName string
	removed bool
	// truth are the documents of the two views afterwards, where they are not those of the fields.
	usedTruth, plainTruth string
}

const schemaParts = "CREATE TABLE %[1]s (id int PRIMARY KEY, n int, body text, note text) PARTITION BY RANGE (id); " +
	"CREATE TABLE %[1]s_a PARTITION OF %[1]s FOR VALUES FROM (MINVALUE) TO (10000); CREATE TABLE %[1]s_b PARTITION OF %[1]s FOR VALUES FROM (10000) TO (20000); " +
	"INSERT INTO %[1]s SELECT i, i, 'second' FROM generate_series(10001, 10030) i"

func schemaFaults() []schemaFault {
	f := func(id, fault, promise, answer string) faults.Fault {
		return faults.Fault{ID: "schema-" + id, Area: "Schema", Fault: fault, Promise: promise, Answer: answer, Heavy: true}
	}
	const nothing = "nothing: the views go on"
	const loaded = "nothing: the table is loaded again and its views are built from that; `lanternist status` shows it"
	const correct = "Correct the view's file as `lanternist status` and `lanternist check` say, then `lanternist apply`"
	return []schemaFault{
		{table: "added", Fault: f("column-added", "A column is added", "Events go on with a new version, no view stops; a view that takes the column in is right for old rows, too", nothing),
			sql: []string{"ALTER TABLE %[1]s ADD COLUMN c text"}, write: "UPDATE %[1]s SET c = 'x' WHERE id = $1", newUsed: "id: , n: , note: , c:"},
		{table: "defaulted", Fault: f("column-default", "A column is added with a default, which Postgres gives old rows without telling", "Old rows have the default in documents, without reading the table", nothing),
			sql: []string{"ALTER TABLE %[1]s ADD COLUMN c text NOT NULL DEFAULT 'a \"b\"'"}, newUsed: "id: , n: , note: , c:"},
		{table: "dropped", Fault: f("column-dropped", "A column that a view uses is dropped", "Only that view is paused, with file, line and column; it serves what it has and nothing is lost", correct),
			sql: []string{"ALTER TABLE %[1]s DROP COLUMN note"}, paused: `column "note" of public.dropped is not there any more`, newUsed: "id: , n:"},
		{table: "renamed", Fault: f("column-renamed", "A column that a view uses is renamed", "Only that view is paused, and the new name is suggested; no old value is lost", correct),
			sql: []string{"ALTER TABLE %[1]s RENAME COLUMN note TO remark"}, paused: `was renamed; did you mean "remark"?`, newUsed: "id: , n: , remark:"},
		{table: "retyped", Fault: f("column-retyped", "The type of a column that a view uses is changed, with a rewrite", "Only that view is paused; acknowledged, it is built anew with the new type", "`lanternist schemas ack TABLE`"),
			sql: []string{"ALTER TABLE %[1]s ALTER COLUMN n TYPE text USING 'n' || n"}, paused: `column "n" of public.retyped was integer and is now text`, ack: true},
		{table: "recomputed", Fault: f("rows-rewritten", "All rows are rewritten by ALTER … TYPE … USING, with the type as it was", "It is noticed in the catalog; documents are those of the new rows", loaded),
			sql: []string{"ALTER TABLE %[1]s ALTER COLUMN n TYPE int USING n + 1000"}},
		{table: "titled", Fault: f("table-renamed", "A table is renamed", "Its changes are captured on; its views are paused until they name it right", "Put the new name into source.tables and the views, then `lanternist apply`"),
			sql: []string{"ALTER TABLE %[1]s RENAME TO entitled"}, paused: `table public.titled is now public.entitled; did you mean "public.entitled"?`, both: true, newName: "entitled", write: "UPDATE entitled SET body = body || '.' WHERE id = $1"},
		{table: "moved", Fault: f("table-moved", "A table is moved to another schema", "Its changes are captured on; its views are paused until they name it right", "Put the new name into source.tables and the views, then `lanternist apply`"),
			sql: []string{"CREATE SCHEMA elsewhere", "ALTER TABLE %[1]s SET SCHEMA elsewhere"}, paused: `did you mean "elsewhere.moved"?`, both: true, newName: "elsewhere.moved", write: "UPDATE elsewhere.moved SET body = body || '.' WHERE id = $1"},
		{table: "remade", Fault: f("table-recreated", "A table is dropped and made again with other rows", "The new one takes its place: captured, loaded, its views built anew, none of the old documents left", loaded),
			sql: []string{"BEGIN; DROP TABLE %[1]s; CREATE TABLE %[1]s (id int PRIMARY KEY, n int, body text, note text); INSERT INTO %[1]s SELECT i, -i, 'anew' FROM generate_series(10, 70) i; COMMIT"}},
		{table: "deleted", Fault: f("table-dropped", "A table is dropped", "Its views are paused and serve what they had, also after a restart; all others go on", "Take the table and its views out of the configuration, then `lanternist apply`"),
			sql: []string{"DROP TABLE %[1]s"}, paused: "table public.deleted is not there any more", both: true, removed: true, write: "SELECT $1::int"},
		{table: "labelled", Fault: f("enum-label", "An enum gets a label, and another label is renamed, which changes rows without telling", "Documents show the labels as they are now", loaded),
			create: "CREATE TYPE mood AS ENUM ('low', 'high'); CREATE TABLE %[1]s (id int PRIMARY KEY, n int, body text, note mood DEFAULT 'low')",
			sql:    []string{"ALTER TYPE mood ADD VALUE 'new'", "ALTER TYPE mood RENAME VALUE 'low' TO 'lower'"}, write: "UPDATE %[1]s SET note = 'new' WHERE id = $1"},
		{table: "identified", Fault: f("replica-identity", "The replica identity of a table is changed, to full, to an index, to nothing and back", "No view stops; updates that the server refuses meanwhile are refused to the application, not lost here", nothing),
			sql: []string{"ALTER TABLE %[1]s REPLICA IDENTITY FULL", "UPDATE %[1]s SET n = n + 1", "CREATE UNIQUE INDEX %[1]s_i ON %[1]s (id)", "ALTER TABLE %[1]s REPLICA IDENTITY USING INDEX %[1]s_i",
				"UPDATE %[1]s SET n = n + 1; DELETE FROM %[1]s WHERE id = 7", "ALTER TABLE %[1]s REPLICA IDENTITY NOTHING", "INSERT INTO %[1]s VALUES (900, 1, 'nothing')", "ALTER TABLE %[1]s REPLICA IDENTITY DEFAULT"}},
		{table: "uncovered", Fault: f("replica-identity-index", "The replica identity becomes an index without the primary key's columns", "The stream goes on; the table is not followed any more, says so with the SQL that mends it, and is then loaded again", "`ALTER TABLE … REPLICA IDENTITY DEFAULT`, as `lanternist status` says"),
			sql:    []string{"ALTER TABLE %[1]s ALTER n SET NOT NULL", "CREATE UNIQUE INDEX %[1]s_i ON %[1]s (n)", "ALTER TABLE %[1]s REPLICA IDENTITY USING INDEX %[1]s_i", "DELETE FROM %[1]s WHERE id = 8"},
			paused: "REPLICA IDENTITY DEFAULT", both: true, mend: []string{"ALTER TABLE %[1]s REPLICA IDENTITY DEFAULT"}},
		{table: "rekeyed", Fault: f("key-changed", "A table gets another primary key", "The stream goes on; the table is loaded again by its new key; its views are paused, because their documents' ids change", "`lanternist schemas ack TABLE`"),
			sql:    []string{"BEGIN; ALTER TABLE %[1]s ADD COLUMN tenant int NOT NULL DEFAULT 3; ALTER TABLE %[1]s DROP CONSTRAINT %[1]s_pkey; ALTER TABLE %[1]s ADD PRIMARY KEY (tenant, id); COMMIT"},
			paused: "the key of public.rekeyed was [id] and is now [tenant id]", both: true, ack: true,
			usedTruth: "SELECT tenant || ':' || id, jsonb_build_object('id', id, 'n', n, 'note', note) FROM rekeyed", plainTruth: "SELECT tenant || ':' || id, jsonb_build_object('id', id, 'body', body) FROM rekeyed"},
		{table: "keyless", Fault: f("key-dropped", "A table's primary key is dropped, rows are written, and it is added again", "The stream goes on; the table is not followed meanwhile and says so; then it is loaded again by itself", "`ALTER TABLE … ADD PRIMARY KEY …`, as `lanternist status` says"),
			sql: []string{"ALTER TABLE %[1]s DROP CONSTRAINT %[1]s_pkey", "INSERT INTO %[1]s VALUES (901, 1, 'without')"}, write: "INSERT INTO %[1]s SELECT 1000 + max(id), $1::int, 'without' FROM %[1]s",
			paused: "has no primary key any more", both: true, mend: []string{"ALTER TABLE %[1]s ADD PRIMARY KEY (id)"}},
		{table: "unpublished", Fault: f("publication-lost", "Somebody takes a table out of the publication while the daemon runs", "It is noticed, put back, and the table loaded again: no silent hole", loaded),
			sql: []string{"ALTER PUBLICATION %[2]s DROP TABLE %[1]s", "UPDATE %[1]s SET n = -n", "DELETE FROM %[1]s WHERE id BETWEEN 20 AND 25"}},
		{table: "silenced", Fault: f("publication-lost-down", "Somebody takes a table out of the publication and puts it back while the daemon is down", "It is noticed at the start, and the table loaded again: no silent hole", loaded),
			down: true, sql: []string{"ALTER PUBLICATION %[2]s DROP TABLE %[1]s", "UPDATE %[1]s SET n = -n", "DELETE FROM %[1]s WHERE id BETWEEN 20 AND 25", "ALTER PUBLICATION %[2]s ADD TABLE %[1]s"}},
		{table: "joined", Fault: f("join-key-renamed", "The column that a view joins by is renamed", "Only that view is paused, and the new name is suggested; its documents join the same rows afterwards", correct),
			used: "id: , n: , parent: {one: public.joined, on: {id: note}, fields: {body: }}", create: "CREATE TABLE %[1]s (id int PRIMARY KEY, n int, body text, note int DEFAULT 5)",
			sql: []string{"ALTER TABLE %[1]s RENAME COLUMN note TO parent_id"}, paused: `did you mean "parent_id"?`, newUsed: "id: , n: , parent: {one: public.joined, on: {id: parent_id}, fields: {body: }}",
			usedTruth: "SELECT j.id::text, jsonb_build_object('id', j.id, 'n', j.n, 'parent', (SELECT jsonb_build_object('body', p.body) FROM joined p WHERE p.id = j.parent_id)) FROM joined j"},
		{table: "generated", Fault: f("column-generated", "A generated column is added, which rewrites the table", "No view stops; documents are right", loaded),
			sql: []string{"ALTER TABLE %[1]s ADD COLUMN g int GENERATED ALWAYS AS (n * 2) STORED"}},
		{table: "attached", Fault: f("partition-attached", "A partition with rows is attached", "Its rows come into the documents, though no event tells of them", loaded),
			create: schemaParts, sql: []string{"CREATE TABLE %[1]s_c (LIKE %[1]s INCLUDING ALL)", "INSERT INTO %[1]s_c SELECT i, i, 'attached' FROM generate_series(20001, 20030) i", "ALTER TABLE %[1]s ATTACH PARTITION %[1]s_c FOR VALUES FROM (20000) TO (30000)"}},
		{table: "detached", Fault: f("partition-detached", "A partition is detached, or dropped", "Its rows leave the documents, though no event tells of it", loaded),
			create: schemaParts, sql: []string{"ALTER TABLE %[1]s DETACH PARTITION %[1]s_b"}},
		{table: "emptied", Fault: f("partition-truncated", "A single partition is truncated", "Its rows leave the documents, though no event tells of it", loaded),
			create: schemaParts, sql: []string{"TRUNCATE %[1]s_b"}},
		{table: "halted", Fault: f("halt", "A column is added to a table for which every change is to be acknowledged", "The views of the table are paused, all others go on; acknowledged, they go on where they were, with nothing lost and nothing built anew", "`lanternist schemas ack TABLE`"),
			sql: []string{"ALTER TABLE %[1]s ADD COLUMN c text"}, paused: "column c text added", both: true, ack: true},
	}
}

// TestFaultSchemaChanges changes tables under a running daemon, under traffic, with a kill or a restart right after, and compares
// all documents with what SQL says. All tables belong to one deployment: what happens to one must not disturb the others.
func TestFaultSchemaChanges(t *testing.T) {
	if !faults.Heavy() {
		t.Skipf("heavy: set %s=all", faults.VariableSize)
	}
	schemaChanges(t, nil, nil)
}

func schemaChanges(t *testing.T, db *devstack.Database, only []string) {
	list := schemaFaults()
	if only != nil {
		list = slices.DeleteFunc(list, func(f schemaFault) bool { return !slices.Contains(only, f.table) })
	}
	o := options{database: db, views: map[string][]byte{}}
	for i := range list {
		f := &list[i]
		if f.used == "" {
			f.used = "id: , n: , note:"
		}
		f.plain = "id: , body:"
		o.tables = append(o.tables, "public."+f.table)
		for view, text := range f.views(f.table, f.used) {
			o.views[view] = []byte(text)
		}
	}
	in := install(t, o)
	in.configure(in.configuration(), "  batch_bytes", "  schema_check: 300ms\n  schema_change_except: [public.halted]\n  batch_bytes")
	for _, f := range list {
		if f.create == "" {
			f.create = "CREATE TABLE %[1]s (id int PRIMARY KEY, n int, body text, note text); ALTER TABLE %[1]s ALTER body SET STORAGE EXTERNAL"
		}
		in.database.Exec(strings.ReplaceAll(f.create, "%[1]s", f.table), fmt.Sprintf("INSERT INTO %s (id, n, body) SELECT i, i, repeat('x', 2500) || i FROM generate_series(1, 60) i", f.table))
	}
	random := randomSource(t)
	d := in.start()
	d.ready()
	for i, f := range list {
		end := []func(){func() { d.kill(); d = in.start() }, func() { d.stop(); d = in.start() }, func() {}}[i%3]
		if f.down {
			end = func() { d = in.start() }
		}
		t.Run(f.table, func(t *testing.T) {
			s := &schemaRun{schemaFault: f, in: in.of(t), random: random}
			result := faults.Cause(t, f.Fault)
			s.change(d, end)
			began := time.Now()
			s.judge(&d)
			result.Recovered(time.Since(began))
		})
	}
	d.alive()
	d.stop()
}

// schemaWithin is how long what follows a change may take.
const schemaWithin = time.Minute

// of is the installation for a subtest.
func (in *installation) of(t *testing.T) *installation {
	other := *in
	other.t = t
	return &other
}

// views are the definitions of the views of a table.
func (f *schemaFault) views(table, used string) map[string]string {
	text := func(name, fields string) string {
		return fmt.Sprintf("view: %s_%s\nfrom: %s\nfields: {%s }\ncache:\n", f.table, name, table, fields)
	}
	return map[string]string{f.table + "_used": text("used", used), f.table + "_plain": text("plain", f.plain)}
}

// schemaRun is one fault under way.
type schemaRun struct {
	schemaFault
	in     *installation
	random *rand.Rand
}

// change changes the table while it is written to; then end is done to the daemon.
func (s *schemaRun) change(d *daemon, end func()) {
	t := s.in.t
	conn, other := s.in.database.Conn(t.Context()), s.in.database.Conn(t.Context())
	defer conn.Close(t.Context())
	defer other.Close(t.Context())
	stop, done, enough := make(chan struct{}), make(chan struct{}), make(chan struct{})
	first := rand.New(rand.NewPCG(s.random.Uint64(), s.random.Uint64()))
	go func() {
		defer close(done)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			if i == 20 {
				close(enough)
			}
			// One that comes too late for its statement to be right fails; the deletes are of rows that are there, and not.
			_, _ = other.Exec(t.Context(), fmt.Sprintf("UPDATE %s SET body = body || '+', n = id WHERE id = $1", s.table), first.IntN(60)+1)
			_, _ = other.Exec(t.Context(), fmt.Sprintf("DELETE FROM %s WHERE id = $1", s.table), first.IntN(600)+31)
		}
	}()
	<-enough
	if s.down {
		d.stop()
	}
	for _, sql := range s.sql {
		sql = strings.NewReplacer("%[1]s", s.table, "%[2]s", pgx.Identifier{s.in.slot}.Sanitize()).Replace(sql)
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	s.write(conn, 5)
	close(stop)
	<-done
	end()
	s.write(conn, 10)
}

func (s *schemaRun) write(conn *pgx.Conn, n int) {
	write := s.schemaFault.write
	if write == "" {
		write = "UPDATE %[1]s SET body = body || '-' WHERE id = $1"
	}
	write = strings.ReplaceAll(write, "%[1]s", s.table)
	for range n {
		if _, err := conn.Exec(s.in.t.Context(), write, s.random.IntN(60)+1); err != nil && !strings.Contains(err.Error(), "REPLICA IDENTITY") && !strings.Contains(err.Error(), "replica identity") {
			s.in.t.Errorf("%s: %v", write, err)
		}
	}
}

// judge looks at who is paused and why, also after a kill, ends the pause, and compares.
func (s *schemaRun) judge(d **daemon) {
	in, used, plain := s.in, s.table+"_used", s.table+"_plain"
	if s.paused != "" {
		s.isPaused(used)
		(*d).kill()
		*d = (*d).in.start()
		s.isPaused(used)
		if s.both {
			s.isPaused(plain)
		} else {
			s.equals(plain)
		}
		s.end()
	}
	if s.newUsed != "" && s.paused == "" {
		s.equals(plain)
		s.apply()
	}
	if s.removed {
		return
	}
	s.equals(used)
	s.equals(plain)
	devstack.Eventually(in.t, schemaWithin, func() error {
		(*d).alive()
		for _, p := range in.status().Projectors {
			if p.State != "running" || p.Parked > 0 {
				return fmt.Errorf("%s is %s with %d dead letters: %s", p.Projector, p.State, p.Parked, p.Error)
			}
		}
		return nil
	})
}

// end ends the pause.
func (s *schemaRun) end() {
	in := s.in
	generation := in.status().generationOf(s.table + "_used.cache")
	switch {
	case s.mend != nil:
		for _, sql := range s.mend {
			in.database.Exec(strings.ReplaceAll(sql, "%[1]s", s.table))
		}
	case s.ack:
		if code, stdout, stderr := in.run("schemas", "ack", s.table); code != 0 || !strings.Contains(stdout, s.table+"_used.cache") {
			in.t.Errorf("schemas ack exited with %d:\n%s%s", code, stdout, stderr)
		}
	default:
		if code, stdout, stderr := in.run("check"); code != 2 || !strings.Contains(stdout, "views/"+s.table+"_used.yaml:") {
			in.t.Errorf("check exited with %d and does not name the view:\n%s%s", code, stdout, stderr)
		}
		if code, _, stderr := in.run("schemas", "ack", s.table); code == 0 && s.newName == "" {
			in.t.Errorf("a view that cannot go on was acknowledged:\n%s", stderr)
		}
		s.apply()
	}
	if s.table == "halted" {
		s.equals(s.table + "_used")
		if now := in.status().generationOf(s.table + "_used.cache"); now != generation {
			in.t.Errorf("generation %d was built anew as %d", generation, now)
		}
	}
}

// apply corrects configuration and views.
func (s *schemaRun) apply() {
	in, name := s.in, s.table
	switch {
	case s.removed:
		in.configure(in.configuration(), "public."+s.table+", ", "")
		in.drop(s.table + "_used")
		in.drop(s.table + "_plain")
	default:
		if s.newName != "" {
			name = s.newName
			qualified := name
			if !strings.Contains(name, ".") {
				qualified = "public." + name
			}
			in.configure(in.configuration(), "public."+s.table, qualified)
		}
		if s.newUsed != "" {
			s.used = s.newUsed
		}
		for view, text := range s.views(name, s.used) {
			in.put(view, text)
		}
	}
	if code, stdout, stderr := in.run("apply", "--wait"); code != 0 {
		in.t.Fatalf("apply exited with %d:\n%s%s", code, stdout, stderr)
	}
}

func (s status) generationOf(projector string) int {
	for _, p := range s.Projectors {
		if p.Projector == projector {
			return p.Generation
		}
	}
	return 0
}

// isPaused waits until a view is paused for the right reason. Nobody else may be disturbed.
func (s *schemaRun) isPaused(view string) {
	devstack.Eventually(s.in.t, schemaWithin, func() error {
		var st status
		if err := s.in.get("/v1/status", &st); err != nil {
			return err
		}
		found := fmt.Errorf("%s is not there", view)
		for _, p := range st.Projectors {
			switch {
			case p.Projector == view+".cache" && p.State == "paused" && strings.Contains(p.Error, s.paused):
				found = nil
			case p.Projector == view+".cache":
				found = fmt.Errorf("%s is %s: %s", view, p.State, p.Error)
			case !strings.HasPrefix(p.Projector, s.table+"_") && p.State != "running" && p.State != "starting":
				return fmt.Errorf("%s is %s: %s", p.Projector, p.State, p.Error)
			}
		}
		return found
	})
}

// truth is what the documents of a view are to be.
func (s *schemaRun) truth(view string) string {
	fields := s.plain
	if strings.HasSuffix(view, "_used") {
		if fields = s.used; s.usedTruth != "" {
			return s.usedTruth
		}
	} else if s.plainTruth != "" {
		return s.plainTruth
	}
	var members []string
	for field := range strings.SplitSeq(fields, ",") {
		name := strings.TrimSuffix(strings.TrimSpace(field), ":")
		members = append(members, fmt.Sprintf("'%s', %s", name, name))
	}
	table := s.table
	if s.newName != "" {
		table = s.newName
	}
	return fmt.Sprintf("SELECT id::text, jsonb_build_object(%s) FROM %s", strings.Join(members, ", "), table)
}

// equals waits until the documents of a view are what SQL says.
func (s *schemaRun) equals(view string) {
	s.in.t.Helper()
	ctx := s.in.t.Context()
	conn := s.in.database.Conn(ctx)
	defer conn.Close(ctx)
	devstack.Eventually(s.in.t, schemaWithin, func() error {
		var result shop.Comparison
		err := pgx.BeginTxFunc(ctx, conn, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) (err error) {
			sinks := map[string]map[string]shop.Documents{view: {"Redis": s.in.cacheDocuments(view)}}
			result, err = shop.CompareWith(ctx, tx, s.truth, sinks)
			return err
		})
		if err == nil && (!result.Equal() || result.Compared == 0) {
			err = fmt.Errorf("%d documents compared: %d different, %d missing, %d extra; such as %v", result.Compared, result.Different, result.Missing, result.Extra,
				result.Differences[:min(3, len(result.Differences))])
		}
		return err
	})
}
