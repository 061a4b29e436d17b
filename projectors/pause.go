package projectors

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
)

// errPaused ends a round of a live follower that must not go on.
var errPaused = errors.New("projector is paused")

// pauses says why a runner is paused.
type pauses struct {
	mu      sync.Mutex
	reasons []string
	changed chan struct{} // closed when the reasons change; nil until someone waits
}

// Pause has the runner write nothing any more by its own account, from a snapshot that the mirror gives from now on: it keeps what the
// live generation has, its position and its claim on the journal, and promises nothing, until Resume. A Rebuild, Redefine or
// Rollback that is asked for is made all the same. It returns at once, and may be called again with other reasons.
func (r *Runner) Pause(reasons []string) { r.pauses.set(r, slices.Clone(reasons)) }

// Resume ends a pause: the runner goes on where it was.
func (r *Runner) Resume() { r.pauses.set(r, nil) }

// Paused says why the runner is paused; empty when it is not.
func (r *Runner) Paused() []string {
	reasons, _ := r.pauses.get()
	return reasons
}

func (p *pauses) set(r *Runner, reasons []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if slices.Equal(p.reasons, reasons) {
		return
	}
	switch {
	case len(reasons) > 0:
		r.log.Warn("projector paused", "because", strings.Join(reasons, "; "))
	default:
		r.log.Info("projector resumed")
	}
	p.reasons = reasons
	if p.changed != nil {
		close(p.changed)
		p.changed = nil
	}
}

// get is why the runner is paused, and a channel that is closed when that changes.
func (p *pauses) get() ([]string, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.changed == nil {
		p.changed = make(chan struct{})
	}
	return p.reasons, p.changed
}

// awaitResume waits until the pause is over, or another generation is asked for.
func (r *Runner) awaitResume(ctx context.Context) (revival, error) {
	r.status.enter(StatePaused)
	for {
		reasons, changed := r.pauses.get()
		if len(reasons) == 0 {
			return revival{}, nil
		}
		select {
		case wish := <-r.revive:
			return wish, nil
		case <-changed:
		case <-ctx.Done():
			return revival{}, context.Cause(ctx)
		}
	}
}

// pausedHint is what a person can do about a pause.
const pausedHint = "correct the view's file and run `lanternist apply`, or, when the view can go on as it is, `lanternist schemas ack TABLE`"
