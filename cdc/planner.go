package cdc

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/lanternist/lanternist/row"
)

// Planner finds out how tables are to be copied: what they are, about how large, and which ranges divide them. It looks at
// them as they are at the moment, under no snapshot, because that may take long: all that comes of it is either a guess or
// looked at again by Session.Copy. One goroutine uses it.
type Planner struct {
	cfg  Config
	conn *pgx.Conn
}

// OpenPlanner connects to the source. The planner must be closed.
func OpenPlanner(ctx context.Context, cfg Config) (*Planner, error) {
	cfg = cfg.withDefaults()
	conn, err := Connect(ctx, cfg)
	if err != nil {
		return nil, err
	}
	return &Planner{cfg: cfg, conn: conn}, nil
}

// Close ends the connection.
func (p *Planner) Close() { closeConn(p.conn.PgConn()) }

// in runs f in a transaction of its own, which waits for a lock no longer than lockTimeout.
func (p *Planner) in(ctx context.Context, f func(*pgx.Conn) error) error {
	_, err := p.conn.PgConn().Exec(ctx, fmt.Sprintf("BEGIN READ ONLY; SET LOCAL lock_timeout = %d", lockTimeout.Milliseconds())).ReadAll()
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	err = f(p.conn)
	end := "COMMIT"
	if err != nil {
		end = "ROLLBACK"
	}
	// When the connection is lost f has said so, or the next call will.
	if _, ended := p.conn.PgConn().Exec(ctx, end).ReadAll(); ended != nil && err == nil {
		err = fmt.Errorf("commit: %w", ended)
	}
	return err
}

// Definition describes the table, found by the OID of schema, as it is now: like LoadPublished, and not registered yet.
func (p *Planner) Definition(ctx context.Context, schema *row.Schema) (now *row.Schema, err error) {
	err = p.in(ctx, func(conn *pgx.Conn) error {
		definitions, err := loadDefinitions(ctx, conn, p.cfg.Publication, []uint32{schema.OID})
		if err != nil {
			return err
		}
		if now = definitions[schema.OID]; now == nil {
			return fmt.Errorf("describe %s: %w", schema.QualifiedName(), pgx.ErrNoRows)
		}
		return nil
	})
	return now, err
}

// EstimateRows is the server's estimate of how many rows the table has.
func (p *Planner) EstimateRows(ctx context.Context, schema *row.Schema) (rows int64, err error) {
	err = p.in(ctx, func(conn *pgx.Conn) error {
		table, err := findTable(ctx, conn, schema)
		if err != nil {
			return err
		}
		rows, err = estimateRows(ctx, conn, table)
		return err
	})
	return rows, err
}

// findTable is the table for a FROM clause. It is found by OID, under the name that it has now: statements resolve
// names as they are now, whatever the snapshot.
func findTable(ctx context.Context, conn *pgx.Conn, schema *row.Schema) (string, error) {
	var name, kind string
	err := conn.QueryRow(ctx, `SELECT oid::regclass::text, relkind::text FROM pg_class WHERE oid = $1`, schema.OID).Scan(&name, &kind)
	if err != nil {
		return "", fmt.Errorf("find table %s: %w", schema.QualifiedName(), err)
	}
	if kind == "p" {
		return name, nil
	}
	return "ONLY " + name, nil
}

func estimateRows(ctx context.Context, conn *pgx.Conn, table string) (int64, error) {
	var text string
	if err := conn.QueryRow(ctx, "EXPLAIN (FORMAT JSON) SELECT FROM "+table).Scan(&text); err != nil {
		return 0, fmt.Errorf("estimate rows of %s: %w", table, err)
	}
	var plans []struct {
		Plan struct {
			Rows float64 `json:"Plan Rows"`
		}
	}
	if err := json.Unmarshal([]byte(text), &plans); err != nil || len(plans) == 0 {
		return 0, fmt.Errorf("estimate rows of %s: plan %q: %w", table, text, err)
	}
	return int64(plans[0].Plan.Rows), nil
}
