package projectors

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// ErrNoRollback is returned by Rollback when no generation can be gone back to. The error's text says of each why.
var ErrNoRollback = errors.New("there is no generation to go back to")

// Rollback sends readers back to the generation that was live before, the last one of them. When another
// definition of the view has built it, readers see documents by that one again, and Status.Pending says so. It first catches up from its own checkpoint, while the live one goes on serving and following. The
// one that was live stays in its place, so that a second Rollback goes forward again. Rollback returns when readers see the
// other generation, or with an error as Rebuild does; ErrNoRollback when there is none, or when the journal no longer has what
// came after its checkpoint. progress may be nil; it counts batches of the journal.
//
// A runner that a fatal error has stopped, and that Serve keeps, runs again, and begins with the older generation.
func (r *Runner) Rollback(ctx context.Context, progress Progress) error {
	if err := r.change(ctx, revival{back: true, progress: progress}); err != nil {
		return fmt.Errorf("roll back %s: %w", r.cfg.Name, err)
	}
	return nil
}

// reopen finds the generation to go back to and has it catch up. Readers do not see it. When it fails, nothing has changed but
// how far that generation is. The caller holds r.building.
func (r *Runner) reopen(ctx context.Context, progress Progress) (*follower, error) {
	var refusals []string
	for _, g := range r.shelf.others() {
		info := g.info
		r.status.course.enter(StepOpening)
		f, err := r.reopenOne(ctx, info)
		if refused, ok := errors.AsType[errBuild](err); ok {
			refusals = append(refusals, fmt.Sprintf("generation %d %s", info.Number, refused.reason))
			continue
		}
		if err != nil {
			return nil, err
		}
		r.status.course.done()
		r.log.Info("going back", "generation", info.Number, "offset", f.position)
		if err := f.catchUpReporting(ctx, progress); err != nil {
			r.putBack(ctx, f)
			return nil, fmt.Errorf("generation %d: catch up: %w", info.Number, err)
		}
		return f, nil
	}
	if len(refusals) == 0 {
		refusals = append(refusals, "only the live one is held; projectors.keep_generations says how many older ones stay after a promotion")
	}
	return nil, fmt.Errorf("%w: %s", ErrNoRollback, strings.Join(refusals, "; "))
}

// reopenOne opens a generation to go on from its checkpoint. The error is an errBuild when that cannot be.
func (r *Runner) reopenOne(ctx context.Context, info Info) (*follower, error) {
	def, err := r.definitionOf(ctx, info)
	if err != nil {
		return nil, errBuild{refusedDefinition(err.Error())}
	}
	generation, cp, err := r.resume(ctx, def, info)
	if _, lacking := errors.AsType[errBuild](err); lacking || err == nil {
		r.shelf.saved(info.Number, cp)
	}
	if err != nil {
		return nil, err
	}
	// The claim comes before the question whether the journal has what is claimed, so that the answer stays true.
	name := r.generationName(info.Number)
	r.journal.Retain(name, cp.Offset)
	if err = r.refusal(info, cp); err == nil {
		err = r.follows(ctx, cp)
	}
	if err != nil {
		r.journal.Release(name)
		return nil, err
	}
	if err := r.stillLoaded(def); err != nil {
		r.journal.Release(name)
		return nil, errBuild{err.Error()}
	}
	return r.newFollower(def, generation, info, cp), nil
}

// catchUpReporting catches up with the mirror and says how far it is, in batches of the journal. The follower rests when it
// returns without an error.
func (f *follower) catchUpReporting(ctx context.Context, progress Progress) error {
	r, from := f.runner, f.next
	f.report = func() {
		done := int64(f.reading - from)
		total := max(done, int64(r.mirror.Position().Sequence())+1-int64(from))
		r.status.course.count(done, total)
		if progress != nil {
			progress(done, total)
		}
	}
	r.status.course.enter(StepCatchingUp)
	f.reading = from
	f.report()
	if err := f.catchUp(f.start(ctx)); err != nil {
		return err
	}
	f.reading = max(f.reading, f.position.Sequence()+1)
	f.report()
	f.report = nil
	f.rest()
	r.status.course.done()
	return nil
}

// putBack gives up a generation that was to be gone back to: it stays for another time.
func (r *Runner) putBack(ctx context.Context, f *follower) {
	f.stop(ctx, true)
	r.log.Info("generation put back", "generation", f.info.Number, "offset", f.position)
}
