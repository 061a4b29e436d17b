package projectors

import (
	"context"
	"errors"
	"fmt"

	"github.com/lanternist/lanternist/backoff"
)

// errHeld ends a run whose live generation is served and not followed until a Rebuild is called.
var errHeld = errors.New("a rebuild is waited for")

var errUnknownDefinition = errors.New("it does not hold the text of its definition")

// Redefine is Rebuild with another definition of the view: the live generation goes on by its own while the new one is
// built. Once readers see the new one, promoted is called, at once and from the runner, which it must not wait for; it may be
// nil. From then on the runner has the new definition. With an error it has the old one, as with Rebuild; only when the sink's
// answer to the promotion was lost may promoted be called later. The mirror must have the indexes of both.
//
// When the live generation is of this definition already nothing is built.
func (r *Runner) Redefine(ctx context.Context, d Definition, progress Progress, promoted func()) error {
	if err := r.change(ctx, revival{def: define(d), progress: progress, promoted: promoted}); err != nil {
		return fmt.Errorf("redefine %s: %w", r.cfg.Name, err)
	}
	return nil
}

// settle notes that readers see documents of a definition: after a promotion, or when the sink has told which generation is
// live, which also tells what became of a promotion whose answer was lost.
func (r *Runner) settle(def *definition) {
	wish := r.unsettled
	r.unsettled = revival{}
	if wish.def != nil && wish.def.hash == def.hash {
		r.wanted.Store(wish.def)
		def = wish.def
	}
	r.serve(def)
	if wish.promoted != nil && def == wish.def {
		wish.promoted()
	}
}

// adopt takes a definition over that the live generation is of already. It says whether it is.
func (r *Runner) adopt(wish revival) bool {
	if wish.def == nil || wish.def.hash != r.served.Load().hash {
		return false
	}
	r.wanted.Store(wish.def)
	r.log.Info("definition is that of the live generation")
	if wish.promoted != nil {
		wish.promoted()
	}
	return true
}

// awaitRebuild waits until a generation is asked for.
func (r *Runner) awaitRebuild(ctx context.Context) (revival, error) {
	r.log.Warn("live generation is served and not followed", "pending", r.pending())
	r.status.enter(StatePending)
	select {
	case wish := <-r.revive:
		return wish, nil
	case <-ctx.Done():
		return revival{}, context.Cause(ctx)
	}
}

// buildPending builds the configured definition while the live generation of another one is followed, in a goroutine of its
// own. What it returns ends that.
func (r *Runner) buildPending(ctx context.Context) (end func()) {
	if !r.due() {
		return func() {}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		waits := backoff.New(r.cfg.Backoff)
		for r.due() {
			err := r.change(ctx, revival{})
			if err == nil || ctx.Err() != nil {
				return
			}
			r.log.Error("changed definition not built", "error", err, "hint", Hint(err))
			if Class(err) == Fatal {
				r.undone.Store(&err)
				return
			}
			if waits.Wait(ctx) != nil {
				return
			}
		}
	}()
	return func() {
		cancel(errNotFollowing)
		<-done
	}
}

// due says that the runner is to build the configured definition by itself.
func (r *Runner) due() bool {
	return !r.cfg.RebuildOnRequest && r.served.Load().hash != r.wanted.Load().hash && r.goneBackFrom() == 0
}

// goneBackFrom is the number of the generation of the configured definition that readers were sent back from; 0 when they were
// not. Had the configuration changed since, and not the readers' generation, it would be older than the live one.
func (r *Runner) goneBackFrom() int {
	wanted, live, from := r.wanted.Load().hash, 0, 0
	for _, g := range r.shelf.list() {
		switch {
		case g.info.Live:
			live = g.info.Number
		case g.info.Hash == wanted && g.cp.Served:
			from = g.info.Number
		}
	}
	if live == 0 || from < live {
		return 0
	}
	return from
}

// pending is Status.Pending.
func (r *Runner) pending() string {
	wanted := r.wanted.Load()
	live, ok := r.shelf.live()
	if !ok || live.info.Hash == wanted.hash {
		return ""
	}
	name := wanted.View.Name()
	text := "definition changed: rebuild " + name + " builds it"
	undone := r.undone.Load()
	switch from := r.goneBackFrom(); {
	case from != 0:
		text = fmt.Sprintf("readers were sent back from generation %d, which the view's definition has built: rebuild %s builds it again", from, name)
	case undone != nil:
		text += fmt.Sprintf("; that failed: %v", *undone)
	case !r.cfg.RebuildOnRequest:
		text = "definition changed: it is being built"
	}
	if known := r.knownDefinition(live.info); known.def == nil && known.refusal != "" {
		text += "; until then the documents stay as they are: " + known.refusal
	}
	return text
}
