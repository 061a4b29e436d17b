package mirror

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"

	"github.com/cockroachdb/pebble/v2"
	"github.com/jackc/pglogrepl"
)

// loading is what is kept in memory of a table that is not complete. The table's mu guards it.
type loading struct {
	// point is the newest consistent point of the rows loaded so far, 0 before the first.
	point pglogrepl.LSN
	// newest is point, or more when it is not known what an earlier process has loaded.
	newest pglogrepl.LSN
	// past leads from a key that a row with unchanged values once had to the keys it may have now. An entry may be
	// out of date; the row's lineage says.
	past map[string][]string
	// watches are told of each key that the stream changes.
	watches []*watch
}

// watch is what a Bulk learns while it writes its files.
type watch struct{ keys []string }

func newLoading() *loading {
	return &loading{past: map[string][]string{}}
}

// restoreLoading is the loading of a table that an earlier process began.
func restoreLoading(m *Mirror, oid uint32) (*loading, error) {
	l := &loading{newest: math.MaxUint64, past: map[string][]string{}}
	lower, upper := bounds(spaceUnfilled, oid)
	it, err := m.db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return nil, err
	}
	for it.First(); it.Valid(); it.Next() {
		line, err := decodeLineage(it.Value())
		if err != nil {
			return nil, closeWith(it, err)
		}
		l.lead(line, string(it.Key()[prefixLen:]))
	}
	return l, it.Close()
}

// touch tells that the stream changes the row under key k.
func (l *loading) touch(k []byte) {
	for _, w := range l.watches {
		w.keys = append(w.keys, string(k))
	}
}

// lead notes that the keys of the lineage lead to key k.
func (l *loading) lead(line lineage, k string) {
	for _, st := range line.stays {
		if !slices.Contains(l.past[st.key], k) {
			l.past[st.key] = append(l.past[st.key], k)
		}
	}
}

// stagedLoad is what a stage holds besides rows while its table is loading.
type stagedLoad struct {
	tombstones map[string]pglogrepl.LSN
	lineages   map[string]lineage // as changed here; dropped when from is dropped
	cleared    bool               // those of the database are not to be seen
}

// dropped is the from of a lineage that is no longer there. No transaction commits at it.
const dropped = pglogrepl.LSN(math.MaxUint64)

func newStagedLoad() *stagedLoad {
	return &stagedLoad{tombstones: map[string]pglogrepl.LSN{}, lineages: map[string]lineage{}}
}

// tombstone is the commit LSN of the last transaction that removed the row under key k, or 0.
func (s *stage) tombstone(k []byte) (pglogrepl.LSN, error) {
	if lsn, ok := s.load.tombstones[string(k)]; ok || s.load.cleared {
		return lsn, nil
	}
	v, err := s.m.value(spaceKey(spaceTombstone, s.t.oid, k))
	if err != nil || v == nil {
		return 0, err
	}
	if len(v) != 8 {
		return 0, fmt.Errorf("%w: tombstone of %s", ErrCorrupt, printKey(k))
	}
	return pglogrepl.LSN(binary.BigEndian.Uint64(v)), nil
}

func (s *stage) setTombstone(k []byte, lsn pglogrepl.LSN) error {
	s.load.tombstones[string(k)] = lsn
	return s.kv.Set(spaceKey(spaceTombstone, s.t.oid, k), binary.BigEndian.AppendUint64(nil, uint64(lsn)), nil)
}

// lineage is where the row under key k has been, and whether that is recorded: whether it has unchanged values.
func (s *stage) lineage(k []byte) (lineage, bool, error) {
	if line, ok := s.load.lineages[string(k)]; ok || s.load.cleared {
		return line, ok && line.from != dropped, nil
	}
	v, err := s.m.value(spaceKey(spaceUnfilled, s.t.oid, k))
	if err != nil || v == nil {
		return lineage{}, false, err
	}
	line, err := decodeLineage(v)
	return line, err == nil, err
}

func (s *stage) setLineage(k []byte, line lineage) error {
	s.load.lineages[string(k)] = line
	s.t.load.lead(line, string(k))
	return s.kv.Set(spaceKey(spaceUnfilled, s.t.oid, k), line.append(nil), nil)
}

func (s *stage) dropLineage(k []byte) error {
	s.load.lineages[string(k)] = lineage{from: dropped}
	return s.kv.Delete(spaceKey(spaceUnfilled, s.t.oid, k), nil)
}

// lineageOf is the lineage of old, the row under key k. A row that has all its values has none recorded: it may
// still lack those of a column that is newer than it, and then it has been under its key since it was written.
func (s *stage) lineageOf(k []byte, old stored) (lineage, error) {
	line, ok, err := s.lineage(k)
	if err == nil && !ok {
		line = lineage{from: old.lsn}
	}
	return line, err
}

// replace is put for a loading table: it keeps the lineage in step. line is that of rec, if it has unchanged values.
func (s *stage) replace(p *plan, k []byte, old stored, found bool, rec stored, line lineage) error {
	if err := s.put(p, k, old, found, rec); err != nil {
		return err
	}
	if rec.row.HasUnchanged() {
		return s.setLineage(k, line)
	}
	if found && old.row.HasUnchanged() {
		return s.dropLineage(k)
	}
	return nil
}

// bury is remove for a loading table: snapshots that do not have the removal yet must not bring the row back.
func (s *stage) bury(k []byte, old stored, found bool, lsn pglogrepl.LSN) error {
	if found {
		if err := s.remove(k, old); err != nil {
			return err
		}
		if old.row.HasUnchanged() {
			if err := s.dropLineage(k); err != nil {
				return err
			}
		}
	}
	return s.setTombstone(k, lsn)
}
