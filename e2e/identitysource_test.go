package e2e

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/lanternist/lanternist/internal/devstack"
	"github.com/lanternist/lanternist/internal/faults"
)

// ownServer makes a ward with a server of its own.
func ownServer(t *testing.T, opts devstack.PostgresOptions) (*ward, *devstack.Server) {
	t.Helper()
	if testing.Short() {
		t.Skip("needs real services; run without -short")
	}
	server := devstack.PostgresServer(t, opts)
	return newWard(t, options{database: server.Database()}), server
}

// sourceURL has the daemon, and what the test asks, go to another database.
func (w *ward) sourceURL(database *devstack.Database, url string) {
	w.database = database
	w.environment = append(slices.Clone(w.environment), "DATABASE_URL="+url)
}

func TestFaultSlotLostItsLog(t *testing.T) {
	t.Parallel()
	r := faults.Cause(t, faults.Fault{ID: "slot-lost", Area: "Source", Heavy: true,
		Fault: "The daemon is stopped for so long that the server removes WAL that the slot needs (max_slot_wal_keep_size).", Promise: promiseGap, Answer: answerGap})
	w, _ := ownServer(t, devstack.PostgresOptions{Settings: map[string]string{"max_slot_wal_keep_size": "1MB", "min_wal_size": "32MB", "max_wal_size": "32MB", "wal_keep_size": "0"}})
	w.begin()
	w.d.stop()
	w.meanwhile()
	devstack.Eventually(t, time.Minute, func() error {
		w.database.Exec(`SELECT pg_switch_wal()`, `CREATE TABLE IF NOT EXISTS filler (b text)`, `INSERT INTO filler SELECT repeat('x', 1000) FROM generate_series(1, 2000)`, `SELECT pg_switch_wal()`, `CHECKPOINT`)
		conn := w.database.Conn(t.Context())
		defer conn.Close(t.Context())
		var status string
		if err := conn.QueryRow(t.Context(), `SELECT wal_status FROM pg_replication_slots WHERE slot_name = $1`, w.slot).Scan(&status); err != nil {
			return err
		}
		if status != "lost" {
			return fmt.Errorf("the slot is %s", status)
		}
		return nil
	})
	w.refuses("slot-lost", acceptGap)
	w.accept(r, "slot-lost")
}

// slotBack kills the server so that the slot's position is that of the last checkpoint again.
func TestFaultSlotMovedBackByACrash(t *testing.T) {
	t.Parallel()
	r := faults.Cause(t, faults.Fault{ID: "slot-moved-back", Area: "Source", Heavy: true,
		Fault:   "The server crashes and comes back with the slot at an older position.",
		Promise: "The daemon connects again by itself; what comes again is skipped by its position. The journal has every transaction once.",
		Answer:  "nothing: it heals by itself"})
	w, server := ownServer(t, devstack.PostgresOptions{Settings: map[string]string{"checkpoint_timeout": "1h", "max_wal_size": "4GB", "fsync": "on"}})
	w.begin()
	for i := range 50 {
		w.database.Exec(fmt.Sprintf(`UPDATE parcels SET state = 'lap %d' WHERE id = %d`, i, i+100))
	}
	w.d.reach()
	before := w.confirmed()
	if err := server.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := server.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	after := w.confirmed()
	w.right()
	r.Recovered(time.Since(began))
	w.meanwhile()
	w.right()
	w.d.stop()
	r.Notef("confirmed position moved back by %d bytes", before-after)
	w.once()
	// And at a start.
	w.d = w.start()
	w.d.ready()
	w.right()
	w.d.stop()
	w.once()
}

func (w *ward) confirmed() (lsn int64) {
	w.t.Helper()
	conn := w.database.Conn(w.t.Context())
	defer conn.Close(context.WithoutCancel(w.t.Context()))
	if err := conn.QueryRow(w.t.Context(), `SELECT (confirmed_flush_lsn - '0/0')::bigint FROM pg_replication_slots WHERE slot_name = $1`, w.slot).Scan(&lsn); err != nil {
		w.t.Fatal(err)
	}
	return lsn
}

// once sees to it that no event is twice in the journal.
func (w *ward) once() {
	w.t.Helper()
	_, stdout, _ := w.run("journal", "dump", "--events", "--json")
	seen := map[string]bool{}
	for line := range strings.Lines(stdout) {
		_, rest, ok := strings.Cut(line, `"event_id":"`)
		if !ok {
			continue
		}
		id, _, _ := strings.Cut(rest, `"`)
		if seen[id] {
			w.t.Errorf("event %s is twice in the journal", id)
		}
		seen[id] = true
	}
	if len(seen) == 0 {
		w.t.Error("the journal has no events")
	}
}

func TestFaultSourceReplaced(t *testing.T) {
	t.Parallel()
	r := faults.Cause(t, faults.Fault{ID: "source-replaced", Area: "Source", Heavy: true,
		Fault: "source.url leads to another cluster, as after dump and restore or a major upgrade.", Promise: promiseGap, Answer: "point source.url back, or " + answerGap})
	w := newWard(t, options{})
	w.begin()
	w.d.stop()
	other := devstack.PostgresServer(t, devstack.PostgresOptions{}).Database()
	other.Exec(`CREATE TABLE parcels (id int PRIMARY KEY, state text)`, `INSERT INTO parcels SELECT i, 'restored' FROM generate_series(1, 50) i`)
	w.sourceURL(other, other.URL())
	w.refuses("source-other-system", acceptGap)
	w.accept(r, "source-other-system")
}

func TestFaultDatabaseDroppedAndCreated(t *testing.T) {
	t.Parallel()
	r := faults.Cause(t, faults.Fault{ID: "database-recreated", Area: "Source", Heavy: true,
		Fault: "The database is dropped, created under its old name, and filled from a dump, in the same cluster.", Promise: promiseGap, Answer: answerGap})
	w, server := ownServer(t, devstack.PostgresOptions{})
	w.begin()
	w.d.stop()
	conn, err := pgx.Connect(t.Context(), server.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	for _, sql := range []string{`SELECT pg_drop_replication_slot('` + w.slot + `')`, `DROP DATABASE ` + w.slot + ` WITH (FORCE)`, `CREATE DATABASE ` + w.slot} {
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	w.database.Exec(`CREATE TABLE parcels (id int PRIMARY KEY, state text)`, `INSERT INTO parcels SELECT i, 'restored' FROM generate_series(1, 50) i`)
	w.refuses("source-other-database", acceptGap)
	w.accept(r, "source-other-database")
}

func TestFaultSourceRestoredFromAnOlderCopy(t *testing.T) {
	for _, c := range []struct {
		code     string
		recovery bool
		f        faults.Fault
	}{
		{"source-went-back", false, faults.Fault{ID: "source-older-copy", Fault: "The server's disk is put back to an older snapshot: same timeline, same slot, a log that ends earlier."}},
		{"source-diverged", true, faults.Fault{ID: "source-restored", Fault: "The server is restored from a base backup (point in time): a new timeline that leaves the old one before what was read."}},
	} {
		t.Run(c.code, func(t *testing.T) {
			t.Parallel()
			c.f.Area, c.f.Heavy, c.f.Promise, c.f.Answer = "Source", true, promiseGap, answerGap
			r := faults.Cause(t, c.f)
			w, server := ownServer(t, devstack.PostgresOptions{})
			w.begin()
			w.d.stop()
			older := server.Copy()
			w.d = w.start()
			w.d.ready()
			w.database.Exec(`UPDATE parcels SET state = 'undone' WHERE id BETWEEN 50 AND 60`, `INSERT INTO parcels SELECT i, 'undone' FROM generate_series(5001, 6000) i`)
			w.d.reach()
			w.d.stop()
			server.Restore(older, c.recovery)
			w.refuses(c.code, acceptGap)
			w.accept(r, c.code)
		})
	}
}

// hosts is a URL with two servers in it, of which the one that takes writes is meant.
func hosts(t *testing.T, a, b *devstack.Database) string {
	t.Helper()
	first, err := url.Parse(a.URL())
	if err != nil {
		t.Fatal(err)
	}
	second, err := url.Parse(b.URL())
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("postgres://%s@%s,%s%s?sslmode=disable&target_session_attrs=read-write", first.User, first.Host, second.Host, first.Path)
}

func TestFaultPrimaryFailsAndAStandbyIsPromoted(t *testing.T) {
	for _, version := range []string{"17", "18"} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			r := faults.Cause(t, faults.Fault{ID: "failover-" + version, Area: "Source", Heavy: true,
				Fault:   "The primary (Postgres " + version + ") is killed under writes and its standby, which keeps the failover slot, is promoted; source.url has both hosts.",
				Promise: "The daemon goes on with the new primary by itself, under its timeline: what was committed before and after is there once, and no view is built anew. Tokens of the old timeline are answered 410.",
				Answer:  "nothing: it heals by itself"})
			w, primary := ownServer(t, devstack.PostgresOptions{Version: version})
			standby := primary.Standby(t)
			promoted := w.database.Same(standby)
			w.sourceURL(w.database, hosts(t, w.database, promoted))
			w.begin()
			w.slotSynced(promoted)
			built, token := w.status().generations(), w.position()
			var epoch struct{ Epoch string }
			if err := w.get("/v1/status", &epoch); err != nil {
				t.Fatal(err)
			}
			for i := range 100 {
				w.database.Exec(fmt.Sprintf(`UPDATE parcels SET state = 'lap %d' WHERE id = %d`, i, i%200+1))
			}
			w.d.reach()
			stop := w.writeTo(w.database)
			devstack.Eventually(t, readyWithin, func() error {
				if n := len(w.cacheDocuments("parcels")); n < 250 {
					return fmt.Errorf("%d documents", n)
				}
				return nil
			})
			if err := primary.Kill(); err != nil {
				t.Fatal(err)
			}
			standby.Promote()
			r.Notef("%d rows were committed on the old primary while it was killed", stop())
			began := time.Now()
			w.database = promoted
			w.meanwhile()
			devstack.Eventually(t, readyWithin, func() error {
				w.d.alive()
				var now struct{ Epoch string }
				if err := w.get("/v1/status", &now); err != nil {
					return err
				}
				if now.Epoch == epoch.Epoch {
					return fmt.Errorf("still at epoch %s", now.Epoch)
				}
				return nil
			})
			w.d.ready()
			w.right()
			r.Recovered(time.Since(began))
			a, err := w.ask("GET", "/v1/views/parcels/7", url.Values{"after": {token + "@" + epoch.Epoch}})
			if err != nil || a.status != 410 {
				t.Errorf("a token of the old timeline is answered %d %s: %v", a.status, a.body, err)
			}
			for projector, generation := range w.status().generations() {
				if built[projector] != generation {
					t.Errorf("%s was built anew: generation %d, was %d", projector, generation, built[projector])
				}
			}
			w.d.stop()
			w.once()
			w.d = w.start()
			w.d.ready()
			w.right()
		})
	}
}

// slotSynced waits until the standby has a copy of the slot that outlives a promotion.
func (w *ward) slotSynced(standby *devstack.Database) {
	w.t.Helper()
	devstack.Eventually(w.t, readyWithin, func() error {
		w.database.Exec(`SELECT pg_log_standby_snapshot()`, `INSERT INTO parcels VALUES (3001, 'tick') ON CONFLICT (id) DO UPDATE SET state = 'tock'`)
		conn := standby.Conn(w.t.Context())
		defer conn.Close(context.WithoutCancel(w.t.Context()))
		var ready bool
		err := conn.QueryRow(w.t.Context(), `SELECT synced AND NOT temporary AND invalidation_reason IS NULL FROM pg_replication_slots WHERE slot_name = $1`, w.slot).Scan(&ready)
		if err == nil && !ready {
			err = fmt.Errorf("the standby's copy of the slot is not ready")
		}
		return err
	})
}

// writeTo inserts rows, one transaction each, until the server is gone. stop waits for that and returns how many were committed.
func (w *ward) writeTo(database *devstack.Database) (stop func() int) {
	w.t.Helper()
	conn, err := pgx.Connect(w.t.Context(), database.URL())
	if err != nil {
		w.t.Fatal(err)
	}
	ended := make(chan int, 1)
	go func() {
		defer conn.Close(context.Background())
		for n := 0; ; n++ {
			if _, err := conn.Exec(context.Background(), `INSERT INTO parcels VALUES ($1, 'written')`, 10_000+n); err != nil {
				ended <- n
				return
			}
		}
	}()
	return func() int { return <-ended }
}
