package cdc

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
)

// PublicationPlan is what a publication needs so that tables can be added to the capture or removed from it.
type PublicationPlan struct {
	Publication string
	Add         []string // qualified names of tables that it does not publish yet
	Drop        []string // qualified names of tables that it need not publish any more
	SQL         []string // statements, without a semicolon, in order; none when it is as it should be

	// Refused says why ApplyPublication may not do it: Config.CreatePublication is false, or the role does not own what
	// it takes. Empty when it may.
	Refused string
}

// PublicationError says that the publication has to be changed, and that this is left to its owner.
type PublicationError struct {
	Publication string
	Why         string
	SQL         []string
}

// Error names the statements to be run.
func (e *PublicationError) Error() string {
	return fmt.Sprintf("publication %s is to be changed, and %s; let its owner run: %s;", e.Publication, e.Why, strings.Join(e.SQL, "; "))
}

// PlanPublication says what the publication of cfg lacks so that add is published, and which tables of remove it
// publishes by their name, unless cfg.Tables still means them. A publication of all tables, or of whole schemas, is not
// changed for what it has anyway, and tables that remove does not name are left alone. Names are those of Config.Tables.
// One in add must exist; the others need not, any more. It changes nothing.
func PlanPublication(ctx context.Context, cfg Config, add, remove []string) (*PublicationPlan, error) {
	cfg = cfg.withDefaults()
	conn, err := Connect(ctx, cfg)
	if err != nil {
		return nil, err
	}
	defer closeConn(conn.PgConn())
	return planPublication(ctx, conn, cfg, add, remove)
}

func planPublication(ctx context.Context, conn *pgx.Conn, cfg Config, add, remove []string) (*PublicationPlan, error) {
	adding, err := parseTables(add)
	if err != nil {
		return nil, err
	}
	removing, err := parseTables(remove)
	if err != nil {
		return nil, err
	}
	keeping, err := parseTables(slices.Concat(cfg.Tables, add))
	if err != nil {
		return nil, err
	}
	relations, err := listRelations(ctx, conn)
	if err != nil {
		return nil, err
	}
	wanted, err := relations.find(adding)
	if err != nil {
		return nil, err
	}
	p, err := readPublication(ctx, conn, cfg.Publication)
	if err != nil {
		return nil, err
	}
	plan := &PublicationPlan{Publication: cfg.Publication}
	var missing, leaving catalogRelations
	for _, r := range wanted {
		if p == nil || !slices.Contains(p.tables, r.oid) {
			missing = append(missing, r)
			plan.Add = append(plan.Add, r.name.String())
		}
	}
	if p != nil {
		if leaving, err = namedTables(ctx, conn, p, relations.present(removing), relations.present(keeping)); err != nil {
			return nil, err
		}
	}
	for _, r := range leaving {
		plan.Drop = append(plan.Drop, r.name.String())
	}
	if len(missing) > 0 {
		plan.SQL = append(plan.SQL, publicationSQL(cfg.Publication, p, missing))
	}
	if len(leaving) > 0 {
		plan.SQL = append(plan.SQL, fmt.Sprintf("ALTER PUBLICATION %s DROP TABLE %s", quoteIdentifier(cfg.Publication), tableList(leaving)))
	}
	if len(plan.SQL) > 0 {
		plan.Refused, err = refusal(ctx, conn, cfg, p, oidsOf(missing))
	}
	return plan, err
}

// present are the relations that names mean, as far as there are any.
func (all catalogRelations) present(names []tableName) (found catalogRelations) {
	for _, name := range names {
		these, err := all.find([]tableName{name})
		if err != nil {
			continue // dropped from the database, it has left every publication by itself
		}
		for _, r := range these {
			if !slices.Contains(found, r) {
				found = append(found, r)
			}
		}
	}
	return found
}

// namedTables are the tables of remove, but not of keep, that the publication lists by name.
func namedTables(ctx context.Context, conn *pgx.Conn, p *publication, remove, keep catalogRelations) (named catalogRelations, err error) {
	rows, err := conn.Query(ctx, `SELECT prrelid FROM pg_publication_rel WHERE prpubid = $1`, p.oid)
	if err != nil {
		return nil, fmt.Errorf("read publication: %w", err)
	}
	listed, err := pgx.CollectRows(rows, pgx.RowTo[uint32])
	if err != nil {
		return nil, fmt.Errorf("read publication: %w", err)
	}
	for _, r := range remove {
		if slices.Contains(listed, r.oid) && !slices.Contains(keep, r) {
			named = append(named, r)
		}
	}
	return named, nil
}

// refusal says why the publication, nil when there is none, may not be changed to have the tables as well; "" when it may.
func refusal(ctx context.Context, conn *pgx.Conn, cfg Config, p *publication, adding []uint32) (string, error) {
	if !cfg.CreatePublication {
		return "source.create is false", nil
	}
	if p != nil && !p.ownedByUs {
		return fmt.Sprintf("it belongs to role %q", p.owner), nil
	}
	rows, err := conn.Query(ctx, `SELECT c.oid::regclass::text || ' belongs to role "' || pg_get_userbyid(c.relowner) || '"'
		FROM pg_class c WHERE c.oid = ANY($1::oid[]) AND NOT pg_has_role(c.relowner, 'USAGE') ORDER BY 1`, adding)
	if err != nil {
		return "", fmt.Errorf("read rights: %w", err)
	}
	others, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return "", fmt.Errorf("read rights: %w", err)
	}
	return strings.Join(others, ", "), nil
}

// ApplyPublication carries a plan out: all of it or, on error, nothing. It returns a PublicationError when that is not
// ours to do. It waits for no transaction that writes to the tables, and none waits for it.
func ApplyPublication(ctx context.Context, cfg Config, plan *PublicationPlan) error {
	if len(plan.SQL) == 0 {
		return nil
	}
	if plan.Refused != "" {
		return &PublicationError{Publication: plan.Publication, Why: plan.Refused, SQL: plan.SQL}
	}
	conn, err := Connect(ctx, cfg.withDefaults())
	if err != nil {
		return err
	}
	defer closeConn(conn.PgConn())
	tx, err := conn.Begin(ctx)
	if err != nil {
		return fmt.Errorf("change publication %s: %w", plan.Publication, err)
	}
	for _, sql := range append([]string{
		fmt.Sprintf("SET LOCAL lock_timeout = %d", lockTimeout.Milliseconds()),
		"SET LOCAL synchronous_commit = on", // FlushLSN is behind it then
	}, plan.SQL...) {
		if _, err := tx.Exec(ctx, sql); err != nil {
			return fmt.Errorf("change publication %s: %w", plan.Publication, errors.Join(fmt.Errorf("%s: %w", sql, err), tx.Rollback(ctx)))
		}
	}
	if err := tx.Commit(ctx); err != nil {
		return fmt.Errorf("change publication %s: %w", plan.Publication, err)
	}
	return nil
}

// FlushLSN is how far the source's log is durable: everything that was committed durably before the call is before it.
func FlushLSN(ctx context.Context, cfg Config) (lsn pglogrepl.LSN, err error) {
	conn, err := Connect(ctx, cfg.withDefaults())
	if err != nil {
		return 0, err
	}
	defer closeConn(conn.PgConn())
	if err := conn.QueryRow(ctx, `SELECT pg_current_wal_flush_lsn()::text`).Scan(&lsn); err != nil {
		return 0, fmt.Errorf("read the end of the log: %w", err)
	}
	return lsn, nil
}
