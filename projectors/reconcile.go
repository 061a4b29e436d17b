package projectors

import (
	"context"
	"fmt"

	"github.com/lanternist/lanternist/mirror"
)

// reconcile makes the whole generation equal to the snapshot: every root row is composed and written, and every
// document whose root row is gone is deleted. It is what a TRUNCATE needs, of which no event says which documents it
// touched. Neither the rows nor the ids are held in memory.
func (r *round) reconcile(ctx context.Context) error {
	r.f.runner.log.Info("reconciling all documents", "generation", r.f.info.Number, "offset", r.end.Offset)
	if _, err := r.f.scan(r.snapshot, nil); err != nil {
		return err
	}
	var own error // not the sink's: not to be repeated here
	err := r.f.runner.repeat(ctx, "visit document ids", func() error {
		err := r.f.generation.IDs(ctx, func(id string) error {
			own = r.removeOrphan(id)
			return own
		})
		if own != nil {
			return nil //nolint:nilerr // returned below
		}
		return err
	})
	if own != nil {
		return own
	}
	return err
}

// scan hands every root row of a snapshot to the pool and returns how many there were. It tells now and then how many it
// has handed over.
func (f *follower) scan(snapshot *mirror.Snapshot, scanned func(rows int64)) (int64, error) {
	root := f.def.View.Root()
	rows := int64(0)
	err := snapshot.Scan(root.OID, nil, func(key []byte, _ mirror.Record) error {
		if err := f.pool.add(key); err != nil {
			return err
		}
		if rows++; scanned != nil && rows%1024 == 0 {
			scanned(rows)
		}
		return nil
	})
	if err != nil {
		return rows, fmt.Errorf("scan %s: %w", root.QualifiedName(), err)
	}
	return rows, nil
}

// removeOrphan has a document deleted whose root row is not there. An id that is no key of the view was not written
// by this view and goes, too.
func (r *round) removeOrphan(id string) error {
	view := r.f.def.View
	key, err := view.Key(id)
	if err != nil {
		return r.f.pool.remove(id)
	}
	_, found, err := r.snapshot.Get(view.Root().OID, key)
	if err != nil {
		return Fatalf("", "look up root row of %s: %w", id, err)
	}
	if found {
		return nil
	}
	return r.f.pool.add(key) // composed to nothing: deleted
}
