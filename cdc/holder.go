package cdc

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// SlotUse is how much log the server keeps for a slot, and who has it keep that.
type SlotUse struct {
	Slot
	// Retained is how many bytes of log the server keeps for the slot: from RestartLSN to its end.
	Retained uint64
	// Holder is the oldest open transaction that writes; nil when none is older than was asked for. Its changes may still be
	// committed, so the slot has to keep the log from its beginning, whatever has been acknowledged.
	Holder *SlotHolder
}

// SlotHolder is an open transaction. What the server does not tell a role without pg_monitor is left out.
type SlotHolder struct {
	PID         int    // of the session; 0 for a prepared transaction
	Prepared    string // the name of a prepared transaction
	XID         uint32
	Database    string
	User        string
	Application string
	State       string        // "idle in transaction", "active", …
	Age         time.Duration // since the transaction began, or was prepared; 0 when it is not told
}

// String says who it is, and how to end it.
func (h *SlotHolder) String() string {
	if h.Prepared != "" {
		return fmt.Sprintf("transaction %d of database %s, prepared as %s %s ago; end it with: ROLLBACK PREPARED '%s' (or COMMIT PREPARED)",
			h.XID, h.Database, h.Prepared, h.Age.Round(time.Second), strings.ReplaceAll(h.Prepared, "'", "''"))
	}
	who := fmt.Sprintf("session with pid %d", h.PID)
	if h.User != "" {
		who += fmt.Sprintf(" (user %s, database %s, application %q, %s)", h.User, h.Database, h.Application, h.State)
	}
	return fmt.Sprintf("%s, in transaction %d for %s; end it with: SELECT pg_terminate_backend(%d)", who, h.XID, h.Age.Round(time.Second), h.PID)
}

// ReadSlotUse reads how much log a slot holds, and which transaction that is older than minAge holds it. One whose age the server does not
// tell counts as old.
func ReadSlotUse(ctx context.Context, conn *pgx.Conn, name string, minAge time.Duration) (*SlotUse, error) {
	slot, err := ReadSlot(ctx, conn, name)
	if err != nil {
		return nil, err
	}
	u := &SlotUse{Slot: *slot}
	if slot.RestartLSN != 0 && slot.ServerFlush > slot.RestartLSN {
		u.Retained = uint64(slot.ServerFlush - slot.RestartLSN)
	}
	var h SlotHolder
	var xid int64
	var micros *int64
	// Every transaction with an id holds a lock on it, also a prepared one, and everybody may see the locks.
	err = conn.QueryRow(ctx, `
		SELECT coalesce(l.pid, 0), coalesce(p.gid, ''), l.transactionid::text::bigint, coalesce(a.datname, p.database, '')::text,
		       coalesce(a.usename, p.owner, '')::text, coalesce(a.application_name, ''), coalesce(a.state, ''),
		       (extract(epoch FROM clock_timestamp() - coalesce(a.xact_start, p.prepared)) * 1000000)::bigint
		  FROM pg_locks l
		  LEFT JOIN pg_stat_activity a ON a.pid = l.pid
		  LEFT JOIN pg_prepared_xacts p ON p.transaction = l.transactionid AND l.pid IS NULL
		 WHERE l.locktype = 'transactionid' AND l.mode = 'ExclusiveLock' AND l.granted AND l.pid IS DISTINCT FROM pg_backend_pid()
		   AND coalesce(clock_timestamp() - coalesce(a.xact_start, p.prepared) >= make_interval(secs => $1), true)
		 ORDER BY age(l.transactionid) DESC LIMIT 1`, minAge.Seconds()).Scan(
		&h.PID, &h.Prepared, &xid, &h.Database, &h.User, &h.Application, &h.State, &micros)
	if errors.Is(err, pgx.ErrNoRows) {
		return u, nil
	}
	if err != nil {
		return nil, fmt.Errorf("find what holds slot %s: %w", name, err)
	}
	h.XID = uint32(xid)
	if micros != nil {
		h.Age = time.Duration(*micros) * time.Microsecond
	}
	u.Holder = &h
	return u, nil
}
