package journal

import (
	"errors"
	"fmt"
)

var (
	// ErrNotFound means that a log has no entry of the sequence asked for.
	ErrNotFound = errors.New("not in the journal")
	// ErrLocked means that another process, or this one, has the journal open.
	ErrLocked = errors.New("journal is locked")
	// ErrFenced means that another writer has appended: this writer must stop.
	ErrFenced = errors.New("journal has another writer")
	// ErrTooLarge means that a batch is over the engine's bound, or has more than event.MaxBatchEvents events.
	ErrTooLarge = errors.New("batch is too large")
	// ErrOutOfOrder means that an event was to be appended that is not after the last one, or that skips the
	// rest of a transaction.
	ErrOutOfOrder = errors.New("events out of order")
	// ErrBroken means that an append before had an unknown outcome: the journal must be opened again.
	ErrBroken = errors.New("journal must be opened again")
	// ErrFull means that the context ended while Append waited for room.
	ErrFull = errors.New("journal is full")
	// ErrBehind means that the journal ends before an offset that someone has seen: it is an older copy.
	ErrBehind = errors.New("journal is behind")
	// ErrUnknownSchema means that a batch refers to a table definition that is not registered.
	ErrUnknownSchema = errors.New("unknown schema")
	// ErrMalformed means that bytes are not a batch of this format.
	ErrMalformed = errors.New("malformed batch")
	// ErrTrimmed is what a TrimmedError is.
	ErrTrimmed = errors.New("trimmed from the journal")
	// ErrCorrupt is what a CorruptError is.
	ErrCorrupt = errors.New("journal is corrupt")
	// ErrClosed means that the journal has been closed.
	ErrClosed = errors.New("journal is closed")
)

// TrimmedError says that what was asked for is older than what is retained.
type TrimmedError struct {
	First uint64 // sequence of the first batch that can be read
	// What the archive has when it ends before the journal begins, inclusive; 0 otherwise.
	ArchiveFirst, ArchiveLast uint64
}

func (e *TrimmedError) Error() string {
	text := fmt.Sprintf("%v: the first batch retained is %d", ErrTrimmed, e.First)
	if e.ArchiveLast != 0 {
		text += fmt.Sprintf("; the archive has batches %d-%d, and none of %d-%d", e.ArchiveFirst, e.ArchiveLast, e.ArchiveLast+1, e.First-1)
	}
	return text
}

// Is makes a TrimmedError ErrTrimmed.
func (e *TrimmedError) Is(target error) bool { return target == ErrTrimmed }

// CorruptError says which batches cannot be read, and why the first of them cannot.
type CorruptError struct {
	From, To uint64 // inclusive
	Cause    error
}

func (e *CorruptError) Error() string {
	if e.From == e.To {
		return fmt.Sprintf("%v: batch %d: %v", ErrCorrupt, e.From, e.Cause)
	}
	return fmt.Sprintf("%v: batches %d-%d: %v", ErrCorrupt, e.From, e.To, e.Cause)
}

// Is makes a CorruptError ErrCorrupt.
func (e *CorruptError) Is(target error) bool { return target == ErrCorrupt }

func (e *CorruptError) Unwrap() error { return e.Cause }
