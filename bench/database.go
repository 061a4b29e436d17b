package main

import (
	"context"
	"fmt"
	"net/url"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
)

const (
	table       = "public.bench_items"
	publication = "bench"
)

// backlogCycle is the length of the backlog's pattern: of 20 changes 16 are updates, 3 inserts and 1 a delete. A
// transaction has half of it.
const backlogCycle = 20

const createTable = `
CREATE TABLE bench_items (
	id          bigint PRIMARY KEY,
	customer_id bigint NOT NULL,
	status      text NOT NULL,
	amount      numeric(12,2) NOT NULL,
	note        text NOT NULL,
	updated_at  timestamptz NOT NULL
);
CREATE FUNCTION bench_note(n bigint) RETURNS text LANGUAGE sql IMMUTABLE AS $$
	SELECT format('Parcel %s for the house at number %s; ring twice, or leave it with the neighbours', n, n % 997)
$$;
CREATE FUNCTION bench_status(n bigint) RETURNS text LANGUAGE sql IMMUTABLE AS $$
	SELECT (ARRAY['new', 'paid', 'packed', 'shipped', 'delivered', 'returned'])[1 + n % 6]
$$;
CREATE PUBLICATION bench FOR TABLE bench_items WITH (publish_via_partition_root = true);
`

const fillTable = `
INSERT INTO bench_items
SELECT n, n % 5000 + 1, bench_status(n), n % 100000 / 100.0, bench_note(n), timestamptz '2026-01-01 00:00:00Z' + n * interval '1 second'
  FROM generate_series(1, $1::bigint) AS n`

// createBacklog makes the changes on the server, which is many times faster than one statement at a time. Updates go
// through the first rows by a stride, so that neighbours in the log are not neighbours in the table, and come back to a
// row only after all others; the last rows are there to be deleted.
const createBacklog = `
CREATE PROCEDURE bench_backlog(changes bigint, updatable bigint, stride bigint, rows bigint) LANGUAGE plpgsql AS $$
DECLARE
	updated bigint := 0; inserted bigint := 0; deleted bigint := 0; key bigint;
BEGIN
	FOR n IN 0 .. changes - 1 LOOP
		IF n % 20 = 19 THEN
			deleted := deleted + 1;
			DELETE FROM bench_items WHERE id = updatable + deleted;
		ELSIF n % 20 >= 16 THEN
			inserted := inserted + 1;
			key := rows + inserted;
			INSERT INTO bench_items VALUES (key, key % 5000 + 1, 'new', key % 100000 / 100.0, bench_note(key), timestamptz '2026-02-01 00:00:00Z' + n * interval '1 millisecond');
		ELSE
			key := 1 + updated * stride % updatable;
			updated := updated + 1;
			UPDATE bench_items SET status = bench_status(key + n), amount = amount + 0.25, note = bench_note(key + n),
			       updated_at = timestamptz '2026-02-01 00:00:00Z' + n * interval '1 millisecond' WHERE id = key;
		END IF;
		IF n % 10 = 9 THEN COMMIT; END IF;
	END LOOP;
END $$`

// database is one run's database.
type database struct {
	server string // URL of the server's own database
	name   string
	url    string
}

// createDatabase makes a database with the filled table and its publication.
func createDatabase(ctx context.Context, server, name string, o options) (*database, error) {
	u, err := url.Parse(server)
	if err != nil {
		return nil, fmt.Errorf("url of Postgres: %w", err)
	}
	u.Path = "/" + name
	d := &database{server: server, name: name, url: u.String()}
	if err := execAll(ctx, server, "CREATE DATABASE "+name); err != nil {
		return nil, fmt.Errorf("create database: %w", err)
	}
	conn, err := pgx.Connect(ctx, d.url)
	if err != nil {
		return nil, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	for _, sql := range []string{createTable, createBacklog} {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return nil, fmt.Errorf("create table: %w", err)
		}
	}
	if _, err := conn.Exec(ctx, fillTable, o.rows); err != nil {
		return nil, fmt.Errorf("fill table: %w", err)
	}
	if _, err := conn.Exec(ctx, "VACUUM (FREEZE, ANALYZE) bench_items"); err != nil {
		return nil, fmt.Errorf("vacuum table: %w", err)
	}
	return d, nil
}

// backlog is what has been committed since the slots were made.
type backlog struct {
	// changes is how many single-row changes there are.
	changes int
	// mark is after all of the backlog's transactions but one. A reader's position only gets there when it has applied
	// all of them, and the last one is there so that it gets there without asking.
	mark pglogrepl.LSN
}

// makeBacklog commits the changes. Nothing reads meanwhile. They are on disk when it returns.
func (d *database) makeBacklog(ctx context.Context, o options) (b backlog, err error) {
	conn, err := pgx.Connect(ctx, d.url)
	if err != nil {
		return b, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	updatable := o.rows - o.changes/backlogCycle
	call := fmt.Sprintf("CALL bench_backlog(%d, %d, %d, %d)", o.changes, updatable, strideFor(updatable), o.rows)
	for _, sql := range []string{"SET synchronous_commit = off", call, "SET synchronous_commit = on"} {
		if _, err := conn.Exec(ctx, sql, pgx.QueryExecModeSimpleProtocol); err != nil {
			return b, fmt.Errorf("make backlog: %w", err)
		}
	}
	var mark string
	if err := conn.QueryRow(ctx, "SELECT pg_current_wal_insert_lsn()::text").Scan(&mark); err != nil {
		return b, fmt.Errorf("make backlog: %w", err)
	}
	if b.mark, err = pglogrepl.ParseLSN(mark); err != nil {
		return b, fmt.Errorf("make backlog: %w", err)
	}
	if _, err := conn.Exec(ctx, "UPDATE bench_items SET status = 'last' WHERE id = $1", lastKey); err != nil {
		return b, fmt.Errorf("make backlog: %w", err)
	}
	if _, err := conn.Exec(ctx, "CHECKPOINT"); err != nil {
		return b, fmt.Errorf("make backlog: %w", err)
	}
	b.changes = o.changes + 1
	return b, nil
}

// lastKey is the row that the backlog's last transaction changes.
const lastKey = 1

// strideFor is a step that visits each of n numbers once before it comes back to the first.
func strideFor(n int) int {
	stride := min(48_271, max(1, n-1))
	for gcd(stride, n) != 1 {
		stride--
	}
	return stride
}

func gcd(a, b int) int {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

// drop removes the database with its slots.
func (d *database) drop(ctx context.Context) error {
	err := execAll(ctx, d.server,
		fmt.Sprintf("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = '%s' AND NOT active", d.name),
		fmt.Sprintf("DROP DATABASE %s WITH (FORCE)", d.name))
	if err != nil {
		return fmt.Errorf("drop database %s: %w", d.name, err)
	}
	return nil
}

// execAll runs statements on a connection of their own.
func execAll(ctx context.Context, url string, statements ...string) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	for _, sql := range statements {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return err
		}
	}
	return nil
}
