package e2e

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/lanternist/lanternist/internal/devstack"
	"github.com/lanternist/lanternist/internal/faults"
)

// These tests show that joined documents are right although no table has REPLICA IDENTITY FULL: each change is made
// on a running daemon, and while the first load is under way, before and after the rows are copied.

func TestFaultUnchangedTOASTedColumn(t *testing.T) {
	faults.Cause(t, faults.Fault{
		ID: "toast-unchanged", Area: "Values", Fault: "An update does not send a large value that it did not change (TOAST), in a joined row, with its key changed, and while the first load is under way",
		Promise: "Unchanged is not null (I5): the mirror completes the row before it is journaled, without REPLICA IDENTITY FULL.",
		Answer:  "nothing: no setting of the source is needed",
	})
	joined(t, "", `UPDATE orders SET status = 'paid' WHERE id % 3 = 0`,
		`UPDATE items SET qty = qty + 1 WHERE line_no = 1`,
		`UPDATE customers SET name = name || '!' WHERE id < 4`,
		`UPDATE payments SET amount = amount + 1, order_id = order_id % 30 + 1 WHERE id % 2 = 0`,
		`UPDATE orders SET id = id + 1000 WHERE id = 7`,                                                   // with its key
		`UPDATE orders SET status = 'a' WHERE id = 8; UPDATE orders SET status = 'b' WHERE id = 8`,        // twice
		`UPDATE orders SET note = large('new') WHERE id = 9; UPDATE orders SET status = 'c' WHERE id = 9`, // after it changed
	)
}

func TestJoinedChildDeleted(t *testing.T) {
	joined(t, "", `DELETE FROM items WHERE line_no = 2 AND order_id < 20`,
		`DELETE FROM payments WHERE id % 3 = 0`,
		`DELETE FROM items WHERE order_id = 25`,
		`DELETE FROM orders WHERE id % 7 = 0`)
}

func TestFaultOldParentNotSent(t *testing.T) {
	faults.Cause(t, faults.Fault{
		ID: "before-image-missing", Area: "Values", Fault: "A row moves to another parent, and the source does not send what it was (no REPLICA IDENTITY FULL)",
		Promise: "The mirror knows where it was: the old parent document loses it and the new one gets it, in one step (I7).",
		Answer:  "nothing: no setting of the source is needed",
	})
	joined(t, "", `UPDATE payments SET order_id = 31 - order_id WHERE id % 2 = 0`, // the key stays: no old row is sent
		`UPDATE items SET order_id = order_id + 1, line_no = line_no + 100 WHERE line_no = 1 AND order_id < 30`,
		`UPDATE orders SET customer_id = 1 WHERE customer_id = 2`,
		`UPDATE payments SET order_id = 3 WHERE id = 1; UPDATE payments SET order_id = 4 WHERE id = 1; UPDATE payments SET order_id = NULL WHERE id = 2`)
}

func TestJoinedPrimaryKeyChanged(t *testing.T) {
	joined(t, "", `UPDATE orders SET id = id + 100 WHERE id <= 10`, // root: its children stay behind
		`UPDATE items SET order_id = order_id + 100 WHERE order_id <= 5`,
		`UPDATE items SET line_no = 9 - line_no WHERE order_id = 12 AND line_no = 3`,
		`UPDATE payments SET id = id + 1000 WHERE id % 4 = 0`,
		`UPDATE customers SET id = 60 WHERE id = 6`,
		`UPDATE products SET id = 120 WHERE id = 12`,
		// Two rows swap their keys, and a key is taken over in one transaction.
		`UPDATE orders SET id = -1 WHERE id = 20; UPDATE orders SET id = 20 WHERE id = 21; UPDATE orders SET id = 21 WHERE id = -1`,
		`DELETE FROM orders WHERE id = 22; UPDATE orders SET id = 22 WHERE id = 23`)
}

func TestJoinedLookupRowOf10000Documents(t *testing.T) {
	joined(t, `INSERT INTO orders SELECT i, 1, 'placed', '' FROM generate_series(1001, 11000) i`,
		`UPDATE customers SET name = 'Known to all' WHERE id = 1`)
}

func TestJoinedTruncateRoot(t *testing.T) {
	joined(t, "", `TRUNCATE orders`, `INSERT INTO orders SELECT i, 1 + i % 6, 'anew', large('anew' || i) FROM generate_series(5, 12) i`)
}

func TestJoinedTruncateChild(t *testing.T) {
	joined(t, "", `TRUNCATE items, serials`, `INSERT INTO items VALUES (3, 1, 4, 5, 6, ''), (4, 7, 1, 2, 3, large('x'))`,
		`BEGIN; INSERT INTO payments VALUES (900, 3, 1, ''); TRUNCATE payments; INSERT INTO payments VALUES (901, 3, 2, 'kept'); COMMIT`)
}

func TestJoinedListOrderChanged(t *testing.T) {
	joined(t, "", `UPDATE items SET place = 100 - place WHERE order_id % 2 = 0`,
		`UPDATE payments SET amount = 1000 - amount WHERE id < 30`,
		`UPDATE tags SET label = 'a' || label WHERE id > 3`)
}

func TestJoinedLookupRenamedAfterTheRowsThatPointToIt(t *testing.T) {
	joined(t, "", `BEGIN;
		INSERT INTO customers VALUES (50, 'First name', large('fifty'));
		INSERT INTO orders VALUES (500, 50, 'placed', large('500')), (501, 2, 'placed', '');
		INSERT INTO items VALUES (500, 1, 3, 1, 1, ''), (501, 1, 3, 2, 1, '');
		UPDATE orders SET customer_id = 50 WHERE id = 4;
		UPDATE products SET name = 'Renamed afterwards' WHERE id = 3;
		UPDATE customers SET name = 'Second name' WHERE id = 50;
		UPDATE customers SET name = 'Renamed too' WHERE id = 2;
		UPDATE categories SET name = 'And this' WHERE id = 4;
		COMMIT`)
}

func TestJoinedLinkTableChanged(t *testing.T) {
	joined(t, "", `DELETE FROM order_tags WHERE order_id < 10 AND tag_id = 1`,
		`INSERT INTO order_tags SELECT i, 6 FROM generate_series(1, 30) i ON CONFLICT DO NOTHING`,
		`UPDATE order_tags SET tag_id = 2 WHERE tag_id = 3 AND NOT EXISTS (SELECT FROM order_tags o WHERE o.order_id = order_tags.order_id AND o.tag_id = 2)`,
		`UPDATE order_tags SET order_id = order_id + 1000 WHERE order_id = 30`,
		`UPDATE tags SET label = 'renamed' WHERE id = 6`, `DELETE FROM tags WHERE id = 5`)
}

func TestJoinedGrandchildChanged(t *testing.T) {
	joined(t, "", `UPDATE serials SET code = code || 'x' WHERE id < 20`,
		`DELETE FROM serials WHERE id BETWEEN 20 AND 30`,
		`UPDATE serials SET order_id = order_id % 30 + 1 WHERE id BETWEEN 40 AND 50`, // to an item of another order
		`INSERT INTO serials SELECT i, 11, 2, 'new ' || i FROM generate_series(200, 205) i`,
		`UPDATE categories SET name = 'Renamed' WHERE id = 1`,
		`UPDATE products SET category_id = 2 WHERE category_id = 3`, `DELETE FROM categories WHERE id = 4`)
}

// joined makes the changes in each of the three situations. more is added to the rows that are there at the beginning.
func joined(t *testing.T, more string, changes ...string) {
	t.Parallel()
	t.Run("running", func(t *testing.T) {
		t.Parallel()
		in := installJoined(t, more, 0, nil)
		d := in.start()
		d.ready()
		d.reach()
		in.compare(joinedTruthOf)
		in.change(changes)
		d.finishJoined()
	})
	t.Run("load before copy", func(t *testing.T) {
		t.Parallel()
		all := append(slices.Clone(joinedTables), lastTable)
		whileLoading(t, more, changes, len(all), all)
	})
	t.Run("load after copy", func(t *testing.T) {
		t.Parallel()
		// One worker: the last table's turn comes when all others have been copied.
		whileLoading(t, more, changes, 1, []string{lastTable})
	})
}

// lastTable is the one whose load holds up the views after everything else that they need has been loaded.
const lastTable = "zz_last"

// whileLoading makes the changes after the snapshot of the first load was taken, while the COPY of the held tables
// waits. So the stream brings the changes to the daemon before their rows, or before the load ends.
func whileLoading(t *testing.T, more string, changes []string, workers int, held []string) {
	var g *gate
	in := installJoined(t, more, workers, func(database *devstack.Database) string {
		g = newGate(t, database, func(table string) bool { return slices.Contains(held, table) })
		return g.url(database)
	})
	d := in.start()
	g.waits(held...)
	before := in.change(changes)
	// The journal has the last of the changes, and so has the mirror; the load goes on.
	devstack.Eventually(t, reachWithin, func() error {
		d.alive()
		var s status
		if err := in.get("/v1/status", &s); err != nil {
			return err
		}
		if parseLSN(t, s.Journal.LSN) <= parseLSN(t, before) {
			return fmt.Errorf("the journal is at %s, the last change was committed after %s", s.Journal.LSN, before)
		}
		if s.Ready {
			t.Fatal("the views are ready although the load is held")
		}
		return nil
	})
	g.release()
	d.ready()
	d.finishJoined()
}

func joinedTruthOf(view string) string { return joinedTruth[view] }

func installJoined(t *testing.T, more string, workers int, source func(*devstack.Database) string) *installation {
	t.Helper()
	if testing.Short() {
		t.Skip("needs real services; run without -short")
	}
	database := devstack.Postgres(t)
	database.Exec(joinedSchema, more, `CREATE TABLE `+lastTable+` (id int PRIMARY KEY); INSERT INTO `+lastTable+` VALUES (1)`)
	o := options{database: database, views: joinedViews, workers: workers}
	for _, table := range append(slices.Clone(joinedTables), lastTable) {
		o.tables = append(o.tables, "public."+table)
	}
	if source != nil {
		o.source = source(database)
	}
	return install(t, o)
}

// change makes the changes, each in a transaction of its own, sees to it that they change what the documents must be,
// and returns a position before the end of the last one.
func (in *installation) change(changes []string) (before string) {
	in.t.Helper()
	ctx := in.t.Context()
	conn := in.database.Conn(ctx)
	defer conn.Close(ctx)
	fingerprint := func() (sum string) {
		for _, view := range in.views {
			var one string
			if err := conn.QueryRow(ctx, "SELECT coalesce(md5(string_agg(doc::text, '' ORDER BY id)), '') FROM ("+joinedTruth[view]+") AS t (id, doc)").Scan(&one); err != nil {
				in.t.Fatal(err)
			}
			sum += one
		}
		return sum
	}
	was := fingerprint()
	for _, sql := range changes {
		if err := conn.QueryRow(ctx, "SELECT pg_current_wal_insert_lsn()::text").Scan(&before); err != nil {
			in.t.Fatal(err)
		}
		sum := fingerprint()
		if _, err := conn.PgConn().Exec(ctx, sql).ReadAll(); err != nil {
			in.t.Fatalf("%s: %v", sql, err)
		}
		if fingerprint() == sum {
			in.t.Fatalf("this changes nothing: %s", sql)
		}
	}
	if fingerprint() == was {
		in.t.Fatal("the changes cancel each other out")
	}
	return before
}

// finishJoined compares everything, and sees to it that it was done without REPLICA IDENTITY FULL.
func (d *daemon) finishJoined() {
	in := d.in
	in.t.Helper()
	d.reach()
	in.t.Logf("%d documents compared", in.compare(joinedTruthOf))
	d.nothingParked()
	identities, err := replicaIdentities(in.t.Context(), in.database)
	if err != nil {
		in.t.Fatal(err)
	}
	if len(identities) != 1 || identities[0] != "d" {
		in.t.Errorf("the tables' replica identities are %v, want only d (default)", identities)
	}
	d.stop()
}

func replicaIdentities(ctx context.Context, database *devstack.Database) ([]string, error) {
	conn := database.Conn(ctx)
	defer conn.Close(ctx)
	rows, err := conn.Query(ctx, `SELECT DISTINCT relreplident::text FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace`)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}
