package cdc

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgconn"
)

// versionFailover is the first whose standbys keep copies of logical slots.
const versionFailover = 170000

// createStreamSlot creates the slot that the stream is read from, where it can be so that it survives a failover.
func createStreamSlot(ctx context.Context, cfg Config, conn *pgconn.PgConn, version int) (newSlot, error) {
	if version < versionFailover {
		return createSlot(ctx, cfg, conn, cfg.Slot, pglogrepl.CreateReplicationSlotOptions{
			Mode: pglogrepl.LogicalReplication, SnapshotAction: "NOEXPORT_SNAPSHOT",
		})
	}
	sql := fmt.Sprintf("CREATE_REPLICATION_SLOT %s LOGICAL %s (SNAPSHOT 'nothing', FAILOVER true)", quoteIdentifier(cfg.Slot), plugin)
	return createSlotBy(ctx, cfg, conn, cfg.Slot, func() (pglogrepl.CreateReplicationSlotResult, error) {
		return pglogrepl.ParseCreateReplicationSlot(conn.Exec(context.Background(), sql))
	})
}

// keepForFailover has standbys keep a copy of a slot that was made without: by an older version, or by hand. A slot that is in
// use, or that we may not change, stays as it is; Preflight tells.
func keepForFailover(ctx context.Context, cfg Config, conn *pgconn.PgConn, state *State) error {
	slot := state.Slot
	if state.ServerVersion < versionFailover || slot.Failover || slot.Temporary || slot.ActivePID != 0 || !cfg.CreateSlot {
		return nil
	}
	if _, err := conn.Exec(ctx, alterForFailover(slot.Name)).ReadAll(); err != nil && !isBusy(err) {
		return fmt.Errorf("have standbys keep slot %s: %w", slot.Name, err)
	}
	return nil
}

// alterForFailover is a command of a replication connection: there is no SQL for it.
func alterForFailover(slot string) string {
	return fmt.Sprintf("ALTER_REPLICATION_SLOT %s (FAILOVER true)", quoteIdentifier(slot))
}

// DropSlot drops the slot, if there is one. What it has not sent is never sent then: it is for a gap that was accepted. A slot
// that is in use is refused with ErrSlotBusy.
func DropSlot(ctx context.Context, cfg Config) error {
	cfg = cfg.withDefaults()
	conn, err := Connect(ctx, cfg)
	if err != nil {
		return err
	}
	defer closeConn(conn.PgConn())
	slot, err := ReadSlot(ctx, conn, cfg.Slot)
	switch {
	case errors.Is(err, ErrSlotMissing):
		return nil
	case err != nil:
		return err
	case slot.ActivePID != 0:
		return fmt.Errorf("slot %s: %w by server process %d; stop that reader, or end it: SELECT pg_terminate_backend(%d)", slot.Name, ErrSlotBusy, slot.ActivePID, slot.ActivePID)
	}
	if _, err := conn.Exec(ctx, `SELECT pg_drop_replication_slot($1)`, slot.Name); err != nil {
		return fmt.Errorf("drop slot %s: %w", slot.Name, err)
	}
	return nil
}
