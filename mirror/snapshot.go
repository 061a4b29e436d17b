package mirror

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"github.com/cockroachdb/pebble/v2"
	"github.com/jackc/pglogrepl"

	"github.com/lanternist/lanternist/row"
)

// Snapshot is the mirror at one point in commit order. It may be used from several goroutines, and must be closed.
type Snapshot struct {
	m        *Mirror
	db       *pebble.Snapshot
	progress Progress
	declared *declarations

	mu     sync.Mutex
	ranges []*pebble.Iterator // to be used again, with bounds
	points []*pebble.Iterator // to be used again, without
	keys   sync.Pool          // *[]byte
}

// Record is a row as it was written.
type Record struct {
	Schema *row.Schema   // the version of the table that Row has the columns of; newer ones may have others, go by name
	Row    row.Row       //
	LSN    pglogrepl.LSN // commit LSN of the transaction that wrote it, or the consistent point it was loaded at
}

// Snapshot takes a snapshot of the mirror as it is. Inside a large transaction it waits for the end of that.
func (m *Mirror) Snapshot(ctx context.Context) (*Snapshot, error) {
	for {
		s, changed := m.trySnapshot()
		if s != nil {
			return s, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for the end of a large transaction: %w", context.Cause(ctx))
		}
	}
}

// trySnapshot returns nil, and what to wait for, when the mirror is inside a transaction.
func (m *Mirror) trySnapshot() (*Snapshot, <-chan struct{}) {
	m.commit.Lock()
	defer m.commit.Unlock()
	if !m.pos.whole {
		return nil, m.changed
	}
	s := &Snapshot{m: m, db: m.db.NewSnapshot(), progress: m.pos.progress, declared: m.declared.Load()}
	s.keys.New = func() any { return new([]byte) }
	return s, nil
}

// Progress says which transactions the snapshot has.
func (s *Snapshot) Progress() Progress { return s.progress }

// Close releases the snapshot. No visit may be under way.
func (s *Snapshot) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for _, it := range append(s.ranges, s.points...) {
		errs = append(errs, it.Close())
	}
	s.ranges, s.points = nil, nil
	errs = append(errs, s.db.Close())
	return errors.Join(errs...)
}

// Get is the row with this key (row.Schema.AppendKey), which is the caller's to keep, and whether there is one.
func (s *Snapshot) Get(oid uint32, key []byte) (Record, bool, error) {
	var rec Record
	found, err := s.read(oid, key, func(v []byte) error {
		var err error
		rec, err = s.record(append(make([]byte, 0, len(v)), v...))
		return err
	})
	return rec, found && err == nil, err
}

// read calls use with the bytes of a row, which are valid during the call, and says whether there is one.
func (s *Snapshot) read(oid uint32, key []byte, use func(v []byte) error) (bool, error) {
	it, err := s.point()
	if err != nil {
		return false, err
	}
	buf := s.keys.Get().(*[]byte)
	*buf = append(appendPrefix((*buf)[:0], spaceRow, oid), key...)
	found := it.SeekPrefixGE(*buf)
	s.keys.Put(buf)
	if !found {
		if err := it.Error(); err != nil {
			return false, fmt.Errorf("read row %s of table %d: %w", printKey(key), oid, closeWith(it, err))
		}
		s.release(&s.points, it)
		return false, nil
	}
	v, err := it.ValueAndErr()
	if err == nil {
		err = use(v)
	}
	s.release(&s.points, it)
	return true, err
}

// point is an iterator for reading single keys, one that was used before if there is any.
func (s *Snapshot) point() (*pebble.Iterator, error) {
	if it := s.reuse(&s.points); it != nil {
		return it, nil
	}
	return s.db.NewIter(&pebble.IterOptions{})
}

func (s *Snapshot) record(v []byte) (Record, error) {
	rec, err := decodeRecord(v)
	if err != nil {
		return Record{}, err
	}
	schema, err := s.m.schema(rec.schema)
	if err != nil {
		return Record{}, err
	}
	return Record{Schema: schema, Row: rec.row, LSN: rec.lsn}, nil
}

// Lookup visits the rows whose columns of ix have these values (row.AppendColumns), in the order of their keys.
// key and the record's row are valid only during the visit. A visitor's ErrStop ends the lookup without error.
// It returns ErrNoIndex when ix is not one that EnsureIndexes had built before the snapshot.
func (s *Snapshot) Lookup(ix Index, values []byte, visit func(key []byte, rec Record) error) error {
	return s.LookupKeys(ix, values, func(key []byte) error {
		found, err := s.read(ix.OID, key, func(v []byte) error {
			rec, err := s.record(v)
			if err != nil {
				return err
			}
			return visit(key, rec)
		})
		if err == nil && !found {
			return fmt.Errorf("%w: index %v has an entry for row %s, which is not there", ErrCorrupt, ix, printKey(key))
		}
		return err
	})
}

// LookupKeys is Lookup for the keys only: it reads no rows.
func (s *Snapshot) LookupKeys(ix Index, values []byte, visit func(key []byte) error) error {
	have := s.declared.find(ix)
	if have == nil {
		return fmt.Errorf("%w: %v", ErrNoIndex, ix)
	}
	if skipParts(values, len(ix.Columns)) == nil || len(skipParts(values, len(ix.Columns))) > 0 {
		return fmt.Errorf("look up %v: want the values of %d columns, got %q", ix, len(ix.Columns), values)
	}
	buf := s.keys.Get().(*[]byte)
	defer s.keys.Put(buf)
	*buf = append(appendPrefix((*buf)[:0], spaceIndex, have.ID), values...)
	n := len(*buf)
	*buf = append(*buf, *buf...)
	lower, upper := (*buf)[:n:n], (*buf)[n:]
	upper[n-1] = 1 // the values end in a zero byte; nothing but their entries comes before this
	return s.visit(lower, upper, func(it *pebble.Iterator) error { return visit(it.Key()[n:]) })
}

// Scan visits the table's rows from the one with key from on, or all when from is nil, in the order of their
// keys. key and the record's row are valid only during the visit. A visitor's ErrStop ends the scan without error.
func (s *Snapshot) Scan(oid uint32, from []byte, visit func(key []byte, rec Record) error) error {
	lower, upper := bounds(spaceRow, oid)
	lower = append(lower, from...)
	err := s.visit(lower, upper, func(it *pebble.Iterator) error {
		v, err := it.ValueAndErr()
		if err != nil {
			return err
		}
		rec, err := s.record(v)
		if err != nil {
			return fmt.Errorf("row %s: %w", printKey(it.Key()[prefixLen:]), err)
		}
		return visit(it.Key()[prefixLen:], rec)
	})
	if err != nil {
		return fmt.Errorf("scan table %d: %w", oid, err)
	}
	return nil
}

// visit goes through the keys from lower up to upper.
func (s *Snapshot) visit(lower, upper []byte, each func(it *pebble.Iterator) error) error {
	it, err := s.iterator(lower, upper)
	if err != nil {
		return err
	}
	for it.First(); it.Valid(); it.Next() {
		if err := each(it); err != nil {
			s.release(&s.ranges, it)
			if errors.Is(err, ErrStop) {
				return nil
			}
			return err
		}
	}
	if err := it.Error(); err != nil {
		return closeWith(it, err)
	}
	s.release(&s.ranges, it)
	return nil
}

// iterator is an iterator over [lower, upper), one that was used before if there is any.
func (s *Snapshot) iterator(lower, upper []byte) (*pebble.Iterator, error) {
	if it := s.reuse(&s.ranges); it != nil {
		it.SetBounds(lower, upper)
		return it, nil
	}
	return s.db.NewIter(&pebble.IterOptions{LowerBound: bytes.Clone(lower), UpperBound: bytes.Clone(upper)})
}

func (s *Snapshot) reuse(idle *[]*pebble.Iterator) *pebble.Iterator {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := len(*idle)
	if n == 0 {
		return nil
	}
	it := (*idle)[n-1]
	*idle = (*idle)[:n-1]
	return it
}

func (s *Snapshot) release(idle *[]*pebble.Iterator, it *pebble.Iterator) {
	s.mu.Lock()
	defer s.mu.Unlock()
	*idle = append(*idle, it)
}

// Count is about how many rows the table has: exact, but for what happens while it is being loaded.
func (s *Snapshot) Count(oid uint32) (int64, error) {
	v, closer, err := s.db.Get(spaceKey(spaceCount, oid, nil))
	if errors.Is(err, pebble.ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("count table %d: %w", oid, err)
	}
	defer closer.Close()
	if len(v) != 8 {
		return 0, fmt.Errorf("%w: count of table %d", ErrCorrupt, oid)
	}
	return int64(binary.BigEndian.Uint64(v)), nil
}
