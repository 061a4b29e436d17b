package projectors

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/lanternist/lanternist/deadletter"
	"github.com/lanternist/lanternist/internal/faultpoint"
	"github.com/lanternist/lanternist/journal"
	"github.com/lanternist/lanternist/mirror"
	"github.com/lanternist/lanternist/views"
)

// Filled is what Fill did.
type Filled struct {
	Rows      int64 // root rows composed
	Documents int64 // written
	Parked    int64 // refused: dead letters
}

// Fill writes the documents of all rows of a snapshot to a store that holds nothing, as generation 1, and promotes it. Nobody
// follows the journal for it afterwards. cp is saved with it, Offset, Round and Served being Fill's. Of cfg it takes Name, Sink and
// Epoch, and how documents are written.
//
// It yields to live traffic, and keeps to Config.RebuildRate, as the building of a generation does.
//
// It makes and promotes nothing when another process has taken the place of j's writer.
//
// When it fails, what it made may be left in the store, live or not; Dropper removes it. progress may be nil.
func Fill(ctx context.Context, cfg Config, view *views.View, store Store, snapshot *mirror.Snapshot, cp Checkpoint,
	j *journal.Journal, letters *deadletter.Store, log *slog.Logger, progress Progress,
) (Filled, error) {
	if err := cfg.validate(); err != nil {
		return Filled{}, fmt.Errorf("projector %q: %w", cfg.Name, err)
	}
	log = log.With("projector", cfg.Name)
	r := &Runner{cfg: cfg.withDefaults(), journal: j, letters: letters, log: log, trouble: trouble{log: log}}
	def := define(Definition{View: view, Store: store})
	r.wanted.Store(def)
	r.served.Store(def)
	filled, err := r.fillOnce(ctx, def, snapshot, cp, progress)
	if err != nil {
		return filled, fmt.Errorf("fill %s: %w", cfg.Name, err)
	}
	return filled, nil
}

func (r *Runner) fillOnce(ctx context.Context, def *definition, snapshot *mirror.Snapshot, cp Checkpoint, progress Progress) (filled Filled, err error) {
	infos, err := r.generations(ctx)
	if err != nil {
		return filled, err
	}
	if len(infos) > 0 {
		return filled, Fatalf("choose another name", "the sink holds a view of this name")
	}
	info := Info{Number: 1, Hash: def.hash, Definition: def.View.Source(), Epoch: r.cfg.Epoch, Created: time.Now().UTC()}
	f := &follower{runner: r, def: def, info: info, letters: r.letterbox(info.Number, false)}
	err = r.ask(ctx, "create generation", func() (err error) {
		if err := replaced(r.journal.Alone(ctx)); err != nil {
			return err
		}
		f.generation, err = def.Store.Create(ctx, info)
		return err
	})
	if err != nil {
		return filled, err
	}
	faultpoint.Hit(r.cfg.Name, "fill", "created")
	workers := make([]*worker, r.cfg.Workers)
	for i := range workers {
		workers[i] = f.newWorker()
	}
	f.pool = newPool(workers)
	if filled, err = f.writeAll(ctx, snapshot, progress); err != nil {
		return filled, err
	}
	cp.Offset = snapshot.Progress().Offset
	cp.Round, cp.Served, cp.Time = cp.Offset, true, time.Now().UTC()
	if err := r.ask(ctx, "save checkpoint", func() error { return f.generation.SaveCheckpoint(ctx, cp) }); err != nil {
		return filled, err
	}
	faultpoint.Hit(r.cfg.Name, "fill", "saved")
	return filled, r.ask(ctx, "promote", func() error {
		if err := replaced(r.journal.Alone(ctx)); err != nil {
			return err
		}
		return def.Store.Promote(ctx, info.Number)
	})
}

// writeAll writes the documents of all root rows.
func (f *follower) writeAll(ctx context.Context, snapshot *mirror.Snapshot, progress Progress) (filled Filled, err error) {
	total, err := snapshot.Count(f.def.View.Root().OID)
	if err != nil {
		return filled, err
	}
	report := func(rows int64) {
		if progress != nil {
			progress(rows, max(rows, total))
		}
	}
	report(0)
	signs := f.runner.cfg.Congestion.begin()
	defer signs.end()
	f.pool.begin(ctx, snapshot)
	f.pool.pace = newPacer(f.runner.cfg.Workers, f.runner.cfg.RebuildRate, signs.look, func(string) {})
	defer f.pool.end()
	if filled.Rows, err = f.scan(snapshot, report); err != nil {
		return filled, err
	}
	if err := f.pool.drain(); err != nil {
		return filled, err
	}
	report(filled.Rows)
	filled.Documents, filled.Parked = f.pool.tally.documents.Load(), f.pool.tally.parked.Load()
	return filled, nil
}

// Dropper is a Store whose view can be removed with all that the sink holds of it.
type Dropper interface {
	// Drop removes every generation, the live one included. A view that the sink does not hold is no error.
	Drop(ctx context.Context) error
}

// Erase removes a view from a store, and the letters of its projector. The projector must not run.
func Erase(ctx context.Context, projector string, store Store, letters *deadletter.Store) error {
	d, ok := store.(Dropper)
	if !ok {
		return fmt.Errorf("erase %s: the sink cannot remove a view", projector)
	}
	if err := d.Drop(ctx); err != nil {
		return fmt.Errorf("erase %s: %w", projector, err)
	}
	_, err := letters.DiscardAll(ctx, deadletter.Filter{Projector: projector}, nil, nil)
	return err
}
