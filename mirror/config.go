package mirror

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/sstable/block"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/lanternist/lanternist/internal/disk"
)

// Config says where the mirror is and how much memory it uses.
type Config struct {
	// Dir is the mirror's folder. It is created when it is not there.
	Dir string
	// CacheSize is the memory for what was written last and for blocks read from disk, together, in bytes: at least
	// three times MemTableSize. Default 64 MiB.
	CacheSize int64
	// MemTableSize is how much is written to memory before it goes to disk, in bytes. Two of these are held as a
	// rule, four while the disk is slower than the stream. Default a sixth of CacheSize, at least 4 MiB and at most 32 MiB.
	MemTableSize int64
	// Disk is waited for when it is full, and told of what does not pass. Default: Pebble meets errors as they come, and
	// panics.
	Disk *disk.Disk

	fs vfs.FS // the disk, unless a test brings its own

	bulkBytes, bulkBytesMin int    // see bulk.go
	beforeIngest            func() // called when a Bulk has written its files, before it locks the table
	afterIngest             func() // called when they are in the database, but not what else the Bulk has to say
}

func (c Config) withDefaults() Config {
	if c.CacheSize == 0 {
		c.CacheSize = 64 << 20
	}
	if c.MemTableSize == 0 {
		c.MemTableSize = min(max(c.CacheSize/6, 4<<20), 32<<20)
	}
	if c.fs == nil {
		c.fs = vfs.Default
	}
	c.fs = disk.Named(c.Disk.Pebble(c.fs))
	if c.bulkBytes == 0 {
		c.bulkBytes, c.bulkBytesMin = bulkBytes, bulkBytesMin
	}
	return c
}

// options are Pebble's, for few large writers and many point reads.
func (c Config) options(damage *damage, log *slog.Logger) *pebble.Options {
	opts := &pebble.Options{
		FS:                          c.fs,
		CacheSize:                   c.CacheSize,
		FormatMajorVersion:          pebble.FormatNewest,
		MemTableSize:                uint64(c.MemTableSize),
		MemTableStopWritesThreshold: 4,
		L0CompactionThreshold:       2,
		L0StopWritesThreshold:       24,
		LBaseMaxBytes:               64 << 20,
		MaxOpenFiles:                1000,
		BytesPerSync:                1 << 20,
		WALBytesPerSync:             1 << 20,
		CompactionConcurrencyRange:  func() (int, int) { return 1, 2 },
		Logger:                      pebbleLog{log},
		EventListener: &pebble.EventListener{
			DataCorruption:  damage.note,
			BackgroundError: func(err error) { log.Error("mirror background work did not succeed", "err", err) },
		},
	}
	opts.ApplyCompressionSettings(func() pebble.DBCompressionSettings {
		return pebble.UniformDBCompressionSettings(block.FastCompression)
	})
	for i := range opts.Levels {
		opts.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
		opts.Levels[i].BlockSize = 8 << 10
		opts.Levels[i].IndexBlockSize = 256 << 10 // one level of index
	}
	return opts
}

// openDB locks the folder and opens the database.
func openDB(cfg Config, damage *damage, log *slog.Logger) (*pebble.DB, *pebble.Lock, error) {
	if err := cfg.fs.MkdirAll(cfg.Dir, 0o755); err != nil {
		return nil, nil, fmt.Errorf("create mirror folder %s: %w", cfg.Dir, err)
	}
	lock, err := pebble.LockDirectory(cfg.Dir, cfg.fs)
	if err != nil {
		if isLocked(err) {
			return nil, nil, fmt.Errorf("%w: %s is in use; only one process can have it open (%w)", ErrLocked, absolute(cfg.Dir), err)
		}
		return nil, nil, fmt.Errorf("lock mirror folder %s: %w", cfg.Dir, err)
	}
	opts := cfg.options(damage, log)
	opts.Lock = lock
	db, err := pebble.Open(cfg.Dir, opts)
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("open mirror %s: %w", cfg.Dir, damagedAtOpen(err)), lock.Close())
	}
	return db, lock, nil
}

// isLocked tells a held lock from a folder that cannot be locked.
func isLocked(err error) bool {
	return errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.EACCES) || strings.Contains(err.Error(), "lock held by current process")
}

func absolute(dir string) string {
	if abs, err := filepath.Abs(dir); err == nil {
		return abs
	}
	return dir
}

// pebbleLog passes on what Pebble logs. Pebble calls Fatalf when it cannot go on without risking data, and must
// not get control back.
type pebbleLog struct{ log *slog.Logger }

func (l pebbleLog) Infof(format string, args ...any) { l.log.Debug(fmt.Sprintf(format, args...)) }
func (l pebbleLog) Errorf(format string, args ...any) {
	l.log.Warn(fmt.Sprintf(format, args...))
}
func (l pebbleLog) Fatalf(format string, args ...any) {
	panic("mirror: " + fmt.Sprintf(format, args...))
}
