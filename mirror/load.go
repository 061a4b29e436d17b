package mirror

import (
	"fmt"

	"github.com/cockroachdb/pebble/v2"
	"github.com/jackc/pglogrepl"

	"github.com/lanternist/lanternist/internal/sabotage"
	"github.com/lanternist/lanternist/row"
)

// Load brings rows of a snapshot into a table whose load is under way. consistentPoint is the snapshot's: it has
// exactly the transactions whose commit LSN is less. Rows that the stream has changed or removed since stay as
// they are, but get the unchanged values that they lack from the snapshot.
//
// Load may be called from several goroutines; for one table they take turns, with each other and with the batch.
// The rows are not used after Load has returned. It does not sync: FinishRange says what is there to stay.
func (m *Mirror) Load(oid uint32, schema *row.Schema, consistentPoint pglogrepl.LSN, rows []row.Row) error {
	t := m.table(oid)
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := m.load(t, schema, consistentPoint, rows); err != nil {
		return fmt.Errorf("load %d rows of %s at %s: %w", len(rows), schema.QualifiedName(), consistentPoint, err)
	}
	return nil
}

func (m *Mirror) load(t *table, schema *row.Schema, point pglogrepl.LSN, rows []row.Row) error {
	if err := t.mayLoad(point); err != nil {
		return err
	}
	if point <= t.state.TruncatedAt {
		return nil // all that the snapshot has was truncated
	}
	t.load.loads(point)
	kv := m.db.NewBatch()
	defer kv.Close()
	s := &t.stage
	s.begin(kv, &arena{})
	committed := false
	defer func() { s.end(committed) }()
	p, err := s.plan(schema)
	if err != nil {
		return err
	}
	var key []byte
	for _, r := range rows {
		var ok bool
		if key, ok = schema.AppendKey(key[:0], r); !ok {
			return fmt.Errorf("%w: a row's key is null", ErrNoKey)
		}
		if err := s.loadRow(p, key, stored{lsn: point, schema: schema.ID, row: r}); err != nil {
			return fmt.Errorf("row %s: %w", printKey(key), err)
		}
	}
	if err := s.seal(); err != nil {
		return err
	}
	if err := m.db.Apply(kv, pebble.NoSync); err != nil {
		return err
	}
	committed = true
	return nil
}

// mayLoad refuses rows that do not belong to a load under way.
func (t *table) mayLoad(point pglogrepl.LSN) error {
	if t.state.Forsaken != "" {
		return fmt.Errorf("%w: %s", ErrForsaken, t.state.Forsaken)
	}
	if t.load == nil || !t.state.Started {
		return ErrNotLoading
	}
	if point < t.state.Floor {
		return fmt.Errorf("%w: it must not be before %s", ErrOldSnapshot, t.state.Floor)
	}
	return nil
}

// loads notes that rows of a snapshot are coming.
func (l *loading) loads(point pglogrepl.LSN) {
	l.point = max(l.point, point)
	l.newest = max(l.newest, point)
}

// loadRow stages rec, a row of a snapshot, under key k, unless what is there is as new.
func (s *stage) loadRow(p *plan, k []byte, rec stored) error {
	if rec.row.HasUnchanged() {
		return fmt.Errorf("%w: a snapshot has all values", ErrUnknownValue)
	}
	if err := s.fillMoved(k, rec); err != nil {
		return err
	}
	old, found, err := s.get(k)
	if err != nil {
		return err
	}
	if !found {
		removed, err := s.tombstone(k)
		if err != nil || rec.lsn <= removed && !sabotage.Off(sabotage.LoadOrder) {
			return err
		}
		return s.replace(p, k, old, false, rec, lineage{})
	}
	if old.lsn < rec.lsn || sabotage.Off(sabotage.LoadOrder) {
		return s.replace(p, k, old, true, rec, lineage{})
	}
	if !old.row.HasUnchanged() {
		return nil
	}
	line, err := s.lineageOf(k, old)
	if err != nil || line.from >= rec.lsn { // another row had the key then
		return err
	}
	return s.fillRow(k, old, line, rec)
}

// fillMoved fills the rows that had key k when the snapshot was taken, and have another now.
func (s *stage) fillMoved(k []byte, rec stored) error {
	for _, now := range s.t.load.past[string(k)] {
		line, ok, err := s.lineage([]byte(now))
		if err != nil {
			return err
		}
		if !ok || !line.stayedAt(string(k), rec.lsn) {
			continue
		}
		old, found, err := s.get([]byte(now))
		if err != nil {
			return err
		}
		if !found {
			return fmt.Errorf("%w: lineage of row %s, which is not there", ErrCorrupt, printKey([]byte(now)))
		}
		if err := s.fillRow([]byte(now), old, line, rec); err != nil {
			return err
		}
	}
	return nil
}

// fillRow gives old, the row under key k, the values that it lacks and rec has.
func (s *stage) fillRow(k []byte, old stored, line lineage, rec stored) error {
	schema, err := s.m.schema(old.schema)
	if err != nil {
		return err
	}
	mp, err := s.t.mapping(rec.schema, schema)
	if err != nil {
		return err
	}
	filled := old
	filled.row = s.arena.keep(mp.fill(s.arena.take(len(old.row)+len(rec.row)), old.row, rec.row))
	return s.replace(s.t.planOf(schema), k, old, true, filled, line)
}
