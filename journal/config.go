package journal

import (
	"errors"
	"fmt"
	"time"
)

// Config says what a journal keeps.
type Config struct {
	Retention Retention
	// MinSequence is the sequence that a new journal begins with: one above every sequence that any sink has
	// seen. A journal that is there already and ends before MinSequence-1 is an older copy, and is refused
	// with ErrBehind. Default 1.
	MinSequence uint64
	// CacheBytes bounds the memory of recent batches, from which readers that have caught up read, in bytes.
	// The last batch stays, whatever its size. Default 16 MiB.
	CacheBytes int64
}

// Retention bounds the journal. What an active reader needs outlives both bounds; see Journal.Retain.
type Retention struct {
	// Age is how long a batch is kept at least. 0 keeps batches whatever their age. Default 0.
	Age time.Duration
	// Size is how many bytes of batches are kept at most, at least 1 MiB. 0 sets no bound. Default 0.
	// With both bounds batches go when they are over either. The engine's files take up to two segments more.
	Size int64
}

const (
	defaultCacheBytes = 16 << 20
	minRetentionSize  = 1 << 20
)

// withDefaults checks the configuration and fills in what was left out.
func (c Config) withDefaults() (Config, error) {
	var problems []error
	if c.Retention.Age < 0 {
		problems = append(problems, fmt.Errorf("retention age %v is negative", c.Retention.Age))
	}
	if c.Retention.Size != 0 && c.Retention.Size < minRetentionSize {
		problems = append(problems, fmt.Errorf("retention size %d is under %d bytes", c.Retention.Size, minRetentionSize))
	}
	if c.CacheBytes < 0 {
		problems = append(problems, fmt.Errorf("cache of %d bytes is negative", c.CacheBytes))
	}
	if c.MinSequence >= 1<<47 {
		problems = append(problems, fmt.Errorf("sequence %d does not fit an offset", c.MinSequence))
	}
	if c.MinSequence == 0 {
		c.MinSequence = 1
	}
	if c.CacheBytes == 0 {
		c.CacheBytes = defaultCacheBytes
	}
	return c, errors.Join(problems...)
}

// trimStep is how many bytes are appended between two looks at the bounds, and how far below the size bound a
// trim goes, so that a journal at its bound is not trimmed at every append.
func (c Config) trimStep() uint64 {
	const most = 64 << 20
	if c.Retention.Size == 0 {
		return most
	}
	return uint64(min(c.Retention.Size/16, most))
}
