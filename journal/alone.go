package journal

import (
	"context"
	"fmt"
	"time"
)

// Alone asks the engine whether this journal's writer is still the only one. ErrFenced means that somebody else has appended:
// what follows from this journal is of the past, and must not be written where it could not be told from what is newer. An append
// of our own that is under way is waited for.
func (j *Journal) Alone(ctx context.Context) error {
	_, last, err := j.engine.Bounds(ctx)
	if err != nil {
		return fmt.Errorf("look for other writers: %w", err)
	}
	for limit := time.Now().Add(aloneWithin); ; {
		head := j.Head().Offset.Sequence()
		if last <= head {
			return nil
		}
		if time.Now().After(limit) {
			return fmt.Errorf("%w: it ends with batch %d, ours with %d", ErrFenced, last, head)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(time.Millisecond):
		}
	}
}

// aloneWithin is how long our own append may take from the moment that its entry is in the engine until it is known here.
const aloneWithin = 2 * time.Second
