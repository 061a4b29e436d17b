package ingest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/lanternist/lanternist/cdc"
	"github.com/lanternist/lanternist/event"
	"github.com/lanternist/lanternist/internal/devstack"
)

// openTables is the set of tables of an open deployment. The others of its methods go by what it captures.
func (d *deployment) openTables() *Tables {
	d.loader = NewLoader(LoadConfig{Workers: 2, RangeRows: 200, Retry: soon}, d.cfg, d.schemas, d.mirror, d.reader.RequestPosition, slog.New(slog.DiscardHandler))
	tables := NewTables(d.cfg, d.schemas, d.pump, d.loader, d.mirror, d.catalog, slog.New(slog.DiscardHandler))
	d.must(tables.Open(d.t.Context()))
	return tables
}

func (d *deployment) must(err error) {
	d.t.Helper()
	if err != nil {
		d.t.Fatal(err)
	}
}

// equal waits until the mirror has everything, and compares it with the source.
func (d *deployment) equal(db *devstack.Database, tables *Tables) (rows int) {
	d.t.Helper()
	d.catalog = tables.Catalog()
	d.reach(db)
	return d.compare()
}

// versions runs a test with this machine's Postgres, and with those that LANTERNIST_POSTGRES_VERSIONS names.
func versions(t *testing.T, test func(t *testing.T, db *devstack.Database)) {
	t.Run("here", func(t *testing.T) { test(t, devstack.Postgres(t)) })
	if names := os.Getenv("LANTERNIST_POSTGRES_VERSIONS"); names != "" {
		for version := range strings.SplitSeq(names, ",") {
			t.Run(version, func(t *testing.T) { test(t, devstack.Postgres(t, devstack.Version(version))) })
		}
	}
}

const things = `(id int PRIMARY KEY, n int NOT NULL, body text)`

// TestTransactionsOpenWhileATableIsAdded has transactions write to a table before it is added, and after.
func TestTransactionsOpenWhileATableIsAdded(t *testing.T) {
	versions(t, func(t *testing.T, db *devstack.Database) {
		ctx := t.Context()
		db.Exec("CREATE TABLE kept "+things, "CREATE TABLE late "+things, "ALTER TABLE late ALTER body SET STORAGE EXTERNAL",
			"INSERT INTO late SELECT i, i, repeat('x', 5000) FROM generate_series(1, 1000) i")
		d := newDeployment(t, db, "public.kept")
		d.open()
		defer d.close()
		tables := d.openTables()
		d.catalog = nil
		stop := d.begin()
		defer func() { stop() }()
		d.must(tables.Start(ctx))

		exec := func(conn *pgx.Conn, statements ...string) {
			t.Helper()
			for _, s := range statements {
				if _, err := conn.Exec(ctx, s); err != nil {
					t.Fatalf("%s: %v", s, err)
				}
			}
		}
		one, two, other := db.Conn(ctx), db.Conn(ctx), db.Conn(ctx)
		// The one writes to the table, in a subtransaction too; the other only elsewhere, until the table is added.
		exec(one, "BEGIN", "UPDATE late SET n = n + 1 WHERE id <= 10", "INSERT INTO late VALUES (2001, 1, 'before')", "DELETE FROM late WHERE id = 20",
			"SAVEPOINT kept", "INSERT INTO late VALUES (2002, 1, 'before')", "RELEASE kept", "SAVEPOINT lost", "DELETE FROM late WHERE id < 100")
		exec(two, "BEGIN", "INSERT INTO kept VALUES (1, 1, 'before')")
		added := make(chan error, 1)
		go func() {
			_, err := tables.Add(ctx, []string{"public.late"})
			added <- err
		}()
		devstack.Eventually(t, time.Minute, func() error {
			plan, err := cdc.PlanPublication(ctx, d.cfg, []string{"public.late"}, nil)
			if err == nil && len(plan.Add) > 0 {
				err = errors.New("not added yet")
			}
			return err
		})
		exec(one, "ROLLBACK TO lost", "UPDATE late SET n = n + 1 WHERE id IN (1, 2001, 2002, 3001)", "DELETE FROM late WHERE id IN (3, 31)",
			"UPDATE late SET id = -id WHERE id IN (4, 40)", "SAVEPOINT s", "INSERT INTO late VALUES (2003, 1, 'after')")
		exec(two, "UPDATE late SET n = n + 1 WHERE id BETWEEN 50 AND 60", "DELETE FROM late WHERE id = 61", "UPDATE kept SET n = 2")
		exec(one, "COMMIT") // the first of the table that the server decodes, with what was true when it began
		exec(other, "INSERT INTO late VALUES (3001, 1, 'other')", "UPDATE late SET n = 7 WHERE id = 300", "INSERT INTO late VALUES (3002, 1, 'between')", "DELETE FROM late WHERE id = 62")
		exec(two, "COMMIT")
		d.must(<-added)
		exec(other, "UPDATE late SET n = 8 WHERE id = 63")
		d.equal(db, tables)
		// The server must send what comes later, too.
		exec(other, "INSERT INTO late VALUES (4001, 1, 'later')", "UPDATE late SET n = 9 WHERE id = 64", "DELETE FROM late WHERE id = 65", "UPDATE late SET id = -id WHERE id = 66")
		if rows := d.equal(db, tables); rows != 1000-6+6+1 {
			t.Errorf("%d rows", rows)
		}
		d.checkOnce()
	})
}

// TestTableIsRemovedWhileItIsLoaded removes a table from a load under way, of which the rest goes on.
func TestTableIsRemovedWhileItIsLoaded(t *testing.T) {
	db := devstack.Postgres(t)
	db.Exec("CREATE TABLE one "+things, "CREATE TABLE two "+things, "INSERT INTO one SELECT i, i FROM generate_series(1, 3000) i",
		"INSERT INTO two SELECT i, i FROM generate_series(1, 3000) i", "ANALYZE")
	d := newDeployment(t, db, "public.one", "public.two")
	d.open()
	defer d.close()
	tables := d.openTables()
	d.loader = NewLoader(LoadConfig{Workers: 2, RangeRows: 100, Rate: 2500, Retry: soon}, d.cfg, d.schemas, d.mirror, d.reader.RequestPosition, slog.New(slog.DiscardHandler))
	tables.loader = d.loader
	d.catalog = nil
	stop := d.begin()
	defer func() { stop() }()
	d.must(tables.Start(t.Context()))
	devstack.Eventually(t, time.Minute, func() error {
		if p := d.loader.Progress(); p.Rows < 500 {
			return fmt.Errorf("progress %+v", p)
		}
		return nil
	})
	d.must(tables.Remove(t.Context(), []string{"public.one"}))
	if have := d.mirror.Tables(); len(have) != 1 || have[0].Name != "public.two" {
		t.Errorf("the mirror has %+v", have)
	}
	db.Exec("DELETE FROM one WHERE id < 1000")
	if _, err := tables.Add(t.Context(), []string{"public.one"}); err != nil {
		t.Fatal(err)
	}
	if rows := d.equal(db, tables); rows != 2001+3000 {
		t.Errorf("%d rows", rows)
	}
	devstack.Eventually(t, time.Minute, func() error {
		if p := d.loader.Progress(); p.Loading || p.Rows < 2001 || len(p.Failing) > 0 {
			return fmt.Errorf("progress %+v", p)
		}
		return nil
	})
}

// TestTableThatCannotBeCapturedChangesNothing adds a good table together with a bad one.
func TestTableThatCannotBeCapturedChangesNothing(t *testing.T) {
	db := devstack.Postgres(t)
	db.Exec("CREATE TABLE kept "+things, "CREATE TABLE good "+things, "CREATE TABLE bad (n int)")
	d := newDeployment(t, db, "public.kept")
	d.open()
	defer d.close()
	tables := d.openTables()
	d.catalog = nil
	stop := d.begin()
	defer func() { stop() }()
	d.must(tables.Start(t.Context()))
	for _, names := range [][]string{{"public.good", "public.bad"}, {"public.good", "public.gone"}} {
		if _, err := tables.Add(t.Context(), names); err == nil || !strings.Contains(err.Error(), "fix: ") {
			t.Errorf("adding %v: %v", names, err)
		}
	}
	if plan, err := cdc.PlanPublication(t.Context(), d.cfg, []string{"public.good"}, nil); err != nil || len(plan.Add) != 1 {
		t.Errorf("the publication was changed: %+v, %v", plan, err)
	}
	if names := tables.Names(); !slices.Equal(names, []string{"public.kept"}) {
		t.Errorf("captured are %v", names)
	}
	db.Exec("INSERT INTO good VALUES (1, 1)", "INSERT INTO kept VALUES (1, 1)")
	if rows := d.equal(db, tables); rows != 1 {
		t.Errorf("%d rows", rows)
	}
}

// TestTablesOfAnotherPublisher are captured and removed without the publication being changed; else it is said what to do.
func TestTablesOfAnotherPublisher(t *testing.T) {
	db := devstack.Postgres(t)
	db.Exec("CREATE TABLE kept "+things, "CREATE TABLE theirs "+things, "CREATE TABLE later "+things, "INSERT INTO theirs VALUES (1, 1)",
		"CREATE PUBLICATION "+db.Name()+" FOR TABLE kept, theirs")
	d := newDeployment(t, db, "public.kept")
	d.cfg.CreatePublication = false
	d.open()
	defer d.close()
	tables := d.openTables()
	d.catalog = nil
	stop := d.begin()
	defer func() { stop() }()
	d.must(tables.Start(t.Context()))
	db.Exec("INSERT INTO theirs VALUES (2, 2)")
	if _, err := tables.Add(t.Context(), []string{"public.theirs"}); err != nil {
		t.Fatal(err)
	}
	db.Exec("INSERT INTO theirs VALUES (3, 3)")
	if rows := d.equal(db, tables); rows != 3 {
		t.Errorf("%d rows", rows)
	}
	var refused *cdc.PublicationError
	if _, err := tables.Add(t.Context(), []string{"public.later"}); !errors.As(err, &refused) {
		t.Errorf("adding a table that is not published: %v", err)
	}
	if err := tables.Remove(t.Context(), []string{"public.theirs"}); !errors.As(err, &refused) || !strings.Contains(err.Error(), "DROP TABLE") {
		t.Errorf("removing a published table: %v", err)
	}
	if have := d.mirror.Tables(); len(have) > 1 || !slices.Equal(tables.Names(), []string{"public.kept"}) {
		t.Errorf("captured are %v, the mirror has %+v", tables.Names(), have)
	}
	db.Exec("DROP TABLE theirs")
	d.must(tables.Remove(t.Context(), []string{"public.theirs"}))
	if err := tables.Remove(t.Context(), nil); err != nil {
		t.Error(err)
	}
	stop()
	stop = func() {}
}

// TestColumnWithADefaultIsReloaded has rows change without a change that the source sends.
func TestColumnWithADefaultIsReloaded(t *testing.T) {
	db := devstack.Postgres(t)
	db.Exec("CREATE TABLE kept "+things, "INSERT INTO kept SELECT i, i FROM generate_series(1, 500) i")
	d := newDeployment(t, db, "public.kept")
	d.open()
	defer d.close()
	tables := d.openTables()
	d.catalog = nil
	stop := d.begin()
	defer func() { stop() }()
	d.must(tables.Start(t.Context()))
	d.equal(db, tables)
	before, _, err := d.mirror.LoadState(tables.Catalog()[0].OID)
	d.must(err)
	db.Exec("ALTER TABLE kept ADD COLUMN colour text DEFAULT 'blue'", "UPDATE kept SET n = 0 WHERE id = 1")
	progress, _ := d.mirror.Progress()
	d.must(tables.Reload(t.Context(), []string{"kept"}))
	db.Exec("UPDATE kept SET colour = 'red' WHERE id = 2")
	if rows := d.equal(db, tables); rows != 500 {
		t.Errorf("%d rows", rows)
	}
	after, _, err := d.mirror.LoadState(tables.Catalog()[0].OID)
	d.must(err)
	if after.LoadedAt <= progress.LSN || after.LoadedAt <= before.LoadedAt {
		t.Errorf("loaded at %v, before at %v with the mirror then at %v", after.LoadedAt, before.LoadedAt, progress.LSN)
	}
	if err := tables.Reload(t.Context(), []string{"gone"}); err == nil {
		t.Error("a table that is not there was loaded anew")
	}
}

// TestDoIsBetweenDeliveries runs something while changes come, and when nothing does.
func TestDoIsBetweenDeliveries(t *testing.T) {
	db := devstack.Postgres(t)
	db.Exec("CREATE TABLE kept " + things)
	d := newDeployment(t, db, "public.kept")
	d.open()
	defer d.close()
	stop := d.begin()
	traffic := startTraffic(t, db, []string{"kept"}, 1)
	for range 200 {
		d.must(d.pump.Do(t.Context(), func(context.Context) error {
			head := d.journal.Head().Offset
			if at := d.mirror.Position(); at != head {
				t.Errorf("mirror at %v, journal at %v", at, head)
			}
			d.mirror.Begin().Discard() // there is no batch under way
			if now := d.journal.Head().Offset; now != head {
				t.Errorf("journal went from %v to %v", head, now)
			}
			return nil
		}))
	}
	traffic.end()
	d.reach(db)
	want := errors.New("of its own")
	if err := d.pump.Do(t.Context(), func(context.Context) error { return want }); !errors.Is(err, want) {
		t.Errorf("got %v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	d.must(d.pump.Do(t.Context(), func(context.Context) error {
		cancel()
		if err := d.pump.Do(ended, nil); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		return nil
	}))
	stop()
	d.pump.failed = want
	if err := d.pump.Do(t.Context(), nil); !errors.Is(err, want) {
		t.Errorf("after a delivery that did not succeed: %v", err)
	}
}

// checkOnce sees to it that no change is in the journal twice.
func (d *deployment) checkOnce() (changes int) {
	d.t.Helper()
	d.checkJournal()
	type name struct {
		commit  uint64
		ordinal uint32
	}
	seen := map[name]bool{}
	for seq := d.journal.First(); seq <= d.journal.Head().Offset.Sequence(); seq++ {
		b, err := d.journal.Read(d.t.Context(), seq)
		d.must(err)
		for _, p := range b.Parts {
			for _, ev := range p.Events {
				if ev.Op == event.Message {
					continue
				}
				n := name{uint64(p.CommitLSN), ev.Ordinal}
				if seen[n] {
					d.t.Fatalf("change %d of the transaction at %v is in the journal twice", n.ordinal, p.CommitLSN)
				}
				seen[n] = true
				changes++
			}
		}
	}
	return changes
}

// TestTablesComeAndGoUnderTraffic adds and removes tables, with restarts, while many transactions, short and long, with
// subtransactions and rollbacks, write to them. After each round the mirror must equal the source.
func TestTablesComeAndGoUnderTraffic(t *testing.T) {
	versions(t, func(t *testing.T, db *devstack.Database) {
		rounds := 4
		seed := uint64(time.Now().UnixNano())
		t.Logf("seed %d", seed)
		random := rand.New(rand.NewPCG(seed, 0))
		all := []string{"t0", "t1", "t2", "t3"}
		for _, name := range all {
			db.Exec("CREATE TABLE "+name+" "+things, "ALTER TABLE "+name+" ALTER body SET STORAGE EXTERNAL",
				"INSERT INTO "+name+" SELECT i, i, repeat('y', 3000) FROM generate_series(1, 300) i")
		}
		d := newDeployment(t, db, "public.t0")
		d.open()
		tables := d.openTables()
		d.catalog = nil // Start adds them
		stop := d.begin()
		d.must(tables.Start(t.Context()))
		traffic := startTraffic(t, db, all, seed)
		for range rounds {
			for _, name := range all[1:] {
				captured, qualified := slices.Contains(tables.Names(), "public."+name), "public."+name
				switch {
				case !captured:
					if _, err := tables.Add(t.Context(), []string{qualified}); err != nil {
						t.Fatal(err)
					}
					if random.IntN(4) == 0 { // again, while it is being loaded
						d.must(tables.Remove(t.Context(), []string{qualified}))
						if _, err := tables.Add(t.Context(), []string{qualified}); err != nil {
							t.Fatal(err)
						}
					}
				case random.IntN(3) == 0:
					d.must(tables.Reload(t.Context(), []string{qualified}))
				case random.IntN(3) > 0:
					d.must(tables.Remove(t.Context(), []string{qualified}))
				}
			}
			if random.IntN(2) == 0 {
				// A restart in the midst of it, with the configuration as it is now.
				stop()
				d.close()
				d.cfg.Tables = tables.Names()
				d.open()
				tables = d.openTables()
				d.catalog = nil
				stop = d.begin()
				d.must(tables.Start(t.Context()))
			}
			traffic.pause()
			rows := d.equal(db, tables)
			for _, have := range d.mirror.Tables() {
				if !slices.Contains(tables.Names(), have.Name) {
					t.Errorf("the mirror has %+v, captured are %v", have, tables.Names())
				}
			}
			t.Logf("%v: %d rows, %d transactions so far", tables.Names(), rows, traffic.count())
			traffic.goOn()
		}
		n := traffic.end()
		rows := d.equal(db, tables)
		t.Logf("%d transactions; %v: %d rows; %d changes in the journal", n, tables.Names(), rows, d.checkOnce())
		stop()
		d.close()
	})
}

// tableTraffic writes to tables until it is paused or ended.
type tableTraffic struct {
	t        *testing.T
	cancel   context.CancelFunc
	begin    func()
	running  sync.WaitGroup
	mu       sync.Mutex
	finished int
}

func startTraffic(t *testing.T, db *devstack.Database, tables []string, seed uint64) *tableTraffic {
	tr := &tableTraffic{t: t}
	var conns []*pgx.Conn
	for range 6 {
		conns = append(conns, db.Conn(t.Context()))
	}
	round := uint64(0)
	tr.begin = func() {
		ctx, cancel := context.WithCancel(t.Context())
		tr.cancel = cancel
		round++
		for i, conn := range conns {
			random := rand.New(rand.NewPCG(seed, round<<8|uint64(i)))
			tr.running.Go(func() {
				for ctx.Err() == nil {
					if err := transact(t.Context(), conn, random, tables, i < 2); err != nil {
						t.Error(err)
						return
					}
					tr.mu.Lock()
					tr.finished++
					tr.mu.Unlock()
				}
			})
		}
	}
	tr.begin()
	return tr
}

func (tr *tableTraffic) pause() {
	tr.cancel()
	tr.running.Wait()
}

func (tr *tableTraffic) goOn() { tr.begin() }

func (tr *tableTraffic) end() int {
	tr.pause()
	return tr.count()
}

func (tr *tableTraffic) count() int {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	return tr.finished
}

// transact is one transaction. A long one stays open for a while between its writes. Writers that want each other's rows
// give up.
func transact(ctx context.Context, conn *pgx.Conn, random *rand.Rand, tables []string, long bool) error {
	statements := 1 + random.IntN(5)
	if long {
		statements = 20
	}
	if _, err := conn.Exec(ctx, "BEGIN; SET LOCAL lock_timeout = 300"); err != nil {
		return err
	}
	open := false // a savepoint
	for range statements {
		sql := write(random, tables[random.IntN(len(tables))])
		switch random.IntN(8) {
		case 0:
			sql, open = "SAVEPOINT s", true
		case 1:
			if open {
				sql, open = "ROLLBACK TO s; RELEASE s", false
			}
		case 2:
			if open {
				sql, open = "RELEASE s", false
			}
		}
		if long {
			sql += fmt.Sprintf("; SELECT pg_sleep(%f)", random.Float64()/40)
		}
		if _, err := conn.Exec(ctx, sql); err != nil {
			_, rollback := conn.Exec(ctx, "ROLLBACK")
			if refused(err) {
				err = nil
			}
			return errors.Join(err, rollback)
		}
	}
	end := "COMMIT"
	if random.IntN(10) == 0 {
		end = "ROLLBACK"
	}
	_, err := conn.Exec(ctx, end)
	return err
}

// refused says whether the database refused a write as it does when writers meet: a duplicate, a lock, a deadlock.
func refused(err error) bool {
	var state interface{ SQLState() string }
	return errors.As(err, &state) && slices.Contains([]string{"23505", "55P03", "40P01"}, state.SQLState())
}

func write(random *rand.Rand, table string) string {
	id, to := 1+random.IntN(600), 1+random.IntN(600)
	switch random.IntN(12) {
	case 0, 1, 2:
		return fmt.Sprintf("INSERT INTO %s VALUES (%d, %d, repeat('z', %d)) ON CONFLICT DO NOTHING", table, id, to, random.IntN(4000))
	case 3, 4:
		return fmt.Sprintf("DELETE FROM %s WHERE id = %d", table, id)
	case 5:
		return fmt.Sprintf("UPDATE %s SET id = %d WHERE id = %d AND NOT EXISTS (SELECT FROM %[1]s WHERE id = %[2]d)", table, to, id)
	case 6:
		return fmt.Sprintf("UPDATE %s SET body = repeat('w', %d) WHERE id = %d", table, random.IntN(4000), id)
	case 7:
		return fmt.Sprintf("UPDATE %s SET n = n + 1 WHERE id BETWEEN %d AND %d", table, id, id+20)
	default:
		return fmt.Sprintf("UPDATE %s SET n = n + 1 WHERE id = %d", table, id)
	}
}
