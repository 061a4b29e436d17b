package stream

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/lanternist/lanternist/event"
	"github.com/lanternist/lanternist/journal"
	"github.com/lanternist/lanternist/projectors"
)

// Range says which transactions are meant: those that commit at From or later, and at To or before. A bound that is an offset
// means the transaction that its event belongs to. To is the journal's end when it is End(), and is not the Beginning.
type Range struct{ From, To Position }

// Span is a range of one journal. The zero value is empty.
type Span struct {
	After event.Offset // the first event is the first after it
	Last  event.Offset // the last event is at it or before
	// Since and Until, where they are not zero, leave out what did not commit within, both included: commit times do not follow
	// the order of commits exactly.
	Since, Until time.Time
}

// Forever is the end of a span that has none.
const Forever = event.Offset(1<<63 - 1)

// clockSlack is how far the source's clock may go back without a transaction of a time range being missed.
const clockSlack = time.Minute

// Resolve finds a range in a journal as it is now. Only transactions that are in it to their end are part of it. A range that is
// held no longer, or not in full, is a projectors.NotRetainedError, which names what is.
func Resolve(ctx context.Context, j *journal.Journal, r Range) (Span, error) {
	if r.From.kind == atOffset && r.To.kind == atOffset && r.To.offset < r.From.offset {
		return Span{}, nil // also when both are in one transaction
	}
	after, err := begin(ctx, j, r.From)
	if err != nil {
		return Span{}, fmt.Errorf("find %s: %w", r.From, err)
	}
	s, err := UpTo(ctx, j, r.To)
	s.After = after
	if r.From.kind == atTime {
		s.Since = r.From.time
	}
	return s, err
}

// UpTo is the span from the first event that there ever was to a position.
func UpTo(ctx context.Context, j *journal.Journal, to Position) (s Span, err error) {
	if s.Last, err = end(ctx, j, to); err != nil {
		return Span{}, fmt.Errorf("find %s: %w", to, err)
	}
	if to.kind == atTime {
		s.Until = to.time
	}
	return s, nil
}

// resolveReplay is Resolve for what the API has resolved to offsets.
func resolveReplay(ctx context.Context, j *journal.Journal, what projectors.ReplayRange) (Span, error) {
	r := Range{From: At(what.From), To: End()}
	switch {
	case !what.Until.IsZero():
		r.To = AtTime(what.Until)
	case what.To != 0:
		r.To = At(what.To)
	}
	s, err := Resolve(ctx, j, r)
	s.Since = what.Since
	return s, err
}

// begin is the offset after which a position's first transaction begins.
func begin(ctx context.Context, j *journal.Journal, p Position) (event.Offset, error) {
	switch p.kind {
	case atEnd:
		return j.Head().Offset, nil
	case atLSN:
		after, err := j.SeekLSN(ctx, p.lsn)
		return after, notRetained(ctx, j, 0, err)
	case atTime:
		after, err := j.SeekTime(ctx, p.time)
		return after, notRetained(ctx, j, 0, err)
	case atOffset:
		if head := j.Head().Offset; p.offset > head+1 {
			return 0, fmt.Errorf("%w: it ends at offset %d", journal.ErrBehind, uint64(head))
		}
		if err := j.Retains(p.offset); err != nil {
			return 0, notRetained(ctx, j, p.offset, err)
		}
		return beginOf(ctx, j, p.offset)
	default:
		return oldestWhole(ctx, j)
	}
}

// end is the offset of the last event of a position's last transaction.
func end(ctx context.Context, j *journal.Journal, p Position) (last event.Offset, err error) {
	switch p.kind {
	case atLSN:
		last, err = j.SeekLSN(ctx, p.lsn+1)
	case atTime:
		last, err = j.SeekTime(ctx, p.time.Add(clockSlack))
	case atOffset:
		last, err = endOf(ctx, j, p.offset)
	default:
		last = j.Head().Offset
	}
	if err != nil {
		return 0, notRetained(ctx, j, 0, err)
	}
	unended, err := unended(ctx, j)
	return min(last, unended), err
}

// unended is the offset before the last transaction when that is not in the journal to its end yet; else the journal's end.
func unended(ctx context.Context, j *journal.Journal) (event.Offset, error) {
	head := j.Head()
	if head.Complete {
		return head.Offset, nil
	}
	return beginOf(ctx, j, head.Offset)
}

// beginOf is the offset after which the transaction begins that the event of an offset belongs to, or that follows it when there
// is no such event.
func beginOf(ctx context.Context, j *journal.Journal, offset event.Offset) (event.Offset, error) {
	sequence := max(offset.Sequence(), j.First())
	batch, err := j.Read(ctx, sequence)
	if errors.Is(err, journal.ErrNotFound) {
		return j.Head().Offset, nil // one past the end
	}
	if err != nil {
		return 0, notRetained(ctx, j, offset, err)
	}
	index := 0
	for i := range batch.Parts {
		p := &batch.Parts[i]
		goesOn := i == len(batch.Parts)-1 && !p.Complete
		if event.NewOffset(sequence, index+len(p.Events)) > offset || goesOn {
			return beginOfPart(ctx, j, batch, i, index)
		}
		index += len(p.Events)
	}
	if before := event.NewOffset(sequence, 0) - 1; offset <= before && index == 0 {
		return before, nil
	}
	return batch.Last(), nil
}

// beginOfPart is the offset after which the transaction begins that a part belongs to, which comes after so many events of its
// batch.
func beginOfPart(ctx context.Context, j *journal.Journal, batch *journal.Batch, part, index int) (event.Offset, error) {
	for batch.Parts[part].First != 0 {
		for part == 0 { // it began in a batch before
			sequence := batch.Sequence - 1
			var err error
			if batch, err = j.Read(ctx, sequence); err != nil {
				return 0, notRetained(ctx, j, event.NewOffset(sequence, 0), err)
			}
			part, index = len(batch.Parts), batch.Len()
		}
		part--
		index -= len(batch.Parts[part].Events)
	}
	return event.NewOffset(batch.Sequence, index) - 1, nil
}

// endOf is the offset of the last event of the transaction that the event of an offset belongs to.
func endOf(ctx context.Context, j *journal.Journal, offset event.Offset) (event.Offset, error) {
	if head := j.Head().Offset; offset >= head {
		return head, nil
	}
	begun := false
	for sequence := max(offset.Sequence(), j.First()); ; sequence++ {
		batch, err := j.Read(ctx, sequence)
		if errors.Is(err, journal.ErrNotFound) {
			return j.Head().Offset, nil // it has not ended
		}
		if err != nil {
			return 0, err
		}
		index := 0
		for i := range batch.Parts {
			p := &batch.Parts[i]
			if !begun && event.NewOffset(sequence, index) > offset {
				return offset, nil
			}
			index += len(p.Events)
			begun = begun || event.NewOffset(sequence, index) > offset || i == len(batch.Parts)-1 && !p.Complete
			if begun && p.Complete {
				return max(event.NewOffset(sequence, index)-1, offset), nil
			}
		}
	}
}

// oldestWhole is the offset after which the first transaction begins that is there from its first event on.
func oldestWhole(ctx context.Context, j *journal.Journal) (event.Offset, error) {
	for sequence := j.First(); ; sequence++ {
		batch, err := j.Read(ctx, sequence)
		if errors.Is(err, journal.ErrNotFound) {
			return j.Head().Offset, nil
		}
		if err != nil {
			return 0, notRetained(ctx, j, event.NewOffset(sequence, 0), err)
		}
		index := 0
		for i := range batch.Parts {
			if batch.Parts[i].First == 0 {
				return event.NewOffset(sequence, index) - 1, nil
			}
			index += len(batch.Parts[i].Events)
		}
	}
}

// notRetained says of an error of the journal what there is, when what was asked for is not there any more. from is 0 when it
// has no offset.
func notRetained(ctx context.Context, j *journal.Journal, from event.Offset, err error) error {
	if !errors.Is(err, journal.ErrTrimmed) {
		return err
	}
	oldest, _, finding := j.Oldest(ctx)
	if finding != nil {
		return errors.Join(err, finding)
	}
	return &projectors.NotRetainedError{From: from, Oldest: oldest}
}
