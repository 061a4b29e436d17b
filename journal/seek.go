package journal

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pglogrepl"

	"github.com/lanternist/lanternist/event"
)

// SeekLSN returns the offset after which come exactly the transactions whose commit record is at lsn or later,
// to be given to Next; the journal's end when there are none yet. It is a TrimmedError when the transaction
// at lsn may have been trimmed.
func (j *Journal) SeekLSN(ctx context.Context, lsn pglogrepl.LSN) (event.Offset, error) {
	offset, err := j.seek(ctx,
		func(h *header) bool { return h.parts > 0 && h.lastCommitLSN >= lsn },
		func(p *Part) bool { return p.CommitLSN >= lsn },
		func(h *header) bool {
			return h.firstCommitLSN < lsn || h.firstCommitLSN == lsn && h.firstOrdinal == 0
		})
	if err != nil {
		return 0, fmt.Errorf("seek position %s: %w", lsn, err)
	}
	return offset, nil
}

// SeekTime returns the offset after which come all transactions that committed at t or later by the source's
// clock, to be given to Next; the journal's end when there are none yet. Where the clock went back, earlier
// ones come too. It is a TrimmedError when transactions of that time may have been trimmed.
func (j *Journal) SeekTime(ctx context.Context, t time.Time) (event.Offset, error) {
	at := t.UnixMicro()
	offset, err := j.seek(ctx,
		func(h *header) bool { return h.parts > 0 && h.highestCommit >= at },
		func(p *Part) bool { return p.CommitTime.UnixMicro() >= at },
		func(*header) bool { return false }) // commit times do not follow commit order exactly
	if err != nil {
		return 0, fmt.Errorf("seek time %s: %w", t.UTC().Format(time.RFC3339Nano), err)
	}
	return offset, nil
}

// seek returns the offset just before the first part of which reached holds, in the first batch of which
// contains holds. contains must hold for all later batches too. begins says whether, of a batch of which contains
// holds, it cannot hold for the batch before.
func (j *Journal) seek(ctx context.Context, contains func(*header) bool, reached func(*Part) bool, begins func(*header) bool) (event.Offset, error) {
	j.mu.RLock()
	first, head := j.first, j.head
	j.mu.RUnlock()
	past, reaches, away := j.past()
	from := first.sequence
	if reaches {
		from = past.First
	}
	sequence, err := j.search(ctx, from, head.sequence+1, contains)
	if err != nil {
		return 0, err
	}
	if sequence > head.sequence {
		return head.last(), nil
	}
	b, err := j.Read(ctx, sequence)
	if err != nil {
		return 0, err
	}
	if sequence == from && b.header.previousSequence != 0 && !begins(&b.header) {
		// The batch before might have held some of it, but is gone. The first batch of all never has events.
		if away != nil {
			return 0, away
		}
		return 0, j.trimmed()
	}
	index := 0
	for i := range b.Parts {
		if reached(&b.Parts[i]) {
			break
		}
		index += len(b.Parts[i].Events)
	}
	return event.NewOffset(sequence, index) - 1, nil
}

// search returns the first sequence in [from, to) of whose header holds is true, or to. holds must stay true
// once it is.
func (j *Journal) search(ctx context.Context, from, to uint64, holds func(*header) bool) (uint64, error) {
	if j.isArchived(from) {
		j.mu.RLock()
		first := j.first
		j.mu.RUnlock()
		if to > first.sequence && !holds(&first) {
			from = first.sequence + 1
		} else {
			return j.searchArchived(ctx, from, min(to, first.sequence), holds)
		}
	}
	for from < to {
		middle := from + (to-from)/2
		j.mu.RLock()
		b, recent := j.recent.batch(middle)
		j.mu.RUnlock()
		var h header
		if recent {
			h = b.header
		} else {
			var err error
			if h, err = j.readHeader(ctx, middle); err != nil {
				return 0, err
			}
		}
		if holds(&h) {
			to = middle
		} else {
			from = middle + 1
		}
	}
	return from, nil
}
