package projectors

import (
	"context"
	"fmt"
)

// Retire removes every generation but the live one from the sink, so that there is none to go back to. Those before
// an error are gone. progress may be nil; it counts generations. The error is ErrNotRunning when no
// live generation is being followed, and ErrRebuilding when one may be about to become another's predecessor.
func (r *Runner) Retire(ctx context.Context, progress Progress) error {
	if err := r.retireAll(ctx, progress); err != nil {
		return fmt.Errorf("retire generations of %s: %w", r.cfg.Name, err)
	}
	return nil
}

func (r *Runner) retireAll(ctx context.Context, progress Progress) error {
	if !r.changing.CompareAndSwap(false, true) {
		return ErrRebuilding
	}
	defer r.changing.Store(false)
	live, _ := r.following.Load().(liveContext)
	if live.ctx == nil || !r.building.TryLock() { // as while one is built of the runner's own accord
		return ErrNotRunning
	}
	defer r.building.Unlock()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(context.Canceled)
	defer context.AfterFunc(live.ctx, func() { cancel(context.Cause(live.ctx)) })()
	others := r.shelf.others()
	for i, g := range others {
		if progress != nil {
			progress(int64(i), int64(len(others)))
		}
		if err := r.retire(ctx, g.info.Number); err != nil {
			return err
		}
	}
	if progress != nil {
		progress(int64(len(others)), int64(len(others)))
	}
	return nil
}
