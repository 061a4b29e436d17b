package journal

import (
	"context"
	"fmt"
	"time"

	"github.com/lanternist/lanternist/event"
)

// Retain says that the active reader called name still needs every event after an offset. It replaces what
// the same reader said before. Batches it needs are not trimmed until it moves on or is released.
func (j *Journal) Retain(name string, from event.Offset) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.readers[name] = from
	j.wake(&j.freed)
}

// Release forgets a reader.
func (j *Journal) Release(name string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	delete(j.readers, name)
	j.wake(&j.freed)
}

// Pressed returns a channel that is closed when Append waits for a reader, as it may do already: the journal is full, and
// what the reader still needs is in the way.
func (j *Journal) Pressed(name string) <-chan struct{} {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.blocked == name && name != "" {
		now := make(chan struct{})
		close(now)
		return now
	}
	if j.pressed == nil {
		j.pressed = map[string]chan struct{}{}
	}
	if j.pressed[name] == nil {
		j.pressed[name] = make(chan struct{})
	}
	return j.pressed[name]
}

// Retention is what the journal keeps at least and at most.
func (j *Journal) Retention() Retention { return j.cfg.Retention }

// slowest is the sequence before which no reader needs anything, and the reader that stands there; the head's
// when there are no readers. The caller holds mu.
func (j *Journal) slowest() (sequence uint64, name string) {
	sequence = j.head.sequence
	for reader, from := range j.readers {
		if at := from.Sequence(); at < sequence || at == sequence && (name == "" || reader < name) {
			sequence, name = at, reader
		}
	}
	return sequence, name
}

// Trim removes the batches that are over the bounds and that no active reader needs. Append does it every
// trimStep bytes; call it too when nothing is appended for long, so that age is kept to on a quiet source.
func (j *Journal) Trim(ctx context.Context) error {
	if err := j.trim(ctx, 0); err != nil {
		return fmt.Errorf("trim journal: %w", err)
	}
	return nil
}

// trimSometimes trims when enough has been appended since the last time. The caller holds appending.
func (j *Journal) trimSometimes(ctx context.Context) error {
	j.mu.RLock()
	end := j.head.end()
	j.mu.RUnlock()
	if end < j.trimAt {
		return nil
	}
	j.trimAt = end + j.cfg.trimStep()
	return j.Trim(ctx)
}

// trim removes what is over the bounds when room more bytes are to fit in.
func (j *Journal) trim(ctx context.Context, room uint64) error {
	j.trimming.Lock()
	defer j.trimming.Unlock()
	j.mu.RLock()
	first, head := j.first, j.head
	limit, _ := j.slowest()
	closed := j.closed
	j.mu.RUnlock()
	if closed {
		return ErrClosed
	}
	before, err := j.bound(ctx, first, head, room)
	if err != nil {
		return err
	}
	before = min(before, limit)
	if before <= first.sequence {
		return nil
	}
	kept, err := j.readHeader(ctx, before)
	if err != nil {
		return err
	}
	// Readers see the new bound first: one that comes too late is told so, and does not meet a hole.
	j.mu.Lock()
	j.first = kept
	j.mu.Unlock()
	if err := j.engine.Trim(ctx, before); err != nil {
		return fmt.Errorf("before batch %d: %w", before, err)
	}
	j.log.Debug("journal trimmed", "from", first.sequence, "before", before, "bytes", kept.position-first.position)
	return nil
}

// bound is the sequence of the first batch to keep by age and size.
func (j *Journal) bound(ctx context.Context, first, head header, room uint64) (uint64, error) {
	before := first.sequence
	if age := j.cfg.Retention.Age; age > 0 {
		oldest := time.Now().Add(-age).UnixMicro()
		if first.appended < oldest {
			at, err := j.search(ctx, before, head.sequence, func(h *header) bool { return h.appended >= oldest })
			if err != nil {
				return 0, err
			}
			before = max(before, at)
		}
	}
	size, step := uint64(j.cfg.Retention.Size), j.cfg.trimStep()
	if size > 0 && head.end()+room-first.position > size {
		keep := size - min(step+room, size)
		at, err := j.search(ctx, before, head.sequence, func(h *header) bool { return head.end()-h.position <= keep })
		if err != nil {
			return 0, err
		}
		before = max(before, at)
	}
	return before, nil
}

// makeRoom returns when bytes more fit under the size bound. What it waits for is an active reader that still
// needs the oldest batches. The caller holds appending.
func (j *Journal) makeRoom(ctx context.Context, bytes uint64) error {
	size := uint64(j.cfg.Retention.Size)
	if size == 0 {
		return nil
	}
	said := false
	defer func() {
		j.mu.Lock()
		j.blocked = ""
		j.mu.Unlock()
	}()
	for !j.fits(bytes) {
		if err := j.trim(ctx, bytes); err != nil {
			return err
		}
		if j.fits(bytes) {
			break
		}
		j.mu.Lock()
		sequence, name := j.slowest()
		if j.closed {
			j.mu.Unlock()
			return ErrClosed
		}
		if j.first.sequence < sequence { // a reader moved on since the trim
			j.mu.Unlock()
			continue
		}
		j.blocked = name
		if pressed, ok := j.pressed[name]; ok {
			close(pressed)
			delete(j.pressed, name)
		}
		freed := j.wait(&j.freed)
		retained := j.head.end() - j.first.position
		j.mu.Unlock()
		if !said {
			said = true
			j.log.Error("journal is full: appends wait for a reader", "reader", name, "needs", sequence,
				"bytes", retained, "bound", size,
				"hint", "bring the reader's sink back, raise journal.retention.size, or remove the projector")
		}
		select {
		case <-freed:
		case <-ctx.Done():
			return fmt.Errorf("%w: %s still needs batch %d: %w", ErrFull, name, sequence, ctx.Err())
		}
	}
	if said {
		j.log.Info("journal has room again")
	}
	return nil
}

// fits says whether bytes more are within the size bound. A journal of one batch has room for any.
func (j *Journal) fits(bytes uint64) bool {
	j.mu.RLock()
	defer j.mu.RUnlock()
	return j.first.sequence == j.head.sequence || j.head.end()+bytes-j.first.position <= uint64(j.cfg.Retention.Size)
}
