package cdc_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pglogrepl"

	"github.com/lanternist/lanternist/cdc"
	"github.com/lanternist/lanternist/internal/devstack"
	"github.com/lanternist/lanternist/row"
)

func (s *source) catalog(tables ...string) []*row.Schema {
	s.t.Helper()
	schemas, err := cdc.LoadCatalog(s.t.Context(), s.conn, tables)
	if err != nil {
		s.t.Fatalf("LoadCatalog: %v", err)
	}
	return schemas
}

func (s *source) planner() *cdc.Planner {
	s.t.Helper()
	p, err := cdc.OpenPlanner(s.t.Context(), s.cfg)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(p.Close)
	return p
}

func (s *source) session() *cdc.Session {
	s.t.Helper()
	session, err := cdc.OpenSession(s.t.Context(), s.cfg)
	if err != nil {
		s.t.Fatalf("OpenSession: %v", err)
	}
	s.t.Cleanup(func() {
		if err := session.Close(); err != nil {
			s.t.Errorf("Close: %v", err)
		}
	})
	return session
}

// copyAll copies ranges and returns the rows by key.
func copyAll(t testing.TB, session *cdc.Session, schema *row.Schema, ranges []cdc.Range) map[string]row.Row {
	t.Helper()
	rows := map[string]row.Row{}
	for _, rng := range ranges {
		err := session.Copy(t.Context(), schema, rng, func(batch []row.Row) error {
			for _, r := range batch {
				if _, rest, err := row.Parse(r); err != nil || len(rest) > 0 {
					return fmt.Errorf("malformed row: %w", err)
				}
				key, ok := schema.AppendKey(nil, r)
				if !ok {
					return fmt.Errorf("row without key: %s", sayRow(r))
				}
				if _, twice := rows[string(key)]; twice {
					return fmt.Errorf("row %s comes twice", sayRow(r))
				}
				rows[string(key)] = bytes.Clone(r)
			}
			return nil
		})
		if err != nil {
			t.Fatalf("Copy %+v: %v", rng, err)
		}
	}
	return rows
}

// everyType has a column of each kind of type, and what makes their text form depend on the session.
const everyType = `
	CREATE TYPE mood AS ENUM ('sad', 'happy', 'it''s "ok"');
	CREATE TYPE pair AS (a int, b text);
	CREATE DOMAIN price AS numeric(10, 2) CHECK (VALUE >= 0);
	CREATE DOMAIN tags AS text[];
	CREATE TABLE every (
		id bigint PRIMARY KEY, a_text text, a_varchar varchar(40), a_bpchar char(5), a_name name, a_bool bool, a_int2 int2, a_int4 int4, an_oid oid,
		a_float4 float4, a_float8 float8, a_numeric numeric, a_uuid uuid, a_date date, a_timestamp timestamp(3), a_timestamptz timestamptz,
		a_time time, a_timetz timetz, an_interval interval, a_bytea bytea, a_json json, a_jsonb jsonb, a_mood mood, a_pair pair,
		a_price price, some_tags tags, ints int[], texts text[], moods mood[], grid int[][], a_range int4range, ranges tstzmultirange,
		an_inet inet, a_cidr cidr, a_macaddr macaddr, a_point point, a_tsvector tsvector, a_bit bit varying(8), a_money numeric(8,2)[], an_xml xml, a_vector int2vector,
		a_dropped int, a_generated text GENERATED ALWAYS AS (a_text || '!') STORED);
	ALTER TABLE every DROP COLUMN a_dropped;`

// The text of a copied row and of the same row in the stream are the same bytes.
func TestSessionCopiesTheTextOfTheStream(t *testing.T) {
	s := newSource(t, devstack.Postgres(t), everyType)
	s.Exec(`ALTER DATABASE `+s.Name()+` SET DateStyle = 'German'`, `ALTER DATABASE `+s.Name()+` SET TimeZone = 'Asia/Kathmandu'`,
		`ALTER DATABASE `+s.Name()+` SET extra_float_digits = -3`, `ALTER DATABASE `+s.Name()+` SET IntervalStyle = 'iso_8601'`, `ALTER DATABASE `+s.Name()+` SET bytea_output = 'escape'`)
	s.setup()
	st := s.follow(cdc.Start{})
	s.Exec(
		`INSERT INTO every (id) VALUES (1)`,
		`INSERT INTO every VALUES (2, E'tab\tnewline\ncr\rback\\slash\b\f\x0b \\N é 漢', '', 'ab', 'n', true, -1, 2147483647, 4294967295,
			0.1, 1e300, 12345678901234567890.000010, 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '2026-11-20', '2026-11-20 23:04:12.1234', '2026-11-20 23:04:12.5+02',
			'10:00', '10:00+02', '1 year 2 mons 3 days 04:05:06.789', '\x00ff5c0a09', '{"a": "b\\n",  "c":1}', '{"a": "b\\n",  "c":1}', 'it''s "ok"', '(1,"x,y")',
			99.5, '{a,"b c"}', '{1,NULL,3}', E'{"a\\\\b",NULL,"NULL",""}', '{sad,happy}', '{{1,2},{3,4}}', '[1,5)', '{[2026-01-01,2026-02-01)}',
			'10.0.0.1/8', '10.0.0.0/8', '08:00:2b:01:02:03', '(1,2)', 'a:1 b', B'101', '{1.5,NULL}', '<a>x</a>', '1 2 3')`,
		`INSERT INTO every (id, a_float4, a_float8, a_numeric, a_date, a_timestamp, a_timestamptz, a_json) VALUES
			(3, 'NaN', '-Infinity', 'NaN', 'infinity', '-infinity', '0044-03-15 12:00+00 BC', 'null'),
			(4, 3.4028235e38, 5e-324, 'Infinity', '0001-01-01 BC', '99999-01-01', '1900-01-01 00:00+00', '[]')`)
	all := st.transactions(3)
	schema := s.catalog("every")[0]
	copied := copyAll(t, s.session(), schema, []cdc.Range{{}})
	n := 0
	for _, tx := range all {
		for _, c := range tx.Changes {
			n++
			key, _ := schema.AppendKey(nil, c.After)
			if got := copied[string(key)]; !bytes.Equal(got, c.After) {
				t.Errorf("copied   %q\nstreamed %q", got, c.After)
			}
		}
	}
	if n != 4 || len(copied) != 4 {
		t.Fatalf("%d streamed, %d copied, want 4", n, len(copied))
	}
	two, _ := schema.AppendKey(nil, all[1].Changes[0].After)
	for column, want := range map[string]string{
		"a_text": "tab\tnewline\ncr\rback\\slash\b\f\v \\N é 漢", "a_varchar": "", "a_timestamptz": "2026-11-20 21:04:12.5+00", "a_float4": "0.1",
		"an_interval": "1 year 2 mons 3 days 04:05:06.789", "a_bytea": `\x00ff5c0a09`, "a_date": "2026-11-20",
	} {
		if got := copied[string(two)].Column(schema.Column(column)); string(got.Text) != want {
			t.Errorf("%s is %q, want %q", column, got.Text, want)
		}
	}
	// The definition is the same from both sides, too.
	if got, want := fmt.Sprintf("%+v", describeSchema(st.schemas.given[0])), fmt.Sprintf("%+v", describeSchema(schema)); got != want {
		t.Errorf("the stream's definition\n%s\nthe catalog's\n%s", got, want)
	}
}

// describeSchema writes a definition without what a registrar gives.
func describeSchema(s *row.Schema) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d %s key %v identity %c\n", s.OID, s.QualifiedName(), s.Key, s.Identity)
	for _, c := range s.Columns {
		elem := ""
		if c.Type.Elem != nil {
			elem = fmt.Sprintf(" of %+v", *c.Type.Elem)
		}
		t := c.Type
		t.Elem = nil
		fmt.Fprintf(&b, "%s %+v%s not null %v\n", c.Name, t, elem, c.NotNull)
	}
	return b.String()
}

// Snapshots taken at random moments under writers: a transaction is in the snapshot exactly when its CommitLSN
// is before the consistent point.
func TestSessionOrderAgainstTheStreamIsExact(t *testing.T) {
	s := newSource(t, devstack.Postgres(t), `CREATE TABLE t (id bigserial PRIMARY KEY, w int)`)
	s.setup()
	st := s.follow(cdc.Start{})
	stop := make(chan struct{})
	var writers sync.WaitGroup
	for w := range 6 {
		conn := s.Conn(t.Context())
		writers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if _, err := conn.Exec(context.Background(), `INSERT INTO t (w) SELECT $1 FROM generate_series(1, 3)`, w); err != nil {
					t.Errorf("write: %v", err)
					return
				}
			}
		})
	}
	schema := s.catalog("t")[0]
	type snapshot struct {
		point pglogrepl.LSN
		rows  map[string]row.Row
	}
	var snapshots []snapshot
	for range 8 {
		session, err := cdc.OpenSession(t.Context(), s.cfg)
		if err != nil {
			t.Fatal(err)
		}
		snapshots = append(snapshots, snapshot{session.ConsistentPoint(), copyAll(t, session, schema, []cdc.Range{{}})})
		if err := session.Close(); err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	writers.Wait()
	all := st.caughtUp(s.flushLSN())
	disagree := 0
	for _, tx := range all {
		for _, c := range tx.Changes {
			key, _ := schema.AppendKey(nil, c.After)
			for _, snap := range snapshots {
				if _, in := snap.rows[string(key)]; in != (tx.CommitLSN < snap.point) {
					disagree++
				}
			}
		}
	}
	if disagree > 0 || len(all) == 0 {
		t.Errorf("%d disagreements over %d transactions and %d snapshots", disagree, len(all), len(snapshots))
	}
	t.Logf("%d transactions, %d snapshots", len(all), len(snapshots))
}

func TestSessionRangesCoverTheTableOnce(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	s := newSource(t, devstack.Postgres(t), fmt.Sprintf(`
		SELECT setseed(%f);
		CREATE TABLE dense (id int PRIMARY KEY, v text);
		INSERT INTO dense SELECT g, 'x' FROM generate_series(-5000, 5000) g WHERE g %% 3 <> 0;
		CREATE TABLE sparse (id bigint PRIMARY KEY);
		INSERT INTO sparse SELECT (random() * 9e18)::bigint * (CASE WHEN g %% 2 = 0 THEN 1 ELSE -1 END) FROM generate_series(1, 8000) g ON CONFLICT DO NOTHING;
		INSERT INTO sparse VALUES (9223372036854775807), (-9223372036854775808);
		CREATE TABLE texts (a text, b int, PRIMARY KEY (b, a));
		INSERT INTO texts SELECT E'it''s \\ "' || md5(g::text), g %% 7 FROM generate_series(1, 8000) g;
		CREATE TABLE ids (id uuid PRIMARY KEY);
		INSERT INTO ids SELECT gen_random_uuid() FROM generate_series(1, 8000);
		CREATE TABLE empty (id int PRIMARY KEY);
		CREATE TABLE parts (id int, day date, PRIMARY KEY (day, id)) PARTITION BY RANGE (day);
		CREATE TABLE parts1 PARTITION OF parts FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
		CREATE TABLE parts2 PARTITION OF parts FOR VALUES FROM ('2026-02-01') TO ('2026-03-01');
		INSERT INTO parts SELECT g, '2026-01-01'::date + g %% 50 FROM generate_series(1, 8000) g;
		CREATE TABLE parent (id int PRIMARY KEY); CREATE TABLE child (LIKE parent INCLUDING ALL) INHERITS (parent);
		INSERT INTO parent SELECT g FROM generate_series(1, 3000) g; INSERT INTO child SELECT g FROM generate_series(1, 3000) g;
		CREATE TABLE nokey (id int); INSERT INTO nokey SELECT g FROM generate_series(1, 3000) g;
		ANALYZE;`, float64(rand.New(rand.NewPCG(seed, 0)).Float32())))
	session := s.session()
	for _, schema := range s.catalog("public.*") {
		t.Run(schema.Name, func(t *testing.T) {
			ranges, err := s.planner().Ranges(t.Context(), schema, 500)
			if err != nil {
				t.Fatal(err)
			}
			var want int
			only := "ONLY "
			if schema.Name == "parts" {
				only = ""
			}
			if err := s.conn.QueryRow(t.Context(), `SELECT count(*) FROM `+only+schema.Name).Scan(&want); err != nil {
				t.Fatal(err)
			}
			if schema.Name == "nokey" {
				if len(ranges) != 1 {
					t.Errorf("%d ranges of a table without key", len(ranges))
				}
				return
			}
			largest, total := 0, 0
			for _, rng := range ranges {
				n := len(copyAll(t, session, schema, []cdc.Range{rng}))
				largest, total = max(largest, n), total+n
			}
			if got := copyAll(t, session, schema, ranges); len(got) != want || total != want {
				t.Errorf("ranges hold %d rows, %d distinct, the table has %d", total, len(got), want)
			}
			estimate, err := s.planner().EstimateRows(t.Context(), schema)
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%d ranges, largest %d, estimate %d of %d rows", len(ranges), largest, estimate, want)
			if want >= 3000 && (len(ranges) < want/1000 || largest > 2500) {
				t.Errorf("%d ranges, the largest of %d rows, for about 500 each", len(ranges), largest)
			}
		})
	}
}

func TestSessionSeesOnePointInTime(t *testing.T) {
	s := newSource(t, devstack.Postgres(t), plainTable)
	s.Exec(`INSERT INTO t SELECT g, 'before' FROM generate_series(1, 100) g`)
	schema := s.catalog("t")[0]
	session := s.session()
	s.Exec(`UPDATE t SET v = 'after'`, `DELETE FROM t WHERE id <= 50`, `ALTER TABLE t RENAME TO renamed`)
	var copies sync.WaitGroup
	for range 4 {
		copies.Go(func() {
			n := 0
			err := session.Copy(t.Context(), schema, cdc.Range{}, func(rows []row.Row) error {
				for _, r := range rows {
					if string(r.Column(1).Text) != "before" {
						return fmt.Errorf("row %s", sayRow(r))
					}
					n++
				}
				return nil
			})
			if err != nil || n != 100 {
				t.Errorf("copied %d rows, %v", n, err)
			}
		})
	}
	copies.Wait()

	stop := errors.New("stop")
	if err := session.Copy(t.Context(), schema, cdc.Range{}, func([]row.Row) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("Copy = %v, want the callback's error", err)
	}
	if err := session.Copy(t.Context(), schema, cdc.Range{From: []string{"1", "2"}}, nil); err == nil {
		t.Error("a range with too many values was copied")
	}
	if err := session.Close(); err != nil {
		t.Fatal(err)
	}
	if err := session.Copy(t.Context(), schema, cdc.Range{}, nil); !errors.Is(err, cdc.ErrSnapshotGone) {
		t.Errorf("Copy after Close = %v, want ErrSnapshotGone", err)
	}
	var slots int
	devstack.Eventually(t, patience, func() error {
		if err := s.conn.QueryRow(t.Context(), `SELECT count(*) FROM pg_replication_slots WHERE database = current_database()`).Scan(&slots); err != nil {
			return err
		}
		if slots != 0 {
			return fmt.Errorf("%d slots are left", slots)
		}
		return nil
	})
}

func TestSessionSaysWhenItsSnapshotIsGone(t *testing.T) {
	s := newSource(t, devstack.Postgres(t), plainTable)
	schema := s.catalog("t")[0]
	session := s.session()
	s.Exec(`SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE temporary AND database = current_database()`)
	devstack.Eventually(t, patience, func() error {
		if err := session.Copy(t.Context(), schema, cdc.Range{}, func([]row.Row) error { return nil }); !errors.Is(err, cdc.ErrSnapshotGone) {
			return fmt.Errorf("Copy = %w, want ErrSnapshotGone", err)
		}
		return nil
	})
}

// BenchmarkSessionCopy copies a table of 200,000 rows per operation.
func BenchmarkSessionCopy(b *testing.B) {
	s := newSource(b, devstack.Postgres(b), `CREATE TABLE t (id int PRIMARY KEY, a text, b timestamptz, c numeric, d bool)`,
		`INSERT INTO t SELECT g, md5(g::text), now(), g / 7.0, g % 2 = 0 FROM generate_series(1, 200000) g`, `ANALYZE t`)
	session := s.session()
	schema := s.catalog("t")[0]
	for b.Loop() {
		n := 0
		if err := session.Copy(b.Context(), schema, cdc.Range{}, func(rows []row.Row) error { n += len(rows); return nil }); err != nil || n != 200000 {
			b.Fatalf("%d rows, %v", n, err)
		}
	}
	b.ReportMetric(200000*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
}

// A session does not keep a table locked that it is not reading.
func TestSessionLetsTablesBeTruncatedBetweenCopies(t *testing.T) {
	s := newSource(t, devstack.Postgres(t), `CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 10)`)
	schema := s.catalog("t")[0]
	session := s.session()
	if _, err := s.planner().EstimateRows(t.Context(), schema); err != nil {
		t.Fatal(err)
	}
	first := copyAll(t, session, schema, []cdc.Range{{To: []string{"5"}}})
	if len(first) != 4 {
		t.Fatalf("%d rows, want 4", len(first))
	}
	s.Exec(`SET lock_timeout = '10s'; TRUNCATE t`)
	err := session.Copy(t.Context(), schema, cdc.Range{From: []string{"5"}}, func([]row.Row) error { return nil })
	if !errors.Is(err, cdc.ErrRewritten) {
		t.Errorf("Copy after TRUNCATE: %v, want ErrRewritten", err)
	}
	if rows := copyAll(t, s.session(), schema, []cdc.Range{{}}); len(rows) != 0 {
		t.Errorf("a new session sees %d rows, want 0", len(rows))
	}
}

// A snapshot sees a table empty that ALTER TABLE has rewritten since: that must not be taken for the truth.
func TestSessionNoticesARewrittenTable(t *testing.T) {
	s := newSource(t, devstack.Postgres(t), `
		CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t SELECT g, g FROM generate_series(1, 10) g;
		CREATE TABLE parts (id int PRIMARY KEY, n int) PARTITION BY RANGE (id);
		CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (100);
		CREATE TABLE parts_2 PARTITION OF parts FOR VALUES FROM (100) TO (200); INSERT INTO parts VALUES (1, 1), (101, 1);
		CREATE TABLE other (id int PRIMARY KEY); INSERT INTO other VALUES (1)`)
	session := s.session()
	schemas := map[string]*row.Schema{}
	for _, schema := range s.catalog("t", "parts", "other") {
		schemas[schema.Name] = schema
	}
	s.Exec(`ALTER TABLE t ALTER n TYPE bigint`, `TRUNCATE parts_2`, `VACUUM other`, `UPDATE other SET id = 2`)
	for name, want := range map[string]error{"t": cdc.ErrRewritten, "parts": cdc.ErrRewritten, "other": nil} {
		err := session.Copy(t.Context(), schemas[name], cdc.Range{}, func([]row.Row) error { return nil })
		if !errors.Is(err, want) {
			t.Errorf("Copy of %s: %v, want %v", name, err, want)
		}
	}
}

// A table that nobody has analyzed yet, with keys that are not numbers, is divided all the same.
func TestSessionDividesAMillionUUIDs(t *testing.T) {
	s := newSource(t, devstack.Postgres(t), `CREATE TABLE ids (id uuid PRIMARY KEY, v int) WITH (autovacuum_enabled = off);
		INSERT INTO ids SELECT gen_random_uuid(), g FROM generate_series(1, 1000000) g`)
	session := s.session()
	schema := s.catalog("ids")[0]
	const target = 50_000
	ranges, err := s.planner().Ranges(t.Context(), schema, target)
	if err != nil {
		t.Fatal(err)
	}
	total, largest := 0, 0
	for _, rng := range ranges {
		n := 0
		if err := session.Copy(t.Context(), schema, rng, func(rows []row.Row) error { n += len(rows); return nil }); err != nil {
			t.Fatal(err)
		}
		total, largest = total+n, max(largest, n)
	}
	t.Logf("%d ranges, the largest of %d rows", len(ranges), largest)
	if total != 1_000_000 {
		t.Errorf("the ranges hold %d rows, the table has 1000000", total)
	}
	if len(ranges) < 10 || largest > 3*target {
		t.Errorf("%d ranges, the largest of %d rows, for about %d each", len(ranges), largest, target)
	}
}

func TestSessionCopiesKeys(t *testing.T) {
	s := newSource(t, devstack.Postgres(t), `CREATE TABLE pairs (a text, b int, v text, PRIMARY KEY (a, b));
		INSERT INTO pairs SELECT 'it''s ' || g / 10, g % 10, 'v' || g FROM generate_series(0, 99) g`)
	session := s.session()
	schema := s.catalog("pairs")[0]
	var got []string
	keep := func(rows []row.Row) error {
		for _, r := range rows {
			got = append(got, string(r.Column(2).Text))
		}
		return nil
	}
	if err := session.CopyKeys(t.Context(), schema, [][]string{{"it's 3", "4"}, {"it's 9", "9"}, {"none", "1"}}, keep); err != nil {
		t.Fatal(err)
	}
	slices.Sort(got)
	if !slices.Equal(got, []string{"v34", "v99"}) {
		t.Errorf("got %q", got)
	}
	if err := session.CopyKeys(t.Context(), schema, nil, keep); err != nil || len(got) != 2 {
		t.Errorf("no keys: %v, %q", err, got)
	}
	if err := session.CopyKeys(t.Context(), schema, [][]string{{"1"}}, keep); err == nil {
		t.Error("half a key was taken")
	}
}
