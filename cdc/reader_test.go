package cdc_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pglogrepl"

	"github.com/lanternist/lanternist/cdc"
	"github.com/lanternist/lanternist/internal/devstack"
)

func TestReaderDeliversEveryKindOfChange(t *testing.T) {
	db := devstack.Postgres(t)
	s := newSource(t, db, `
		CREATE TABLE orders (id int PRIMARY KEY, note text, big text);
		CREATE TABLE items (order_id int, line int, sku text, PRIMARY KEY (order_id, line));
		CREATE TABLE logs (id int PRIMARY KEY, a text, b text);
		ALTER TABLE logs REPLICA IDENTITY FULL;
		CREATE TABLE coded (id int PRIMARY KEY, code text NOT NULL);
		CREATE UNIQUE INDEX coded_code ON coded (code, id);
		ALTER TABLE coded REPLICA IDENTITY USING INDEX coded_code;
		ALTER TABLE orders ALTER COLUMN big SET STORAGE EXTERNAL;`)
	s.setup()
	st := s.follow(cdc.Start{})
	db.Exec(
		`INSERT INTO orders VALUES (1, NULL, repeat('x', 5000)), (2, '', 'small')`,
		`UPDATE orders SET note = 'n' WHERE id = 1`, // big is TOASTed and not touched
		`UPDATE orders SET id = 3 WHERE id = 2`,     // the key changes
		`DELETE FROM orders WHERE id = 3`,
		`BEGIN; INSERT INTO items VALUES (1, 1, 'a'); ROLLBACK`,
		`BEGIN; INSERT INTO items VALUES (1, 1, 'a'); SAVEPOINT p; INSERT INTO items VALUES (1, 2, 'b');
		 ROLLBACK TO p; INSERT INTO items VALUES (1, 3, 'c'); COMMIT`,
		`INSERT INTO logs VALUES (1, 'a', NULL)`,
		`UPDATE logs SET b = 'b'`,
		`DELETE FROM logs`,
		`INSERT INTO coded VALUES (1, 'x')`,
		`UPDATE coded SET code = 'y'`,
		`DELETE FROM coded`,
		`TRUNCATE orders, items, logs`,
		`BEGIN; INSERT INTO items VALUES (2, 1, 'd'); SELECT pg_logical_emit_message(true, 'ctx', 'in'); COMMIT`,
		`SELECT pg_logical_emit_message(false, 'note', 'out')`,
		`SELECT pg_logical_emit_message(true, 'ctx', 'alone')`,
	)
	all := st.transactions(15)
	expect(t, all,
		"[I orders {1,NULL,xxxxxxxxxx…} I orders {2,,small}]",
		"[U orders {1,n,SAME}]",
		"[U orders {2,NULL,NULL}-> {3,,small}]",
		"[D orders {3,NULL,NULL}->]",
		"[I items {1,1,a} I items {1,3,c}]",
		"[I logs {1,a,NULL}]",
		"[U logs {1,a,NULL}-> {1,a,b}]",
		"[D logs {1,a,b}->]",
		"[I coded {1,x}]",
		"[U coded {1,x}-> {1,y}]",
		"[D coded {1,y}->]",
		"[T orders T items T logs]",
		"[I items {2,1,d} M ctx:in]",
		"[M note:out]",
		"[M ctx:alone]",
	)
	for i, tx := range all {
		if i > 0 && tx.CommitLSN <= all[i-1].CommitLSN {
			t.Errorf("transaction %d commits at %s, the one before at %s", i, tx.CommitLSN, all[i-1].CommitLSN)
		}
		if !tx.Last || tx.EndLSN <= tx.CommitLSN || tx.CommitTime.IsZero() {
			t.Errorf("transaction %d: %+v", i, tx.Transaction)
		}
	}
}

const plainTable = `CREATE TABLE t (id int PRIMARY KEY, v text)`

func TestReaderRequestedKeepaliveReachesTheFlushedLog(t *testing.T) {
	s := newSource(t, devstack.Postgres(t), plainTable, `CREATE TABLE elsewhere (id int)`)
	s.cfg.Tables = []string{"t"}
	s.setup()
	st := s.follow(cdc.Start{})
	for range 5 {
		// Changes of a table that is not published move the log without a word in the stream.
		s.Exec(`INSERT INTO elsewhere VALUES (1)`)
		st.caughtUp(s.flushLSN())
	}
	if all := st.transactions(0); len(all) != 0 {
		t.Errorf("delivered %s", describeAll(all))
	}
}

func TestReaderAcknowledgeMovesTheSlot(t *testing.T) {
	s := newSource(t, devstack.Postgres(t), plainTable)
	created := s.setup()
	if !created.Created || created.ConfirmedFlush == 0 || created.SystemID == "" || created.Timeline == 0 {
		t.Fatalf("Setup = %+v", created)
	}
	st := s.follow(cdc.Start{})
	s.Exec(`INSERT INTO t VALUES (1, 'a')`)
	end := st.transactions(1)[0].EndLSN
	st.caughtUp(s.flushLSN())
	slot := s.slot()
	if slot.ConfirmedFlush != created.ConfirmedFlush {
		t.Errorf("slot moved to %s before anything was acknowledged, it was at %s", slot.ConfirmedFlush, created.ConfirmedFlush)
	}
	st.reader.Acknowledge(end)
	s.eventuallySlot(func(slot *cdc.Slot) error {
		if slot.ConfirmedFlush != end {
			return fmt.Errorf("slot is at %s, want %s", slot.ConfirmedFlush, end)
		}
		return nil
	})
	// The end of an idle log is acknowledged the same way.
	s.Exec(`CREATE TABLE other (id int)`)
	target := s.flushLSN()
	st.caughtUp(target)
	st.reader.Acknowledge(target)
	s.eventuallySlot(func(slot *cdc.Slot) error {
		if slot.ConfirmedFlush < target {
			return fmt.Errorf("slot is at %s, want %s", slot.ConfirmedFlush, target)
		}
		return nil
	})
	if got := st.reader.Stats(); got.Acknowledged != target || !got.Connected {
		t.Errorf("Stats = %+v", got)
	}
	st.reader.Acknowledge(end) // lower than before
	if got := st.reader.Stats(); got.Acknowledged != target {
		t.Errorf("acknowledged position fell to %s", got.Acknowledged)
	}
}

func TestReaderDeliversTheLastAcknowledgementWhenItStops(t *testing.T) {
	s := newSource(t, devstack.Postgres(t), plainTable)
	s.setup()
	st := s.follow(cdc.Start{})
	s.Exec(`INSERT INTO t VALUES (1, 'a')`)
	end := st.transactions(1)[0].EndLSN
	st.reader.Acknowledge(end)
	if err := st.stop(); !errors.Is(err, errStop) {
		t.Fatalf("Run returned %v, want the cause it was stopped with", err)
	}
	s.eventuallySlot(func(slot *cdc.Slot) error {
		if slot.ConfirmedFlush != end || slot.ActivePID != 0 {
			return fmt.Errorf("slot %+v, want it idle at %s", slot, end)
		}
		return nil
	})
}

func TestReaderSplitsOnlyATransactionLargerThanADelivery(t *testing.T) {
	s := newSource(t, devstack.Postgres(t), plainTable)
	s.cfg.BatchChanges = 100
	s.cfg.BatchBytes = 1 << 30
	s.setup()
	st := s.follow(cdc.Start{})
	release := st.hold()
	var script strings.Builder
	for i := range 30 {
		fmt.Fprintf(&script, "BEGIN; INSERT INTO t SELECT g, 'small' FROM generate_series(%d, %d) g; COMMIT;", i*10, i*10+8)
	}
	s.Exec(script.String(), `INSERT INTO t SELECT g, 'big' FROM generate_series(1000, 1999) g`, `INSERT INTO t VALUES (5000, 'last')`)
	release()
	st.wait("the last transaction", func(all []cdc.Transaction, _ pglogrepl.LSN) bool {
		return len(all) > 0 && kindOf(all[len(all)-1]) == "last"
	})
	var bigs, ends, small int
	for _, d := range st.deliveries {
		changes := 0
		for i, tx := range d.Transactions {
			changes += len(tx.Changes)
			if tx.Last != (tx.EndLSN != 0) {
				t.Errorf("Last %v with EndLSN %s", tx.Last, tx.EndLSN)
			}
			switch kindOf(tx) {
			case "small":
				if len(tx.Changes) != 9 || !tx.Last {
					t.Errorf("a small transaction came in parts: %s", say(tx))
				}
				small++
				continue
			case "last":
				continue
			}
			if int(tx.First) != bigs {
				t.Errorf("a part begins at change %d, want %d", tx.First, bigs)
			}
			bigs += len(tx.Changes)
			if tx.Last {
				ends++
			}
			if !tx.Last && i != len(d.Transactions)-1 {
				t.Error("something follows an unfinished transaction in a delivery")
			}
		}
		if changes > 100 {
			t.Errorf("a delivery has %d changes", changes)
		}
	}
	if small != 30 || bigs != 1000 || ends != 1 {
		t.Errorf("%d small transactions in one piece, want 30; %d changes of the big one, want 1000; it ended %d times", small, bigs, ends)
	}
}

// kindOf is the second column of the transaction's first change; "" of a part that only ends a transaction.
func kindOf(tx cdc.Transaction) string {
	if len(tx.Changes) == 0 {
		return ""
	}
	return string(tx.Changes[0].After.Column(1).Text)
}

func TestReaderGoesOnAfterItsConnectionIsKilled(t *testing.T) {
	s := newSource(t, devstack.Postgres(t), `CREATE TABLE t (id serial PRIMARY KEY, v text)`)
	s.cfg.BatchChanges = 50
	s.setup()
	st := s.follow(cdc.Start{})
	stop := make(chan struct{})
	var writers sync.WaitGroup
	for w := range 3 {
		conn := s.Conn(t.Context())
		writers.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				n := 1 + (i*7+w)%160 // some are larger than a delivery
				if _, err := conn.Exec(context.Background(), `INSERT INTO t (v) SELECT $1 FROM generate_series(1, $2)`, fmt.Sprint(w, ".", i), n); err != nil {
					t.Errorf("write: %v", err)
					return
				}
			}
		})
	}
	for kill := range 8 {
		st.transactions((kill + 1) * 20)
		before := st.reader.Stats().Reconnects
		devstack.Eventually(t, patience, func() error {
			s.Exec(`SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = '` + s.cfg.Slot + `'`)
			if st.reader.Stats().Reconnects == before {
				return errors.New("the reader did not notice")
			}
			return nil
		})
	}
	close(stop)
	writers.Wait()
	all := st.caughtUp(s.flushLSN())
	seen := map[string]int{}
	next := map[pglogrepl.LSN]uint32{}
	var last pglogrepl.LSN
	for _, tx := range all {
		if tx.CommitLSN < last {
			t.Fatalf("commit %s after %s", tx.CommitLSN, last)
		}
		last = tx.CommitLSN
		if tx.First != next[tx.CommitLSN] {
			t.Fatalf("part of %s begins at %d, want %d", tx.CommitLSN, tx.First, next[tx.CommitLSN])
		}
		next[tx.CommitLSN] += uint32(len(tx.Changes))
		for _, c := range tx.Changes {
			seen[string(c.After.Column(0).Text)]++
		}
	}
	var rows int
	if err := s.conn.QueryRow(t.Context(), `SELECT count(*) FROM t`).Scan(&rows); err != nil {
		t.Fatal(err)
	}
	for id, n := range seen {
		if n != 1 {
			t.Errorf("row %s was delivered %d times", id, n)
		}
	}
	if len(seen) != rows {
		t.Errorf("%d rows delivered, %d committed", len(seen), rows)
	}
}

func TestReaderGoesOnFromAStart(t *testing.T) {
	s := newSource(t, devstack.Postgres(t), plainTable)
	s.cfg.BatchChanges = 10
	s.setup()
	s.Exec(`INSERT INTO t VALUES (1, 'a')`, `INSERT INTO t SELECT g, 'b' FROM generate_series(100, 124) g`, `INSERT INTO t VALUES (2, 'c')`)
	first := s.follow(cdc.Start{})
	parts := first.transactions(5) // 1, 10 + 10 + 5, 1
	if err := first.stop(); !errors.Is(err, errStop) {
		t.Fatal(err)
	}
	for i, tx := range parts {
		start := cdc.Start{CommitLSN: tx.CommitLSN, Ordinal: tx.First + uint32(len(tx.Changes)), Complete: tx.Last}
		for _, before := range parts[:i+1] {
			start.EndLSN = max(start.EndLSN, before.EndLSN)
		}
		if start.EndLSN == 0 {
			t.Fatal("no end")
		}
		again := s.follow(start)
		got := again.caughtUp(s.flushLSN())
		if err := again.stop(); !errors.Is(err, errStop) {
			t.Fatal(err)
		}
		want := 0
		for _, later := range parts[i+1:] {
			want += len(later.Changes)
		}
		n := 0
		for j, g := range got {
			if j == 0 && !tx.Last && g.First != start.Ordinal {
				t.Errorf("start %+v goes on at ordinal %d", start, g.First)
			}
			n += len(g.Changes)
		}
		if n != want {
			t.Errorf("start %+v: %d changes follow, want %d: %s", start, n, want, describeAll(got))
		}
	}
}

// The very first transaction may be larger than a delivery, and be durable only in part: no end is known then.
func TestReaderGoesOnInsideTheFirstTransaction(t *testing.T) {
	s := newSource(t, devstack.Postgres(t), plainTable)
	s.cfg.BatchChanges = 10
	s.setup()
	s.Exec(`INSERT INTO t SELECT g, 'b' FROM generate_series(1, 25) g`)
	first := s.follow(cdc.Start{})
	part := first.transactions(1)[0]
	_ = first.stop()
	if part.Last || len(part.Changes) != 10 {
		t.Fatalf("the first part has %d changes, last %v", len(part.Changes), part.Last)
	}
	again := s.follow(cdc.Start{CommitLSN: part.CommitLSN, Ordinal: 10})
	all := again.transactions(2)
	if all[0].First != 10 || all[1].First != 20 || len(all[1].Changes) != 5 || !all[1].Last {
		t.Errorf("went on with %s", describeAll(all))
	}
}

func TestReaderFollowsADefinitionThatChanges(t *testing.T) {
	s := newSource(t, devstack.Postgres(t), plainTable)
	s.setup()
	st := s.follow(cdc.Start{})
	s.Exec(
		`INSERT INTO t VALUES (1, 'a')`,
		`INSERT INTO t VALUES (2, 'b')`,
		`ALTER TABLE t ADD COLUMN extra numeric(8, 2) DEFAULT 1.5`,
		`INSERT INTO t VALUES (3, 'c', 2)`,
		`BEGIN; INSERT INTO t VALUES (4, 'd', 3); ALTER TABLE t DROP COLUMN v; INSERT INTO t VALUES (5, 4); COMMIT`,
		`ALTER TABLE t ALTER COLUMN extra TYPE text`,
		`UPDATE t SET extra = 'x' WHERE id = 5`,
		`ALTER TABLE t RENAME TO renamed`,
		`DELETE FROM renamed WHERE id = 5`,
	)
	all := st.transactions(6)
	expect(t, all, "[I t {1,a}]", "[I t {2,b}]", "[I t {3,c,2.00}]", "[I t {4,d,3.00} I t {5,4.00}]", "[U t {5,x}]", "[D renamed {5,NULL}->]")
	first, second := all[0].Changes[0].Schema, all[1].Changes[0].Schema
	if first != second {
		t.Error("an unchanged table got another schema")
	}
	var columns []string
	for _, s := range st.schemas.given {
		line := s.QualifiedName()
		for _, c := range s.Columns {
			line += " " + c.Name + ":" + c.Type.Name
		}
		columns = append(columns, line)
	}
	want := []string{
		"public.t id:integer v:text",
		"public.t id:integer v:text extra:numeric",
		"public.t id:integer extra:numeric",
		"public.t id:integer extra:text",
		"public.renamed id:integer extra:text",
	}
	if strings.Join(columns, "\n") != strings.Join(want, "\n") {
		t.Errorf("definitions\n%s\nwant\n%s", strings.Join(columns, "\n"), strings.Join(want, "\n"))
	}
	for _, s := range st.schemas.given {
		if len(s.Key) != 1 || s.Columns[s.Key[0]].Name != "id" {
			t.Errorf("key of %s is %v", s.QualifiedName(), s.Key)
		}
	}
}

// The server gives up on a reader that it does not hear from; deliveries may be slower than that.
func TestReaderIsHeardWhileADeliveryIsSlow(t *testing.T) {
	db := devstack.Postgres(t)
	s := newSource(t, db, plainTable)
	db.Exec(`ALTER DATABASE ` + db.Name() + ` SET wal_sender_timeout = '900ms'`)
	s.cfg.QueueBytes = 64 << 10
	s.setup()
	st := s.follow(cdc.Start{})
	release := st.hold()
	defer release()
	s.Exec(`INSERT INTO t SELECT g, repeat('x', 1000) FROM generate_series(1, 20000) g`)
	// The server's own clock and record say when it has lived through several timeouts.
	var began string
	if err := s.conn.QueryRow(t.Context(), `SELECT clock_timestamp()::text`).Scan(&began); err != nil {
		t.Fatal(err)
	}
	devstack.Eventually(t, patience, func() error {
		var ok bool
		err := s.conn.QueryRow(t.Context(), `SELECT coalesce(max(reply_time) > $1::timestamptz + interval '3 seconds', false)
			FROM pg_stat_replication r JOIN pg_replication_slots s ON s.active_pid = r.pid WHERE s.slot_name = $2`, began, s.cfg.Slot).Scan(&ok)
		if err != nil {
			return err
		}
		if !ok {
			return errors.New("the server has not heard from the reader for long enough")
		}
		return nil
	})
	release()
	all := st.caughtUp(s.flushLSN())
	n := 0
	for _, tx := range all {
		n += len(tx.Changes)
	}
	if n != 20000 {
		t.Errorf("%d changes, want 20000", n)
	}
	if got := st.reader.Stats(); got.Reconnects != 0 {
		t.Errorf("%d reconnects: the server gave up", got.Reconnects)
	}
}

func TestReaderRefusesASlotThatIsAhead(t *testing.T) {
	s := newSource(t, devstack.Postgres(t), plainTable)
	s.setup()
	s.Exec(`INSERT INTO t VALUES (1, 'a')`, `INSERT INTO t VALUES (2, 'b')`)
	first := s.follow(cdc.Start{})
	all := first.transactions(2)
	first.reader.Acknowledge(all[1].EndLSN)
	_ = first.stop()
	s.eventuallySlot(func(slot *cdc.Slot) error {
		if slot.ConfirmedFlush != all[1].EndLSN || slot.ActivePID != 0 {
			return fmt.Errorf("slot %+v", slot)
		}
		return nil
	})
	err := s.runUntilItEnds(cdc.Start{CommitLSN: all[0].CommitLSN, Complete: true, EndLSN: all[0].EndLSN})
	if !errors.Is(err, cdc.ErrSlotAhead) {
		t.Errorf("Run = %v, want ErrSlotAhead", err)
	}
}

func TestReaderReturnsWhatTimeCannotCure(t *testing.T) {
	t.Run("no slot", func(t *testing.T) {
		s := newSource(t, devstack.Postgres(t), plainTable)
		if err := s.runUntilItEnds(cdc.Start{}); !errors.Is(err, cdc.ErrSlotMissing) {
			t.Errorf("Run = %v, want ErrSlotMissing", err)
		}
	})
	t.Run("another plugin", func(t *testing.T) {
		s := newSource(t, devstack.Postgres(t), plainTable)
		s.Exec(`SELECT pg_create_physical_replication_slot('` + s.cfg.Slot + `')`)
		t.Cleanup(func() { s.Exec(`SELECT pg_drop_replication_slot('` + s.cfg.Slot + `')`) })
		if err := s.runUntilItEnds(cdc.Start{}); !errors.Is(err, cdc.ErrSlotUnusable) {
			t.Errorf("Run = %v, want ErrSlotUnusable", err)
		}
	})
	t.Run("no publication", func(t *testing.T) {
		s := newSource(t, devstack.Postgres(t), plainTable)
		s.setup()
		s.Exec(`INSERT INTO t VALUES (1, 'a')`, `DROP PUBLICATION lanternist`, `INSERT INTO t VALUES (2, 'a')`)
		err := s.runUntilItEnds(cdc.Start{})
		if !errors.Is(err, cdc.ErrPublicationChanged) || !strings.Contains(err.Error(), `publication lanternist does not exist`) {
			t.Errorf("Run = %v, want that the publication does not exist", err)
		}
	})
	t.Run("held by another", func(t *testing.T) {
		s := newSource(t, devstack.Postgres(t), plainTable)
		s.setup()
		st := s.follow(cdc.Start{})
		st.caughtUp(s.flushLSN())
		s.cfg.SlotTimeout = 1
		err := s.runUntilItEnds(cdc.Start{})
		if !errors.Is(err, cdc.ErrSlotBusy) || !strings.Contains(err.Error(), fmt.Sprint("PID ", s.slot().ActivePID)) {
			t.Errorf("Run = %v, want ErrSlotBusy with the PID", err)
		}
	})
	t.Run("deliver", func(t *testing.T) {
		s := newSource(t, devstack.Postgres(t), plainTable)
		s.setup()
		s.Exec(`INSERT INTO t VALUES (1, 'a')`)
		broken := errors.New("disk full")
		reader, err := cdc.NewReader(s.cfg, &registrar{}, testLog(t))
		if err != nil {
			t.Fatal(err)
		}
		err = reader.Run(t.Context(), cdc.Start{}, func(_ context.Context, d *cdc.Delivery) error {
			if len(d.Transactions) > 0 {
				return broken
			}
			return nil
		})
		if !errors.Is(err, broken) {
			t.Errorf("Run = %v, want deliver's error", err)
		}
	})
}

func TestReaderGoesOnAfterTheServerRestarts(t *testing.T) {
	server := devstack.PostgresServer(t, devstack.PostgresOptions{})
	s := newSource(t, server.Database(), plainTable)
	s.setup()
	st := s.follow(cdc.Start{})
	s.Exec(`INSERT INTO t VALUES (1, 'a')`)
	st.transactions(1)
	if err := server.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := server.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.Exec(`INSERT INTO t VALUES (2, 'b')`)
	expect(t, st.transactions(2), "[I t {1,a}]", "[I t {2,b}]")
	if err := server.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := server.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.Exec(`INSERT INTO t VALUES (3, 'c')`)
	expect(t, st.transactions(3), "[I t {1,a}]", "[I t {2,b}]", "[I t {3,c}]")
}

func TestReaderSendsPartitionsAsTheirRoot(t *testing.T) {
	s := newSource(t, devstack.Postgres(t), `
		CREATE TABLE m (id int, day date, v text, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
		CREATE TABLE m1 PARTITION OF m FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
		CREATE TABLE m2 PARTITION OF m FOR VALUES FROM ('2026-02-01') TO ('2026-03-01')`)
	s.setup()
	st := s.follow(cdc.Start{})
	s.Exec(`INSERT INTO m VALUES (1, '2026-01-05', 'a'), (2, '2026-02-05', 'b')`,
		`UPDATE m SET v = 'c' WHERE id = 1`,
		`UPDATE m SET day = '2026-02-06' WHERE id = 1`, // moves to the other partition
		`DELETE FROM m WHERE id = 2`, `TRUNCATE m`)
	expect(t, st.transactions(5),
		"[I m {1,2026-01-05,a} I m {2,2026-02-05,b}]",
		"[U m {1,2026-01-05,c}]",
		"[D m {1,2026-01-05,NULL}-> I m {1,2026-02-06,c}]",
		"[D m {2,2026-02-05,NULL}->]",
		"[T m]")
}

// Over TLS the stream is read through the same buffers, however the records are cut.
func TestReaderAndSessionOverTLS(t *testing.T) {
	server := devstack.PostgresServer(t, devstack.PostgresOptions{})
	s := newSource(t, server.Database(), plainTable)
	certificate, key := selfSigned(t)
	for name, text := range map[string]string{"server.crt": certificate, "server.key": key} {
		var path string
		if err := s.conn.QueryRow(t.Context(), `SELECT current_setting('data_directory') || '/' || $1`, name).Scan(&path); err != nil {
			t.Fatal(err)
		}
		lines := strings.Join(strings.Split(strings.TrimSpace(text), "\n"), "'), ('")
		s.Exec(`COPY (VALUES ('` + lines + `')) TO PROGRAM 'umask 077; cat > "` + path + `"'`)
	}
	s.Exec(`ALTER SYSTEM SET ssl = on`, `SELECT pg_reload_conf()`)
	u, err := url.Parse(s.cfg.URL)
	if err != nil {
		t.Fatal(err)
	}
	u.RawQuery = "sslmode=require"
	s.cfg.URL = u.String()
	devstack.Eventually(t, patience, func() error {
		_, err := cdc.Setup(t.Context(), s.cfg)
		return err
	})
	st := s.follow(cdc.Start{})
	s.Exec(`INSERT INTO t SELECT g, repeat(chr(65 + g % 26), g * 37 % 5000) FROM generate_series(1, 3000) g`,
		`INSERT INTO t VALUES (0, repeat('large', 400000))`)
	st.caughtUp(s.flushLSN())
	var encrypted bool
	err = s.conn.QueryRow(t.Context(), `SELECT ssl FROM pg_stat_ssl JOIN pg_replication_slots ON active_pid = pid WHERE slot_name = $1`, s.cfg.Slot).Scan(&encrypted)
	if err != nil || !encrypted {
		t.Errorf("encrypted: %v, %v", encrypted, err)
	}
	schema := s.catalog("t")[0]
	copied := copyAll(t, s.session(), schema, []cdc.Range{{}})
	n := 0
	for _, tx := range st.transactions(2) {
		for _, c := range tx.Changes {
			n++
			key, _ := schema.AppendKey(nil, c.After)
			if !bytes.Equal(copied[string(key)], c.After) {
				t.Fatalf("row %s differs from its copy", key)
			}
		}
	}
	if n != 3001 {
		t.Errorf("%d changes, want 3001", n)
	}
}

func selfSigned(t *testing.T) (certificate, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	encode := func(kind string, b []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b}))
	}
	return encode("CERTIFICATE", der), encode("PRIVATE KEY", keyDER)
}

// BenchmarkReader follows a backlog of 200,000 changes in transactions of ten, per operation.
func BenchmarkReader(b *testing.B) {
	s := newSource(b, devstack.Postgres(b), `CREATE TABLE t (id int, a text, b timestamptz, c numeric, d bool, PRIMARY KEY (id))`,
		`CREATE PROCEDURE fill() LANGUAGE plpgsql AS $$ BEGIN FOR i IN 1..20000 LOOP
			INSERT INTO t SELECT g, md5(g::text), now(), g / 7.0, true FROM generate_series(i * 10, i * 10 + 9) g; COMMIT; END LOOP; END $$`)
	s.setup()
	s.Exec(`CALL fill()`)
	for b.Loop() {
		ctx, stop := context.WithCancelCause(b.Context())
		n, deliveries := 0, 0
		reader, err := cdc.NewReader(s.cfg, &registrar{}, slog.New(slog.DiscardHandler))
		if err != nil {
			b.Fatal(err)
		}
		err = reader.Run(ctx, cdc.Start{}, func(_ context.Context, d *cdc.Delivery) error {
			deliveries++
			for _, tx := range d.Transactions {
				n += len(tx.Changes)
			}
			if n == 200_000 {
				stop(errStop)
			}
			return nil
		})
		if !errors.Is(err, errStop) {
			b.Fatal(err)
		}
		b.ReportMetric(float64(n)/float64(deliveries), "changes/delivery")
	}
	b.ReportMetric(200_000*float64(b.N)/b.Elapsed().Seconds(), "changes/s")
}

// BenchmarkReaderPosition is how long it takes to learn, on an idle database, that nothing is missing.
func BenchmarkReaderPosition(b *testing.B) {
	s := newSource(b, devstack.Postgres(b), plainTable, `CREATE TABLE elsewhere (id int)`)
	s.cfg.Tables = []string{"t"}
	s.setup()
	st := s.follow(cdc.Start{})
	for b.Loop() {
		b.StopTimer()
		if _, err := s.conn.Exec(b.Context(), `INSERT INTO elsewhere VALUES (1)`); err != nil {
			b.Fatal(err)
		}
		lsn := s.lsn(`SELECT pg_current_wal_flush_lsn()::text`)
		b.StartTimer()
		st.caughtUp(lsn)
	}
}
