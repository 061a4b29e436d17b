package jetstream

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/lanternist/lanternist/backoff"
	"github.com/lanternist/lanternist/journal"
)

// Append implements journal.Log. It tries again until the entry is stored, someone else has written, or ctx
// ends: while the server cannot be reached an append waits.
func (l *Log) Append(ctx context.Context, sequence uint64, entry []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.closed:
		return journal.ErrClosed
	case l.broken != nil:
		return fmt.Errorf("%w: %w", journal.ErrBroken, l.broken)
	case ctx.Err() != nil:
		return ctx.Err()
	case len(entry) > maxEntry:
		return fmt.Errorf("%w: %d bytes, at most %d", journal.ErrTooLarge, len(entry), maxEntry)
	}
	if err := l.follows(ctx, sequence); err != nil {
		return err
	}
	msg := nats.NewMsg(l.subject)
	msg.Data = entry
	if len(entry) > l.most {
		c, err := l.storePieces(ctx, sequence, entry)
		if err != nil {
			return err // nothing of it is in the journal
		}
		msg = c.message(l.subject)
	}
	if err := l.store(ctx, sequence, entry, msg); err != nil {
		if !errors.Is(err, journal.ErrTooLarge) {
			l.broken = err
		}
		return err
	}
	l.last, l.empty = sequence, false
	return nil
}

// follows checks that sequence is the next, and makes it so in a stream that is empty.
func (l *Log) follows(ctx context.Context, sequence uint64) error {
	if sequence == l.last+1 {
		return nil
	}
	if !l.empty {
		return fmt.Errorf("%w: the last entry is %d, cannot append %d", journal.ErrFenced, l.last, sequence)
	}
	if sequence <= l.last {
		return fmt.Errorf("%w: the stream has held entries up to %d, which are gone, and cannot begin again at %d", journal.ErrBehind, l.last, sequence)
	}
	if err := l.stream.Purge(ctx, jetstream.WithPurgeSequence(sequence)); err != nil {
		return fmt.Errorf("begin at %d: %w", sequence, err)
	}
	l.last = sequence - 1
	return nil
}

// store publishes the entry, or its claim check, as msg until it is known to be stored.
func (l *Log) store(ctx context.Context, sequence uint64, entry []byte, msg *nats.Msg) error {
	retry := backoff.New(backoff.Config{Min: retryDelayMin, Max: retryDelayMax})
	for {
		failure := l.publish(ctx, sequence, msg)
		if failure == nil {
			return nil
		}
		stored, err := l.resolve(ctx, sequence, entry, failure)
		if stored || err != nil {
			return err
		}
		l.log.Warn("journal append not acknowledged, trying again", "sequence", sequence, "error", failure)
		if err := retry.Wait(ctx); err != nil {
			return fmt.Errorf("%w: %w", err, failure)
		}
	}
}

// publish sends msg once.
func (l *Log) publish(ctx context.Context, sequence uint64, msg *nats.Msg) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	ack, err := l.js.PublishMsg(ctx, msg, jetstream.WithExpectStream(l.name), jetstream.WithExpectLastSequence(sequence-1))
	if err != nil {
		return err
	}
	if ack.Sequence != sequence {
		return fmt.Errorf("%w: entry %d was stored as %d", journal.ErrFenced, sequence, ack.Sequence)
	}
	return nil
}

// resolve finds out what became of an entry after a publish that failed: it is stored after all, it can never
// be (an error), or it is to be tried again.
func (l *Log) resolve(ctx context.Context, sequence uint64, entry []byte, failure error) (stored bool, err error) {
	var api *jetstream.APIError
	switch {
	case errors.Is(failure, journal.ErrFenced):
		return false, failure
	case errors.Is(failure, nats.ErrMaxPayload),
		errors.As(failure, &api) && api.ErrorCode == jetstream.JSErrCodeStreamMessageExceedsMaximum:
		return false, fmt.Errorf("%w: %w", journal.ErrTooLarge, failure)
	case errors.Is(failure, nats.ErrConnectionClosed):
		return false, fmt.Errorf("%w: %w", journal.ErrClosed, failure)
	case ctx.Err() != nil:
		return false, fmt.Errorf("%w: %w", ctx.Err(), failure)
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	info, err := l.stream.Info(ctx)
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound):
		return false, fmt.Errorf("the stream is gone: %w", err)
	case err != nil:
		return false, nil // not known now: the caller tries again
	case info.State.LastSeq == sequence-1:
		return false, nil
	case info.State.LastSeq < sequence-1:
		return false, fmt.Errorf("%w: the stream ends with %d, entry %d had been acknowledged", journal.ErrBehind, info.State.LastSeq, sequence-1)
	}
	there, err := l.Read(ctx, sequence)
	switch {
	case errors.Is(err, journal.ErrNotFound), err == nil && !bytes.Equal(there, entry):
		return false, fmt.Errorf("%w: it has appended up to %d: %w", journal.ErrFenced, info.State.LastSeq, failure)
	case err != nil:
		return false, nil // not known now: the caller tries again
	}
	return true, nil
}
