// Package backoff spaces repeated attempts: the wait doubles from Min to Max, and each wait is a random part of it, so that
// many who failed together do not come back together ("full jitter").
package backoff

import (
	"context"
	"math/rand/v2"
	"time"
)

// Default bounds, for a zero Config.
const (
	DefaultMin = 50 * time.Millisecond
	DefaultMax = 15 * time.Second
)

// Config bounds the waits.
type Config struct {
	// Min is the upper bound of the first wait. Default 50ms.
	Min time.Duration
	// Max is the upper bound of every wait; not below Min. Default 15s.
	Max time.Duration
}

// Backoff gives the waits of one series of attempts. The zero value has the default bounds. It is not safe for
// concurrent use.
type Backoff struct {
	cfg      Config
	attempts int
}

// New is a Backoff with the given bounds; a bound that is not positive has its default.
func New(cfg Config) Backoff { return Backoff{cfg: cfg} }

// Next is the next wait: uniformly random between a small floor and the bound, which doubles with every call. The floor,
// a tenth of the bound, keeps an unlucky series of attempts from being a busy loop.
func (b *Backoff) Next() time.Duration {
	bound := b.bound()
	b.attempts++
	floor := bound / 10
	return floor + rand.N(bound-floor+1)
}

// bound is the upper bound of the next wait.
func (b *Backoff) bound() time.Duration {
	low, high := b.cfg.Min, b.cfg.Max
	if low <= 0 {
		low = DefaultMin
	}
	if high <= 0 {
		high = DefaultMax
	}
	high = max(low, high)
	if b.attempts >= 62 || low > high>>b.attempts {
		return high
	}
	return low << b.attempts
}

// Attempts is how many waits were given since the beginning or the last Reset.
func (b *Backoff) Attempts() int { return b.attempts }

// Reset starts a new series: call it after a success.
func (b *Backoff) Reset() { b.attempts = 0 }

// Wait waits for Next, or until the context is done, whose cause it then returns.
func (b *Backoff) Wait(ctx context.Context) error {
	timer := time.NewTimer(b.Next())
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
