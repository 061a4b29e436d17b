package cdc

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/lanternist/lanternist/suggest"
)

// The versions of Postgres that the reader works with.
const (
	versionMin = 130000
	// versionMessages is the first whose pgoutput sends logical messages.
	versionMessages = 140000
)

// connection explains why connecting did not work.
func (r *Report) connection(ctx context.Context, cfg Config, err error) {
	pc, parseErr := normalConfig(cfg)
	if parseErr != nil {
		r.block("configuration", "url: "+parseErr.Error(), "-- correct source.url in the configuration")
		return
	}
	at := addresses(pc)
	var refusal *pgconn.PgError
	if !errors.As(err, &refusal) {
		what := fmt.Sprintf("no Postgres server answers at %s: %s", at, reason(err))
		r.block("unreachable", what, "-- correct host, port and sslmode in source.url, or start the server; it must listen on that address (listen_addresses)")
		return
	}
	switch refusal.Code {
	case "28P01":
		r.block("authentication", fmt.Sprintf("%s refuses the password of user %q", at, pc.User),
			"-- correct the user and password in source.url; a role is made with: CREATE ROLE "+quoteIdentifier(pc.User)+" LOGIN REPLICATION PASSWORD '…';")
	case "28000":
		r.block("authentication", fmt.Sprintf("%s refuses user %q: %s", at, pc.User, refusal.Message),
			"-- the role must exist and be allowed to log in, and pg_hba.conf must let it in from this machine")
	case "3D000":
		what := fmt.Sprintf("database %q does not exist on %s%s", pc.Database, at, suggest.Hint(pc.Database, otherDatabases(ctx, cfg)))
		r.block("database-missing", what, "CREATE DATABASE "+quoteIdentifier(pc.Database)+";")
	case "53300":
		r.block("connections", fmt.Sprintf("%s has no connection left: %s", at, refusal.Message),
			"ALTER SYSTEM SET max_connections = …; -- then restart the server")
	default:
		r.block("refused", fmt.Sprintf("%s refuses the connection: %s (SQLSTATE %s)", at, refusal.Message, refusal.Code),
			"-- see the server's log")
	}
}

// addresses are the servers that are tried, in order.
func addresses(pc *pgx.ConnConfig) string {
	all := []string{net.JoinHostPort(pc.Host, fmt.Sprint(pc.Port))}
	for _, f := range pc.Fallbacks {
		if at := net.JoinHostPort(f.Host, fmt.Sprint(f.Port)); !slices.Contains(all, at) {
			all = append(all, at)
		}
	}
	return strings.Join(all, ", ")
}

// reason is the cause of a connection error, without what pgconn says around it.
func reason(err error) string {
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Err.Error()
	}
	var dns *net.DNSError
	if errors.As(err, &dns) {
		return dns.Error()
	}
	lines := strings.Split(err.Error(), "\n")
	return strings.TrimSpace(lines[len(lines)-1])
}

// otherDatabases are the databases of a server that can be asked through its database postgres.
func otherDatabases(ctx context.Context, cfg Config) []string {
	pc, err := normalConfig(cfg)
	if err != nil {
		return nil
	}
	pc.Database = "postgres"
	conn, err := pgx.ConnectConfig(ctx, pc)
	if err != nil {
		return nil
	}
	defer closeConn(conn.PgConn())
	rows, err := conn.Query(ctx, `SELECT datname FROM pg_database WHERE datallowconn AND NOT datistemplate ORDER BY 1`)
	if err != nil {
		return nil
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil
	}
	return names
}

// server checks version and settings of the server.
func (p *preflight) server(ctx context.Context) (err error) {
	if p.version, err = serverVersion(p.conn.PgConn()); err != nil {
		return err
	}
	p.Source.ServerVersion = p.version
	if p.version < versionMin {
		p.block("version", fmt.Sprintf("the server is Postgres %d; the oldest that can be captured is %d", p.version/10000, versionMin/10000),
			"-- upgrade the server")
	} else if p.version < versionMessages {
		p.warn("version", fmt.Sprintf("the server is Postgres %d: logical messages are sent from %d on", p.version/10000, versionMessages/10000),
			"-- upgrade the server if pg_logical_emit_message is to be used")
	}
	if p.Source.WALSenderTimeout, err = senderTimeout(ctx, p.conn); err != nil {
		return err
	}
	var level string
	var standby bool
	var slots, slotsUsed, senders, sendersUsed int
	err = p.conn.QueryRow(ctx, `
		SELECT current_database(), current_setting('wal_level'), pg_is_in_recovery(),
		       current_setting('max_replication_slots')::int, (SELECT count(*) FROM pg_replication_slots)::int,
		       current_setting('max_wal_senders')::int, (SELECT count(*) FROM pg_stat_replication)::int`).Scan(
		&p.Source.Database, &level, &standby, &slots, &slotsUsed, &senders, &sendersUsed)
	if err != nil {
		return fmt.Errorf("read settings: %w", err)
	}
	p.spareSlots, p.spareSender = slots-slotsUsed, senders-sendersUsed
	if level != "logical" {
		p.block("wal-level", fmt.Sprintf("wal_level is %s, it must be logical", level),
			"ALTER SYSTEM SET wal_level = 'logical'; -- then restart the server")
	}
	if p.conn.PgConn().ParameterStatus("server_encoding") == encodingNone {
		p.warn("encoding", "the database's encoding is SQL_ASCII: text that is not UTF-8 has U+FFFD in documents in place of its other bytes",
			"-- dump the database and restore it into one made with ENCODING 'UTF8'")
	}
	if standby {
		p.block("standby", "the server is a standby: publications cannot be made there", "-- put the primary into source.url")
	}
	return nil
}

// role checks what the user may do, apart from single tables.
func (p *preflight) role(ctx context.Context) error {
	err := p.conn.QueryRow(ctx, `
		SELECT r.rolname::text, r.rolsuper,
		       r.rolreplication OR r.rolsuper OR EXISTS (SELECT FROM pg_roles m
		          WHERE m.rolname IN ('rds_replication') AND pg_has_role(r.oid, m.oid, 'MEMBER')),
		       has_database_privilege(current_database(), 'CREATE')
		  FROM pg_roles r WHERE r.rolname = current_user`).Scan(&p.user, &p.superuser, &p.mayRepl, &p.mayCreate)
	if err != nil {
		return fmt.Errorf("read role: %w", err)
	}
	if !p.mayRepl {
		p.block("role-replication", fmt.Sprintf("role %q may not replicate", p.user),
			"ALTER ROLE "+quoteIdentifier(p.user)+" REPLICATION;")
	}
	return nil
}

// replication tries a replication connection, which pg_hba.conf and poolers treat as another kind.
func (p *preflight) replication(ctx context.Context) error {
	if !p.mayRepl {
		return nil
	}
	conn, _, err := connectReplication(ctx, p.cfg)
	if err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		p.block("replication-connection", "a replication connection is refused: "+reason(err),
			"-- connect directly, not through a pooler, and let the role in by pg_hba.conf; max_wal_senders must leave one free")
		return nil
	}
	defer closeConn(conn)
	identity, err := pglogrepl.IdentifySystem(ctx, conn)
	if err != nil {
		return fmt.Errorf("identify system: %w", err)
	}
	p.Source.SystemID, p.Source.Timeline = identity.SystemID, identity.Timeline
	return nil
}

// slot checks the replication slot, and that there is room for those that are made.
func (p *preflight) slot(ctx context.Context) error {
	needed := 1 // the temporary one of a snapshot
	slot, err := ReadSlot(ctx, p.conn, p.cfg.Slot)
	switch {
	case errors.Is(err, ErrSlotMissing):
		needed++
		if !p.cfg.CreateSlot {
			p.block("slot-missing", fmt.Sprintf("replication slot %s does not exist, and source.create is false", p.cfg.Slot),
				fmt.Sprintf("SELECT pg_create_logical_replication_slot(%s, 'pgoutput');", quoteLiteral(p.cfg.Slot)))
		}
	case err != nil:
		return err
	default:
		p.Source.ConfirmedFlush = slot.ConfirmedFlush
		p.existingSlot(slot)
	}
	if p.spareSlots < needed {
		p.block("slots", fmt.Sprintf("%d replication slots are free, %d are needed (one for the stream, one for a while during the first load)", p.spareSlots, needed),
			"ALTER SYSTEM SET max_replication_slots = …; -- then restart the server; or drop a slot that no one uses: SELECT pg_drop_replication_slot('…');")
	}
	if p.spareSender < needed {
		p.block("wal-senders", fmt.Sprintf("%d WAL senders are free, %d are needed", p.spareSender, needed),
			"ALTER SYSTEM SET max_wal_senders = …; -- then restart the server")
	}
	return nil
}

func (p *preflight) existingSlot(slot *Slot) {
	recreate := fmt.Sprintf("SELECT pg_drop_replication_slot(%[1]s); SELECT pg_create_logical_replication_slot(%[1]s, 'pgoutput');", quoteLiteral(slot.Name))
	err := slot.usable(p.Source.Database)
	switch {
	case errors.Is(err, ErrSlotLost):
		p.block("slot-lost", fmt.Sprintf("replication slot %s lost WAL that it needs: what was committed meanwhile can only be loaded again", slot.Name),
			"lanternist source accept-gap   (makes a new slot, writes the gap into the journal and loads all tables)")
	case err != nil:
		p.block("slot-unusable", err.Error(), "-- choose another name for source.slot, or, when no one needs it: "+recreate)
	case slot.ActivePID != 0:
		p.warn("slot-active", fmt.Sprintf("replication slot %s is in use by server process %d: one reader can follow it at a time", slot.Name, slot.ActivePID),
			fmt.Sprintf("-- stop the other reader, choose another source.slot, or end it: SELECT pg_terminate_backend(%d);", slot.ActivePID))
	}
	if slot.WALStatus == "unreserved" {
		p.warn("slot-unreserved", fmt.Sprintf("replication slot %s is behind by more than the server keeps and may lose WAL soon", slot.Name),
			"ALTER SYSTEM SET max_slot_wal_keep_size = -1; SELECT pg_reload_conf();")
	}
}
