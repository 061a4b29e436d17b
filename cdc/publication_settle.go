package cdc

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// A server that decodes a transaction remembers, for each table, whether the publication has it, and which publications the
// catalog said it is in. A transaction that was open when the table was added is decoded with the catalog as it was when it
// began. Before the releases below nothing told the server to look again after such a transaction, so that it went on
// not to send the table's changes, those of later transactions, too, until the table's entry in the publication changed.
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
// for the transactions that are open now, for no longer than Config.CreateTimeout, and then adds the tables once more, in
// one step with taking them out: transactions that are open at that time have all begun when the publication had them. It
// returns a PublicationError when that is not ours to do, and was not done by someone else.
func SettlePublication(ctx context.Context, cfg Config, tables []string) error {
	cfg = cfg.withDefaults()
	names, err := parseTables(tables)
	if err != nil {
		return err
	}
	conn, err := Connect(ctx, cfg)
	if err != nil {
		return err
	}
	defer closeConn(conn.PgConn())
	version, err := serverVersion(conn.PgConn())
	if err != nil || !remembersTooLong(version) {
		return err
	}
	if err := settlePublication(ctx, conn, cfg, names); err != nil {
		return fmt.Errorf("settle publication %s: %w", cfg.Publication, err)
	}
	return nil
}

func settlePublication(ctx context.Context, conn *pgx.Conn, cfg Config, names []tableName) error {
	p, err := readPublication(ctx, conn, cfg.Publication)
	if err != nil || p == nil {
		return err
	}
	relations, err := listRelations(ctx, conn)
	if err != nil {
		return err
	}
	entries, err := publicationEntries(ctx, conn, p, relations.present(names))
	if err != nil || len(entries) == 0 { // all tables, or whole schemas: it never was without them
		return err
	}
	if err := awaitTransactions(ctx, conn, cfg); err != nil {
		return err
	}
	name, oids := quoteIdentifier(cfg.Publication), make([]uint32, len(entries))
	var taken, given []string
	for i, e := range entries {
		oids[i] = e.oid
		taken, given = append(taken, e.onlySQL()), append(given, e.onlySQL()+e.columns)
	}
	plan := &PublicationPlan{Publication: cfg.Publication, SQL: []string{
		fmt.Sprintf("ALTER PUBLICATION %s DROP TABLE %s", name, strings.Join(taken, ", ")),
		fmt.Sprintf("ALTER PUBLICATION %s ADD TABLE %s", name, strings.Join(given, ", ")),
	}}
	if plan.Refused, err = refusal(ctx, conn, cfg, p, oids); err != nil {
		return err
	}
	if plan.Refused != "" {
		if done, err := settledByOwner(ctx, conn, p, oids); err != nil || done {
			return err
		}
		// The last statement changes nothing: settledByOwner goes by it.
		plan.SQL = append(plan.SQL, fmt.Sprintf("ALTER PUBLICATION %s SET (publish = 'insert, update, delete, truncate')", name))
	}
	return ApplyPublication(ctx, cfg, plan)
}

// publicationEntry is a table that a publication lists.
type publicationEntry struct {
	catalogRelation
	columns string // in parentheses, or "" for all
}

// publicationEntries are those of the tables that the publication lists by name.
func publicationEntries(ctx context.Context, conn *pgx.Conn, p *publication, tables catalogRelations) (entries []publicationEntry, err error) {
	version, err := serverVersion(conn.PgConn())
	if err != nil {
		return nil, err
	}
	columns := `''`
	if version >= 150000 {
		columns = `coalesce((SELECT ' (' || string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum) || ')' FROM pg_attribute a
		                      WHERE a.attrelid = r.prrelid AND a.attnum = ANY(r.prattrs::int2[])), '')`
	}
	rows, err := conn.Query(ctx, `SELECT r.prrelid, `+columns+` FROM pg_publication_rel r WHERE r.prpubid = $1 AND r.prrelid = ANY($2::oid[])`, p.oid, oidsOf(tables))
	if err != nil {
		return nil, fmt.Errorf("read publication: %w", err)
	}
	var oid uint32
	var list string
	_, err = pgx.ForEachRow(rows, []any{&oid, &list}, func() error {
		i := slices.IndexFunc(tables, func(r catalogRelation) bool { return r.oid == oid })
		entries = append(entries, publicationEntry{tables[i], list})
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read publication: %w", err)
	}
	return entries, nil
}

// settledByOwner says whether the publication itself was written after the tables were added.
func settledByOwner(ctx context.Context, conn *pgx.Conn, p *publication, tables []uint32) (done bool, err error) {
	err = conn.QueryRow(ctx, `SELECT coalesce(age(p.xmin) <= (SELECT min(age(r.xmin)) FROM pg_publication_rel r WHERE r.prpubid = p.oid AND r.prrelid = ANY($2::oid[])), true)
		FROM pg_publication p WHERE p.oid = $1`, p.oid, tables).Scan(&done)
	if err != nil {
		return false, fmt.Errorf("read publication: %w", err)
	}
	return done, nil
}

// awaitTransactions waits for the end of all transactions that are open now and have written something.
func awaitTransactions(ctx context.Context, conn *pgx.Conn, cfg Config) error {
	var until, oldest uint64
	// A number of our own is above all that were given before; the end of a snapshot is not.
	if err := conn.QueryRow(ctx, `SELECT pg_current_xact_id()::text::bigint`).Scan(&until); err != nil {
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
