package journal

import (
	"context"
	"errors"
	"fmt"

	"github.com/lanternist/lanternist/event"
)

// Read returns the batch of a sequence: from memory when it is recent, else from the engine. A batch that has
// been trimmed is a TrimmedError, one that is not there yet ErrNotFound, one that cannot be read a
// CorruptError that names it and the unreadable ones after it.
func (j *Journal) Read(ctx context.Context, sequence uint64) (*Batch, error) {
	j.mu.RLock()
	b, ok := j.recent.batch(sequence)
	first, last, closed := j.first.sequence, j.head.sequence, j.closed
	j.mu.RUnlock()
	switch {
	case closed:
		return nil, fmt.Errorf("read batch %d: %w", sequence, ErrClosed)
	case ok:
		return b, nil
	case sequence < first && !j.isArchived(sequence):
		return nil, fmt.Errorf("read batch %d: %w", sequence, &TrimmedError{First: first})
	case sequence > last:
		return nil, fmt.Errorf("read batch %d: %w: the journal ends with batch %d", sequence, ErrNotFound, last)
	}
	h, entry, err := j.readEntry(ctx, sequence)
	if err == nil {
		b, err = decodeParts(h, entry, j.schemas)
	}
	if err == nil {
		return b, nil
	}
	return nil, fmt.Errorf("read batch %d: %w", sequence, j.explain(ctx, sequence, err))
}

// Next returns the first batch that holds events after an offset, or that ends a transaction without events of
// its own after it. It waits until there is one, until ctx ends, or until the journal is closed (ErrClosed).
// The batch may begin with events up to after: the reader skips them. That a batch follows the one the reader
// read before is checked by the chain. An offset beyond the journal's end is ErrBehind.
func (j *Journal) Next(ctx context.Context, after event.Offset) (*Batch, error) {
	for {
		j.mu.Lock()
		head, closed := j.head.last(), j.closed
		var grown <-chan struct{}
		if head <= after && !closed {
			grown = j.wait(&j.grown)
		}
		j.mu.Unlock()
		switch {
		case closed:
			return nil, fmt.Errorf("next after %s: %w", after, ErrClosed)
		case head > after:
			return j.following(ctx, after)
		case after.Sequence() > head.Sequence():
			return nil, fmt.Errorf("next after %s: %w: it ends at %s", after, ErrBehind, head)
		}
		select {
		case <-grown:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// following returns the batch with the first event after an offset; there is one.
func (j *Journal) following(ctx context.Context, after event.Offset) (*Batch, error) {
	sequence, crc, linked, err := j.locate(ctx, after)
	if err != nil {
		return nil, err
	}
	b, err := j.Read(ctx, sequence)
	if err != nil {
		return nil, err
	}
	if linked && b.header.previousCRC != crc {
		cause := fmt.Errorf("batch %d does not follow batch %d: it was appended after one with checksum %08x, not %08x",
			sequence, sequence-1, b.header.previousCRC, crc)
		return nil, &CorruptError{From: sequence - 1, To: sequence, Cause: cause}
	}
	j.mu.Lock()
	j.links.put(&b.header)
	j.mu.Unlock()
	return b, nil
}

// locate finds the batch with the first event after an offset. When the batch before it is known to be where
// the reader comes from, it returns that batch's checksum too.
func (j *Journal) locate(ctx context.Context, after event.Offset) (sequence uint64, crc uint32, linked bool, err error) {
	at := after.Sequence()
	j.mu.RLock()
	first := j.first
	crc, linked = j.links.get(after)
	b, recent := j.recent.batch(at)
	j.mu.RUnlock()
	switch {
	case linked:
		return at + 1, crc, true, nil
	case at < first.sequence && first.previousSequence == 0:
		return first.sequence, 0, false, nil // nothing was ever before the first batch
	case at+1 < first.sequence:
		if begin, err := j.beginning(after); err != nil || begin != 0 {
			return begin, 0, false, err
		}
	case at < first.sequence:
		return at + 1, 0, false, nil
	}
	if after.Index() == event.MaxBatchEvents-1 {
		return at + 1, 0, false, nil
	}
	var h header
	if recent {
		h = b.header
	} else if h, err = j.readHeader(ctx, at); err != nil {
		return 0, 0, false, err
	}
	if h.last() > after {
		return at, 0, false, nil
	}
	return at + 1, h.crc, true, nil
}

// readHeader reads the header of a batch from the engine.
func (j *Journal) readHeader(ctx context.Context, sequence uint64) (header, error) {
	h, _, err := j.readEntry(ctx, sequence)
	if err != nil {
		return header{}, fmt.Errorf("read batch %d: %w", sequence, j.explain(ctx, sequence, err))
	}
	return h, nil
}

// beginning says, of an offset before what is in the journal itself, whether the archive has what follows it: it is the
// sequence of the first batch of all when that follows, and 0 when the offset is in a batch that can be read.
func (j *Journal) beginning(after event.Offset) (uint64, error) {
	past, reaches, err := j.past()
	at := after.Sequence()
	switch {
	case err != nil:
		return 0, fmt.Errorf("next after %s: %w", after, err)
	case reaches && at >= past.First:
		return 0, nil
	case reaches && (past.Beginning || at+1 == past.First):
		return past.First, nil
	}
	return 0, fmt.Errorf("next after %s: %w", after, j.trimmed())
}

// readEntry reads an entry, from the engine or from the archive, and checks that it is the one it should be.
func (j *Journal) readEntry(ctx context.Context, sequence uint64) (header, []byte, error) {
	if j.isArchived(sequence) {
		return j.readArchived(ctx, sequence)
	}
	entry, err := j.engine.Read(ctx, sequence)
	if err == nil {
		var h header
		h, err = j.checkEntry(sequence, entry)
		if err == nil {
			return h, entry, nil
		}
	}
	if damage(err) && j.isArchived(sequence) { // it was trimmed meanwhile
		return j.readArchived(ctx, sequence)
	}
	return header{}, nil, err
}

// checkEntry checks that an entry is the one it should be.
func (j *Journal) checkEntry(sequence uint64, entry []byte) (header, error) {
	h, err := readHeader(entry)
	if err != nil {
		return header{}, err
	}
	if h.sequence != sequence {
		return header{}, fmt.Errorf("%w: it says it is batch %d", ErrMalformed, h.sequence)
	}
	if h.id != j.id && j.id != (ID{}) {
		return header{}, fmt.Errorf("%w: it belongs to journal %s, not %s", ErrMalformed, h.id, j.id)
	}
	return h, nil
}

// damage says whether an error of readEntry or decodeParts means that the batch cannot be read by anyone.
func damage(err error) bool {
	return errors.Is(err, ErrCorrupt) || errors.Is(err, ErrMalformed) || errors.Is(err, ErrNotFound)
}

// explain turns the error of a batch that should be there into what it means: it has been trimmed meanwhile, or
// it is damaged, then with all unreadable batches that follow it.
func (j *Journal) explain(ctx context.Context, sequence uint64, cause error) error {
	if _, told := errors.AsType[*CorruptError](cause); told || !damage(cause) {
		return cause
	}
	if j.isArchived(sequence) {
		return &CorruptError{From: sequence, To: sequence, Cause: fmt.Errorf("archive: %w", cause)}
	}
	first, last, err := j.engine.Bounds(ctx)
	if err != nil {
		return errors.Join(cause, err)
	}
	if sequence < first {
		return &TrimmedError{First: first}
	}
	to := sequence
	for ; to < last; to++ {
		_, _, err := j.readEntry(ctx, to+1)
		if err == nil {
			break
		}
		if !damage(err) {
			return errors.Join(&CorruptError{From: sequence, To: to, Cause: cause}, err)
		}
	}
	return &CorruptError{From: sequence, To: to, Cause: cause}
}
