package projectors

import (
	"context"
	"errors"
	"fmt"
)

var (
	// ErrRebuilding is returned by Rebuild when one is under way.
	ErrRebuilding = errors.New("a rebuild is under way")
	// ErrNotRunning is returned by Rebuild when there is neither a live generation being followed nor a Serve that waits:
	// the runner was not started, waits for the initial load, or is building a generation of its own accord.
	ErrNotRunning = errors.New("projector is not running")

	errNotFollowing = errors.New("the live generation is not followed any more")
)

// liveContext is the context that the live follower works in; nil when there is none.
type liveContext struct{ ctx context.Context }

// handover is a generation that Rebuild has built, for Run to go on with.
type handover struct {
	next *follower
	done chan error // has room for one
}

// revival has a runner that a fatal error stopped run again, and begin with a new generation. Its zero value asks for
// nothing.
type revival struct {
	progress Progress
	done     chan error // has room for one
}

func (v revival) why() string {
	if v.done == nil {
		return ""
	}
	return "a rebuild was asked for"
}

// answer tells Rebuild, the first time, whether the new generation is live.
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
// returns when the new generation is live, or with an error and the old one as it was. progress may be nil.
//
// A runner that a fatal error has stopped, and that Serve keeps, runs again, and begins with the new generation.
//
// When the context ends, the rebuild of a running runner ends, unless the promotion has begun: that is finished.
func (r *Runner) Rebuild(ctx context.Context, progress Progress) error {
	if !r.rebuild.CompareAndSwap(false, true) {
		return fmt.Errorf("rebuild %s: %w", r.cfg.Name, ErrRebuilding)
	}
	defer r.rebuild.Store(false)
	live, _ := r.following.Load().(liveContext)
	if live.ctx == nil {
		if err := r.reviveWith(ctx, progress); err != nil {
			return fmt.Errorf("rebuild %s: %w", r.cfg.Name, err)
		}
		return nil
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(context.Canceled)
	defer context.AfterFunc(live.ctx, func() { cancel(context.Cause(live.ctx)) })()
	if err := r.replace(ctx, progress); err != nil {
		return fmt.Errorf("rebuild %s: %w", r.cfg.Name, err)
	}
	return nil
}

// reviveWith has a waiting Serve run again.
func (r *Runner) reviveWith(ctx context.Context, progress Progress) error {
	v := revival{progress: progress, done: make(chan error, 1)}
	select {
	case r.revive <- v:
	default:
		return ErrNotRunning
	}
	select {
	case err := <-v.done:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (r *Runner) replace(ctx context.Context, progress Progress) error {
	if err := r.waitForLoad(ctx); err != nil {
		return err
	}
	r.building.Lock()
	defer r.building.Unlock()
	next, err := r.build(ctx, progress)
	if err != nil {
		return err
	}
	h := handover{next: next, done: make(chan error, 1)}
	select {
	case r.handover <- h:
	case <-ctx.Done():
		r.abandon(ctx, next)
		return context.Cause(ctx)
	}
	return <-h.done
}

// takeOver ends the live follower and goes on with the one that Rebuild has built. Between, nothing is promised: what readers
// see next shows at least what they were promised of the old one. When it fails the live one stays.
//
//nolint:revive // at is the live follower's, not the call's
func (r *Runner) takeOver(ctx context.Context, live *follower, at context.Context, h handover) (*follower, context.Context, error) {
	next := h.next
	nextAt := next.start(ctx)
	err := next.catchUp(nextAt)
	if err == nil {
		err = r.promote(nextAt, next)
	}
	if err != nil {
		r.abandon(ctx, next)
		h.done <- err
		return live, at, nil //nolint:nilerr // Rebuild returns it
	}
	live.stop(ctx, true)
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
	err := f.runner.repeat(ctx, "read checkpoint", func() (err error) {
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
