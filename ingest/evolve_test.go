package ingest

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/lanternist/lanternist/cdc"
	"github.com/lanternist/lanternist/internal/devstack"
	"github.com/lanternist/lanternist/mirror"
	"github.com/lanternist/lanternist/row"
)

// change is a change of a table that the mirror must follow, under %[1]s as the table's name.
type change struct {
	name string
	sql  []string
	// create is instead of a table of id, n, body and note.
	create string
	// as is the table's name afterwards, when it is another.
	as string
	// write is the writer's statement afterwards, when it must be another.
	write string
	// quiet: nothing is written afterwards.
	quiet bool
}

// changes are all of them.
var changes = []change{
	{name: "added", sql: []string{"ALTER TABLE %[1]s ADD COLUMN c text"}},
	{name: "added_default", sql: []string{"ALTER TABLE %[1]s ADD COLUMN c text DEFAULT 'a, \"quoted\" {blue}'"}, quiet: true},
	{name: "added_array_default", sql: []string{"ALTER TABLE %[1]s ADD COLUMN c int[] NOT NULL DEFAULT '{1,NULL,3}'"}},
	{name: "added_volatile", sql: []string{"ALTER TABLE %[1]s ADD COLUMN c float8 DEFAULT random()"}, quiet: true},
	{name: "added_rewritten", sql: []string{"ALTER TABLE %[1]s ADD COLUMN c int DEFAULT 7", "VACUUM FULL %[1]s"}, quiet: true},
	{name: "dropped", sql: []string{"ALTER TABLE %[1]s DROP COLUMN note"}},
	{name: "dropped_added", sql: []string{"ALTER TABLE %[1]s DROP COLUMN note", "ALTER TABLE %[1]s ADD COLUMN note text DEFAULT 'new'"}},
	{name: "renamed", sql: []string{"ALTER TABLE %[1]s RENAME COLUMN note TO remark", "ALTER TABLE %[1]s RENAME COLUMN body TO content"},
		write: "UPDATE %[1]s SET n = n + 1 WHERE id = $1"},
	{name: "swapped", sql: []string{"BEGIN; ALTER TABLE %[1]s RENAME COLUMN note TO x; ALTER TABLE %[1]s RENAME COLUMN body TO note; ALTER TABLE %[1]s RENAME COLUMN x TO body; COMMIT"}},
	{name: "retyped", sql: []string{"ALTER TABLE %[1]s ALTER COLUMN n TYPE text USING 'n' || n"}, write: "UPDATE %[1]s SET n = n || '+' WHERE id = $1"},
	{name: "recomputed", sql: []string{"ALTER TABLE %[1]s ALTER COLUMN n TYPE int USING n + 1000"}},
	{name: "table_renamed", sql: []string{"ALTER TABLE %[1]s RENAME TO %[1]s_2"}, as: "%[1]s_2"},
	{name: "recreated", sql: []string{"DROP TABLE %[1]s", "CREATE TABLE %[1]s (id int PRIMARY KEY, n int, body text, note text)", "INSERT INTO %[1]s SELECT i, -i, 'anew' FROM generate_series(1, 77) i"}},
	{name: "labelled", create: "CREATE TYPE mood_%[1]s AS ENUM ('low', 'high'); CREATE TABLE %[1]s (id int PRIMARY KEY, n int, body text, note mood_%[1]s DEFAULT 'low')",
		sql: []string{"ALTER TYPE mood_%[1]s ADD VALUE 'new'", "ALTER TYPE mood_%[1]s RENAME VALUE 'low' TO 'lower'"}, write: "UPDATE %[1]s SET note = 'new', n = n + 1 WHERE id = $1"},
	{name: "identified", sql: []string{"ALTER TABLE %[1]s REPLICA IDENTITY FULL"}},
	{name: "identified_index", sql: []string{"ALTER TABLE %[1]s ALTER n SET NOT NULL", "CREATE UNIQUE INDEX %[1]s_i ON %[1]s (id, n)", "ALTER TABLE %[1]s REPLICA IDENTITY USING INDEX %[1]s_i"}},
	{name: "rekeyed", sql: []string{"ALTER TABLE %[1]s ADD COLUMN tenant int NOT NULL DEFAULT 3", "BEGIN; ALTER TABLE %[1]s DROP CONSTRAINT %[1]s_pkey; INSERT INTO %[1]s (id, n, body) VALUES (5000, 1, 'without'); ALTER TABLE %[1]s ADD PRIMARY KEY (tenant, id); COMMIT"}},
	{name: "unpublished", sql: []string{"ALTER PUBLICATION %[2]s DROP TABLE %[1]s"}},
	{name: "unpublished_published", sql: []string{"ALTER PUBLICATION %[2]s DROP TABLE %[1]s", "UPDATE %[1]s SET n = -n", "ALTER PUBLICATION %[2]s ADD TABLE %[1]s"}},
	{name: "moved", sql: []string{"CREATE SCHEMA s_%[1]s", "ALTER TABLE %[1]s SET SCHEMA s_%[1]s"}, as: "s_%[1]s.%[1]s"},
	{name: "attached", create: parts, sql: []string{"CREATE TABLE %[1]s_c (LIKE %[1]s INCLUDING ALL)", "INSERT INTO %[1]s_c SELECT i, i, 'attached' FROM generate_series(20001, 20050) i",
		"ALTER TABLE %[1]s ATTACH PARTITION %[1]s_c FOR VALUES FROM (20000) TO (30000)"}},
	{name: "detached", create: parts, sql: []string{"ALTER TABLE %[1]s DETACH PARTITION %[1]s_b"}},
	{name: "partition_truncated", create: parts, sql: []string{"TRUNCATE %[1]s_b"}},
	{name: "partition_default", create: parts, sql: []string{"ALTER TABLE %[1]s ADD COLUMN c int DEFAULT 9"}, quiet: true},
}

const parts = "CREATE TABLE %[1]s (id int PRIMARY KEY, n int, body text, note text) PARTITION BY RANGE (id); " +
	"CREATE TABLE %[1]s_a PARTITION OF %[1]s FOR VALUES FROM (MINVALUE) TO (10000); CREATE TABLE %[1]s_b PARTITION OF %[1]s FOR VALUES FROM (10000) TO (20000)"

// TestMirrorFollowsChangesOfTables changes tables in every way while they are written to, and compares every row.
func TestMirrorFollowsChangesOfTables(t *testing.T) {
	versions(t, func(t *testing.T, db *devstack.Database) {
		var names []string
		for _, c := range changes {
			if c.create == "" {
				c.create = "CREATE TABLE %[1]s (id int PRIMARY KEY, n int, body text, note text); ALTER TABLE %[1]s ALTER body SET STORAGE EXTERNAL"
			}
			db.Exec(fmt.Sprintf(c.create, c.name), fmt.Sprintf("INSERT INTO %s (id, n, body) SELECT i, i, repeat('x', 3000) FROM generate_series(1, 60) i", c.name))
			if c.create == parts {
				db.Exec(fmt.Sprintf("INSERT INTO %s SELECT i, i, 'second' FROM generate_series(10001, 10040) i", c.name))
			}
			names = append(names, "public."+c.name)
		}
		d := newDeployment(t, db, names...)
		d.open()
		defer d.close()
		tables := d.openTables()
		d.catalog = nil
		stop := d.begin()
		defer func() { stop() }()
		d.must(tables.Start(t.Context()))
		watching, end := context.WithCancel(t.Context())
		var watch sync.WaitGroup
		watch.Go(func() {
			if err := tables.Watch(watching, WatchConfig{Every: 100 * time.Millisecond}); watching.Err() == nil {
				t.Error(err)
			}
		})
		defer watch.Wait()
		defer end()
		d.equal(db, tables)

		var writers sync.WaitGroup
		seed := rand.Uint64()
		t.Logf("seed %d", seed)
		for i, c := range changes {
			writers.Go(func() { c.run(t, db, d.cfg.Publication, rand.New(rand.NewPCG(seed, uint64(i)))) })
		}
		writers.Wait()
		for _, c := range changes {
			name := c.name
			if c.as != "" {
				name = fmt.Sprintf(c.as, c.name)
			}
			if !strings.Contains(name, ".") {
				name = "public." + name
			}
			devstack.Eventually(t, time.Minute, func() error { return d.differs(db, name) })
		}
	})
}

// run writes to a table, changes it, and writes on.
func (c change) run(t *testing.T, db *devstack.Database, publication string, random *rand.Rand) {
	conn := db.Conn(t.Context())
	var changed atomic.Bool
	var writing sync.WaitGroup
	write := c.write
	if write == "" {
		write = "UPDATE %[1]s SET n = n + 1 WHERE id = $1"
	}
	table := c.name
	if c.as != "" {
		table = fmt.Sprintf(c.as, c.name)
	}
	enough := make(chan struct{})
	other := db.Conn(t.Context())
	first := rand.New(rand.NewPCG(random.Uint64(), 1))
	writing.Go(func() {
		for i := 0; !changed.Load(); i++ {
			if i == 20 {
				close(enough)
			}
			// It may wait for the change, or come too late for the statement to be right.
			_, _ = other.Exec(t.Context(), fmt.Sprintf("UPDATE %s SET n = n + 1 WHERE id = $1", c.name), first.IntN(60)+1)
			_, _ = other.Exec(t.Context(), fmt.Sprintf("DELETE FROM %s WHERE id = $1", c.name), first.IntN(2000)+1)
		}
	})
	<-enough
	for _, sql := range c.sql {
		if _, err := conn.Exec(t.Context(), fmt.Sprintf(sql, c.name, pgx.Identifier{publication}.Sanitize())); err != nil {
			t.Errorf("%s: %s: %v", c.name, sql, err)
		}
	}
	changed.Store(true)
	writing.Wait()
	for range 10 {
		if c.quiet {
			break
		}
		if _, err := conn.Exec(t.Context(), fmt.Sprintf(write, table), random.IntN(60)+1); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// differs says how a table of the source differs from what the mirror has, in the columns of now.
func (d *deployment) differs(db *devstack.Database, name string) error {
	ctx := d.t.Context()
	s, err := cdc.LoadPublished(ctx, db.Conn(ctx), d.cfg.Publication, []string{name})
	if err != nil {
		return err
	}
	d.catalog = nil
	d.reach(db)
	session, err := cdc.OpenSession(ctx, d.cfg)
	if err != nil {
		return err
	}
	defer session.Close()
	d.reader.RequestPosition(session.ConsistentPoint())
	if !d.mirror.Loaded(s[0].OID) {
		return fmt.Errorf("%s is not loaded: %v", name, d.mirror.Forsaken())
	}
	snapshot, err := d.mirror.Snapshot(ctx)
	if err != nil {
		return err
	}
	defer snapshot.Close()
	want := map[string][]byte{}
	err = session.Copy(ctx, s[0], cdc.Range{}, func(copied []row.Row) error {
		for _, r := range copied {
			key, _ := s[0].AppendKey(nil, r)
			want[string(key)] = bytes.Clone(r)
		}
		return nil
	})
	if err != nil {
		return err
	}
	var wrong []string
	err = snapshot.Scan(s[0].OID, nil, func(key []byte, rec mirror.Record) error {
		var values []row.Value
		for i := range s[0].Columns {
			c := s[0].Columns[i]
			if latest, ok := d.schemas.Latest(s[0].OID); ok && latest.Column(c.Name) >= 0 {
				c = latest.Columns[latest.Column(c.Name)]
			}
			at, presence := rec.Schema.Place(&c)
			v := row.Value{Kind: row.Null}
			switch presence {
			case row.Present:
				v = rec.Row.Column(at)
			case row.NotYet:
				v = c.Default()
			}
			values = append(values, v)
		}
		if have := row.New(values...); !bytes.Equal(have, want[string(key)]) {
			wrong = append(wrong, fmt.Sprintf("%q is %.200q, want %.200q", key, have, want[string(key)]))
		}
		delete(want, string(key))
		return nil
	})
	if err != nil {
		return err
	}
	if len(wrong)+len(want) > 0 {
		slices.Sort(wrong)
		return fmt.Errorf("%s: %d rows are wrong, %d are missing: %s", name, len(wrong), len(want), strings.Join(wrong[:min(2, len(wrong))], "; "))
	}
	return nil
}
