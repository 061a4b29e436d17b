package cdc

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// State is what there is at the source, read without changing anything: all that its identity is compared by.
type State struct {
	SystemID      string // of the cluster, decimal, 64 bits
	Timeline      int32
	Database      string
	DatabaseOID   uint32 // another one: the database was dropped and created
	ServerVersion int    // 150004 for 15.4
	Flush         pglogrepl.LSN
	History       []Switch       // of the earlier timelines, oldest first; what the server still knows of them
	Slot          *Slot          // nil when there is none of the name
	Publication   *PublicationID // nil when there is none of the name
}

// Switch is the end of a timeline: the server went on under a later one from there.
type Switch struct {
	Timeline int32
	End      pglogrepl.LSN
}

// PublicationID tells a publication from another one of its name.
type PublicationID struct {
	OID   uint32
	Owner string
}

// Left is where the server's history left a timeline for the next; false when the timeline is not part of its history.
func (s *State) Left(timeline int32) (pglogrepl.LSN, bool) {
	for _, sw := range s.History {
		if sw.Timeline == timeline {
			return sw.End, true
		}
	}
	return 0, false
}

// Look reads the state of the source. A server in recovery is refused with ErrStandby: what it says of itself is about to
// change.
func Look(ctx context.Context, cfg Config) (*State, error) {
	cfg = cfg.withDefaults()
	catalog, err := Connect(ctx, cfg)
	if err != nil {
		return nil, err
	}
	defer closeConn(catalog.PgConn())
	conn, _, err := connectReplication(ctx, cfg)
	if err != nil {
		return nil, err
	}
	defer closeConn(conn)
	return look(ctx, cfg, conn, catalog)
}

// look is Look over open connections.
func look(ctx context.Context, cfg Config, conn *pgconn.PgConn, catalog *pgx.Conn) (*State, error) {
	system, err := pglogrepl.IdentifySystem(ctx, conn)
	if err != nil {
		return nil, fmt.Errorf("identify system: %w", err)
	}
	s := &State{SystemID: system.SystemID, Timeline: system.Timeline, Database: system.DBName}
	if s.ServerVersion, err = serverVersion(conn); err != nil {
		return nil, err
	}
	var standby bool
	err = catalog.QueryRow(ctx, `SELECT pg_is_in_recovery(), d.oid FROM pg_database d WHERE d.datname = current_database()`).
		Scan(&standby, &s.DatabaseOID)
	if err != nil {
		return nil, fmt.Errorf("read database: %w", err)
	}
	if standby {
		return nil, fmt.Errorf("system %s timeline %d: %w", s.SystemID, s.Timeline, ErrStandby)
	}
	if err := catalog.QueryRow(ctx, `SELECT pg_current_wal_flush_lsn()::text`).Scan(&s.Flush); err != nil {
		return nil, fmt.Errorf("read the end of the log: %w", err)
	}
	if s.History, err = timelineHistory(ctx, conn, s.Timeline); err != nil {
		return nil, err
	}
	if s.Slot, err = ReadSlot(ctx, catalog, cfg.Slot); err != nil && !errors.Is(err, ErrSlotMissing) {
		return nil, err
	}
	p, err := readPublication(ctx, catalog, cfg.Publication)
	if err != nil {
		return nil, err
	}
	if p != nil {
		s.Publication = &PublicationID{OID: p.oid, Owner: p.owner}
	}
	return s, nil
}

// timelineHistory asks for the timelines before one. A server that has lost the file knows nothing of them, which is no error.
func timelineHistory(ctx context.Context, conn *pgconn.PgConn, timeline int32) ([]Switch, error) {
	if timeline <= 1 {
		return nil, nil
	}
	file, err := pglogrepl.TimelineHistory(ctx, conn, timeline)
	if refusal, ok := errors.AsType[*pgconn.PgError](err); ok && refusal.Code == "58P01" {
		return nil, nil // the file is not there
	}
	if err != nil {
		return nil, fmt.Errorf("read history of timeline %d: %w", timeline, err)
	}
	history, err := parseHistory(file.Content)
	if err != nil {
		return nil, fmt.Errorf("read history of timeline %d: %w", timeline, err)
	}
	return history, nil
}

// parseHistory reads a timeline history file: lines of a timeline, where it was left, and why.
func parseHistory(content []byte) (history []Switch, err error) {
	lines := bufio.NewScanner(bytes.NewReader(content))
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) == 0 || strings.HasPrefix(fields[0], "#") {
			continue
		}
		if len(fields) < 2 {
			return nil, fmt.Errorf("%w: line %q", ErrProtocol, lines.Text())
		}
		timeline, err := strconv.ParseInt(fields[0], 10, 32)
		if err != nil {
			return nil, fmt.Errorf("%w: line %q: %w", ErrProtocol, lines.Text(), err)
		}
		end, err := pglogrepl.ParseLSN(fields[1])
		if err != nil {
			return nil, fmt.Errorf("%w: line %q: %w", ErrProtocol, lines.Text(), err)
		}
		history = append(history, Switch{Timeline: int32(timeline), End: end})
	}
	return history, lines.Err()
}
