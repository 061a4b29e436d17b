package mirror

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/sstable"

	"github.com/lanternist/lanternist/event"
	"github.com/lanternist/lanternist/row"
)

// Schemas finds the version of a table that a stored row was written with. It is asked from many goroutines.
type Schemas interface {
	Schema(id uint32) (*row.Schema, bool)
}

// Mirror is the local copy of the captured tables. Its methods may be called from any goroutine; see Begin,
// DropTable and the methods of loading for which of them wait for each other.
//
// Locks are taken in this order: writer, a table's mu (the batch holds those of all its tables), commit, posMu.
type Mirror struct {
	cfg     Config
	schemas Schemas
	log     *slog.Logger
	db      *pebble.DB
	lock    *pebble.Lock

	writer sync.Mutex // held from Begin to Commit or Discard, and while tables or indexes are redefined

	tablesMu sync.RWMutex
	tables   map[uint32]*table

	ensuring chan struct{}                // held by EnsureIndexes
	declared atomic.Pointer[declarations] // replaced under writer

	commit  sync.Mutex    // makes a batch and its position visible as one; held as long as the disk lets a batch wait
	posMu   sync.Mutex    // locked after commit, and only to look; pos and changed are written with both held
	pos     position      // read with either held
	changed chan struct{} // closed when the progress changes; as pos

	damage *damage

	forsook atomic.Uint64 // tables

	durable atomic.Uint64 // offset that has surely been persisted

	filesDir    string // of files that are loaded (bulkfile.go)
	fileOptions sstable.WriterOptions
	files       atomic.Uint64
}

// Open opens the mirror in cfg.Dir, or begins a new one. It returns ErrLocked when the folder is in use.
func Open(cfg Config, schemas Schemas, log *slog.Logger) (*Mirror, error) {
	cfg = cfg.withDefaults()
	damage := newDamage()
	db, lock, err := openDB(cfg, damage, log)
	if err != nil {
		return nil, err
	}
	m := &Mirror{
		cfg: cfg, schemas: schemas, log: log, db: db, lock: lock, damage: damage,
		tables: map[uint32]*table{}, changed: make(chan struct{}), ensuring: make(chan struct{}, 1),
	}
	if err := m.restore(); err != nil {
		return nil, errors.Join(fmt.Errorf("open mirror %s: %w", cfg.Dir, damagedAtOpen(err)), db.Close(), lock.Close())
	}
	return m, nil
}

// restore reads what is kept in memory.
func (m *Mirror) restore() error {
	if err := m.checkFormat(); err != nil {
		return err
	}
	if err := m.prepareFiles(); err != nil {
		return err
	}
	v, err := m.meta(metaPosition)
	if err != nil {
		return err
	}
	m.pos = position{whole: true}
	if v != nil {
		if m.pos, err = decodePosition(v); err != nil {
			return err
		}
	}
	if err := m.restoreTables(); err != nil {
		return err
	}
	if err := m.restoreIndexes(); err != nil {
		return err
	}
	m.durable.Store(uint64(m.pos.offset)) // Pebble has written what it replayed to tables, synced
	return nil
}

// Close writes what is in memory to disk and releases the folder. Snapshots must be closed and the batch be over.
func (m *Mirror) Close() error {
	m.writer.Lock()
	defer m.writer.Unlock()
	var errs []error
	if err := m.db.Flush(); err != nil {
		errs = append(errs, fmt.Errorf("flush mirror: %w", err))
	}
	if err := m.db.Close(); err != nil {
		errs = append(errs, fmt.Errorf("close mirror: %w", err))
	}
	if err := m.lock.Close(); err != nil {
		errs = append(errs, fmt.Errorf("unlock mirror: %w", err))
	}
	return errors.Join(errs...)
}

// Position is the offset of the last event applied: where catching up from the journal goes on. It may be inside
// a large transaction.
func (m *Mirror) Position() event.Offset {
	m.posMu.Lock()
	defer m.posMu.Unlock()
	return m.pos.offset
}

// Sync makes everything that was committed durable, and returns the offset that it reaches to. Until then a
// crash of the machine, not of the process, may take the mirror back to DurableOffset.
func (m *Mirror) Sync() (event.Offset, error) {
	offset := m.Position()
	if err := m.db.LogData([]byte("sync"), pebble.Sync); err != nil {
		return m.DurableOffset(), fmt.Errorf("sync mirror: %w", err)
	}
	for {
		was := m.durable.Load()
		if was >= uint64(offset) || m.durable.CompareAndSwap(was, uint64(offset)) {
			return m.DurableOffset(), nil
		}
	}
}

// DurableOffset is the offset that the mirror does not fall behind of, whatever happens to the machine: the
// journal must keep what comes after it. Sync moves it.
func (m *Mirror) DurableOffset() event.Offset { return event.Offset(m.durable.Load()) }

// schema is the registered schema with this ID.
func (m *Mirror) schema(id uint32) (*row.Schema, error) {
	s, ok := m.schemas.Schema(id)
	if !ok {
		return nil, fmt.Errorf("%w: %d, of a stored row", ErrUnknownSchema, id)
	}
	return s, nil
}
