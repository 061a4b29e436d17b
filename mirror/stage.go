package mirror

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/cockroachdb/pebble/v2"
	"github.com/jackc/pglogrepl"

	"github.com/lanternist/lanternist/row"
)

// stage collects the writes to one table and shows them to later reads, on top of the database: a hash map beside
// a plain Pebble batch, which is cheaper than Pebble's indexed batch. The holder of the table's mu uses it, from
// begin to end.
type stage struct {
	m     *Mirror
	t     *table
	kv    *pebble.Batch
	arena *arena

	at   map[string]int32 // key → index into rows
	rows []stagedRow
	load *stagedLoad // only while the table is loading

	reads int              // of the database since begin
	it    *pebble.Iterator // for more than a few of them

	cleared bool // rows of the database are not to be seen: the table was truncated
	total   int64
	state   *tableState // changed state, or nil

	key, entry, oldEntry []byte // scratch
}

// stagedRow is what a key holds now.
type stagedRow struct {
	stored
	live bool
}

// begin makes the stage ready for writes into kv. The table's mu is held until end.
func (s *stage) begin(kv *pebble.Batch, a *arena) {
	s.kv, s.arena = kv, a
	s.total = s.t.rows
	if s.t.load != nil {
		s.load = newStagedLoad()
	}
}

// seal writes what belongs to the table as a whole into the batch.
func (s *stage) seal() error {
	if s.total != s.t.rows {
		v := binary.BigEndian.AppendUint64(nil, uint64(s.total))
		if err := s.kv.Set(spaceKey(spaceCount, s.t.oid, nil), v, nil); err != nil {
			return err
		}
	}
	if s.state != nil {
		return setJSON(s.kv, spaceKey(spaceTable, s.t.oid, nil), s.state)
	}
	return nil
}

// end forgets the staged writes, after they have been committed or discarded.
func (s *stage) end(committed bool) {
	if s.it != nil {
		if err := s.it.Close(); err != nil { // every read has been checked for its own error
			s.m.log.Warn("mirror iterator did not close cleanly", "table", s.t.state.Name, "err", err)
		}
	}
	if committed {
		s.t.rows = s.total
	}
	switch {
	case s.state == nil:
	case committed:
		s.t.setState(*s.state)
	default:
		s.t.current = nil // it may have been checked against the state that is discarded
	}
	if len(s.rows) > 1<<14 { // clearing a large map costs what it once held
		s.at, s.rows = map[string]int32{}, nil
	} else {
		clear(s.at)
		clear(s.rows)
		s.rows = s.rows[:0]
	}
	s.kv, s.arena, s.load, s.state, s.cleared = nil, nil, nil, nil, false
	s.it, s.reads = nil, 0
}

// edit is the table's state, to be changed by the batch.
func (s *stage) edit() *tableState {
	if s.state == nil {
		state := s.t.state
		s.state = &state
	}
	return s.state
}

// plan is the plan of a schema that rows come with from the source. The first one names the table and its key.
func (s *stage) plan(schema *row.Schema) (*plan, error) {
	t := s.t
	if t.current != nil && t.current.schema == schema {
		return t.current, nil
	}
	if schema.ID == 0 {
		return nil, fmt.Errorf("%w: %s", ErrUnknownSchema, schema.QualifiedName())
	}
	state := &t.state
	if s.state != nil {
		state = s.state
	}
	if err := state.checkKey(schema); err != nil {
		return nil, err
	}
	if state.Key == nil {
		state = s.edit()
		state.Name, state.Key, state.KeyNumbers = schema.QualifiedName(), keyNames(schema), keyNumbers(schema)
	}
	t.current = t.planOf(schema)
	return t.current, nil
}

// get is the row under key k as it is after the staged writes. The row is the arena's or the caller's.
func (s *stage) get(k []byte) (stored, bool, error) {
	if i, ok := s.at[string(k)]; ok {
		return s.rows[i].stored, s.rows[i].live, nil
	}
	if s.cleared {
		return stored{}, false, nil
	}
	v, closer, err := s.read(k)
	if v == nil || err != nil {
		return stored{}, false, err
	}
	rec, err := decodeRecord(s.arena.copy(v))
	if closer != nil {
		err = errors.Join(err, closer.Close())
	}
	if err != nil {
		return stored{}, false, fmt.Errorf("read row %s: %w", printKey(k), err)
	}
	return rec, true, nil
}

// iteratorAfter is the number of reads after which an iterator is opened for the others: it costs as much as some
// reads, and halves the cost of each, for it keeps what it found on the way. It sees the table as it was when
// opened, and that is how it stays: nobody else writes to the table until end.
const iteratorAfter = 8

// read reads the bytes of a row of the database, which are valid until the next read or until closer is closed; nil
// when there is no row.
func (s *stage) read(k []byte) (v []byte, closer io.Closer, err error) {
	s.key = append(appendPrefix(s.key[:0], spaceRow, s.t.oid), k...)
	if s.reads++; s.reads <= iteratorAfter {
		v, closer, err = s.m.db.Get(s.key)
		if errors.Is(err, pebble.ErrNotFound) {
			return nil, nil, nil
		}
	} else {
		v, err = s.seek(s.key)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("read row %s: %w", printKey(k), err)
	}
	return v, closer, nil
}

func (s *stage) seek(key []byte) ([]byte, error) {
	if s.it == nil {
		lower, upper := bounds(spaceRow, s.t.oid)
		it, err := s.m.db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
		if err != nil {
			return nil, err
		}
		s.it = it
	}
	if !s.it.SeekPrefixGE(key) {
		return nil, s.it.Error()
	}
	return s.it.ValueAndErr()
}

// put stages rec, of plan p, under key k. old is the row there, if found.
func (s *stage) put(p *plan, k []byte, old stored, found bool, rec stored) error {
	s.remember(k, stagedRow{rec, true})
	op := s.kv.SetDeferred(prefixLen+len(k), recordHeader+len(rec.row))
	putKey(op.Key, spaceRow, s.t.oid, k)
	rec.put(op.Value)
	if err := op.Finish(); err != nil {
		return err
	}
	if !found {
		s.total++
	}
	return s.reindex(p, k, old, found, rec)
}

// remove stages the removal of old, the row under key k.
func (s *stage) remove(k []byte, old stored) error {
	op := s.kv.DeleteDeferred(prefixLen + len(k))
	putKey(op.Key, spaceRow, s.t.oid, k)
	if err := op.Finish(); err != nil {
		return err
	}
	s.remember(k, stagedRow{})
	s.total--
	return s.unindex(k, old)
}

func (s *stage) remember(k []byte, r stagedRow) {
	if i, ok := s.at[string(k)]; ok {
		s.rows[i] = r
		return
	}
	s.at[s.arena.string(k)] = int32(len(s.rows))
	s.rows = append(s.rows, r)
}

// clear stages the removal of all rows and index entries.
func (s *stage) clear() error {
	lower, upper := bounds(spaceRow, s.t.oid)
	if err := s.kv.DeleteRange(lower, upper, nil); err != nil {
		return err
	}
	for _, ix := range s.t.indexes {
		lower, upper := bounds(spaceIndex, ix.ID)
		if err := s.kv.DeleteRange(lower, upper, nil); err != nil {
			return err
		}
	}
	s.at, s.rows = map[string]int32{}, nil
	s.cleared = true
	s.total = 0
	return nil
}

// newer says whether the stored row is newer than a change committed at lsn. That can only be while the table is
// loading: the row came from a snapshot in which the change already is.
func (s *stage) newer(old stored, lsn pglogrepl.LSN) bool { return s.load != nil && old.lsn > lsn }
