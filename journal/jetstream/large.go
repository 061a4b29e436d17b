package jetstream

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/lanternist/lanternist/backoff"
	"github.com/lanternist/lanternist/journal"
)

// An entry over the server's max_payload is cut into pieces, which are messages of a stream of their own, and the journal's
// stream has a claim check in its place. The pieces are stored before the claim check is, so that there is never a claim
// check without its pieces; pieces without a claim check are what a crash left, and go with the entries around them. Whoever
// reads the log sees no difference.
//
//	STREAM-PIECES   subject STREAM.pieces.<sequence of the entry>.<name>; header Lanternist-Piece: 0, 1, …
//	claim check     header Lanternist-Claim: <name>; data, big-endian: where the first piece is in its stream (8),
//	                pieces (4), length of the entry (8), its crc32c (4)
//
// The name is made anew for each attempt, so that what another writer or an attempt before has left is not taken for ours.
const (
	piecesSuffix = "-PIECES"
	headerClaim  = "Lanternist-Claim"
	headerPiece  = "Lanternist-Piece"
	claimSize    = 24
	// maxEntry is what the largest change that Postgres can send becomes, with its before-image: each is less than 1 GiB.
	maxEntry = math.MaxInt32
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// claim is what the journal's stream has in the place of a large entry.
type claim struct {
	name          string
	first, length uint64
	pieces, crc   uint32
}

func (c *claim) message(subject string) *nats.Msg {
	msg := nats.NewMsg(subject)
	msg.Header.Set(headerClaim, c.name)
	be := binary.BigEndian
	msg.Data = be.AppendUint64(make([]byte, 0, claimSize), c.first)
	msg.Data = be.AppendUint32(msg.Data, c.pieces)
	msg.Data = be.AppendUint64(msg.Data, c.length)
	msg.Data = be.AppendUint32(msg.Data, c.crc)
	return msg
}

// readClaim says whether a message is a claim check.
func readClaim(msg *jetstream.RawStreamMsg) (c claim, ok bool, err error) {
	if c.name = msg.Header.Get(headerClaim); c.name == "" {
		return c, false, nil
	}
	be := binary.BigEndian
	if len(msg.Data) != claimSize || be.Uint64(msg.Data[12:]) > maxEntry {
		return c, false, fmt.Errorf("%w: the claim check of entry %d has %d bytes", journal.ErrCorrupt, msg.Sequence, len(msg.Data))
	}
	c.first, c.pieces, c.length, c.crc = be.Uint64(msg.Data), be.Uint32(msg.Data[8:]), be.Uint64(msg.Data[12:]), be.Uint32(msg.Data[20:])
	return c, true, nil
}

// pieceSubject is the subject of an entry's pieces.
func (l *Log) pieceSubject(sequence uint64, name string) string {
	return l.name + ".pieces." + strconv.FormatUint(sequence, 10) + "." + name
}

// openPieces finds the stream of pieces, and makes it when it is wanted and not there. Without it, it is nil.
func (l *Log) openPieces(ctx context.Context, wanted bool) (jetstream.Stream, error) {
	l.piecesMu.Lock()
	defer l.piecesMu.Unlock()
	if l.pieces != nil {
		return l.pieces, nil
	}
	stream, err := l.js.Stream(ctx, l.name+piecesSuffix)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		if !wanted {
			return nil, nil
		}
		stream, err = l.js.CreateStream(ctx, jetstream.StreamConfig{
			Name:        l.name + piecesSuffix,
			Description: "Pieces of the Lanternist journal's large entries",
			Subjects:    []string{l.name + ".pieces.>"},
			Retention:   jetstream.LimitsPolicy,
			Discard:     jetstream.DiscardNew,
			Storage:     jetstream.FileStorage,
			MaxMsgs:     -1,
			MaxBytes:    -1,
			Replicas:    l.replicas,
		})
	}
	if err != nil {
		return nil, fmt.Errorf("stream of large entries: %w", err)
	}
	l.pieces = stream
	return stream, nil
}

// storePieces stores the pieces of an entry and returns its claim check. It tries again until ctx ends.
func (l *Log) storePieces(ctx context.Context, sequence uint64, entry []byte) (*claim, error) {
	retry := backoff.New(backoff.Config{Min: retryDelayMin, Max: retryDelayMax})
	for {
		if _, err := l.openPieces(ctx, true); err == nil {
			break
		} else if errors.Is(err, nats.ErrConnectionClosed) {
			return nil, closedError(err)
		} else if waitErr := retry.Wait(ctx); waitErr != nil {
			return nil, fmt.Errorf("%w: %w", waitErr, err)
		}
	}
	c := &claim{name: rand.Text(), length: uint64(len(entry)), crc: crc32.Checksum(entry, castagnoli)}
	for rest := entry; len(rest) > 0; c.pieces++ {
		piece := rest[:min(len(rest), l.most)]
		rest = rest[len(piece):]
		at, err := l.storePiece(ctx, sequence, c, piece)
		if err != nil {
			return nil, fmt.Errorf("store piece %d of large entry %d: %w", c.pieces, sequence, err)
		}
		if c.pieces == 0 {
			c.first = at
		}
	}
	return c, nil
}

// storePiece stores the next piece of c, once: the server knows a repetition by its message ID.
func (l *Log) storePiece(ctx context.Context, sequence uint64, c *claim, piece []byte) (at uint64, err error) {
	msg := nats.NewMsg(l.pieceSubject(sequence, c.name))
	msg.Header.Set(headerPiece, strconv.FormatUint(uint64(c.pieces), 10))
	msg.Data = piece
	retry := backoff.New(backoff.Config{Min: retryDelayMin, Max: retryDelayMax})
	for {
		attempt, cancel := context.WithTimeout(ctx, requestTimeout)
		ack, err := l.js.PublishMsg(attempt, msg, jetstream.WithExpectStream(l.name+piecesSuffix),
			jetstream.WithMsgID(c.name+"."+strconv.FormatUint(uint64(c.pieces), 10)))
		cancel()
		switch {
		case err == nil:
			return ack.Sequence, nil
		case errors.Is(err, nats.ErrConnectionClosed):
			return 0, closedError(err)
		case errors.Is(err, nats.ErrMaxPayload):
			return 0, fmt.Errorf("%w: %w", journal.ErrTooLarge, err)
		}
		l.log.Warn("piece of a large journal entry not acknowledged, trying again", "sequence", sequence, "piece", c.pieces, "error", err)
		if waitErr := retry.Wait(ctx); waitErr != nil {
			return 0, fmt.Errorf("%w: %w", waitErr, err)
		}
	}
}

// readPieces puts a large entry together.
func (l *Log) readPieces(ctx context.Context, sequence uint64, c *claim) ([]byte, error) {
	stream, err := l.openPieces(ctx, false)
	if err != nil {
		return nil, closedError(err)
	}
	if stream == nil {
		return nil, fmt.Errorf("%w: large entry %d: stream %s is gone", journal.ErrCorrupt, sequence, l.name+piecesSuffix)
	}
	entry := make([]byte, 0, c.length)
	subject := l.pieceSubject(sequence, c.name)
	for at, next := c.first, uint32(0); next < c.pieces; {
		msg, err := stream.GetMsg(ctx, at, jetstream.WithGetMsgSubject(subject))
		switch {
		case errors.Is(err, jetstream.ErrMsgNotFound):
			return nil, l.missing(ctx, sequence, next)
		case err != nil:
			return nil, closedError(err)
		}
		at = msg.Sequence + 1
		if msg.Header.Get(headerPiece) != strconv.FormatUint(uint64(next), 10) {
			continue // a repetition that came after the server had forgotten the first
		}
		if uint64(len(entry)+len(msg.Data)) > c.length {
			break
		}
		entry = append(entry, msg.Data...)
		next++
	}
	if sum := crc32.Checksum(entry, castagnoli); uint64(len(entry)) != c.length || sum != c.crc {
		return nil, fmt.Errorf("%w: large entry %d: its pieces have %d bytes with checksum %08x, want %d with %08x",
			journal.ErrCorrupt, sequence, len(entry), sum, c.length, c.crc)
	}
	return entry, nil
}

// missing is the error of an entry of which a piece is not there: it was trimmed meanwhile, or it is damaged.
func (l *Log) missing(ctx context.Context, sequence uint64, piece uint32) error {
	first, _, err := l.Bounds(ctx)
	if err != nil {
		return err
	}
	if sequence < first {
		return journal.ErrNotFound
	}
	return fmt.Errorf("%w: large entry %d: piece %d is not in stream %s", journal.ErrCorrupt, sequence, piece, l.name+piecesSuffix)
}

// trimPieces removes the pieces of the entries before a sequence, also those that no entry claims.
func (l *Log) trimPieces(ctx context.Context, before uint64) error {
	stream, err := l.openPieces(ctx, false)
	if err != nil || stream == nil {
		return err
	}
	for {
		info, err := stream.Info(ctx)
		if err != nil || info.State.Msgs == 0 {
			return err
		}
		msg, err := stream.GetMsg(ctx, info.State.FirstSeq)
		if err != nil {
			return err
		}
		text, _, _ := strings.Cut(strings.TrimPrefix(msg.Subject, l.name+".pieces."), ".")
		sequence, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			return fmt.Errorf("piece %d of stream %s has subject %s", msg.Sequence, l.name+piecesSuffix, msg.Subject)
		}
		if sequence >= before {
			return nil
		}
		if err := stream.Purge(ctx, jetstream.WithPurgeSubject(l.name+".pieces."+text+".>")); err != nil {
			return err
		}
	}
}
