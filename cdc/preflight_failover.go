package cdc

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// failover notes what becomes of the slot when a standby is promoted.
func (p *preflight) failover(ctx context.Context) error {
	if p.version < versionFailover {
		p.note("failover", fmt.Sprintf("Postgres %d does not keep logical slots on standbys: after a failover the slot is missing, the daemon refuses to start, and what was committed around it can only be loaded again", p.version/10000),
			"lanternist source accept-gap, after a failover; or Postgres 17, or an extension that copies slots to standbys (pg_failover_slots)")
		return nil
	}
	slot, err := ReadSlot(ctx, p.conn, p.cfg.Slot)
	if err == nil && !slot.Failover && !slot.Temporary {
		fix := "-- start the daemon once: it alters the slot"
		if !p.cfg.CreateSlot {
			fix = "-- on a replication connection: psql 'dbname=… replication=database' -c '" + alterForFailover(slot.Name) + "'"
		}
		p.note("failover", fmt.Sprintf("replication slot %s is not kept on standbys: after a failover it is missing", slot.Name), fix)
	}
	return p.standbys(ctx)
}

// standbys notes those that may be behind the journal when they are promoted.
func (p *preflight) standbys(ctx context.Context) error {
	rows, err := p.conn.Query(ctx, `
		SELECT s.slot_name::text FROM pg_replication_slots s
		 WHERE s.slot_type = 'physical' AND s.active
		   AND s.slot_name::text <> ALL (regexp_split_to_array(replace(current_setting('synchronized_standby_slots'), '"', ''), '\s*,\s*'))`)
	if err != nil {
		return fmt.Errorf("read standbys: %w", err)
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return fmt.Errorf("read standbys: %w", err)
	}
	if len(names) > 0 {
		p.note("failover-standbys", fmt.Sprintf("standbys at slots %s are not waited for: one that is promoted while it is behind lacks what is journaled already, and is then refused", strings.Join(names, ", ")),
			fmt.Sprintf("ALTER SYSTEM SET synchronized_standby_slots = %s; SELECT pg_reload_conf(); -- and on the standbys: sync_replication_slots = on, hot_standby_feedback = on, a dbname in primary_conninfo", quoteLiteral(strings.Join(names, ","))))
	}
	return nil
}

func (r *Report) note(code, what, fix string) {
	r.Notes = append(r.Notes, Problem{Code: code, What: what, Fix: fix, Severity: Note})
}
