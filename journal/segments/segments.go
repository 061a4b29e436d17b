// Package segments is the journal's engine on one machine: append-only segment files (hashicorp/raft-wal) in
// one folder, one fsync per entry.
//
// Invariants: one process has the folder open at a time. Opening reads the last segment's frame headers and
// its last entry, whatever the log's size. A torn last append is cut off; entries that are missing although
// later ones are there are ErrCorrupt, and nothing is cut. Checking an entry's bytes is left to package
// journal, which does so at each read.
package segments

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"

	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"
	"github.com/hashicorp/raft-wal/metadb"
	"github.com/hashicorp/raft-wal/segment"
	"github.com/hashicorp/raft-wal/types"

	"github.com/lanternist/lanternist/internal/disk"
	"github.com/lanternist/lanternist/journal"
)

// Config of a log. The zero value is ready for use.
type Config struct {
	// SegmentSize is the size at which a segment file is closed and the next one begun, in bytes; space is
	// freed a segment at a time. It applies to segments begun from now on. Default 64 MiB, at most 1 GiB.
	SegmentSize int
	// Disk is waited for when it has no room for one more segment, and told of what does not pass. Default: errors are returned as
	// they come.
	Disk *disk.Disk

	inlineMax int     // the largest entry that is no file of its own; 0: inlineMax
	storage   storage // Disk's, unless a test brings its own
}

// storage is what the log stores its segments and its metadata on.
type storage interface {
	types.VFS
	// Commit stores a state of the metadata by calling commit.
	Commit(commit func() error) error
}

// Log is an open log. It implements journal.Log.
type Log struct {
	dir  string
	lock *lock
	meta *metaStore
	wal  *wal.WAL
	log  *slog.Logger
	disk *disk.Disk
	most int // bytes of an entry that lies in a segment itself
	room int // bytes that stay free on the disk

	mu     sync.Mutex // held by Append and Close
	broken error      // of an append whose outcome is unknown
	closed bool
}

// Open opens the log in dir, creating it when it is not there. It returns journal.ErrLocked when it is open
// already, and journal.ErrCorrupt when acknowledged entries are missing at its end.
func Open(dir string, cfg Config, log *slog.Logger) (*Log, error) {
	l, err := open(dir, cfg, log)
	if err != nil {
		return nil, fmt.Errorf("open journal segments %s: %w", dir, err)
	}
	return l, nil
}

func open(dir string, cfg Config, log *slog.Logger) (*Log, error) {
	if cfg.SegmentSize < 0 || cfg.SegmentSize > 1<<30 {
		return nil, fmt.Errorf("segment size %d is not between 0 and %d bytes", cfg.SegmentSize, 1<<30)
	}
	if cfg.SegmentSize == 0 {
		cfg.SegmentSize = wal.DefaultSegmentSize
	}
	if cfg.storage == nil {
		cfg.storage = newFileSystem(dir, cfg.Disk)
	}
	if cfg.inlineMax == 0 {
		cfg.inlineMax = inlineMax
	}
	if err := makeDir(dir); err != nil {
		return nil, err
	}
	lock, err := lockDir(dir)
	if err != nil {
		return nil, err
	}
	l := &Log{dir: dir, lock: lock, log: log, disk: cfg.Disk, most: cfg.inlineMax, room: cfg.SegmentSize,
		meta: &metaStore{segmentSize: cfg.SegmentSize, storage: cfg.storage, log: log}}
	l.wal, err = wal.Open(dir, wal.WithMetaStore(l.meta), wal.WithSegmentFiler(segment.NewFiler(dir, cfg.storage)),
		wal.WithSegmentSize(cfg.SegmentSize), wal.WithLogger(bridge(log)))
	if err != nil {
		if errors.Is(err, types.ErrCorrupt) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, io.EOF) {
			err = fmt.Errorf("%w: %w", journal.ErrCorrupt, err)
		}
		return nil, errors.Join(err, l.closeMeta(), lock.release())
	}
	if err := l.sweep(); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// makeDir makes the folder and makes its name durable, and those of the files that a process before may have left in it.
func makeDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return errors.Join(syncDir(filepath.Dir(filepath.Clean(dir))), syncDir(dir))
}

// syncDir makes the names in a folder durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Append implements journal.Log. It cannot be interrupted once it writes. The room for one more segment is waited for before:
// the WAL would wait for it with its lock held, so that no trim could make room.
func (l *Log) Append(ctx context.Context, sequence uint64, entry []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.usable(ctx); err != nil {
		return err
	}
	if len(entry) > maxEntry {
		return fmt.Errorf("%w: %d bytes, at most %d", journal.ErrTooLarge, len(entry), maxEntry)
	}
	last, err := l.wal.LastIndex()
	if err != nil {
		return err
	}
	if sequence == 0 || last != 0 && sequence != last+1 {
		return fmt.Errorf("%w: the last entry is %d, cannot append %d", journal.ErrFenced, last, sequence)
	}
	if err := l.disk.Room(ctx, l.dir, int64(l.room)+int64(len(entry))); err != nil {
		return err
	}
	stored := &raft.Log{Index: sequence, Data: entry, Extensions: appendMark(nil, sequence)}
	if len(entry) > l.most {
		c := newClaim(sequence, entry)
		if err := c.write(l.disk, l.dir, entry); err != nil {
			return fmt.Errorf("write large entry %d: %w", sequence, err)
		}
		stored = c.log()
	}
	if err := l.wal.StoreLog(stored); err != nil {
		// The entry may or may not be on disk, and the writer's state is not to be trusted.
		l.broken = err
		return err
	}
	return nil
}

// usable says why the log cannot be used. The caller holds mu.
func (l *Log) usable(ctx context.Context) error {
	switch {
	case l.closed:
		return journal.ErrClosed
	case l.broken != nil:
		return fmt.Errorf("%w: %w", journal.ErrBroken, l.broken)
	default:
		return ctx.Err()
	}
}

// Read implements journal.Log.
func (l *Log) Read(ctx context.Context, sequence uint64) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	entry, err := l.read(sequence)
	if errors.Is(err, fs.ErrClosed) {
		// raft-wal counts a reader only after it has looked up the segment: a trim in between may close the file
		// under it. The second look finds what is there now.
		entry, err = l.read(sequence)
	}
	return entry, err
}

// read reads an entry once.
func (l *Log) read(sequence uint64) ([]byte, error) {
	// raft-wal still finds trimmed entries that lie in its last segment.
	first, err := l.wal.FirstIndex()
	if err != nil {
		return nil, closedError(err)
	}
	if sequence < first {
		return nil, journal.ErrNotFound
	}
	var entry raft.Log
	err = l.get(sequence, &entry)
	switch {
	case err == nil:
		if marked, ok := readMark(entry.Extensions); !ok || marked != sequence || entry.Index != sequence {
			return nil, fmt.Errorf("%w: in the place of entry %d is one that says it is %d", journal.ErrCorrupt, sequence, entry.Index)
		}
		if c, ok := readClaim(&entry); ok {
			return l.readLarge(c)
		}
		return entry.Data, nil
	case errors.Is(err, wal.ErrNotFound):
		return nil, journal.ErrNotFound
	case errors.Is(err, wal.ErrClosed):
		return nil, journal.ErrClosed
	case errors.As(err, new(*fs.PathError)):
		return nil, err // the disk or the system does not answer
	default:
		return nil, fmt.Errorf("%w: %w", journal.ErrCorrupt, err)
	}
}

// readLarge reads the entry that a claim check stands for.
func (l *Log) readLarge(c claim) ([]byte, error) {
	entry, err := c.read(l.dir)
	if !errors.Is(err, fs.ErrNotExist) {
		return entry, err
	}
	if first, ferr := l.wal.FirstIndex(); ferr != nil || c.sequence < first { // it was trimmed meanwhile
		return nil, errors.Join(journal.ErrNotFound, closedError(ferr))
	}
	return nil, fmt.Errorf("%w: the file of large entry %d: %w", journal.ErrCorrupt, c.sequence, err)
}

// get reads a raft log. Damaged bytes can make raft-wal's decoder panic.
func (l *Log) get(sequence uint64, entry *raft.Log) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %v", wal.ErrCorrupt, p)
		}
	}()
	return l.wal.GetLog(sequence, entry)
}

// Bounds implements journal.Log.
func (l *Log) Bounds(ctx context.Context) (first, last uint64, err error) {
	if err := ctx.Err(); err != nil {
		return 0, 0, err
	}
	// The last is read first: a trim in between may raise the first, but never over it.
	if last, err = l.wal.LastIndex(); err != nil {
		return 0, 0, closedError(err)
	}
	if first, err = l.wal.FirstIndex(); err != nil {
		return 0, 0, closedError(err)
	}
	return first, last, nil
}

// closedError gives raft-wal's error for a closed log our name.
func closedError(err error) error {
	if errors.Is(err, wal.ErrClosed) {
		return journal.ErrClosed
	}
	return err
}

// Trim implements journal.Log. It commits to the metadata, and removes the segments and the large entries' files that lie
// before.
func (l *Log) Trim(ctx context.Context, before uint64) error {
	first, last, err := l.Bounds(ctx)
	if err != nil {
		return err
	}
	if before = min(before, last); before <= first {
		return nil
	}
	if err := l.wal.DeleteRange(first, before-1); err != nil {
		return closedError(err)
	}
	_, err = removeLarge(l.dir, func(f largeFile) (bool, error) { return f.sequence >= before, nil })
	return err
}

// Size implements journal.Log: the length of all files. The last segment is allocated ahead.
func (l *Log) Size(context.Context) (int64, error) { return sizeOf(l.dir) }

// sizeOf is the length of all segment files in a folder, and of those of large entries.
func sizeOf(dir string) (int64, error) {
	files, err := segmentFiles(dir)
	if err != nil {
		return 0, err
	}
	large, err := largeFiles(dir)
	if err != nil {
		return 0, err
	}
	paths := make([]string, 0, len(files)+len(large))
	for _, f := range files {
		paths = append(paths, f.path)
	}
	for _, f := range large {
		paths = append(paths, f.path)
	}
	var size int64
	for _, path := range paths {
		info, err := os.Stat(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue // trimmed meanwhile
		}
		if err != nil {
			return 0, err
		}
		size += info.Size()
	}
	return size, nil
}

// MaxEntry implements journal.Log.
func (l *Log) MaxEntry() int { return maxEntry }

// MaxInline implements journal.Log.
func (l *Log) MaxInline() int { return l.most }

// Close implements journal.Log.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil
	}
	l.closed = true
	return errors.Join(l.wal.Close(), l.closeMeta(), l.lock.release())
}

// closeMeta closes the metadata, which the WAL opens but does not close.
func (l *Log) closeMeta() error {
	err := l.meta.Close()
	if errors.Is(err, metadb.ErrUnintialized) {
		return nil
	}
	return err
}
