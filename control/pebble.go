package control

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"sync"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/lanternist/lanternist/internal/disk"
)

// pebbleStore is the home on one machine.
type pebbleStore struct {
	dir string
	mu  sync.RWMutex // held shared by every call, exclusively by Close
	db  *pebble.DB   // nil when closed
}

// OpenPebble opens the store in dir, creating it when it is not there. Only one opener may have it at a time;
// another gets ErrLocked. A value is synced to the disk when Put returns.
func OpenPebble(dir string, log *slog.Logger) (Store, error) { return OpenPebbleOn(nil, dir, log) }

// OpenPebbleOn is OpenPebble on a disk that is waited for when it is full, and told of what does not pass.
func OpenPebbleOn(d *disk.Disk, dir string, log *slog.Logger) (Store, error) {
	return openPebble(dir, d.Pebble(vfs.Default), log)
}

// openPebble is OpenPebble on a file system of the caller's.
func openPebble(dir string, files vfs.FS, log *slog.Logger) (Store, error) {
	if err := files.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open control store %s: %w", dir, err)
	}
	lock, err := pebble.LockDirectory(dir, files)
	if err != nil {
		// What is left after the folder was made and is not a matter of permission is that someone holds it.
		if errors.Is(err, fs.ErrPermission) {
			return nil, fmt.Errorf("open control store %s: %w", dir, err)
		}
		return nil, fmt.Errorf("open control store %s: %w: is another lanternist running on this data folder? (%w)", dir, ErrLocked, err)
	}
	db, err := pebble.Open(dir, &pebble.Options{
		FS:           disk.Named(files),
		Lock:         lock,
		Logger:       pebbleLogger{log.With("dir", dir)},
		MemTableSize: 1 << 20,
		CacheSize:    1 << 20,
		// Since this format the end of the log tells a torn write from damage to what was synced.
		FormatMajorVersion: pebble.FormatWALSyncChunks,
		EventListener: &pebble.EventListener{
			DataCorruption: func(info pebble.DataCorruptionInfo) {
				log.Error("control store is damaged", "file", info.Path, "error", info.Details) // the reader gets an error, too
			},
		},
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open control store %s: %w", dir, damaged(err)), lock.Close())
	}
	// The database holds the lock now; this gives up our share of it.
	if err := lock.Close(); err != nil {
		return nil, errors.Join(fmt.Errorf("open control store %s: %w", dir, err), db.Close())
	}
	return &pebbleStore{dir: dir, db: db}, nil
}

// open returns the database with its lock held for reading; the caller calls done.
func (s *pebbleStore) open(ctx context.Context) (db *pebble.DB, done func(), err error) {
	if err := ctx.Err(); err != nil {
		return nil, nil, err
	}
	s.mu.RLock()
	if s.db == nil {
		s.mu.RUnlock()
		return nil, nil, ErrClosed
	}
	return s.db, s.mu.RUnlock, nil
}

// Get implements Store.
func (s *pebbleStore) Get(ctx context.Context, key string) ([]byte, bool, error) {
	if err := checkKey(key); err != nil {
		return nil, false, err
	}
	db, done, err := s.open(ctx)
	if err != nil {
		return nil, false, fmt.Errorf("get control %q: %w", key, err)
	}
	defer done()
	value, closer, err := db.Get([]byte(key))
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("get control %q: %w", key, damaged(err))
	}
	out := append([]byte{}, value...)
	if err := closer.Close(); err != nil {
		return nil, false, fmt.Errorf("get control %q: %w", key, err)
	}
	return out, true, nil
}

// Put implements Store.
func (s *pebbleStore) Put(ctx context.Context, key string, value []byte) error {
	if err := checkEntry(key, value); err != nil {
		return err
	}
	db, done, err := s.open(ctx)
	if err != nil {
		return fmt.Errorf("put control %q: %w", key, err)
	}
	defer done()
	if err := db.Set([]byte(key), value, pebble.Sync); err != nil {
		return fmt.Errorf("put control %q: %w", key, err)
	}
	return nil
}

// Delete implements Store.
func (s *pebbleStore) Delete(ctx context.Context, key string) error {
	if err := checkKey(key); err != nil {
		return err
	}
	db, done, err := s.open(ctx)
	if err != nil {
		return fmt.Errorf("delete control %q: %w", key, err)
	}
	defer done()
	if err := db.Delete([]byte(key), pebble.Sync); err != nil {
		return fmt.Errorf("delete control %q: %w", key, err)
	}
	return nil
}

// List implements Store. It shows the store as it was when List began.
func (s *pebbleStore) List(ctx context.Context, prefix string, visit func(key string, value []byte) error) error {
	return s.listAfter(ctx, prefix, "", visit)
}

// prefixEnd is the first key after all that begin with prefix; nil when there is no such key.
func prefixEnd(prefix string) []byte {
	end := []byte(prefix)
	for i := len(end) - 1; i >= 0; i-- {
		if end[i] < 0xff {
			end[i]++
			return end[:i+1]
		}
	}
	return nil
}

// Close implements Store.
func (s *pebbleStore) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.db == nil {
		return nil
	}
	// What is only in the log would be forgotten if that were cut, and nothing could tell.
	err := errors.Join(s.db.Flush(), s.db.Close())
	s.db = nil
	if err != nil {
		return fmt.Errorf("close control store %s: %w", s.dir, err)
	}
	return nil
}

// pebbleLogger passes Pebble's messages on. Its routine reports are for debugging.
type pebbleLogger struct{ log *slog.Logger }

func (l pebbleLogger) Infof(format string, args ...any) {
	if l.log.Enabled(context.Background(), slog.LevelDebug) {
		l.log.Debug("control store reported", "message", fmt.Sprintf(format, args...))
	}
}

func (l pebbleLogger) Errorf(format string, args ...any) {
	l.log.Error("control store failed", "message", fmt.Sprintf(format, args...))
}

// Fatalf is called when Pebble cannot go on without risking the data; it must not return.
func (l pebbleLogger) Fatalf(format string, args ...any) {
	message := fmt.Sprintf(format, args...)
	l.log.Error("control store stopped the process", "message", message)
	panic("control store: " + message)
}
