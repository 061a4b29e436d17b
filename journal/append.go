package journal

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/lanternist/lanternist/event"
	"github.com/lanternist/lanternist/internal/sabotage"
)

// Append writes the parts as one batch and returns the offset of its last event, with index 0 when it has
// none. The batch is durable on return, and the offsets are set in the events that were handed in. One
// goroutine calls Append.
//
// When the size bound is reached and an active reader still needs old batches, Append waits until there is
// room, after one log line of level Error; when ctx ends first it returns ErrFull. ErrOutOfOrder,
// ErrTooLarge and an ended context leave the journal as it was, unless the next Append returns ErrBroken.
// ErrFenced, ErrBroken and any other error mean that the journal must be opened again.
func (j *Journal) Append(ctx context.Context, parts []Part) (event.Offset, error) {
	j.appending.Lock()
	defer j.appending.Unlock()
	if j.broken != nil {
		return 0, fmt.Errorf("append: %w: %w", ErrBroken, j.broken)
	}
	j.mu.RLock()
	last, closed := j.head, j.closed
	j.mu.RUnlock()
	if closed {
		return 0, fmt.Errorf("append: %w", ErrClosed)
	}
	sequence := last.sequence + 1
	batch, entry, err := j.encode(&last, parts)
	if err != nil {
		return 0, fmt.Errorf("append batch %d: %w", sequence, err)
	}
	if err := j.makeRoom(ctx, uint64(len(entry))); err != nil {
		return 0, fmt.Errorf("append batch %d: %w", sequence, err)
	}
	if err := j.engine.Append(ctx, sequence, entry); err != nil {
		// When ctx has ended the engine knows whether it has begun to write, and refuses to go on if it has.
		if !errors.Is(err, ErrTooLarge) && ctx.Err() == nil {
			j.broken = err
		}
		return 0, fmt.Errorf("append batch %d: %w", sequence, err)
	}
	index := 0
	for i := range parts {
		for k := range parts[i].Events {
			parts[i].Events[k].Offset = event.NewOffset(sequence, index)
			index++
		}
	}
	j.mu.Lock()
	j.head = batch.header
	j.recent.push(batch)
	j.wake(&j.grown)
	j.reached(false)
	j.mu.Unlock()
	if err := j.trimSometimes(ctx); err != nil {
		// The batch is durable; what could not be trimmed now is tried again with a later one.
		j.log.Error("journal not trimmed", "error", err)
	}
	return batch.Last(), nil
}

// encode checks the parts against the end of the journal and writes them as an entry, in memory of its own,
// which the decoded batch shares.
func (j *Journal) encode(last *header, parts []Part) (*Batch, []byte, error) {
	h, err := follow(last, parts)
	if err != nil {
		return nil, nil, err
	}
	size := EncodedSize(parts)
	if size > math.MaxUint32 {
		return nil, nil, fmt.Errorf("%w: %d bytes", ErrTooLarge, size)
	}
	entry := appendParts(h.append(make([]byte, 0, size)), &h, parts)
	if most := j.engine.MaxEntry(); len(entry) > most {
		return nil, nil, fmt.Errorf("%w: %d bytes, the engine takes at most %d", ErrTooLarge, len(entry), most)
	}
	seal(entry)
	// What has been read back can be read back: rows that are no rows and schemas that are not registered are
	// found before they are durable, not after.
	batch, err := decodeBatch(entry, j.schemas)
	if err != nil {
		return nil, nil, fmt.Errorf("read back: %w", err)
	}
	return batch, entry, nil
}

// follow makes the header of the batch that the parts become after the last one. It asserts the order: each
// transaction begins when the one before is complete, and events come once.
func follow(last *header, parts []Part) (header, error) {
	h := header{
		previousCRC: last.crc, sequence: last.sequence + 1, previousSequence: last.sequence, id: last.id,
		position: last.end(), appended: max(time.Now().UnixMicro(), last.appended),
		lowestCommit: last.highestCommit, highestCommit: last.highestCommit,
		firstCommitLSN: last.lastCommitLSN, firstOrdinal: last.nextOrdinal, nextOrdinal: last.nextOrdinal,
		lastCommitLSN: last.lastCommitLSN, endLSN: last.endLSN, lastXID: last.lastXID, complete: last.complete,
		parts: uint32(len(parts)),
	}
	if len(parts) == 0 {
		return header{}, errors.New("there are no parts")
	}
	events := 0
	for i := range parts {
		p := &parts[i]
		if err := h.follow(p); err != nil {
			return header{}, fmt.Errorf("part %d: %w", i, err)
		}
		at := p.CommitTime.UnixMicro()
		if i == 0 {
			h.firstCommitLSN, h.firstOrdinal, h.lowestCommit = p.CommitLSN, p.First, at
		}
		h.lowestCommit, h.highestCommit = min(h.lowestCommit, at), max(h.highestCommit, at)
		events += len(p.Events)
	}
	if events > event.MaxBatchEvents {
		return header{}, fmt.Errorf("%w: %d events, at most %d", ErrTooLarge, events, event.MaxBatchEvents)
	}
	h.events = uint32(events)
	return h, nil
}

// follow moves the end that h describes to the end of p, if p may follow.
func (h *header) follow(p *Part) error {
	switch {
	case sabotage.Off(sabotage.CommitOrder):
	case p.CommitLSN < h.lastCommitLSN, p.CommitLSN == h.lastCommitLSN && h.complete:
		return fmt.Errorf("%w: transaction %d at %s after transaction %d at %s",
			ErrOutOfOrder, p.XID, p.CommitLSN, h.lastXID, h.lastCommitLSN)
	case p.CommitLSN == h.lastCommitLSN:
		if p.XID != h.lastXID {
			return fmt.Errorf("%w: transaction %d goes on as transaction %d", ErrOutOfOrder, h.lastXID, p.XID)
		}
		if p.First < h.nextOrdinal {
			return fmt.Errorf("%w: transaction %d goes on at ordinal %d, want %d", ErrOutOfOrder, p.XID, p.First, h.nextOrdinal)
		}
	case !h.complete:
		return fmt.Errorf("%w: transaction %d begins before transaction %d is complete", ErrOutOfOrder, p.XID, h.lastXID)
	}
	next := p.First
	for i := range p.Events {
		ordinal := p.Events[i].Ordinal
		if ordinal < next || ordinal == math.MaxUint32 {
			return fmt.Errorf("%w: ordinal %d of transaction %d, want at least %d", ErrOutOfOrder, ordinal, p.XID, next)
		}
		next = ordinal + 1
	}
	if p.Complete {
		if p.EndLSN <= p.CommitLSN {
			return fmt.Errorf("%w: transaction %d at %s is complete and ends at %s", ErrOutOfOrder, p.XID, p.CommitLSN, p.EndLSN)
		}
		h.endLSN = p.EndLSN
	} else if p.EndLSN != 0 && p.EndLSN <= p.CommitLSN {
		return fmt.Errorf("%w: transaction %d at %s ends at %s", ErrOutOfOrder, p.XID, p.CommitLSN, p.EndLSN)
	}
	h.lastXID, h.lastCommitLSN, h.nextOrdinal, h.complete = p.XID, p.CommitLSN, next, p.Complete
	return nil
}
