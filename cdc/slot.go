package cdc

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
)

// plugin is the output plugin that the reader understands.
const plugin = "pgoutput"

// Slot is what the server says of a replication slot.
type Slot struct {
	Name           string
	Type           string // logical or physical
	Plugin         string
	Database       string
	Temporary      bool
	ActivePID      int // of the server process that uses it; 0 when idle
	RestartLSN     pglogrepl.LSN
	ConfirmedFlush pglogrepl.LSN // everything committed before it was acknowledged
	WALStatus      string        // reserved, extended, unreserved or lost
	Invalidation   string        // why it can never be read again: wal_removed, rows_removed, …; "" while it can
	Failover       bool          // standbys keep a copy of it (Postgres 17)
	Decoded        int64         // transactions read from it since it was created, or the statistics were reset; -1 when not known
	ServerFlush    pglogrepl.LSN // how far the server's log is flushed, at the same moment
}

// Lost says that the slot can never be read again.
func (s *Slot) Lost() bool { return s.WALStatus == "lost" || s.Invalidation != "" }

// Lag is how many bytes of log the server keeps that the slot has not acknowledged.
func (s Slot) Lag() uint64 {
	if s.ServerFlush < s.ConfirmedFlush {
		return 0
	}
	return uint64(s.ServerFlush - s.ConfirmedFlush)
}

// ReadSlot reads the state of a slot; ErrSlotMissing when there is none of that name.
func ReadSlot(ctx context.Context, conn *pgx.Conn, name string) (*Slot, error) {
	s := Slot{Name: name}
	// Columns that not every version has are read through to_jsonb.
	err := conn.QueryRow(ctx, `
		SELECT slot_type, coalesce(plugin, ''), coalesce(database, ''), temporary, coalesce(active_pid, 0),
		       coalesce(restart_lsn, '0/0')::text, coalesce(confirmed_flush_lsn, '0/0')::text, coalesce(wal_status, ''),
		       coalesce(to_jsonb(s) ->> 'invalidation_reason', CASE WHEN (to_jsonb(s) ->> 'conflicting')::bool THEN 'conflicting' END, ''),
		       coalesce((to_jsonb(s) ->> 'failover')::bool, false),
		       CASE WHEN pg_is_in_recovery() THEN coalesce(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()) ELSE pg_current_wal_flush_lsn() END::text
		  FROM pg_replication_slots s WHERE slot_name = $1`, name).Scan(
		&s.Type, &s.Plugin, &s.Database, &s.Temporary, &s.ActivePID,
		&s.RestartLSN, &s.ConfirmedFlush, &s.WALStatus, &s.Invalidation, &s.Failover, &s.ServerFlush)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, fmt.Errorf("slot %s: %w", name, ErrSlotMissing)
	}
	if err != nil {
		return nil, fmt.Errorf("read slot %s: %w", name, err)
	}
	s.Decoded, err = decodedBy(ctx, conn, name)
	return &s, err
}

// decodedBy is how many transactions were read from a slot, as far as the server keeps count: from Postgres 14 on.
func decodedBy(ctx context.Context, conn *pgx.Conn, name string) (n int64, err error) {
	version, err := serverVersion(conn.PgConn())
	if err != nil || version < versionMessages {
		return -1, err
	}
	err = conn.QueryRow(ctx, `SELECT CASE WHEN stats_reset IS NULL THEN total_txns ELSE -1 END
		FROM pg_stat_replication_slots WHERE slot_name = $1`, name).Scan(&n)
	if errors.Is(err, pgx.ErrNoRows) {
		return -1, nil
	}
	if err != nil {
		return -1, fmt.Errorf("read statistics of slot %s: %w", name, err)
	}
	return n, nil
}

// usable returns why the slot cannot be followed in this database, or nil. That it is in use is no reason.
func (s *Slot) usable(database string) error {
	switch {
	case s.Type != "logical" || s.Plugin != plugin:
		return fmt.Errorf("slot %s: %w: it is a %s slot with plugin %q, want a logical one with %s", s.Name, ErrSlotUnusable, s.Type, s.Plugin, plugin)
	case s.Database != database:
		return fmt.Errorf("slot %s: %w: it belongs to database %q, not to %q", s.Name, ErrSlotUnusable, s.Database, database)
	case s.Lost():
		return fmt.Errorf("slot %s: %w (wal_status %s, %s)", s.Name, ErrSlotLost, s.WALStatus, s.Invalidation)
	}
	return nil
}
