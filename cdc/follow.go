package cdc

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/lanternist/lanternist/internal/sabotage"
	"github.com/lanternist/lanternist/row"
)

// errStreamEnded is the server's orderly end of a stream, which is how it shuts down.
var errStreamEnded = errors.New("the server ended the stream")

// errDone ends a connection's goroutines when the reader is told to stop.
var errDone = errors.New("done")

// closeTimeout bounds the last words on a connection.
const closeTimeout = 2 * time.Second

// follow streams over one connection until it or ctx ends.
func (r *Reader) follow(ctx context.Context) error {
	catalog, err := Connect(ctx, r.cfg)
	if err != nil {
		return err
	}
	defer closeConn(catalog.PgConn())
	conn, wire, err := connectReplication(ctx, r.cfg)
	if err != nil {
		return err
	}
	defer closeConn(conn)
	interval, err := r.start(ctx, conn, catalog)
	if err != nil {
		return err
	}
	r.connected.Store(true)
	r.log.Info("replication started", "slot", r.cfg.Slot, "from", r.assembler.position.EndLSN.String())
	r.assembler.connected()
	r.assembler.resolve = func(ctx context.Context, definition []byte) (*row.Schema, error) {
		return r.resolve(ctx, catalog, definition)
	}
	return r.stream(ctx, conn, wire, interval)
}

// closeConn ends a connection, telling the server so that it frees the slot at once.
func closeConn(conn *pgconn.PgConn) {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	_ = conn.Close(ctx) // it may be broken already; either way it is gone now
	<-conn.CleanupDone()
}

// start checks that the server and the slot are those that the stream belongs to, and starts the stream. It
// returns how often the server wants to hear from the reader.
func (r *Reader) start(ctx context.Context, conn *pgconn.PgConn, catalog *pgx.Conn) (time.Duration, error) {
	state, err := look(ctx, r.cfg, conn, catalog)
	if err != nil {
		return 0, err
	}
	slot := state.Slot
	if slot == nil {
		return 0, fmt.Errorf("slot %s: %w", r.cfg.Slot, ErrSlotMissing)
	}
	if err := slot.usable(state.Database); err != nil {
		return 0, err
	}
	if err := r.recognize(state); err != nil {
		return 0, err
	}
	at := r.assembler.position
	// Everything that commits before a transaction of which a part is durable is durable, too.
	if known := max(at.CommitLSN, at.EndLSN, pglogrepl.LSN(r.feedback.acknowledged.Load())); at != (Start{}) && slot.ConfirmedFlush > known && !sabotage.Off(sabotage.SlotAhead) {
		return 0, fmt.Errorf("slot %s: confirmed %s, durable here is %s: %w", slot.Name, slot.ConfirmedFlush, known, ErrSlotAhead)
	}
	timeout, err := senderTimeout(ctx, catalog)
	if err != nil {
		return 0, err
	}
	if err := startReplication(ctx, conn, r.cfg, at.EndLSN); err != nil {
		return 0, err
	}
	interval := min(statusIntervalMax, r.cfg.ReceiveTimeout/3)
	if timeout > 0 {
		interval = min(interval, timeout/3)
	}
	return interval, nil
}

func startReplication(ctx context.Context, conn *pgconn.PgConn, cfg Config, from pglogrepl.LSN) error {
	version, err := serverVersion(conn)
	if err != nil {
		return err
	}
	args := []string{"proto_version '1'", "publication_names '" + strings.ReplaceAll(quoteIdentifier(cfg.Publication), "'", "''") + "'"}
	if version >= 140000 {
		args = append(args, "messages 'true'")
	}
	err = pglogrepl.StartReplication(ctx, conn, cfg.Slot, from, pglogrepl.StartReplicationOptions{
		Mode: pglogrepl.LogicalReplication, PluginArgs: args,
	})
	if err != nil {
		return fmt.Errorf("start replication at %s: %w", from, err)
	}
	return nil
}

// senderTimeout is the server's wal_sender_timeout; 0 means none.
func senderTimeout(ctx context.Context, conn *pgx.Conn) (time.Duration, error) {
	var millis int64
	err := conn.QueryRow(ctx, `SELECT setting::bigint FROM pg_settings WHERE name = 'wal_sender_timeout'`).Scan(&millis)
	if err != nil {
		return 0, fmt.Errorf("read wal_sender_timeout: %w", err)
	}
	return time.Duration(millis) * time.Millisecond, nil
}

// stream runs the three parts of a connection: receiving, feedback, and, in this goroutine, decoding.
func (r *Reader) stream(ctx context.Context, conn *pgconn.PgConn, wire *wire, interval time.Duration) error {
	running, cancel := context.WithCancelCause(ctx)
	defer cancel(errDone)
	q := newQueue(r.cfg.QueueBytes)
	received, sent := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(received)
		q.close(r.receive(running, conn, wire, q))
	}()
	go func() {
		defer close(sent)
		if err := r.feedback.run(running, conn, interval, r.cfg.ReceiveTimeout); err != nil {
			cancel(err)
		}
	}()
	err := r.decode(ctx, running, q)
	cancel(errDone)
	// Reading is interrupted; writing ends by itself, within its deadline.
	deadlineErr := conn.Conn().SetReadDeadline(time.Now())
	if writeErr := conn.Conn().SetWriteDeadline(time.Now().Add(closeTimeout)); deadlineErr == nil {
		deadlineErr = writeErr
	}
	<-received
	<-sent
	if ctx.Err() != nil && deadlineErr == nil {
		// Stopping in order: the last acknowledged position spares a repetition after the next start.
		if sendErr := sendStatus(context.Background(), conn, pglogrepl.LSN(r.feedback.acknowledged.Load()), false, closeTimeout); sendErr != nil {
			r.log.Debug("last status not sent", "error", sendErr)
		}
	}
	return err
}

// receive moves frames from the connection to the queue until the connection or ctx ends. It returns why.
func (r *Reader) receive(ctx context.Context, conn *pgconn.PgConn, wire *wire, q *queue) error {
	rc := receiver{read: wire.stream}
	for {
		if err := conn.Conn().SetReadDeadline(time.Now().Add(r.cfg.ReceiveTimeout)); err != nil {
			return fmt.Errorf("receive: %w", err)
		}
		if ctx.Err() != nil { // asked after the deadline was set: whoever ends ctx sets one in the past next
			return context.Cause(ctx)
		}
		frames, err := rc.next()
		if len(frames) > 0 {
			r.feedback.heard.Store(true)
			r.answerKeepalives(frames)
			if !q.push(ctx.Done(), frames) {
				return context.Cause(ctx)
			}
		}
		if err != nil {
			return fmt.Errorf("receive: %w", err)
		}
	}
}

// answerKeepalives has a status sent when the server asks for one. That cannot wait until the frame is decoded.
func (r *Reader) answerKeepalives(frames []byte) {
	for len(frames) > 0 {
		kind, body, rest := splitFrame(frames)
		frames = rest
		if kind == frameCopyData && len(body) == 18 && body[0] == pglogrepl.PrimaryKeepaliveMessageByteID && body[17] != 0 {
			r.feedback.status()
		}
	}
}

// decode makes deliveries of what the queue holds until the queue's connection or ctx ends. Everything that
// waits is taken; when nothing more waits, what is complete is delivered.
func (r *Reader) decode(ctx, running context.Context, q *queue) error {
	var segments [][]byte
	var keepalive bool
	for {
		var err error
		segments, err = q.take(segments)
		if len(segments) == 0 {
			if ferr := r.assembler.flush(ctx, false); ferr != nil {
				return ferr
			}
			r.feedback.delivered(r.assembler.reached)
			if keepalive {
				keepalive = false
				r.feedback.answered()
			}
			if err != nil {
				return err
			}
			select {
			case <-q.ready:
				continue
			case <-running.Done():
				return context.Cause(running)
			}
		}
		for _, segment := range segments {
			answered, err := r.decodeFrames(ctx, segment)
			if err != nil {
				return err
			}
			keepalive = keepalive || answered
		}
	}
}

// decodeFrames hands the messages in b to the assembler. It says whether a keepalive was among them.
func (r *Reader) decodeFrames(ctx context.Context, b []byte) (keepalive bool, err error) {
	var m message
	for len(b) > 0 {
		kind, body, rest := splitFrame(b)
		b = rest
		switch kind {
		case frameCopyData:
			if len(body) == 0 {
				return keepalive, fmt.Errorf("%w: empty copy data", ErrProtocol)
			}
			switch body[0] {
			case pglogrepl.XLogDataByteID:
				err = r.decodeData(ctx, body[1:], &m)
			case pglogrepl.PrimaryKeepaliveMessageByteID:
				keepalive = true
				err = r.decodeKeepalive(body[1:])
			default:
				err = fmt.Errorf("%w: copy data of kind %q", ErrProtocol, body[0])
			}
		case frameError:
			var response pgproto3.ErrorResponse
			if err = response.Decode(body); err == nil {
				err = pgconn.ErrorResponseToPgError(&response)
			}
		case frameCopyDone:
			err = errStreamEnded
		case frameNotice, frameParameterStatus, frameCommandComplete, frameReadyForQuery:
		default:
			err = fmt.Errorf("%w: frame of kind %q", ErrProtocol, kind)
		}
		if err != nil {
			return keepalive, err
		}
	}
	return keepalive, nil
}

// decodeData decodes the payload of an XLogData message: position, server WAL end and clock, then the plugin's
// message.
func (r *Reader) decodeData(ctx context.Context, b []byte, m *message) error {
	const header = 24
	if len(b) < header {
		return fmt.Errorf("%w: log data of %d bytes", ErrProtocol, len(b))
	}
	lsn, sent := binary.BigEndian.Uint64(b), int64(binary.BigEndian.Uint64(b[16:]))
	if err := decodeMessage(b[header:], m); err != nil {
		return fmt.Errorf("at %s: %w", pglogrepl.LSN(lsn), err)
	}
	raise(&r.received, lsn)
	raise(&r.walEnd, binary.BigEndian.Uint64(b[8:]))
	return r.assembler.message(ctx, m, len(b)-header, sent)
}

func (r *Reader) decodeKeepalive(b []byte) error {
	k, err := pglogrepl.ParsePrimaryKeepaliveMessage(b)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	raise(&r.received, uint64(k.ServerWALEnd))
	raise(&r.walEnd, uint64(k.ServerWALEnd))
	r.keepalive.Store(&Keepalive{WALEnd: k.ServerWALEnd, Time: time.Now()})
	r.assembler.keepalive(k.ServerWALEnd, k.ReplyRequested)
	return nil
}

// resolve turns a Relation message into a registered table definition. The catalog is asked each time, because
// a primary key may change without the message changing; the registrar only when the definition is new.
func (r *Reader) resolve(ctx context.Context, catalog *pgx.Conn, definition []byte) (*row.Schema, error) {
	rel, err := decodeRelation(definition)
	if err != nil {
		return nil, err
	}
	var known []*row.Schema
	if registrar, ok := r.schemas.(interface {
		Versions(oid uint32) []*row.Schema
	}); ok {
		known = registrar.Versions(rel.oid)
	}
	table, err := describe(ctx, catalog, r.cfg.Publication, rel, known)
	if err != nil {
		return nil, fmt.Errorf("describe %s.%s: %w", rel.namespace, rel.name, err)
	}
	if known := r.registered[rel.oid]; known != nil && sameDefinition(known, table) {
		return known, nil
	}
	registered, err := r.schemas.Register(ctx, table)
	if err != nil {
		return nil, fatal{fmt.Errorf("register %s: %w", table.QualifiedName(), err)}
	}
	r.registered[rel.oid] = registered
	return registered, nil
}

// sameDefinition compares definitions without what the registrar gave.
func sameDefinition(registered, described *row.Schema) bool {
	plain := *registered
	plain.ID, plain.Version = described.ID, described.Version
	return reflect.DeepEqual(&plain, described)
}
