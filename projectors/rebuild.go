package projectors

import (
	"context"
	"errors"
	"fmt"
)

var (
	// ErrRebuilding is returned by Rebuild and Rollback when one of them is under way.
	ErrRebuilding = errors.New("a rebuild or rollback is under way")
	// ErrNotRunning is returned by Rebuild and Rollback when there is neither a live generation being followed nor a Serve that
	// waits: the runner was not started, waits for the initial load, or is building a generation of its own accord.
	ErrNotRunning = errors.New("projector is not running")

	errNotFollowing = errors.New("the live generation is not followed any more")
	// errUnsettled says that a promotion has failed in a way that does not tell which generation is live.
	errUnsettled = errors.New("promotion not confirmed")
)

// liveContext is the context that the live follower works in; nil when there is none.
type liveContext struct{ ctx context.Context }

// handover is a generation that Rebuild has built, or Rollback opened again, for Run to go on with.
type handover struct {
	next *follower
	wish revival
	done chan error // has room for one
}

// revival is a wish for another generation than the live one. It has a runner that a fatal error stopped run again, and begin
// with that generation. Its zero value asks for nothing, and makes what is needed: a new generation.
type revival struct {
	back     bool        // an older generation is wished for, instead of a new one
	def      *definition // of the new one; nil is the wanted one
	promoted func()      // called when readers see it; may be nil
	progress Progress
	done     chan error // has room for one; nil when nobody asked
}

func (v revival) why() string {
	switch {
	case v.done == nil:
		return ""
	case v.back:
		return "a rollback was asked for"
	case v.def != nil:
		return "another definition was asked for"
	}
	return "a rebuild was asked for"
}

func (v revival) kind() Kind {
	if v.back {
		return KindRollback
	}
	return KindRebuild
}

func (v revival) doing() string {
	if v.back {
		return "going back to an older generation"
	}
	return "building a generation"
}

// make makes the generation that is wished for. It has caught up, and readers do not see it.
func (v revival) make(ctx context.Context, r *Runner) (*follower, error) {
	r.status.course.begin(v.kind())
	var f *follower
	var err error
	if v.back {
		f, err = r.reopen(ctx, v.progress)
	} else {
		f, err = r.build(ctx, v.definition(r), v.progress)
	}
	if err != nil {
		return nil, err
	}
	if err := r.prepare(ctx, f); err != nil {
		v.giveUp(ctx, r, f)
		return nil, err
	}
	return f, nil
}

// definition is that of the new generation.
func (v revival) definition(r *Runner) *definition {
	if v.def != nil {
		return v.def
	}
	return r.wanted.Load()
}

// asked says whether somebody asked for it.
func (v revival) asked() bool { return v.done != nil }

// giveUp gives up what make has made.
func (v revival) giveUp(ctx context.Context, r *Runner, f *follower) {
	if v.back {
		r.putBack(ctx, f)
		return
	}
	r.abandon(ctx, f)
}

// answer tells who asked, the first time, whether the other generation is live.
func (v revival) answer(err error) {
	if v.done == nil {
		return
	}
	select {
	case v.done <- err:
	default:
	}
}

// Rebuild fills a new generation from the mirror and promotes it, while the live one goes on serving and following. It
// returns when the new generation is live, or with an error and the old one as it was; only when the sink's answer to the
// promotion was lost may the new one be live all the same, which Status then tells. progress may be nil.
//
// A runner that a fatal error has stopped, and that Serve keeps, runs again, and begins with the new generation.
//
// When the context ends, the rebuild of a running runner ends, unless the promotion has begun: that is finished.
func (r *Runner) Rebuild(ctx context.Context, progress Progress) error {
	if err := r.change(ctx, revival{progress: progress}); err != nil {
		return fmt.Errorf("rebuild %s: %w", r.cfg.Name, err)
	}
	return nil
}

// change has readers sent to the generation that is wished for. One change is made at a time.
func (r *Runner) change(ctx context.Context, wish revival) error {
	if !r.changing.CompareAndSwap(false, true) {
		return ErrRebuilding
	}
	defer r.changing.Store(false)
	r.undone.Store(nil)
	live, _ := r.following.Load().(liveContext)
	if live.ctx == nil {
		return r.reviveWith(ctx, wish)
	}
	if r.adopt(wish) {
		return nil
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(context.Canceled)
	defer context.AfterFunc(live.ctx, func() { cancel(context.Cause(live.ctx)) })()
	return r.replace(ctx, wish)
}

// reviveWith has a waiting Serve run again.
func (r *Runner) reviveWith(ctx context.Context, wish revival) error {
	wish.done = make(chan error, 1)
	select {
	case r.revive <- wish:
	default:
		return ErrNotRunning
	}
	select {
	case err := <-wish.done:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (r *Runner) replace(ctx context.Context, wish revival) error {
	if err := r.waitForLoad(ctx, wish.definition(r)); err != nil {
		return err
	}
	r.building.Lock()
	defer r.building.Unlock()
	defer r.status.course.end()
	next, err := wish.make(ctx, r)
	if err != nil {
		return err
	}
	r.status.course.enter(StepHandingOver)
	h := handover{next: next, wish: wish, done: make(chan error, 1)}
	select {
	case r.handover <- h:
	case <-ctx.Done():
		wish.giveUp(ctx, r, next)
		return context.Cause(ctx)
	}
	if err := <-h.done; err != nil {
		return err
	}
	r.retireAfter(ctx)
	return nil
}

// takeOver ends the live follower and goes on with the one that is handed over. Between, nothing is promised: what readers
// see next shows at least what they were promised of the old one. When the new one cannot catch up the live one stays. When the
// promotion fails, the error is errUnsettled: the sink must be asked which one readers see.
//
//nolint:revive // at is the live follower's, not the call's
func (r *Runner) takeOver(ctx context.Context, live *follower, at context.Context, h handover) (*follower, context.Context, error) {
	next := h.next
	nextAt := next.start(ctx)
	if err := next.catchUp(nextAt); err != nil {
		h.wish.giveUp(ctx, r, next)
		h.done <- err
		return live, at, nil //nolint:nilerr // Rebuild or Rollback returns it
	}
	r.status.course.done()
	// The sink must know that readers have seen the live one, before nothing else tells it from a half-built one.
	r.status.course.enter(StepSavingLive)
	live.rest()
	err := live.saver.last(nextAt)
	r.status.course.done()
	if err == nil {
		err = r.promote(nextAt, next, h.wish)
	}
	if err != nil {
		next.stop(ctx, false)
		h.done <- err
		return live, at, fmt.Errorf("%w: %w", errUnsettled, err)
	}
	r.status.course.enter(StepReleasingJournal)
	live.stop(ctx, true)
	r.status.course.done()
	h.done <- nil
	return next, nextAt, nil
}

// Recheck has the runner ask its sink whether it still holds what was written, without waiting for the answer. Call it when
// a reader finds that the live generation is gone.
func (r *Runner) Recheck() {
	select {
	case r.recheck <- struct{}{}:
	default:
	}
}

// recheck is ErrLost when the sink's checkpoint is not the one that was saved last.
func (f *follower) recheck(ctx context.Context) error {
	held := f.saver.held()
	var cp Checkpoint
	var found bool
	err := f.runner.ask(ctx, "read checkpoint", func() (err error) {
		cp, found, err = f.generation.Checkpoint(ctx)
		return err
	})
	switch {
	case err != nil:
		return err
	case !found:
		return fmt.Errorf("generation %d has no checkpoint: %w", f.info.Number, ErrLost)
	case cp.Offset < held:
		return fmt.Errorf("generation %d has checkpoint %s, not %s: %w", f.info.Number, cp.Offset, held, ErrLost)
	}
	return nil
}
