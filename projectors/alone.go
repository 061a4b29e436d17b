package projectors

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/lanternist/lanternist/journal"
)

// Forgetful is implemented by a Store whose sink remembers a deletion for some time only. Until then an older write
// changes nothing; later it would bring the document back.
type Forgetful interface {
	// Remembers is how long, at least.
	Remembers() time.Duration
}

// aloneShare is how often the journal is asked, while a sink remembers a deletion, whether this process is still its writer.
const aloneShare = 4

// alone keeps a process that was paused, and has been replaced meanwhile, from writing what the sink could not tell from what is
// newer any more: a write that comes later than the sink remembers deletions. Whoever writes has been the journal's only writer a
// quarter of that time ago, or asks. It is safe for concurrent use.
type alone struct {
	mu sync.Mutex
	at time.Time // when it was, at least
}

// confirm returns an error when the writes to a store must not be made, or cannot be known to be safe.
func (a *alone) confirm(ctx context.Context, j *journal.Journal, store Store) error {
	s, ok := store.(Forgetful)
	if !ok || s.Remembers() <= 0 {
		return nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	now := time.Now()
	if !a.at.IsZero() && elapsed(a.at, now) < s.Remembers()/aloneShare {
		return nil
	}
	err := j.Alone(ctx)
	if err == nil {
		a.at = now
	}
	return replaced(err)
}

// replaced makes being fenced fatal. A generation is neither begun nor promoted then: it would be of the past. Nor is one removed.
func replaced(err error) error {
	if errors.Is(err, journal.ErrFenced) {
		return Fatalf("another process has taken this one's place: stop this one", "write: %w", err)
	}
	return err
}

// elapsed is the longer of what the two clocks say: the monotonic one stands still while a machine is suspended, the other one
// may be set back.
func elapsed(from, to time.Time) time.Duration {
	return max(to.Sub(from), to.Round(0).Sub(from.Round(0)))
}
