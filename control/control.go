// Package control keeps Lanternist's small control state: dead letters, schema versions, identities and
// checkpoints that have no home beside their data. It is a durable, ordered key-value store with two homes,
// Pebble on one machine and a NATS JetStream bucket beyond it.
//
// Invariants: a value is durable when Put returns; keys are listed in byte order. Keys are UTF-8 paths such as
// "schemas/version/00000012"; values are small (at most MaxValue bytes). What the bytes mean is left to the
// package that owns the prefix.
package control

import (
	"context"
	"errors"
	"fmt"
)

// MaxValue is the largest value a Store takes, in bytes.
const MaxValue = 8 << 20

// MaxKey is the longest key a Store takes, in bytes.
const MaxKey = 1024

var (
	// ErrLocked means that another process holds the store, or this process already does.
	ErrLocked = errors.New("control store is locked")
	// ErrTooLarge means that a key or a value is over the bound.
	ErrTooLarge = errors.New("control entry is too large")
	// ErrDamaged means that the store's files are not as they were written.
	ErrDamaged = errors.New("control store is damaged")
	// ErrClosed means that the store has been closed.
	ErrClosed = errors.New("control store is closed")
)

// Store is a small durable key-value store. It is safe for concurrent use.
type Store interface {
	// Get returns a copy of the value of key, and whether there is one.
	Get(ctx context.Context, key string) ([]byte, bool, error)
	// Put sets the value of key. It is durable when Put returns.
	Put(ctx context.Context, key string, value []byte) error
	// Delete removes key; it is no error when there is none.
	Delete(ctx context.Context, key string) error
	// List calls visit for the keys that begin with prefix, in byte order, and stops at its first error, which
	// it returns. The value is valid only during the call. visit may Put and Delete: what it changes after
	// List began may or may not be seen.
	List(ctx context.Context, prefix string, visit func(key string, value []byte) error) error
	// Close releases the store. Calls after Close return ErrClosed.
	Close() error
}

// checkKey refuses keys that some home could not hold.
func checkKey(key string) error {
	if key == "" {
		return errors.New("control key is empty")
	}
	if len(key) > MaxKey {
		return fmt.Errorf("%w: key of %d bytes, at most %d", ErrTooLarge, len(key), MaxKey)
	}
	return nil
}

// checkEntry refuses entries over the bounds.
func checkEntry(key string, value []byte) error {
	if err := checkKey(key); err != nil {
		return err
	}
	if len(value) > MaxValue {
		return fmt.Errorf("%w: value of %q is %d bytes, at most %d", ErrTooLarge, key, len(value), MaxValue)
	}
	return nil
}
