package projectors

import (
	"context"
	"fmt"
	"time"
)

// Progress tells how far the building of a generation is: root rows composed, and about how many there are in all. While an
// older one catches up it counts batches of the journal. It is called by one goroutine.
type Progress func(done, total int64)

// waitForLoad waits until the mirror has all rows of every table that the view depends on.
func (r *Runner) waitForLoad(ctx context.Context, def *definition) error {
	if !r.loaded(def) {
		r.log.Info("waiting for the initial load")
	}
	for !r.loaded(def) {
		// A table that has become complete need not move the mirror's progress: look again.
		timer := time.NewTimer(50 * time.Millisecond)
		_, changed := r.mirror.Progress()
		select {
		case <-timer.C:
		case <-changed:
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		}
		timer.Stop()
	}
	return nil
}

func (r *Runner) loaded(def *definition) bool {
	for oid := range def.tables {
		if !r.mirror.Loaded(oid) {
			return false
		}
	}
	return true
}

// stillLoaded is an error when a table of the view is being loaded anew: no event says what that changes, and no document
// may be composed from part of a table.
func (r *Runner) stillLoaded(def *definition) error {
	if r.loaded(def) {
		return nil
	}
	return fmt.Errorf("a table is being loaded again: %w", errCannotFollow)
}

// build makes a new generation of a definition that has caught up with the mirror. Readers do not see it. When it fails nothing of the
// generation is left, as far as the sink allows; what is left is removed when the runner starts again. The caller holds
// r.building.
func (r *Runner) build(ctx context.Context, def *definition, progress Progress) (*follower, error) {
	if err := replaced(r.journal.Alone(ctx)); err != nil {
		return nil, err
	}
	f, err := r.create(ctx, def)
	if err != nil {
		return nil, err
	}
	if err := f.fill(ctx, progress); err != nil {
		r.abandon(ctx, f)
		return nil, fmt.Errorf("build generation %d: %w", f.info.Number, err)
	}
	r.status.course.enter(StepCatchingUp)
	at := f.start(ctx)
	if err := f.catchUp(at); err != nil {
		r.abandon(ctx, f)
		return nil, fmt.Errorf("build generation %d: catch up: %w", f.info.Number, err)
	}
	r.status.course.done()
	r.status.course.enter(StepVerifying)
	if err := f.verify(at); err != nil {
		r.abandon(ctx, f)
		return nil, fmt.Errorf("verify generation %d: %w", f.info.Number, err)
	}
	r.status.course.done()
	f.rest()
	return f, nil
}

// create makes the generation, with the next number.
func (r *Runner) create(ctx context.Context, def *definition) (*follower, error) {
	infos, err := r.generations(ctx)
	if err != nil {
		return nil, err
	}
	info := Info{Number: 1, Hash: def.hash, Definition: def.View.Source(), Epoch: r.cfg.Epoch, Deployment: r.deployment(), Created: time.Now().UTC()}
	for _, other := range infos {
		info.Number = max(info.Number, other.Number+1)
		if !other.Live && r.owned(other) == nil {
			r.shelf.meet(other)
		}
	}
	r.status.course.enter(StepCreating)
	var generation Generation
	err = r.ask(ctx, fmt.Sprintf("create generation %d", info.Number), func() (err error) {
		generation, err = def.Store.Create(ctx, info)
		return err
	})
	if err != nil {
		return nil, err
	}
	r.status.course.done()
	r.shelf.put(info)
	r.log.Info("generation created", "generation", info.Number)
	// The claim on the journal begins at or before the snapshot: fill takes it later.
	from, _ := r.mirror.Progress()
	return r.newFollower(def, generation, info, Checkpoint{Offset: from.Offset, JournalID: r.journalID}), nil
}

// fill writes the documents of all root rows, from one snapshot, and saves the checkpoint that it stands for.
func (f *follower) fill(ctx context.Context, progress Progress) error {
	r := f.runner
	r.status.course.enter(StepFilling)
	snapshot, err := r.mirror.Snapshot(ctx)
	if err != nil {
		return fmt.Errorf("take a snapshot: %w", err)
	}
	defer func() {
		if err := snapshot.Close(); err != nil {
			r.log.Error("snapshot not closed", "error", err)
		}
	}()
	if err := r.stillLoaded(f.def); err != nil {
		return err
	}
	root := f.def.View.Root()
	total, err := snapshot.Count(root.OID)
	if err != nil {
		return fmt.Errorf("count %s: %w", root.QualifiedName(), err)
	}
	report := func(done int64) {
		r.status.course.count(done, max(done, total))
		if progress != nil {
			progress(done, max(done, total))
		}
	}
	report(0)
	began := time.Now()
	signs := r.cfg.Congestion.begin()
	defer signs.end()
	defer r.status.course.hold("")
	f.pool.begin(ctx, snapshot)
	f.pool.pace = newPacer(r.cfg.Workers, r.cfg.RebuildRate, signs.look, r.status.course.hold)
	defer func() { f.pool.pace = nil }()
	defer f.pool.end()
	rows, err := f.scan(snapshot, report)
	if err != nil {
		return err
	}
	if err := f.pool.drain(); err != nil {
		return err
	}
	report(rows)
	r.status.course.done()
	at := snapshot.Progress()
	if at.LSN, err = f.loadedAt(at.LSN); err != nil {
		return err
	}
	f.position, f.round, f.next = at.Offset, at.Offset, max(at.Offset.Sequence(), r.journal.First())
	f.mark = at
	r.log.Info("generation filled", "generation", f.info.Number, "offset", at.Offset, "rows", rows, "took", time.Since(began).Round(time.Millisecond))
	// A generation without a checkpoint could not be gone on with, should it be promoted and the process die.
	r.status.course.enter(StepSaving)
	f.saver.offer(f.checkpoint(at.LSN), f.events, true)
	if err := f.saver.save(ctx); err != nil {
		return err
	}
	r.status.course.done()
	return nil
}

// abandon gives up a generation that was not promoted.
func (r *Runner) abandon(ctx context.Context, f *follower) {
	f.stop(ctx, false)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), r.cfg.StopTimeout)
	defer cancel()
	err := f.letters.discard(ctx)
	if err == nil {
		err = replaced(r.journal.Alone(ctx)) // who has replaced us may have one of this number
	}
	if err == nil {
		err = f.def.Store.Retire(ctx, f.info.Number)
	}
	if err != nil {
		r.log.Warn("abandoned generation not retired; it will be at the next start", "generation", f.info.Number, "error", err)
		return
	}
	r.shelf.remove(f.info.Number)
	r.log.Info("generation abandoned", "generation", f.info.Number)
}

// promote shows the generation that was wished for to readers. With an error it is not known whether they see it: the sink may
// have done what its answer did not tell.
func (r *Runner) promote(ctx context.Context, f *follower, wish revival) error {
	number := f.info.Number
	r.unsettled = wish
	r.status.course.enter(StepPromoting)
	err := r.ask(ctx, fmt.Sprintf("promote generation %d", number), func() error {
		if err := replaced(r.journal.Alone(ctx)); err != nil {
			return err
		}
		return f.def.Store.Promote(ctx, number)
	})
	if err != nil {
		return err
	}
	r.status.course.done()
	r.settle(f.def)
	f.live, f.served, f.info.Live, f.letters = true, true, true, r.letterbox(number, false)
	r.status.live.Store(int64(number))
	r.shelf.promoted(number)
	f.saver.offer(f.checkpoint(f.mark.LSN), f.events, true) // says that readers have seen it
	r.log.Info("generation promoted", "generation", number, "offset", f.position)
	r.status.course.enter(StepAdoptingLetters)
	// The generation is live whatever fails now. The next start adopts the letters, the next promotion retires the rest.
	if err := f.letters.adopt(ctx); err != nil {
		r.log.Warn("letters not adopted; they will be at the next start", "generation", number, "error", err)
	}
	r.status.course.done()
	r.watermark.advance(f.mark)
	return nil
}

// retireAfter retires what a promotion has left over. It may take long, so whoever follows the journal does not wait for it.
func (r *Runner) retireAfter(ctx context.Context) {
	r.status.course.enter(StepRetiring)
	if err := r.retireOthers(ctx); err != nil {
		r.log.Warn("other generations not retired; they will be at the next start or promotion", "error", err)
	}
	r.status.course.done()
}

// prepare does what makes the promotion of a generation shorter: nobody follows the journal during it.
func (r *Runner) prepare(ctx context.Context, f *follower) error {
	r.status.course.enter(StepPreparing)
	if store, ok := f.def.Store.(Preparer); ok {
		number := f.info.Number
		err := r.ask(ctx, fmt.Sprintf("prepare promotion of generation %d", number), func() error { return store.Prepare(ctx, number) })
		if err != nil {
			return err
		}
	}
	r.status.course.done()
	return nil
}

// retireOthers keeps, besides the live generation, those that were live last, Config.KeepGenerations of them. What could not be
// looked at when the runner started, or was not there yet, is looked at now; of which nothing is known even then, it leaves to the next time.
func (r *Runner) retireOthers(ctx context.Context) error {
	r.lookAgain(ctx)
	kept := 0
	for _, g := range r.shelf.others() {
		if !g.known {
			continue
		}
		if g.cp.Served && kept < r.cfg.KeepGenerations {
			kept++
			continue
		}
		if err := r.retire(ctx, g.info.Number); err != nil {
			return err
		}
	}
	return nil
}

// lookAgain looks at the generations of which it is not known whether readers have ever seen them: one that a crash has left
// half-built, or that a sink has made when the process that asked for it was dead, would else stay beside those that are built after
// it.
func (r *Runner) lookAgain(ctx context.Context) {
	for _, g := range r.shelf.others() {
		if g.known {
			continue
		}
		_, cp, _, err := r.look(ctx, r.wanted.Load(), g.info.Number)
		if err != nil && !lacking(err) {
			r.log.Warn("generation cannot be looked at", "generation", g.info.Number, "error", err)
			continue
		}
		r.shelf.saved(g.info.Number, cp)
		_, _ = r.definitionOf(ctx, g.info)
	}
}
