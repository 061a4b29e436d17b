package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// lineReceive is the limit of everything that reads the stream.
const lineReceive = "receive"

func prepareReceive(ctx context.Context, r *round) error {
	return execAll(ctx, r.database.url, fmt.Sprintf("SELECT pg_create_logical_replication_slot('%s', 'pgoutput')", r.slot(lineReceive)))
}

// slot is the name of a workload's slot: slots belong to the server, not to the run's database.
func (r *round) slot(workload string) string { return r.database.name + "_" + workload }

func measureReceive(ctx context.Context, r *round) ([]sample, error) {
	report, err := r.worker(ctx, "receive", task{Source: r.database.url, Slot: r.slot(lineReceive), Mark: r.backlog.mark})
	if err != nil {
		return nil, err
	}
	p := report.Phases[0]
	if p.Operations != r.backlog.changes {
		return nil, fmt.Errorf("received %d changes, the backlog has %d", p.Operations, r.backlog.changes)
	}
	return []sample{p.sample(lineReceive, "pgoutput to nothing")}, nil
}

// receive reads the stream up to the transaction after the mark, and throws everything away.
func receive(ctx context.Context, t task) (r report, err error) {
	conn, err := connectReplication(ctx, t.Source)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, conn.Close(context.WithoutCancel(ctx))) }()
	watch, err := startWatch()
	if err != nil {
		return r, err
	}
	// The options are those of package cdc.
	err = pglogrepl.StartReplication(ctx, conn, t.Slot, 0, pglogrepl.StartReplicationOptions{
		Mode: pglogrepl.LogicalReplication, PluginArgs: []string{"proto_version '1'", "publication_names '" + publication + "'", "messages 'true'"},
	})
	if err != nil {
		return r, fmt.Errorf("start replication: %w", err)
	}
	changes, end := 0, pglogrepl.LSN(0)
	for end <= t.Mark {
		message, err := conn.ReceiveMessage(ctx)
		if err != nil {
			return r, fmt.Errorf("receive: %w", err)
		}
		switch m := message.(type) {
		case *pgproto3.ErrorResponse:
			return r, fmt.Errorf("receive: %w", pgconn.ErrorResponseToPgError(m))
		case *pgproto3.CopyData:
			change, commit := look(m.Data)
			changes += change
			end = max(end, commit)
		}
	}
	p, err := watch.stop("", changes)
	if err != nil {
		return r, err
	}
	r.Phases = []phase{p}
	return r, pglogrepl.SendStandbyStatusUpdate(ctx, conn, pglogrepl.StandbyStatusUpdate{WALWritePosition: end})
}

// look says of a message of the stream whether it is a row's change, and where the transaction ends that it commits.
func look(data []byte) (change int, end pglogrepl.LSN) {
	const header, commitEnd = 25, 10 // 'w', three positions; 'C', flags, the commit's position, its end
	if len(data) <= header || data[0] != pglogrepl.XLogDataByteID {
		return 0, 0
	}
	switch body := data[header:]; body[0] {
	case 'I', 'U', 'D':
		return 1, 0
	case 'C':
		if len(body) >= commitEnd+8 {
			return 0, pglogrepl.LSN(binary.BigEndian.Uint64(body[commitEnd:]))
		}
	}
	return 0, 0
}

// connectReplication opens a replication connection that takes as much from the network at a time as is there.
func connectReplication(ctx context.Context, url string) (*pgconn.PgConn, error) {
	cfg, err := pgconn.ParseConfig(url)
	if err != nil {
		return nil, err
	}
	cfg.RuntimeParams["replication"] = "database"
	cfg.BuildFrontend = func(r io.Reader, w io.Writer) *pgproto3.Frontend {
		return pgproto3.NewFrontend(bufio.NewReaderSize(r, 256<<10), w)
	}
	conn, err := pgconn.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("connect for replication: %w", err)
	}
	return conn, nil
}
