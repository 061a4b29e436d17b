package journal

import (
	"context"

	"github.com/lanternist/lanternist/row"
)

// Log is an engine: a durable sequence of opaque entries, numbered without holes. One goroutine calls Append;
// the other methods are safe for concurrent use.
type Log interface {
	// Append stores entry under sequence, which must be the last sequence plus one; an empty log takes any
	// sequence above zero. The entry is durable on return and is not kept. ErrFenced means that someone else
	// has written, ErrTooLarge that the entry is over MaxEntry. After any other error it is unknown whether
	// the entry is stored, and the log refuses further appends until it is opened again.
	Append(ctx context.Context, sequence uint64, entry []byte) error
	// Read returns the entry of a sequence in memory of the caller's own, ErrNotFound when there is none, and
	// an error that is ErrCorrupt when it is there but cannot be read.
	Read(ctx context.Context, sequence uint64) ([]byte, error)
	// Bounds returns the sequences of the first and last entry; both are 0 when there is none.
	Bounds(ctx context.Context) (first, last uint64, err error)
	// Trim removes the entries before a sequence. It never removes the last entry.
	Trim(ctx context.Context, before uint64) error
	// Size is the space the log takes where it is stored, in bytes; it may lag behind Trim.
	Size(ctx context.Context) (int64, error)
	// MaxEntry is the largest entry that Append takes, in bytes.
	MaxEntry() int
	// MaxInline is the largest entry that is stored as it is, in bytes. A larger one is taken too, up to MaxEntry, stored
	// elsewhere, and read as if it were not: it costs more, so entries that could be several are made no larger.
	MaxInline() int
	// Close releases the log. Calls after it fail.
	Close() error
}

// Schemas finds the definition that an event's rows have.
type Schemas interface {
	Schema(id uint32) (*row.Schema, bool)
}
