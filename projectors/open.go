package projectors

import (
	"context"
	"errors"
	"fmt"

	"github.com/lanternist/lanternist/journal"
	"github.com/lanternist/lanternist/mirror"
)

// errBuild says why there is no generation to go on with: one must be built.
type errBuild struct{ reason string }

func (e errBuild) Error() string { return e.reason }

// errRedefined says that the only reason is another definition of the view, and why the live generation is not followed by its
// own.
type errRedefined struct{ errBuild }

func (e errRedefined) Unwrap() error { return e.errBuild }

// open finds the live generation and goes on from its checkpoint. The error is an errBuild when a generation must be built
// instead; readers then see the old one, if there is one, at the watermark it had.
func (r *Runner) open(ctx context.Context) (*follower, error) {
	infos, err := r.generations(ctx)
	if err != nil {
		return nil, err
	}
	live := liveOf(infos)
	if live.Number == 0 && len(infos) > 0 {
		if live, err = r.reinstate(ctx, infos); err != nil {
			return nil, err
		}
		if live.Number != 0 {
			if infos, err = r.generations(ctx); err != nil {
				return nil, err
			}
		}
	}
	if err := r.owned(live); err != nil {
		r.status.live.Store(int64(live.Number))
		return nil, err
	}
	if err := r.survey(ctx, infos, live.Number); err != nil {
		return nil, err
	}
	r.status.live.Store(int64(live.Number))
	if live.Number == 0 {
		r.watermark.reset(mirror.Progress{})
		return nil, errBuild{"there is no live generation"}
	}
	def, changed := r.unsettled.def, error(nil)
	if def == nil || def.hash != live.Hash {
		def, changed = r.definitionOf(ctx, live)
	}
	if changed != nil {
		def = r.wanted.Load() // its store opens every generation
	}
	generation, cp, err := r.resume(ctx, def, live)
	r.shelf.saved(live.Number, cp)
	if cp.JournalID == r.journalID && r.sameHistory(live.Epoch) {
		r.watermark.reset(r.promised(live, cp))
	} else {
		r.watermark.reset(mirror.Progress{})
	}
	switch {
	case err != nil:
		return nil, err
	case !r.sameHistory(live.Epoch):
		return nil, errBuild{fmt.Sprintf("the generation is of epoch %q, the source is of %q", live.Epoch, r.cfg.Epoch)}
	}
	if err := r.beforeGap(cp); err != nil {
		return nil, err
	}
	if err := r.follows(ctx, cp); err != nil {
		return nil, err
	}
	if reasons := r.Paused(); changed != nil && len(reasons) > 0 {
		return nil, fmt.Errorf("%w: %w", errPaused, changed)
	}
	if changed != nil {
		return nil, errRedefined{errBuild{fmt.Sprintf("the view's definition has changed, and the live generation cannot be followed: %v", changed)}}
	}
	if err := r.letterbox(live.Number, true).adopt(ctx); err != nil {
		return nil, err
	}
	r.settle(def)
	if err := r.retireOthers(ctx); err != nil { // a crash may have come before the last promotion's end
		r.log.Warn("other generations not retired", "generation", live.Number, "error", err)
	}
	return r.newFollower(def, generation, live, cp), nil
}

func (r *Runner) generations(ctx context.Context) (infos []Info, err error) {
	err = r.ask(ctx, "list generations", func() (err error) {
		infos, err = r.wanted.Load().Store.Generations(ctx)
		return err
	})
	return infos, err
}

// liveOf is the generation that readers see; of number 0 when there is none.
func liveOf(infos []Info) Info {
	for _, info := range infos {
		if info.Live {
			return info
		}
	}
	return Info{}
}

// survey notes what the sink holds besides the live generation, and removes what a crash left of a generation that was not
// promoted: each newer than the live one that readers have never seen, and letters of generations that are gone.
func (r *Runner) survey(ctx context.Context, infos []Info, live int) error {
	r.shelf.reset(infos)
	for _, info := range infos {
		if info.Live {
			continue
		}
		_, cp, found, err := r.look(ctx, r.wanted.Load(), info.Number)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		switch {
		case err != nil && !lacking(err):
			// Its trouble is not that of the live one, which does not wait for it.
			r.log.Warn("generation cannot be looked at", "generation", info.Number, "error", err)
		case info.Number < live, found && cp.Served && live != 0:
			r.shelf.saved(info.Number, cp)
			_, _ = r.definitionOf(ctx, info) // remembered, with the reason when there is none
		default:
			r.log.Info("half-built generation found", "generation", info.Number, "created", info.Created)
			if err := r.retire(ctx, info.Number); err != nil {
				return err
			}
		}
	}
	return r.discardStrayLetters(ctx, infos)
}

// lacking says of looking at a generation that it is gone, or something of it.
func lacking(err error) bool { return errors.Is(err, ErrNoGeneration) || errors.Is(err, ErrLost) }

// discardStrayLetters removes the letters of generations that are gone.
func (r *Runner) discardStrayLetters(ctx context.Context, infos []Info) error {
	if len(infos) == 0 {
		return nil
	}
	for number := 1; number <= infos[len(infos)-1].Number; number++ {
		if _, held := r.shelf.get(number); held {
			continue
		}
		if err := r.letterbox(number, true).discard(ctx); err != nil {
			return fmt.Errorf("discard letters of generation %d: %w", number, err)
		}
	}
	return nil
}

// retire removes a generation, and then its letters: while it is held they tell what is missing in it.
func (r *Runner) retire(ctx context.Context, number int) error {
	err := r.ask(ctx, fmt.Sprintf("retire generation %d", number), func() error {
		if err := replaced(r.journal.Alone(ctx)); err != nil { // it may be one that who has replaced us is building
			return err
		}
		return r.wanted.Load().Store.Retire(ctx, number)
	})
	if err != nil {
		return err
	}
	r.status.course.within()
	r.shelf.remove(number)
	r.log.Info("generation retired", "generation", number)
	if err := r.letterbox(number, true).discard(ctx); err != nil {
		return fmt.Errorf("discard letters of generation %d: %w", number, err)
	}
	return nil
}

// look opens a generation and reads its checkpoint, once.
func (r *Runner) look(ctx context.Context, def *definition, number int) (generation Generation, cp Checkpoint, found bool, err error) {
	if generation, err = def.Store.Open(ctx, number); err != nil {
		return nil, cp, false, err
	}
	cp, found, err = generation.Checkpoint(ctx)
	return generation, cp, found, err
}

// resume opens a generation and reads its checkpoint.
func (r *Runner) resume(ctx context.Context, def *definition, info Info) (generation Generation, cp Checkpoint, err error) {
	found := false
	err = r.ask(ctx, fmt.Sprintf("open generation %d", info.Number), func() (err error) {
		generation, cp, found, err = r.look(ctx, def, info.Number)
		return err
	})
	switch {
	case err != nil && lacking(err):
		return nil, cp, errBuild{err.Error()}
	case err != nil:
		return nil, cp, err
	case !found:
		return nil, cp, errBuild{"has no checkpoint"}
	}
	return generation, cp, nil
}

// follows says that the journal has everything that comes after a checkpoint; else why a generation must be built.
func (r *Runner) follows(ctx context.Context, cp Checkpoint) error {
	if err := r.holds(cp); err != nil || cp.Offset != 0 {
		return err
	}
	if first := r.journal.First(); first > 0 {
		return r.followsFromBeginning(ctx, first)
	}
	return nil
}

// holds is follows as far as it can be said without reading: of a checkpoint at the journal's beginning it is not known.
func (r *Runner) holds(cp Checkpoint) error {
	head := r.journal.Head()
	switch {
	case cp.JournalID != r.journalID:
		return errBuild{fmt.Sprintf("has a checkpoint of journal %s, this is journal %s", cp.JournalID, r.journalID)}
	case cp.Offset > head.Offset || cp.Round > head.Offset:
		return errBuild{fmt.Sprintf("has its checkpoint %s beyond the journal's end %s: the journal is an older copy", max(cp.Offset, cp.Round), head.Offset)}
	case cp.Offset == 0:
		return nil
	}
	// While the archive cannot be asked nothing is said to be gone: reading waits for it.
	if gone, ok := errors.AsType[*journal.TrimmedError](r.journal.Retains(cp.Offset)); ok {
		return errBuild{fmt.Sprintf("has its checkpoint at %s, the journal begins at batch %d: what came between is gone, so it can only be built anew", cp.Offset, gone.First)}
	}
	return nil
}

// followsFromBeginning says that the journal still has its first batch, which is the one without parts.
func (r *Runner) followsFromBeginning(ctx context.Context, first uint64) error {
	batch, err := r.journal.Read(ctx, first)
	if err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return errBuild{fmt.Sprintf("the journal's first batch cannot be read: %v", err)}
	}
	if len(batch.Parts) > 0 {
		return errBuild{fmt.Sprintf("has its checkpoint at the journal's beginning, the journal begins at batch %d", first)}
	}
	return nil
}
