package cdc

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// A server that decodes a transaction remembers, for each table, whether the publication has it. Transactions that were open
// when a table was added decode with what was true when they began. Before the releases below nothing told the server to
// ask again after such a transaction, so that it went on not to send the table's changes, those of later transactions,
// too, until something else made it forget what it remembered.
var rememberedTooLong = map[int]int{13: 21, 14: 18, 15: 13, 16: 9, 17: 5} // the first minor version that does not, by major

// remembersTooLong says whether tables that were added to a publication have to be settled.
func remembersTooLong(version int) bool {
	minor, old := rememberedTooLong[version/10000]
	return old && version%10000 < minor || version < 130000
}

// settleWait is how often the server is asked whether the transactions awaited have ended.
const settleWait = 100 * time.Millisecond

// SettlePublication sees to it that the source sends every change of tables that have been added to the publication, of
// every transaction that begins after it has returned. On servers of newer releases that is so anyway. On others it waits
// for the transactions that are open now, for no longer than Config.CreateTimeout, and then has the server ask again what
// the publication has: transactions that are open at that time have all begun when it had the tables. It returns a
// PublicationError when that is not ours to do.
func SettlePublication(ctx context.Context, cfg Config) error {
	cfg = cfg.withDefaults()
	conn, err := Connect(ctx, cfg)
	if err != nil {
		return err
	}
	defer closeConn(conn.PgConn())
	version, err := serverVersion(conn.PgConn())
	if err != nil || !remembersTooLong(version) {
		return err
	}
	return settlePublication(ctx, conn, cfg)
}

func settlePublication(ctx context.Context, conn *pgx.Conn, cfg Config) error {
	p, err := readPublication(ctx, conn, cfg.Publication)
	if err != nil || p == nil {
		return err
	}
	if err := awaitTransactions(ctx, conn, cfg); err != nil {
		return fmt.Errorf("settle publication %s: %w", cfg.Publication, err)
	}
	// What is set is what is already so: a publication that does not send all operations is not captured.
	sql := fmt.Sprintf("ALTER PUBLICATION %s SET (publish = 'insert, update, delete, truncate')", quoteIdentifier(cfg.Publication))
	why, err := refusal(ctx, conn, cfg, p, nil)
	if err != nil {
		return err
	}
	if why != "" {
		done, err := settledByOwner(ctx, conn, p)
		if err != nil || done {
			return err
		}
		return &PublicationError{Publication: cfg.Publication, Why: why, SQL: []string{sql}}
	}
	if _, err := conn.Exec(ctx, sql); err != nil {
		return fmt.Errorf("settle publication %s: %s: %w", cfg.Publication, sql, err)
	}
	return nil
}

// awaitTransactions waits for the end of all transactions that are open now and have written something.
func awaitTransactions(ctx context.Context, conn *pgx.Conn, cfg Config) error {
	var until, oldest uint64
	if err := conn.QueryRow(ctx, `SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint`).Scan(&until); err != nil {
		return fmt.Errorf("read transactions: %w", err)
	}
	end := time.Now().Add(cfg.CreateTimeout)
	for {
		if err := conn.QueryRow(ctx, `SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint`).Scan(&oldest); err != nil {
			return fmt.Errorf("read transactions: %w", err)
		}
		switch {
		case oldest >= until:
			return nil
		case time.Now().After(end):
			return fmt.Errorf("not done within %s: %w", cfg.CreateTimeout, openNow(ctx, conn))
		}
		select {
		case <-time.After(settleWait):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// settledByOwner says whether the publication itself was written after its tables were added.
func settledByOwner(ctx context.Context, conn *pgx.Conn, p *publication) (done bool, err error) {
	err = conn.QueryRow(ctx, `SELECT coalesce(age(p.xmin) < (SELECT min(age(r.xmin)) FROM pg_publication_rel r WHERE r.prpubid = p.oid), true)
		FROM pg_publication p WHERE p.oid = $1`, p.oid).Scan(&done)
	if err != nil {
		return false, fmt.Errorf("read publication: %w", err)
	}
	return done, nil
}

// openNow is an error that names the transactions that have written something and are open.
func openNow(ctx context.Context, conn *pgx.Conn) error {
	var who string
	err := conn.QueryRow(ctx, `
		SELECT coalesce(string_agg('pid ' || pid || ' (' || concat_ws(', ', usename, nullif(application_name, ''), state,
		                           'transaction open for ' || date_trunc('second', now() - xact_start)) || ')', '; ' ORDER BY xact_start),
		                'a prepared transaction (see pg_prepared_xacts)')
		  FROM pg_stat_activity WHERE backend_xid IS NOT NULL AND pid <> pg_backend_pid()`).Scan(&who)
	if err != nil {
		return fmt.Errorf("it waits for open transactions; who has them is not known: %w", err)
	}
	return fmt.Errorf("it waits for open transactions: %s; end them, with pg_terminate_backend(pid) if need be", who)
}
