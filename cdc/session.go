package cdc

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/lanternist/lanternist/row"
)

// ErrSnapshotGone says that a Session's snapshot cannot be read any more, because the connection that holds it
// was lost. A new Session goes on.
var ErrSnapshotGone = errors.New("exported snapshot is gone")

// ErrRewritten says that a table was truncated or rewritten (ALTER TABLE) after the snapshot, which then shows it
// empty. A new Session goes on.
var ErrRewritten = errors.New("table was rewritten after the snapshot")

// ErrRedefined says that in the snapshot the table does not have the columns of the schema that it was to be copied by: it was
// altered between the two. What it is now must be found out anew.
var ErrRedefined = errors.New("table has other columns in the snapshot")

// lockTimeout bounds the wait for a table that another transaction has locked exclusively, so that the snapshot is not
// held for as long as that lasts.
const lockTimeout = 10 * time.Second

// Session is a view of the database at one point of its log: a transaction is in it exactly when its CommitLSN
// is before ConsistentPoint. It holds a temporary slot and a snapshot, so it keeps the server from removing log
// and old row versions while it is open: renew it every few minutes rather than hold it for hours.
// Its methods may be called concurrently; each Copy under way has a connection of its own. A table is locked, against
// DROP, TRUNCATE and ALTER only, while a call that reads it is under way, and not in between: statements that wait for
// such a lock hold up everybody behind them.
type Session struct {
	cfg      Config
	keeper   *pgconn.PgConn // holds slot and snapshot; ends both when it is closed, or used again
	point    pglogrepl.LSN
	snapshot string

	mu     sync.Mutex
	idle   []*pgx.Conn            // connections that no one uses now; in no transaction
	used   map[*pgx.Conn]struct{} // by a call that is under way
	closed bool
}

// OpenSession takes a snapshot. It waits, no longer than Config.CreateTimeout, for the transactions that are
// open when it begins.
func OpenSession(ctx context.Context, cfg Config) (*Session, error) {
	cfg = cfg.withDefaults()
	conn, _, err := connectReplication(ctx, cfg)
	if err != nil {
		return nil, err
	}
	var random [6]byte
	if _, err := rand.Read(random[:]); err != nil {
		closeConn(conn)
		return nil, fmt.Errorf("name a temporary slot: %w", err)
	}
	slot, err := createSlot(ctx, cfg, conn, "lanternist_snapshot_"+hex.EncodeToString(random[:]), pglogrepl.CreateReplicationSlotOptions{
		Temporary: true, Mode: pglogrepl.LogicalReplication, SnapshotAction: "EXPORT_SNAPSHOT",
	})
	if err != nil {
		closeConn(conn)
		return nil, err
	}
	return &Session{cfg: cfg, keeper: conn, point: slot.point, snapshot: slot.snapshot, used: map[*pgx.Conn]struct{}{}}, nil
}

// ConsistentPoint is where in the log the snapshot is.
func (s *Session) ConsistentPoint() pglogrepl.LSN { return s.point }

// Close ends the snapshot, after which Copy fails; a Copy under way may go on.
func (s *Session) Close() error {
	s.mu.Lock()
	idle := s.idle
	s.idle, s.closed = nil, true
	s.mu.Unlock()
	for _, conn := range idle {
		closeConn(conn.PgConn())
	}
	closeConn(s.keeper)
	return nil
}

// Abort is Close, and ends each Copy under way as well, with an error: also one whose rows are not being taken, of which
// the server would otherwise keep the snapshot until they are.
func (s *Session) Abort() error {
	s.mu.Lock()
	for conn := range s.used {
		_ = conn.PgConn().Conn().Close() // under the call's hands, which will notice
	}
	s.mu.Unlock()
	return s.Close()
}

// in runs f in a transaction of its own in the snapshot. After an error the connection is not used again.
func (s *Session) in(ctx context.Context, f func(*pgx.Conn) error) error {
	conn, err := s.acquire(ctx)
	if err != nil {
		return err
	}
	err = s.begin(ctx, conn)
	if err == nil {
		err = f(conn)
	}
	if err == nil {
		if _, err = conn.PgConn().Exec(ctx, "COMMIT").ReadAll(); err != nil {
			err = fmt.Errorf("leave snapshot %s: %w", s.snapshot, err)
		}
	}
	s.mu.Lock()
	delete(s.used, conn)
	keep := err == nil && !s.closed
	if keep {
		s.idle = append(s.idle, conn)
	}
	s.mu.Unlock()
	if !keep {
		closeConn(conn.PgConn())
	}
	return err
}

// errClosed is what a call gets that comes after the end.
var errClosed = fmt.Errorf("session is closed: %w", ErrSnapshotGone)

func (s *Session) acquire(ctx context.Context) (*pgx.Conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, errClosed
	}
	if n := len(s.idle); n > 0 {
		conn := s.idle[n-1]
		s.idle, s.used[conn] = s.idle[:n-1], struct{}{}
		return conn, nil
	}
	s.mu.Unlock()
	conn, err := Connect(ctx, s.cfg)
	s.mu.Lock()
	if err == nil && s.closed {
		closeConn(conn.PgConn())
		return nil, errClosed
	}
	if err == nil {
		s.used[conn] = struct{}{}
	}
	return conn, err
}

// begin begins a transaction in the snapshot.
func (s *Session) begin(ctx context.Context, conn *pgx.Conn) error {
	_, err := conn.PgConn().Exec(ctx, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT "+quoteLiteral(s.snapshot)+
		fmt.Sprintf("; SET LOCAL lock_timeout = %d", lockTimeout.Milliseconds())).ReadAll()
	if err == nil {
		return nil
	}
	var refusal *pgconn.PgError
	if errors.As(err, &refusal) && (refusal.Code == "22023" || refusal.Code == "42704" || refusal.Code == "55000") {
		return fmt.Errorf("import snapshot %s: %w: %w", s.snapshot, ErrSnapshotGone, err)
	}
	return fmt.Errorf("import snapshot %s: %w", s.snapshot, err)
}

// Copy reads the rows of a range and hands them to rows in batches of about 512 KiB, in no particular order. A
// batch is valid only during the call. Values have the schema's columns and the stream's text form. An error of
// rows ends the copy and is returned. With ErrRewritten, the rows handed over were right, but some may be missing.
func (s *Session) Copy(ctx context.Context, schema *row.Schema, rng Range, rows func([]row.Row) error) error {
	where, err := rng.where(schema)
	if err != nil {
		return err
	}
	return s.copy(ctx, schema, where, rows)
}

// CopyKeys is Copy of the rows with some keys, of which each is the text of the key's columns.
func (s *Session) CopyKeys(ctx context.Context, schema *row.Schema, keys [][]string, rows func([]row.Row) error) error {
	if len(keys) == 0 {
		return nil
	}
	var tuples []string
	for _, key := range keys {
		literals, err := keyLiterals(schema, key)
		if err != nil {
			return err
		}
		tuples = append(tuples, "("+strings.Join(literals, ", ")+")")
	}
	return s.copy(ctx, schema, fmt.Sprintf(" WHERE (%s) IN (%s)", quotedColumns(schema, schema.Key), strings.Join(tuples, ", ")), rows)
}

func (s *Session) copy(ctx context.Context, schema *row.Schema, where string, rows func([]row.Row) error) error {
	return s.in(ctx, func(conn *pgx.Conn) error {
		table, err := findTable(ctx, conn, schema)
		if err != nil {
			return err
		}
		if err := defined(ctx, conn, schema); err != nil {
			return err
		}
		all := make([]int, len(schema.Columns))
		for i := range all {
			all[i] = i
		}
		sql := fmt.Sprintf("COPY (SELECT %s FROM %s%s) TO STDOUT", quotedColumns(schema, all), table, where)
		parser := newCopyParser(len(schema.Columns), rows)
		if _, err := conn.PgConn().CopyTo(ctx, parser, sql); err != nil {
			return fmt.Errorf("copy %s%s: %w", schema.QualifiedName(), where, err)
		}
		if err := parser.finish(); err != nil {
			return fmt.Errorf("copy %s%s: %w", schema.QualifiedName(), where, err)
		}
		if err := intact(ctx, conn, schema); err != nil {
			return fmt.Errorf("copy %s%s: %w", schema.QualifiedName(), where, err)
		}
		return nil
	})
}

// defined sees to it that the table has the schema's columns in the snapshot.
func defined(ctx context.Context, conn *pgx.Conn, schema *row.Schema) error {
	rows, err := conn.Query(ctx, `SELECT attname::text, atttypid FROM pg_attribute WHERE attrelid = $1 AND attnum > 0 AND NOT attisdropped`, schema.OID)
	if err != nil {
		return fmt.Errorf("read columns of %s: %w", schema.QualifiedName(), err)
	}
	types := map[string]uint32{}
	var name string
	var oid uint32
	if _, err := pgx.ForEachRow(rows, []any{&name, &oid}, func() error { types[name] = oid; return nil }); err != nil {
		return fmt.Errorf("read columns of %s: %w", schema.QualifiedName(), err)
	}
	for _, c := range schema.Columns {
		if types[c.Name] != c.Type.OID {
			return fmt.Errorf("copy %s: column %s: %w", schema.QualifiedName(), c.Name, ErrRedefined)
		}
	}
	return nil
}

// intact sees to it that a table that was just copied, and is still locked, has the files that it had in the snapshot:
// the rows in new ones are not seen by it. The query sees the catalog of the snapshot, the function that of now.
func intact(ctx context.Context, conn *pgx.Conn, schema *row.Schema) error {
	var changed bool
	err := conn.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_class c WHERE c.relfilenode <> 0 AND c.relfilenode <> pg_relation_filenode(c.oid)
		AND (c.oid = $1 OR c.oid IN (SELECT relid FROM pg_partition_tree($1))))`, schema.OID).Scan(&changed)
	if err == nil && changed {
		err = ErrRewritten
	}
	return err
}

// Range is a part of a table: the rows whose key is at least From and less than To, in the order of the
// primary key's columns. The values are the text of the key's columns; nil is an open end.
type Range struct {
	From []string `json:"from,omitempty"`
	To   []string `json:"to,omitempty"`
}

// where is the range as a WHERE clause, "" for a whole table.
func (r Range) where(schema *row.Schema) (string, error) {
	var terms []string
	for _, end := range []struct {
		operator string
		values   []string
	}{{">=", r.From}, {"<", r.To}} {
		if end.values == nil {
			continue
		}
		literals, err := keyLiterals(schema, end.values)
		if err != nil {
			return "", err
		}
		// One column is compared as itself: a row of one is not supported by every index path.
		if len(literals) == 1 {
			terms = append(terms, fmt.Sprintf("%s %s %s", quotedColumns(schema, schema.Key), end.operator, literals[0]))
		} else {
			terms = append(terms, fmt.Sprintf("(%s) %s (%s)", quotedColumns(schema, schema.Key), end.operator, strings.Join(literals, ", ")))
		}
	}
	if len(terms) == 0 {
		return "", nil
	}
	return " WHERE " + strings.Join(terms, " AND "), nil
}

// keyLiterals are the values of a key as they stand in a statement.
func keyLiterals(schema *row.Schema, values []string) ([]string, error) {
	if len(values) != len(schema.Key) || len(values) == 0 {
		return nil, fmt.Errorf("key of %s: %d values for %d columns", schema.QualifiedName(), len(values), len(schema.Key))
	}
	literals := make([]string, len(values))
	for i, v := range values {
		literals[i] = quoteLiteral(v)
	}
	return literals, nil
}
