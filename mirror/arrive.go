package mirror

import (
	"github.com/cockroachdb/pebble/v2"
	"github.com/jackc/pglogrepl"
)

// This file is what the stream's changes do to a table that is being loaded. A change with commit LSN p meets
// rows that are missing, because no snapshot has brought them yet, and rows from snapshots with consistent point
// S: those that have the change already (p < S) it leaves alone.

func (s *stage) loadingInsert(p *plan, k []byte, old stored, found bool, rec stored) error {
	s.t.load.touch(k)
	if found && s.newer(old, rec.lsn) {
		return nil
	}
	return s.replace(p, k, old, found, rec, lineage{from: rec.lsn})
}

func (s *stage) loadingDelete(k []byte, old stored, found bool, lsn pglogrepl.LSN) error {
	s.t.load.touch(k)
	if found && s.newer(old, lsn) {
		return nil
	}
	return s.bury(k, old, found, lsn)
}

func (s *stage) loadingUpdate(p *plan, oldKey, newKey []byte, moved bool, old stored, found bool, rec stored) error {
	s.t.load.touch(newKey)
	if moved {
		return s.loadingMove(p, oldKey, newKey, old, found, rec)
	}
	if found && s.newer(old, rec.lsn) {
		return nil
	}
	line, err := s.lineageFor(newKey, old, found, rec)
	if err != nil {
		return err
	}
	return s.replace(p, newKey, old, found, rec, line)
}

// lineageFor is the lineage under its old key of a row that was updated to rec.
func (s *stage) lineageFor(k []byte, old stored, found bool, rec stored) (lineage, error) {
	switch {
	case !rec.row.HasUnchanged():
		return lineage{}, nil
	case !found: // it was there before the mirror heard of it, or came after the key was last freed
		from, err := s.tombstone(k)
		return lineage{from: from}, err
	default:
		return s.lineageOf(k, old)
	}
}

// loadingMove is an update of the key.
func (s *stage) loadingMove(p *plan, oldKey, newKey []byte, old stored, found bool, rec stored) error {
	s.t.load.touch(oldKey)
	line := lineage{from: rec.lsn}
	if !found || !s.newer(old, rec.lsn) {
		was, err := s.lineageFor(oldKey, old, found, rec)
		if err != nil {
			return err
		}
		line = was.moved(string(oldKey), rec.lsn)
		if err := s.bury(oldKey, old, found, rec.lsn); err != nil {
			return err
		}
	}
	target, found, err := s.get(newKey)
	if err != nil {
		return err
	}
	if found && s.newer(target, rec.lsn) {
		return nil
	}
	return s.replace(p, newKey, target, found, rec, line)
}

// truncate removes all rows.
func (s *stage) truncate(lsn pglogrepl.LSN) error {
	if s.load == nil {
		return s.clear()
	}
	s.edit().TruncatedAt = lsn
	if err := s.clearMarks(); err != nil {
		return err
	}
	if s.t.load.newest <= lsn {
		return s.clear()
	}
	return s.clearUntil(lsn)
}

// clearMarks stages the removal of tombstones and lineages: rows of snapshots that do not have the TRUNCATE are
// ignored, and rows that are newer than it have all their values.
func (s *stage) clearMarks() error {
	for _, sp := range []space{spaceTombstone, spaceUnfilled} {
		lower, upper := bounds(sp, s.t.oid)
		if err := s.kv.DeleteRange(lower, upper, nil); err != nil {
			return err
		}
	}
	s.load = newStagedLoad()
	s.load.cleared = true
	return nil
}

// clearUntil stages the removal of the rows written at lsn or before, one by one: others were loaded from a
// snapshot that was taken after the TRUNCATE. Those that the batch itself has staged are all older.
func (s *stage) clearUntil(lsn pglogrepl.LSN) error {
	for k, i := range s.at {
		if r := s.rows[i]; r.live {
			if err := s.remove([]byte(k), r.stored); err != nil {
				return err
			}
		}
	}
	if s.cleared {
		return nil
	}
	lower, upper := bounds(spaceRow, s.t.oid)
	it, err := s.m.db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return err
	}
	for it.First(); it.Valid(); it.Next() {
		if err := s.clearOne(it, lsn); err != nil {
			return closeWith(it, err)
		}
	}
	return it.Close()
}

func (s *stage) clearOne(it *pebble.Iterator, lsn pglogrepl.LSN) error {
	k := it.Key()[prefixLen:]
	if _, staged := s.at[string(k)]; staged {
		return nil
	}
	rec, err := decodeRecord(it.Value())
	if err != nil || rec.lsn > lsn {
		return err
	}
	return s.remove(k, rec)
}
