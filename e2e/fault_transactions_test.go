package e2e

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"

	"github.com/lanternist/lanternist/internal/devstack"
	"github.com/lanternist/lanternist/internal/faults"
)

var entryView = map[string][]byte{"entry": []byte(`view: entry
from: public.entries
fields: {id: , title: {as: keyword}, n: }
search: {settings: {number_of_shards: 1}}
cache:
`)}

const entryTruth = `SELECT id::text, jsonb_build_object('id', id, 'title', title, 'n', n) FROM entries`

// installEntries makes an installation with a small table, and an audit of it.
func installEntries(t *testing.T, o options) (*installation, *audit) {
	t.Helper()
	o.tables, o.views = []string{"public.entries"}, entryView
	in := install(t, o)
	in.database.Exec(`CREATE TABLE entries (id int PRIMARY KEY, title text NOT NULL, n int NOT NULL, ballast text)`,
		`INSERT INTO entries SELECT i, 'entry ' || i, 0, NULL FROM generate_series(1, 100) i`)
	return in, in.startAudit(o.tables)
}

// preparing is a server on which transactions can be prepared.
func preparing(t *testing.T) *devstack.Server {
	t.Helper()
	return devstack.PostgresServer(t, devstack.PostgresOptions{Settings: map[string]string{"max_prepared_transactions": "5"}})
}

// others commits a few transactions that change entries, and returns when the views show them.
func (d *daemon) others(from int) {
	d.in.t.Helper()
	for i := range 5 {
		d.in.database.Exec(
			fmt.Sprintf(`UPDATE entries SET n = n + 1 WHERE id BETWEEN %d AND %d`, 1+i*10, 15+i*10),
			fmt.Sprintf(`INSERT INTO entries SELECT i, 'other ' || i, i, repeat(md5(i::text), 1000) FROM generate_series(%d, %d) i`, from+i*10, from+i*10+9),
			fmt.Sprintf(`DELETE FROM entries WHERE id = %d`, from+i*10))
	}
	d.reach()
}

// entriesAreRight compares both sinks with the source, and the journal of the daemon, which it stops, with the audit.
func (d *daemon) entriesAreRight(a *audit) {
	d.in.t.Helper()
	d.reach()
	d.in.t.Logf("%d documents compared", d.in.compare(func(string) string { return entryTruth }))
	d.nothingParked()
	d.stop()
	a.compare()
}

// session is a connection of its own. It may be ended by the server.
func (in *installation) session() (*pgx.Conn, func(sql ...string)) {
	in.t.Helper()
	conn := in.database.Conn(in.t.Context())
	in.t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn, func(sql ...string) {
		in.t.Helper()
		for _, s := range sql {
			if _, err := conn.Exec(in.t.Context(), s); err != nil {
				in.t.Fatalf("%s: %v", s, err)
			}
		}
	}
}

// slotHeld is what the status says of the slot.
type slotHeld struct {
	Restart string `json:"restart"`
	Holder  *struct {
		PID      uint32 `json:"pid"`
		Prepared string `json:"prepared"`
		XID      uint32 `json:"xid"`
		State    string `json:"state"`
		Text     string `json:"text"`
	} `json:"holder"`
}

func (in *installation) slotHeld() (slotHeld, error) {
	var s struct {
		Source struct {
			Slot *slotHeld `json:"slot"`
		} `json:"source"`
	}
	if err := in.get("/v1/status", &s); err != nil {
		return slotHeld{}, err
	}
	if s.Source.Slot == nil {
		return slotHeld{}, fmt.Errorf("the status says nothing of the slot")
	}
	return *s.Source.Slot, nil
}

// slotPositions are where the log begins that the source keeps for the daemon's slot, and what the daemon has acknowledged.
func (in *installation) slotPositions() (restart, acknowledged pglogrepl.LSN) {
	in.t.Helper()
	conn := in.database.Conn(in.t.Context())
	defer conn.Close(in.t.Context())
	var texts [2]string
	if err := conn.QueryRow(in.t.Context(), `SELECT restart_lsn::text, confirmed_flush_lsn::text FROM pg_replication_slots WHERE slot_name = $1`,
		in.slot).Scan(&texts[0], &texts[1]); err != nil {
		in.t.Fatal(err)
	}
	return parseLSN(in.t, texts[0]), parseLSN(in.t, texts[1])
}

// holderSQL is what the status prints to end who holds the slot.
var holderSQL = regexp.MustCompile(`held by (.*); end it with: (SELECT pg_terminate_backend\(\d+\)|ROLLBACK PREPARED '(?:[^']|'')*')`)

// releaseSlot waits until the status names who holds the slot, does what it prints, and waits until the slot moves on. It
// returns what was said, and how long it took until the slot moved.
func (d *daemon) releaseSlot(want func(slotHeld) bool) (said string, took time.Duration) {
	in := d.in
	in.t.Helper()
	var held slotHeld
	devstack.Eventually(in.t, reachWithin, func() (err error) {
		d.alive()
		if held, err = in.slotHeld(); err != nil {
			return err
		}
		if held.Holder == nil || !want(held) {
			return fmt.Errorf("the slot is held by %+v", held.Holder)
		}
		return nil
	})
	d.others(2000)
	in.database.Exec("CHECKPOINT") // the server says what runs
	d.others(3000)
	restart, acknowledged := in.slotPositions()
	code, text, stderr := in.run("status")
	m := holderSQL.FindStringSubmatch(text)
	if code != 0 || m == nil {
		in.t.Fatalf("exit code %d; the status does not say who holds the slot:\n%s%s", code, text, stderr)
	}
	if at := parseLSN(in.t, held.Restart); restart > at {
		in.t.Errorf("the slot was held at %s, and is at %s before its holder was ended", at, restart)
	}
	in.database.Exec(m[2])
	began := time.Now()
	devstack.Eventually(in.t, reachWithin, func() error {
		d.alive()
		in.database.Exec("CHECKPOINT", "UPDATE entries SET n = n + 1 WHERE id = 1")
		if now, _ := in.slotPositions(); now <= acknowledged {
			return fmt.Errorf("the slot is at %s, was acknowledged at %s", now, acknowledged)
		}
		held, err := in.slotHeld()
		if err == nil && held.Holder != nil {
			err = fmt.Errorf("the slot is held by %+v", held.Holder)
		}
		return err
	})
	return m[1], time.Since(began)
}

func TestFaultSessionHoldsSlot(t *testing.T) {
	result := faults.Cause(t, faults.Fault{
		ID: "session-holds-slot", Area: "Source", Heavy: true,
		Fault:   "A session that has written leaves its transaction open (idle in transaction), so that Postgres has to keep its log",
		Promise: "Everything else flows, the status names the session's pid and prints the command that ends it, and after that command the slot moves on",
		Answer:  "`lanternist status` names it: run the `SELECT pg_terminate_backend(PID)` that it prints",
	})
	t.Parallel()
	in, a := installEntries(t, options{database: devstack.PostgresServer(t, devstack.PostgresOptions{}).Database()})
	d := in.start()
	d.ready()
	conn, exec := in.session()
	exec("SET application_name = 'forgotten'", "BEGIN", "INSERT INTO entries SELECT i, 'never', i, NULL FROM generate_series(1000, 1999) i")
	pid := conn.PgConn().PID()
	said, took := d.releaseSlot(func(s slotHeld) bool { return s.Holder.PID == pid && s.Holder.State == "idle in transaction" })
	if !strings.Contains(said, fmt.Sprintf("pid %d ", pid)) || !strings.Contains(said, "forgotten") {
		t.Errorf("the status says that the slot is held by %s", said)
	}
	if err := conn.Ping(t.Context()); err == nil {
		t.Error("the session was not ended")
	}
	result.Recovered(took)
	d.entriesAreRight(a)
}

func TestFaultPreparedTransactionHoldsSlot(t *testing.T) {
	result := faults.Cause(t, faults.Fault{
		ID: "prepared-transaction-holds-slot", Area: "Source", Heavy: true,
		Fault:   "A transaction was prepared (PREPARE TRANSACTION) and forgotten, so that Postgres has to keep its log",
		Promise: "Everything else flows, the status names the prepared transaction and prints the command that ends it, and after that command the slot moves on",
		Answer:  "`lanternist status` names it: run the `ROLLBACK PREPARED 'NAME'` that it prints, or COMMIT PREPARED",
	})
	t.Parallel()
	in, a := installEntries(t, options{database: preparing(t).Database()})
	d := in.start()
	d.ready()
	_, exec := in.session()
	exec("BEGIN", "INSERT INTO entries SELECT i, 'never', i, NULL FROM generate_series(1000, 1999) i", "PREPARE TRANSACTION 'nobody''s'")
	said, took := d.releaseSlot(func(s slotHeld) bool { return s.Holder.Prepared == "nobody's" && s.Holder.PID == 0 })
	if !strings.Contains(said, "nobody's") || !strings.Contains(said, in.database.Name()) {
		t.Errorf("the status says that the slot is held by %s", said)
	}
	result.Recovered(took)
	d.entriesAreRight(a)
}

func TestFaultTransactionOpenAcrossRestarts(t *testing.T) {
	result := faults.Cause(t, faults.Fault{
		ID: "transaction-open-across-restarts", Area: "Source", Heavy: true,
		Fault:   "A transaction stays open while the daemon is stopped and started three times and killed once, and many others commit",
		Promise: "The others are shown at once; the long one is journaled once, where it commits, and no view shows anything of it before",
		Answer:  "nothing: `lanternist status` names the transaction while it holds the slot",
	})
	t.Parallel()
	in, a := installEntries(t, options{})
	d := in.start()
	d.ready()
	_, exec := in.session()
	exec("BEGIN", "UPDATE entries SET title = 'changed slowly' WHERE id > 80")
	for i := range 4 {
		exec(fmt.Sprintf("SAVEPOINT s%d", i),
			fmt.Sprintf("INSERT INTO entries SELECT i, 'slow ' || i, i, repeat(md5(i::text), 300) FROM generate_series(%d, %d) i", 1000+1000*i, 1999+1000*i))
		d.others(10000 + 1000*i)
		d.in.compare(func(string) string { return entryTruth })
		if i == 2 {
			d.kill()
		} else {
			d.stop()
		}
		for k := range 20 { // while nobody reads
			in.database.Exec(fmt.Sprintf("UPDATE entries SET n = n + %d WHERE id = %d", k, 1+k))
		}
		d = in.start()
		d.ready()
	}
	exec("UPDATE entries SET n = -1 WHERE title LIKE 'slow %' AND id % 10 = 0", "DELETE FROM entries WHERE title LIKE 'slow %' AND id % 10 = 1", "COMMIT")
	began := time.Now()
	d.reach()
	result.Recovered(time.Since(began))
	d.entriesAreRight(a)
	result.Notef("%d transactions, each once", a.compared)
}

func TestFaultPreparedTransactions(t *testing.T) {
	result := faults.Cause(t, faults.Fault{
		ID: "prepared-transactions", Area: "Source", Heavy: true,
		Fault:   "Transactions are prepared, and committed or rolled back much later, with the daemon killed in between",
		Promise: "What is committed is journaled once, where COMMIT PREPARED is in the order of commits; nothing of it is shown before, and nothing ever of what is rolled back",
		Answer:  "nothing: `lanternist status` names a prepared transaction that holds the slot",
	})
	t.Parallel()
	in, a := installEntries(t, options{database: preparing(t).Database()})
	d := in.start()
	d.ready()
	_, exec := in.session()
	for i, name := range []string{"committed", "rolled back", "committed later", "rolled back later"} {
		exec("BEGIN",
			fmt.Sprintf("INSERT INTO entries SELECT i, '%s', i, repeat(md5(i::text), 100) FROM generate_series(%d, %d) i", name, 1000*(i+1), 1000*(i+1)+500),
			fmt.Sprintf("UPDATE entries SET title = '%s' WHERE id BETWEEN %d AND %d", name, 60+10*i, 65+10*i),
			"SAVEPOINT s", "DELETE FROM entries WHERE id < 50", "ROLLBACK TO s",
			fmt.Sprintf("PREPARE TRANSACTION '%s'", name))
	}
	d.others(10000)
	in.compare(func(string) string { return entryTruth })
	exec("COMMIT PREPARED 'committed'", "ROLLBACK PREPARED 'rolled back'")
	d.reach()
	in.compare(func(string) string { return entryTruth })
	d.kill()
	in.database.Exec("UPDATE entries SET n = n + 1 WHERE id <= 50")
	exec("COMMIT PREPARED 'committed later'", "ROLLBACK PREPARED 'rolled back later'")
	d = in.start()
	began := time.Now()
	d.ready()
	d.others(11000)
	result.Recovered(time.Since(began))
	d.entriesAreRight(a)
	result.Notef("%d transactions, each once", a.compared)
}

func TestFaultSubtransactionsRolledBack(t *testing.T) {
	result := faults.Cause(t, faults.Fault{
		ID: "subtransactions-rolled-back", Area: "Source",
		Fault:   "Savepoints, nested ones and hundreds of exceptions in PL/pgSQL are rolled back inside of transactions that commit",
		Promise: "The journal has what was committed, once, and nothing of what was rolled back; the documents are right",
		Answer:  "nothing: it is no error",
	})
	t.Parallel()
	in, a := installEntries(t, options{})
	d := in.start()
	d.ready()
	_, exec := in.session()
	exec("BEGIN", "INSERT INTO entries VALUES (1000, 'kept', 1)",
		"SAVEPOINT a", "INSERT INTO entries VALUES (1001, 'never', 1)", "UPDATE entries SET title = 'never' WHERE id <= 50", "ROLLBACK TO a",
		"INSERT INTO entries VALUES (1001, 'after a', 1)",
		"SAVEPOINT b", "UPDATE entries SET n = 7 WHERE id <= 20",
		"SAVEPOINT c", "DELETE FROM entries WHERE id <= 20", "ROLLBACK TO c", "RELEASE c",
		"SAVEPOINT d", "TRUNCATE entries", "ROLLBACK TO d", "RELEASE b",
		"SAVEPOINT e", "INSERT INTO entries SELECT i, 'never', i, repeat(md5(i::text), 50) FROM generate_series(20000, 22000) i",
		"SAVEPOINT f", "UPDATE entries SET title = 'never again'", "RELEASE f", "ROLLBACK TO e",
		"UPDATE entries SET title = 'last' WHERE id = 1000", "COMMIT")
	exec(`DO $$ BEGIN
		FOR i IN 1..300 LOOP
			BEGIN
				INSERT INTO entries VALUES (2000 + i, 'of a block', i, repeat('x', 2000));
				UPDATE entries SET n = n + 1 WHERE id = 30 + i % 10;
				IF i % 3 = 0 THEN RAISE EXCEPTION 'no'; END IF;
				IF i % 3 = 1 THEN INSERT INTO entries VALUES (1, 'there already', 0); END IF;
			EXCEPTION WHEN OTHERS THEN
				UPDATE entries SET title = 'refused ' || i WHERE id = 40 + i % 10;
			END;
		END LOOP; END $$`)
	exec("BEGIN", "SAVEPOINT a", "UPDATE entries SET title = 'nothing of this'", "ROLLBACK TO a", "COMMIT",
		"BEGIN", "UPDATE entries SET title = 'nothing of this either'", "ROLLBACK")
	began := time.Now()
	d.reach()
	result.Recovered(time.Since(began))
	d.entriesAreRight(a)
}
