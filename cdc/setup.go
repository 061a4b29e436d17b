package cdc

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Source is the database that a slot belongs to. SystemID and Timeline are the epoch: positions of another
// epoch cannot be compared with this one's.
type Source struct {
	SystemID         string // decimal, 64 bits
	Timeline         int32
	Database         string
	DatabaseOID      uint32
	PublicationOID   uint32
	ServerVersion    int           // 150004 for 15.4
	WALSenderTimeout time.Duration // 0: none
	Slot             string
	ConfirmedFlush   pglogrepl.LSN // of the slot; of a new one its consistent point
	Created          bool          // the slot was made just now: nothing before ConfirmedFlush will ever be received
}

// Setup makes sure that the publication has every table and that the slot exists, creating what Config allows
// it to create, and says what the source is. It changes nothing that is there already and right. Missing rights
// and settings show as the server's refusals here; Preflight explains them.
func Setup(ctx context.Context, cfg Config) (*Source, error) {
	cfg = cfg.withDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("source: %w", err)
	}
	conn, err := Connect(ctx, cfg)
	if err != nil {
		return nil, err
	}
	defer closeConn(conn.PgConn())
	if err := setupPublication(ctx, conn, cfg); err != nil {
		return nil, fmt.Errorf("publication %s: %w", cfg.Publication, err)
	}
	repl, _, err := connectReplication(ctx, cfg)
	if err != nil {
		return nil, err
	}
	defer closeConn(repl)
	state, err := look(ctx, cfg, repl, conn)
	if err != nil {
		return nil, err
	}
	s := &Source{
		SystemID: state.SystemID, Timeline: state.Timeline, Database: state.Database, DatabaseOID: state.DatabaseOID,
		ServerVersion: state.ServerVersion, Slot: cfg.Slot,
	}
	if state.Publication != nil {
		s.PublicationOID = state.Publication.OID
	}
	if s.WALSenderTimeout, err = senderTimeout(ctx, conn); err != nil {
		return nil, err
	}
	switch {
	case state.Slot != nil:
		s.ConfirmedFlush = state.Slot.ConfirmedFlush
		if err := state.Slot.usable(s.Database); err != nil {
			return s, err
		}
		return s, keepForFailover(ctx, cfg, repl, state)
	case !cfg.CreateSlot:
		return nil, fmt.Errorf("slot %s: %w", cfg.Slot, ErrSlotMissing)
	}
	created, err := createStreamSlot(ctx, cfg, repl, state.ServerVersion)
	if err != nil {
		return nil, err
	}
	s.ConfirmedFlush, s.Created = created.point, true
	return s, nil
}

// newSlot is what creating a slot yields.
type newSlot struct {
	point    pglogrepl.LSN // the first position that the slot can decode from
	snapshot string        // name of the exported snapshot, if any
}

// createSlot creates a slot on a replication connection. The server first waits for every transaction that is
// open at that moment; that wait is bounded by Config.CreateTimeout, after which the error names who is waited
// for, and the slot is not left behind.
func createSlot(ctx context.Context, cfg Config, conn *pgconn.PgConn, name string, options pglogrepl.CreateReplicationSlotOptions) (newSlot, error) {
	return createSlotBy(ctx, cfg, conn, name, func() (pglogrepl.CreateReplicationSlotResult, error) {
		// The command is cancelled by a request, not by ctx: breaking the connection would leave the server
		// creating the slot.
		return pglogrepl.CreateReplicationSlot(context.Background(), conn, name, plugin, options)
	})
}

// createSlotBy is createSlot by a command of the caller's.
func createSlotBy(ctx context.Context, cfg Config, conn *pgconn.PgConn, name string, command func() (pglogrepl.CreateReplicationSlotResult, error)) (newSlot, error) {
	type answer struct {
		result pglogrepl.CreateReplicationSlotResult
		err    error
	}
	answered := make(chan answer, 1)
	go func() {
		result, err := command()
		answered <- answer{result, err}
	}()
	timer := time.NewTimer(cfg.CreateTimeout)
	defer timer.Stop()
	var got answer
	var why error
	select {
	case got = <-answered:
	case <-ctx.Done():
		why = context.Cause(ctx)
	case <-timer.C:
		why = fmt.Errorf("not done within %s: %w", cfg.CreateTimeout, waitedFor(ctx, cfg, conn.PID()))
	}
	if why != nil {
		got = cancelCreation(conn, answered)
		if got.err != nil {
			return newSlot{}, fmt.Errorf("create slot %s: %w", name, why)
		}
	}
	if got.err != nil {
		return newSlot{}, fmt.Errorf("create slot %s: %w", name, got.err)
	}
	point, err := pglogrepl.ParseLSN(got.result.ConsistentPoint)
	if err != nil {
		return newSlot{}, fmt.Errorf("create slot %s: consistent point %q: %w", name, got.result.ConsistentPoint, err)
	}
	return newSlot{point: point, snapshot: got.result.SnapshotName}, nil
}

// cancelCreation ends a creation under way and returns its answer, which may be that it was done after all.
func cancelCreation[T any](conn *pgconn.PgConn, answered <-chan T) T {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	_ = conn.CancelRequest(ctx) // without it the deadline below ends the wait
	_ = conn.Conn().SetDeadline(time.Now().Add(closeTimeout))
	return <-answered
}

// waitedFor is an error that names the transactions which the server process waits for.
func waitedFor(ctx context.Context, cfg Config, pid uint32) error {
	conn, err := Connect(ctx, cfg)
	if err != nil {
		return fmt.Errorf("it waits for open transactions; who has them is not known: %w", err)
	}
	defer closeConn(conn.PgConn())
	rows, err := conn.Query(ctx, `
		SELECT coalesce('pid ' || a.pid || ' (' || concat_ws(', ', a.usename, nullif(a.application_name, ''), a.state,
		                'transaction open for ' || date_trunc('second', now() - a.xact_start)) || ')',
		                'a prepared transaction (see pg_prepared_xacts)')
		  FROM unnest(pg_blocking_pids($1)) AS b(pid) LEFT JOIN pg_stat_activity a ON a.pid = b.pid`, int32(pid))
	if err != nil {
		return fmt.Errorf("it waits for open transactions; who has them is not known: %w", err)
	}
	who, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return fmt.Errorf("it waits for open transactions; who has them is not known: %w", err)
	}
	if len(who) == 0 {
		return errors.New("no open transaction blocks it now")
	}
	return fmt.Errorf("it waits for open transactions: %s; end them, with pg_terminate_backend(pid) if need be", strings.Join(who, "; "))
}

// publication is what the server says of a publication.
type publication struct {
	oid       uint32
	owner     string
	ownedByUs bool
	all       bool // FOR ALL TABLES
	inserts, updates, deletes, truncates,
	viaRoot bool
	tables  []uint32 // everything that it publishes, partitions by their root when viaRoot
	filters []uint32 // those with a row filter
}

// readPublication reads a publication; nil when there is none of that name.
func readPublication(ctx context.Context, conn *pgx.Conn, name string) (*publication, error) {
	var p publication
	err := conn.QueryRow(ctx, `
		SELECT oid, pg_get_userbyid(pubowner)::text, pg_has_role(pubowner, 'USAGE'), puballtables,
		       pubinsert, pubupdate, pubdelete, pubtruncate, pubviaroot
		  FROM pg_publication WHERE pubname = $1`, name).Scan(
		&p.oid, &p.owner, &p.ownedByUs, &p.all, &p.inserts, &p.updates, &p.deletes, &p.truncates, &p.viaRoot)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read publication %s: %w", name, err)
	}
	rows, err := conn.Query(ctx, `SELECT relid FROM pg_get_publication_tables($1::text)`, name)
	if err == nil {
		p.tables, err = pgx.CollectRows(rows, pgx.RowTo[uint32])
	}
	if err != nil {
		return nil, fmt.Errorf("read tables of publication %s: %w", name, err)
	}
	version, err := serverVersion(conn.PgConn())
	if err != nil {
		return nil, err
	}
	if version >= 150000 {
		rows, err := conn.Query(ctx, `SELECT prrelid FROM pg_publication_rel WHERE prpubid = $1 AND prqual IS NOT NULL`, p.oid)
		if err == nil {
			p.filters, err = pgx.CollectRows(rows, pgx.RowTo[uint32])
		}
		if err != nil {
			return nil, fmt.Errorf("read row filters of publication %s: %w", name, err)
		}
	}
	return &p, nil
}

// setupPublication makes sure that the publication has all tables of the configuration.
func setupPublication(ctx context.Context, conn *pgx.Conn, cfg Config) error {
	names, err := parseTables(cfg.Tables)
	if err != nil {
		return err
	}
	relations, err := listRelations(ctx, conn)
	if err != nil {
		return err
	}
	tables, err := relations.find(names)
	if err != nil {
		return err
	}
	p, err := readPublication(ctx, conn, cfg.Publication)
	if err != nil {
		return err
	}
	sql := publicationSQL(cfg.Publication, p, tables)
	if sql == "" {
		return nil
	}
	if !cfg.CreatePublication {
		return fmt.Errorf("not as it should be, and source.create is false; run: %s", sql)
	}
	if _, err := conn.Exec(ctx, sql); err != nil {
		return fmt.Errorf("%s: %w", sql, err)
	}
	return nil
}

// publicationSQL is the statement that makes the publication cover the tables: "" when it does, p nil when
// there is none.
func publicationSQL(name string, p *publication, tables catalogRelations) string {
	if p == nil {
		return fmt.Sprintf("CREATE PUBLICATION %s FOR TABLE %s WITH (publish_via_partition_root = true)", quoteIdentifier(name), tableList(tables))
	}
	var missing catalogRelations
	for _, t := range tables {
		if !slices.Contains(p.tables, t.oid) {
			missing = append(missing, t)
		}
	}
	if len(missing) == 0 {
		return ""
	}
	return fmt.Sprintf("ALTER PUBLICATION %s ADD TABLE %s", quoteIdentifier(name), tableList(missing))
}

// tableList names tables for a publication. ONLY: tables that inherit from them are tables of their own.
func tableList(tables catalogRelations) string {
	var list []string
	for _, t := range tables {
		list = append(list, t.onlySQL())
	}
	return strings.Join(list, ", ")
}

// onlySQL is the relation in a statement, without the tables that inherit from it.
func (r catalogRelation) onlySQL() string {
	if r.kind == "p" {
		return r.name.sql()
	}
	return "ONLY " + r.name.sql()
}
