package mirror

import (
	"context"
	"fmt"
	"slices"

	"github.com/cockroachdb/pebble/v2"
	"github.com/jackc/pglogrepl"
)

// FinishRange notes, durably, that all rows of range i have been loaded from the snapshot with this consistent point.
// What was loaded before it is durable then, too.
func (m *Mirror) FinishRange(oid uint32, i int, consistentPoint pglogrepl.LSN, rows int64) error {
	t := m.table(oid)
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := m.finishRange(t, i, consistentPoint, rows); err != nil {
		return fmt.Errorf("finish range %d of the load of %s: %w", i, t.state.Name, err)
	}
	return nil
}

func (m *Mirror) finishRange(t *table, i int, point pglogrepl.LSN, rows int64) error {
	if err := t.mayLoad(point); err != nil {
		return err
	}
	if i < 0 || i >= len(t.state.Ranges) {
		return fmt.Errorf("there are %d ranges", len(t.state.Ranges))
	}
	state := t.state
	state.Ranges = slices.Clone(state.Ranges)
	state.Ranges[i].Done, state.Ranges[i].Rows, state.Ranges[i].ConsistentPoint = true, rows, point
	return m.saveState(t, state, nil, pebble.Sync)
}

// saveState stores the table's state, with what else is in kv.
func (m *Mirror) saveState(t *table, state tableState, kv *pebble.Batch, opts *pebble.WriteOptions) error {
	if kv == nil {
		kv = m.db.NewBatch()
		defer kv.Close()
	}
	if err := setJSON(kv, spaceKey(spaceTable, t.oid, nil), &state); err != nil {
		return err
	}
	if err := m.db.Apply(kv, opts); err != nil {
		return err
	}
	t.setState(state)
	return nil
}

// FinishLoad completes the load of a table, durably, after all of its ranges. It waits until the stream has
// reached every consistent point that was loaded from; until then rows may be there that the stream will remove.
// It returns UnfilledError when values are missing that no snapshot held. On a complete table it does nothing.
func (m *Mirror) FinishLoad(ctx context.Context, oid uint32) error {
	t := m.table(oid)
	point, err := t.loadedUpTo()
	if err == nil {
		err = m.await(ctx, point)
	}
	if err == nil {
		err = m.finishLoad(t, point)
	}
	if err != nil {
		return fmt.Errorf("finish load of table %d: %w", oid, err)
	}
	return nil
}

// loadedUpTo is the newest consistent point that the table was loaded from. All ranges must be done.
func (t *table) loadedUpTo() (pglogrepl.LSN, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.load == nil {
		return 0, nil
	}
	if !t.state.Started {
		return 0, ErrNotLoading
	}
	point := t.load.point
	done := 0
	for _, r := range t.state.Ranges {
		if r.Done {
			done++
		}
		point = max(point, r.ConsistentPoint)
	}
	if done < len(t.state.Ranges) {
		return 0, fmt.Errorf("%w: %d of %d ranges of %s", ErrLoading, done, len(t.state.Ranges), t.state.Name)
	}
	return point, nil
}

// await waits until the progress has reached lsn.
func (m *Mirror) await(ctx context.Context, lsn pglogrepl.LSN) error {
	for {
		progress, changed := m.Progress()
		if progress.LSN >= lsn {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("wait for the stream to reach %s (it is at %s): %w", lsn, progress.LSN, context.Cause(ctx))
		}
	}
}

func (m *Mirror) finishLoad(t *table, point pglogrepl.LSN) error {
	m.writer.Lock() // no batch goes by the table's being incomplete
	defer m.writer.Unlock()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.state.Forsaken != "" {
		return fmt.Errorf("%w: %s", ErrForsaken, t.state.Forsaken)
	}
	if t.load == nil {
		return nil
	}
	if err := m.checkFilled(t); err != nil {
		return err
	}
	kv := m.db.NewBatch()
	defer kv.Close()
	lower, upper := bounds(spaceTombstone, t.oid)
	if err := kv.DeleteRange(lower, upper, nil); err != nil {
		return err
	}
	state := t.state
	state.Complete, state.LoadedAt = true, point
	if err := m.saveState(t, state, kv, pebble.Sync); err != nil {
		return err
	}
	t.load = nil
	t.complete.Store(true)
	m.log.Info("table loaded", "table", state.Name, "rows", t.rows)
	return nil
}

// checkFilled refuses to complete a table that has rows with unchanged values.
func (m *Mirror) checkFilled(t *table) error {
	lower, upper := bounds(spaceUnfilled, t.oid)
	it, err := m.db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return err
	}
	unfilled := &UnfilledError{Table: t.state.Name}
	for it.First(); it.Valid() && len(unfilled.Keys) < 1000; it.Next() {
		unfilled.Keys = append(unfilled.Keys, slices.Clone(it.Key()[prefixLen:]))
	}
	if err := closeWith(it, it.Error()); err != nil {
		return err
	}
	if len(unfilled.Keys) > 0 {
		return unfilled
	}
	return nil
}
