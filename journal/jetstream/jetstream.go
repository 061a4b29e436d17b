// Package jetstream is the journal's engine beyond one machine: a NATS JetStream stream with one subject, in
// which an entry's stream sequence is its sequence.
//
// Invariants: each append names the sequence it expects to follow, so that of two writers one is refused; an
// append whose acknowledgement was lost is looked up before it is sent again. The stream never drops an entry
// by itself: one whose limits would is refused. How durable an acknowledged entry is, is the server's matter:
// sync_interval: always, or replicas on machines that do not fail together.
package jetstream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/lanternist/lanternist/internal/natsconn"
	"github.com/lanternist/lanternist/journal"
)

// Config of a log.
type Config struct {
	// Stream is the stream's name. Default "LANTERNIST".
	Stream string
	// Replicas is how many servers keep the stream when it is made, 1 to 5. Default 1.
	Replicas int
}

const (
	// headerRoom is what an append needs of the server's max_payload beside the entry.
	headerRoom = 1024
	// requestTimeout bounds one request; a failed one is looked into and tried again.
	requestTimeout = 5 * time.Second
	retryDelayMin  = 20 * time.Millisecond
	retryDelayMax  = 2 * time.Second
)

// Log is an open log. It implements journal.Log.
type Log struct {
	conn    *nats.Conn
	js      jetstream.JetStream
	stream  jetstream.Stream
	name    string
	subject string
	log     *slog.Logger
	most    int // bytes of an entry that is one message

	replicas int
	piecesMu sync.Mutex
	pieces   jetstream.Stream // of large entries; nil until it is needed, see large.go

	mu     sync.Mutex // held by Append and Close
	last   uint64     // last sequence that this writer knows of
	empty  bool       // there was no entry when the log was opened, and none has been appended
	broken error
	closed bool
}

// Open opens the stream on the server at url, creating it when it is not there.
func Open(ctx context.Context, url string, cfg Config, log *slog.Logger) (*Log, error) {
	if cfg.Stream == "" {
		cfg.Stream = "LANTERNIST"
	}
	l, err := open(ctx, url, cfg, log)
	if err != nil {
		return nil, fmt.Errorf("open journal stream %s: %w", cfg.Stream, err)
	}
	return l, nil
}

func open(ctx context.Context, url string, cfg Config, log *slog.Logger) (*Log, error) {
	conn, err := natsconn.Connect(url, "lanternist journal "+cfg.Stream, log)
	if err != nil {
		return nil, err
	}
	l := &Log{conn: conn, name: cfg.Stream, subject: cfg.Stream + ".batches", log: log, replicas: max(cfg.Replicas, 1)}
	if err := l.bind(ctx, cfg); err != nil {
		conn.Close()
		return nil, err
	}
	return l, nil
}

// Remove deletes a stream, and all that is in it; it is no error when there is none.
func Remove(ctx context.Context, url, stream string, log *slog.Logger) error {
	conn, err := natsconn.Connect(url, "lanternist journal "+stream, log)
	if err != nil {
		return fmt.Errorf("remove journal stream %s: %w", stream, err)
	}
	defer conn.Close()
	js, err := jetstream.New(conn)
	if err == nil {
		err = js.DeleteStream(ctx, stream)
	}
	if err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
		return fmt.Errorf("remove journal stream %s: %w", stream, err)
	}
	return nil
}

// bind finds or makes the stream, and checks that it keeps what it is given.
func (l *Log) bind(ctx context.Context, cfg Config) error {
	var err error
	if l.js, err = jetstream.New(l.conn); err != nil {
		return err
	}
	l.stream, err = l.js.Stream(ctx, cfg.Stream)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		l.stream, err = l.js.CreateStream(ctx, jetstream.StreamConfig{
			Name:        cfg.Stream,
			Description: "Lanternist journal",
			Subjects:    []string{l.subject},
			Retention:   jetstream.LimitsPolicy,
			Discard:     jetstream.DiscardNew,
			Storage:     jetstream.FileStorage,
			MaxMsgs:     -1,
			MaxBytes:    -1,
			Replicas:    max(cfg.Replicas, 1),
			DenyDelete:  true,
		})
	}
	if err != nil {
		return err
	}
	info, err := l.stream.Info(ctx)
	if err != nil {
		return err
	}
	if err := l.checkStream(&info.Config); err != nil {
		return err
	}
	l.most = int(l.conn.MaxPayload()) - headerRoom
	if size := int(info.Config.MaxMsgSize); size > 0 {
		l.most = min(l.most, size-headerRoom)
	}
	if l.most < 64<<10 {
		return fmt.Errorf("the server takes messages of %d bytes, which leaves %d for a batch: set max_payload to at least 1MB", l.conn.MaxPayload(), l.most)
	}
	l.last, l.empty = info.State.LastSeq, info.State.Msgs == 0
	return nil
}

// checkStream refuses a stream that drops entries by itself, or is not for appending to: all reasons at once.
func (l *Log) checkStream(c *jetstream.StreamConfig) error {
	var problems []string
	refuse := func(bad bool, format string, args ...any) {
		if bad {
			problems = append(problems, fmt.Sprintf(format, args...))
		}
	}
	refuse(len(c.Subjects) != 1 || c.Subjects[0] != l.subject, "its subjects are %q, want %q alone", c.Subjects, l.subject)
	refuse(c.MaxAge > 0, "max_age %s drops batches: set it to 0, journal.retention.age bounds the age", c.MaxAge)
	refuse(c.MaxMsgsPerSubject > 0, "max_msgs_per_subject %d drops batches: set it to -1", c.MaxMsgsPerSubject)
	refuse(c.Discard != jetstream.DiscardNew && (c.MaxMsgs > 0 || c.MaxBytes > 0),
		"it discards old batches at its limits: set discard to new")
	refuse(c.Retention != jetstream.LimitsPolicy, "its retention is %s, want limits", c.Retention)
	refuse(c.Storage != jetstream.FileStorage, "its storage is %s, want file", c.Storage)
	refuse(c.NoAck, "it does not acknowledge")
	refuse(c.Sealed, "it is sealed")
	refuse(c.DenyPurge, "it denies purging, which retention needs")
	refuse(c.Mirror != nil || len(c.Sources) > 0, "it copies other streams")
	if len(problems) == 0 {
		return nil
	}
	return fmt.Errorf("the stream is not fit for a journal: %s", strings.Join(problems, "; "))
}

// Read implements journal.Log. It asks the stream's leader, which knows of every acknowledged entry.
func (l *Log) Read(ctx context.Context, sequence uint64) ([]byte, error) {
	if sequence == 0 {
		return nil, journal.ErrNotFound
	}
	msg, err := l.stream.GetMsg(ctx, sequence)
	if err != nil {
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			return nil, journal.ErrNotFound
		}
		return nil, closedError(err)
	}
	if msg.Subject != l.subject || msg.Sequence != sequence {
		return nil, fmt.Errorf("%w: the server answered with message %d of %s", journal.ErrCorrupt, msg.Sequence, msg.Subject)
	}
	c, large, err := readClaim(msg)
	if err != nil || !large {
		return msg.Data, err
	}
	return l.readPieces(ctx, sequence, &c)
}

// Bounds implements journal.Log.
func (l *Log) Bounds(ctx context.Context) (first, last uint64, err error) {
	info, err := l.stream.Info(ctx)
	if err != nil {
		return 0, 0, closedError(err)
	}
	if info.State.Msgs == 0 {
		return 0, 0, nil
	}
	return info.State.FirstSeq, info.State.LastSeq, nil
}

// Trim implements journal.Log.
func (l *Log) Trim(ctx context.Context, before uint64) error {
	first, last, err := l.Bounds(ctx)
	if err != nil {
		return err
	}
	if before = min(before, last); before <= first {
		return nil
	}
	if err := l.stream.Purge(ctx, jetstream.WithPurgeSequence(before)); err != nil {
		return closedError(err)
	}
	return closedError(l.trimPieces(ctx, before))
}

// Size implements journal.Log: what the leaders of the streams store.
func (l *Log) Size(ctx context.Context) (int64, error) {
	info, err := l.stream.Info(ctx)
	if err != nil {
		return 0, closedError(err)
	}
	size := int64(info.State.Bytes)
	stream, err := l.openPieces(ctx, false)
	if err != nil || stream == nil {
		return size, closedError(err)
	}
	if info, err = stream.Info(ctx); err != nil {
		return 0, closedError(err)
	}
	return size + int64(info.State.Bytes), nil
}

// MaxEntry implements journal.Log.
func (l *Log) MaxEntry() int { return maxEntry }

// MaxInline implements journal.Log: the server's max_payload, less the room for headers.
func (l *Log) MaxInline() int { return l.most }

// Close implements journal.Log.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	l.conn.Close()
	return nil
}

// closedError gives the client's error for a closed connection our name.
func closedError(err error) error {
	if errors.Is(err, nats.ErrConnectionClosed) {
		return journal.ErrClosed
	}
	return err
}
