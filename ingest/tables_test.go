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
	captures, err := cdc.Captures(d.cfg.Tables)
	if err != nil {
		d.t.Fatal(err)
	}
	d.pump.SetCaptures(captures)
	d.loader = NewLoader(LoadConfig{Workers: 2, RangeRows: 200, Retry: soon}, d.cfg, d.schemas, d.mirror, d.reader.RequestPosition, slog.New(slog.DiscardHandler))
	return NewTables(d.cfg, d.schemas, d.pump, d.loader, d.mirror, d.catalog, slog.New(slog.DiscardHandler))
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
		d.open(db)
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
		d.open(db)
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
				d.open(db)
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
