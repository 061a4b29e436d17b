package mirror

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
	"github.com/jackc/pglogrepl"

	"github.com/lanternist/lanternist/event"
	"github.com/lanternist/lanternist/internal/sabotage"
	"github.com/lanternist/lanternist/row"
)

// Batch collects changes that become visible, and part of the mirror, together. One goroutine uses it.
type Batch struct {
	m      *Mirror
	kv     *pebble.Batch
	arena  arena
	stages []*stage // of the tables that the batch has changed; their locks are held
	last   *stage
	lsn    pglogrepl.LSN // commit LSN of the newest event
	over   bool
	failed error

	newKey, oldKey []byte
}

// Begin begins a batch. It waits until the batch before has been committed or discarded. Until then the loading of
// tables that the batch has changed waits for it, as do the beginning and the end of any load, DropTable and EnsureIndexes:
// the goroutine that has a batch must not call these.
func (m *Mirror) Begin() *Batch {
	m.writer.Lock()
	return &Batch{m: m, kv: m.db.NewBatch()}
}

// Apply stages the change that ev tells of, which must follow all others in commit order, and completes ev from
// the rows as they were: the unchanged values of After, and Before. What it puts into the event stays valid after
// the batch. An event that is complete already, because it was read from the journal, is applied just so.
//
// A change that cannot be applied because of how the table is defined now (its key is another one, or none; a value that
// was not sent is not known) ends the following of that table: it is Forsaken, and this and later events of it are left as
// they came. The stream goes on for all others.
//
// While the table is being loaded the row may not be there yet, or be newer than the change; then the event is
// left as it came, and values that are not known stay row.Unchanged.
//
// After an error the batch can only be discarded.
func (b *Batch) Apply(ev *event.Event) error {
	if b.over || b.failed != nil {
		return b.refuse()
	}
	if ev.Op == event.Message || ev.Op == event.Gap {
		return nil // whoever reads a gap has dropped the tables before
	}
	if err := b.follow(ev); err != nil {
		b.failed = fmt.Errorf("apply %s to %s in transaction %s, change %d: %w",
			opName(ev.Op), ev.Schema.QualifiedName(), ev.Transaction.CommitLSN, ev.Ordinal, err)
		return b.failed
	}
	return nil
}

func (b *Batch) refuse() error {
	if b.failed != nil {
		return fmt.Errorf("%w: %w", ErrDone, b.failed)
	}
	return ErrDone
}

// follow applies the event unless its table is forsaken, and forsakes the table when it cannot be applied.
func (b *Batch) follow(ev *event.Event) error {
	s := b.stage(ev.Schema.OID)
	b.lsn = max(b.lsn, ev.Transaction.CommitLSN)
	if s.isForsaken() {
		return nil
	}
	err := b.apply(s, ev)
	if errors.Is(err, ErrNoKey) || errors.Is(err, ErrKeyChanged) || errors.Is(err, ErrUnknownValue) {
		s.forsake(err)
		return nil
	}
	return err
}

func (b *Batch) apply(s *stage, ev *event.Event) error {
	p, err := s.plan(ev.Schema)
	if err != nil {
		return err
	}
	switch ev.Op {
	case event.Insert:
		return b.insert(s, p, ev)
	case event.Update:
		return b.update(s, p, ev)
	case event.Delete:
		return b.delete(s, p, ev)
	case event.Truncate:
		return s.truncate(ev.Transaction.CommitLSN)
	default:
		return fmt.Errorf("unknown kind of change %q", byte(ev.Op))
	}
}

// stage is the stage of a table, whose lock it takes when the batch meets the table for the first time.
func (b *Batch) stage(oid uint32) *stage {
	if b.last != nil && b.last.t.oid == oid {
		return b.last
	}
	t := b.m.table(oid)
	s := &t.stage
	if !b.holds(s) {
		t.mu.Lock()
		s.begin(b.kv, &b.arena)
		b.stages = append(b.stages, s)
	}
	b.last = s
	return s
}

// holds says whether s is one of the batch's. A stage's kv is only written by the holder of the table's lock, so
// the list is asked and not the stage.
func (b *Batch) holds(s *stage) bool {
	for _, have := range b.stages {
		if have == s {
			return true
		}
	}
	return false
}

func (b *Batch) insert(s *stage, p *plan, ev *event.Event) error {
	key, ok := p.schema.AppendKey(b.newKey[:0], ev.After)
	if b.newKey = key; !ok {
		return fmt.Errorf("%w: the new row's key is null", ErrNoKey)
	}
	rec := stored{lsn: ev.Transaction.CommitLSN, schema: p.schema.ID, row: ev.After}
	if s.load == nil && len(s.t.indexes) == 0 {
		return s.put(p, key, stored{}, false, rec) // nothing to clean up, should there be a row
	}
	old, found, err := s.get(key)
	if err != nil {
		return err
	}
	if s.load != nil {
		return s.loadingInsert(p, key, old, found, rec)
	}
	return s.put(p, key, old, found, rec)
}

func (b *Batch) update(s *stage, p *plan, ev *event.Event) error {
	oldKey, newKey, err := b.updateKeys(p.schema, ev)
	if err != nil {
		return err
	}
	old, found, err := s.get(oldKey)
	if err != nil {
		return err
	}
	if err := b.complete(s, ev, old, found); err != nil {
		return err
	}
	rec := stored{lsn: ev.Transaction.CommitLSN, schema: p.schema.ID, row: ev.After}
	moved := !bytes.Equal(oldKey, newKey)
	if s.load != nil {
		return s.loadingUpdate(p, oldKey, newKey, moved, old, found, rec)
	}
	if rec.row.HasUnchanged() && !sabotage.Off(sabotage.UnknownValue) {
		return fmt.Errorf("%w: row %s; the table must be loaded again", ErrUnknownValue, printKey(newKey))
	}
	if moved {
		if found {
			if err := s.remove(oldKey, old); err != nil {
				return err
			}
		}
		if old, found, err = s.get(newKey); err != nil {
			return err
		}
	}
	return s.put(p, newKey, old, found, rec)
}

func (b *Batch) delete(s *stage, p *plan, ev *event.Event) error {
	key, ok := p.schema.AppendKey(b.oldKey[:0], ev.Before)
	if b.oldKey = key; !ok {
		return fmt.Errorf("%w: the deleted row's key columns were not sent; the replica identity must cover them", ErrNoKey)
	}
	old, found, err := s.get(key)
	if err != nil {
		return err
	}
	if err := b.complete(s, ev, old, found); err != nil {
		return err
	}
	if s.load != nil {
		return s.loadingDelete(key, old, found, ev.Transaction.CommitLSN)
	}
	if !found {
		return nil
	}
	return s.remove(key, old)
}

// updateKeys are the keys of the row before and after an update.
func (b *Batch) updateKeys(schema *row.Schema, ev *event.Event) (oldKey, newKey []byte, err error) {
	var ok bool
	if b.newKey, ok = schema.AppendKey(b.newKey[:0], ev.After); !ok && ev.Before != nil {
		// A key value stored out of line comes as unchanged, but then the old key comes too.
		ev.After = fillKey(b.arena.take(len(ev.After)+len(ev.Before)), ev.After, ev.Before, schema.Key)
		b.arena.keep(ev.After)
		b.newKey, ok = schema.AppendKey(b.newKey[:0], ev.After)
	}
	if !ok {
		return nil, nil, fmt.Errorf("%w: the new row's key is null or was not sent", ErrNoKey)
	}
	if ev.Before == nil {
		return b.newKey, b.newKey, nil
	}
	if b.oldKey, ok = schema.AppendKey(b.oldKey[:0], ev.Before); !ok {
		return nil, nil, fmt.Errorf("%w: the old row's key columns were not sent; the replica identity must cover them", ErrNoKey)
	}
	return b.oldKey, b.newKey, nil
}

// complete fills in what the event lacks, from the old row if there is one that is not newer than the change.
func (b *Batch) complete(s *stage, ev *event.Event, old stored, found bool) error {
	if ev.Schema.Identity == 'f' && ev.Before != nil && !ev.Before.HasUnchanged() {
		ev.BeforeComplete = true
		if ev.After != nil && ev.After.HasUnchanged() {
			ev.After = b.arena.keep(row.Fill(b.arena.take(len(ev.After)+len(ev.Before)), ev.After, ev.Before))
		}
	}
	if !found || s.newer(old, ev.Transaction.CommitLSN) {
		return nil
	}
	mp, err := s.t.mapping(old.schema, ev.Schema)
	if err != nil {
		return err
	}
	if ev.After != nil && ev.After.HasUnchanged() && !sabotage.Off(sabotage.Fill) {
		ev.After = b.arena.keep(mp.fill(b.arena.take(len(ev.After)+len(old.row)), ev.After, old.row))
	}
	if ev.BeforeComplete || (s.load != nil && old.row.HasUnchanged()) {
		return nil
	}
	ev.BeforeComplete = true
	if ev.Before = old.row; mp != nil {
		ev.Before = b.arena.keep(mp.convert(b.arena.take(mp.convertRoom(old.row)), old.row))
	}
	return nil
}

// Commit makes the changes part of the mirror, together with its position. offset is that of the last event of
// the journal that the batch reaches to. When whole, the batch ends with the end of a transaction, and lsn says
// that everything committed before it has been applied: the end LSN of that transaction. Otherwise the batch ends
// inside a transaction: the progress does not move, and snapshots wait.
//
// Commit does not sync (see Sync). The batch is over, also after an error.
func (b *Batch) Commit(offset event.Offset, lsn pglogrepl.LSN, whole bool) error {
	if b.over || b.failed != nil {
		err := b.refuse()
		b.Discard()
		return err
	}
	err := b.commit(offset, lsn, whole)
	b.end(err == nil)
	if err != nil {
		return fmt.Errorf("commit mirror batch at %s: %w", offset, err)
	}
	return nil
}

func (b *Batch) commit(offset event.Offset, lsn pglogrepl.LSN, whole bool) error {
	for _, s := range b.stages {
		if err := s.seal(); err != nil {
			return err
		}
		if s.isForsaken() { // whoever sees the batch's other rows must not take the table for complete
			s.t.complete.Store(false)
		}
	}
	m := b.m
	m.commit.Lock()
	defer m.commit.Unlock()
	if offset < m.pos.offset {
		return fmt.Errorf("%w %s", ErrOrder, m.pos.offset)
	}
	pos := m.pos
	pos.offset, pos.whole, pos.applied = offset, whole, max(pos.applied, b.lsn)
	if whole {
		pos.progress = Progress{Offset: offset, LSN: max(lsn, pos.progress.LSN)}
	}
	if err := b.kv.Set(metaKey(metaPosition), pos.encode(), nil); err != nil {
		return err
	}
	if err := m.db.Apply(b.kv, pebble.NoSync); err != nil {
		return err
	}
	m.setPosition(pos)
	return nil
}

// Discard ends the batch without applying it. After Commit it does nothing.
func (b *Batch) Discard() {
	if !b.over {
		b.end(false)
	}
}

// end releases what the batch holds.
func (b *Batch) end(committed bool) {
	b.over = true
	for _, s := range b.stages {
		s.end(committed)
		s.t.mu.Unlock()
	}
	b.stages, b.last = nil, nil
	b.kv.Close() // returns nil unless the batch was applied and is still being read, which NoSync excludes
	b.m.writer.Unlock()
}

func opName(op event.Op) string {
	switch op {
	case event.Insert:
		return "insert"
	case event.Update:
		return "update"
	case event.Delete:
		return "delete"
	case event.Truncate:
		return "truncate"
	default:
		return fmt.Sprintf("change %q", byte(op))
	}
}
