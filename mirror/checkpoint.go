package mirror

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/jackc/pglogrepl"
)

// Checkpoint is a copy of the mirror in a folder of its own: the tables after some whole number of transactions. Opened
// with Open it is a mirror at Progress.
type Checkpoint struct {
	Progress Progress
	Tables   []CheckpointTable // in ascending order of OID
	Held     time.Duration     // how long commits waited for it
}

// CheckpointTable is one table of a checkpoint.
type CheckpointTable struct {
	OID  uint32
	Name string
	// Complete says that all of its rows are there. Rows of a table that is not are of no use to anyone but its load.
	Complete bool
	// LoadedAt is the newest consistent point that the table was loaded from: what it was before then is not known.
	LoadedAt pglogrepl.LSN
	Rows     int64 // about how many
}

// Checkpoint copies the mirror as it is to dir, which must not exist, on the disk of the mirror: files are linked, not
// copied, so it costs little time and, for as long as the mirror's own files stay, little room. Inside a large transaction
// it waits for the end of that. Commits and loads wait for it: for as long as it takes to link the files and to copy
// what was written since a flush just before.
func (m *Mirror) Checkpoint(ctx context.Context, dir string) (*Checkpoint, error) {
	for {
		// What is in memory goes to disk first, so that little is left to copy while others wait.
		if err := m.db.Flush(); err != nil {
			return nil, fmt.Errorf("checkpoint mirror: flush: %w", err)
		}
		c, changed, err := m.tryCheckpoint(dir)
		if err != nil {
			return nil, fmt.Errorf("checkpoint mirror to %s: %w", dir, err)
		}
		if c != nil {
			return c, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, fmt.Errorf("checkpoint mirror: wait for the end of a large transaction: %w", context.Cause(ctx))
		}
	}
}

// tryCheckpoint returns nil, and what to wait for, when the mirror is inside a transaction.
func (m *Mirror) tryCheckpoint(dir string) (*Checkpoint, <-chan struct{}, error) {
	m.writer.Lock() // no load begins or ends
	defer m.writer.Unlock()
	tables := m.Describe()
	m.commit.Lock()
	defer m.commit.Unlock()
	if !m.pos.whole {
		return nil, m.changed, nil
	}
	began := time.Now()
	if err := m.db.Checkpoint(dir, pebble.WithFlushedWAL()); err != nil {
		return nil, nil, err
	}
	return &Checkpoint{Progress: m.pos.progress, Tables: tables, Held: time.Since(began)}, nil, nil
}

// Describe describes the tables as they are, in ascending order of OID. A table that is being changed is waited for.
func (m *Mirror) Describe() []CheckpointTable {
	m.tablesMu.RLock()
	all := make([]*table, 0, len(m.tables))
	for _, t := range m.tables {
		all = append(all, t)
	}
	m.tablesMu.RUnlock()
	tables := make([]CheckpointTable, 0, len(all))
	for _, t := range all {
		tables = append(tables, t.describe())
	}
	slices.SortFunc(tables, func(a, b CheckpointTable) int { return cmp.Compare(a.OID, b.OID) })
	return tables
}

func (t *table) describe() CheckpointTable {
	t.mu.Lock()
	defer t.mu.Unlock()
	d := CheckpointTable{OID: t.oid, Name: t.state.Name, Complete: t.state.Complete, Rows: t.rows}
	for _, r := range t.state.Ranges {
		d.LoadedAt = max(d.LoadedAt, r.ConsistentPoint)
	}
	return d
}
