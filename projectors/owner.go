package projectors

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/lanternist/lanternist/mirror"
)

// watchEvery is how often a runner that follows its generation asks the sink whether that is still the live one.
const watchEvery = 10 * time.Second

// deployment is the name by which generations of this runner are known.
func (r *Runner) deployment() string {
	if len(r.cfg.Deployments) == 0 {
		return ""
	}
	return r.cfg.Deployments[0]
}

// owned is a fatal error when readers are sent to a generation of another deployment: two that write under the same names would
// replace each other's documents for ever.
func (r *Runner) owned(live Info) error {
	if live.Deployment == "" || len(r.cfg.Deployments) == 0 || slices.Contains(r.cfg.Deployments, live.Deployment) {
		return nil
	}
	view := r.wanted.Load().View.Name()
	return Fatalf(fmt.Sprintf("give one of the two another prefix (elasticsearch.prefix, redis.prefix) and start it again, or, when the other is gone for good: lanternist rebuild %s", view),
		"generation %d, made %s, belongs to deployment %s, this is %s: another deployment writes the same sink under the same prefix",
		live.Number, live.Created.Format(time.RFC3339), live.Deployment, r.deployment())
}

// sameHistory says whether a generation that was made in an epoch shows nothing but what is part of the source's history.
func (r *Runner) sameHistory(epoch string) bool {
	_, earlier := r.cfg.Epochs[epoch]
	return epoch == r.cfg.Epoch || earlier
}

// promised is a checkpoint's promise to readers who go by the positions of the present epoch. Of an earlier one it holds up to
// where the source left that.
func (r *Runner) promised(live Info, cp Checkpoint) mirror.Progress {
	p := cp.promise()
	if left, earlier := r.cfg.Epochs[live.Epoch]; earlier && live.Epoch != r.cfg.Epoch {
		p.LSN = min(p.LSN, left)
	}
	return p
}

// beforeGap says that changes are missing between a checkpoint and what comes after it.
func (r *Runner) beforeGap(cp Checkpoint) error {
	if cp.Offset < r.cfg.Gap {
		return errBuild{fmt.Sprintf("has its checkpoint at %s, before the gap in the journal at %s", cp.Offset, r.cfg.Gap)}
	}
	return nil
}

// reinstate sends readers back to the generation that was live when somebody has taken the alias or the pointer away and left
// the documents. It returns the live generation; of number 0 when there is none to go back to.
func (r *Runner) reinstate(ctx context.Context, infos []Info) (Info, error) {
	var found Info
	var at Checkpoint
	for _, info := range infos {
		if r.owned(info) != nil || !r.sameHistory(info.Epoch) {
			continue
		}
		_, cp, has, err := r.look(ctx, r.wanted.Load(), info.Number)
		if ctx.Err() != nil {
			return Info{}, context.Cause(ctx)
		}
		if err != nil || !has || !cp.Served || r.holds(cp) != nil || r.beforeGap(cp) != nil {
			continue // it will be looked at again, and removed or kept
		}
		if found.Number == 0 || cp.Offset >= at.Offset {
			found, at = info, cp
		}
	}
	if found.Number == 0 {
		return found, nil
	}
	r.log.Warn("no generation is live; the last one that was is promoted again", "generation", found.Number)
	err := r.ask(ctx, fmt.Sprintf("promote generation %d again", found.Number), func() error {
		if err := replaced(r.journal.Alone(ctx)); err != nil {
			return err
		}
		return r.wanted.Load().Store.Promote(ctx, found.Number)
	})
	found.Live = err == nil
	return found, err
}

// errNotLive says that readers are not sent any more to the generation that is followed, though nobody here has changed that.
var errNotLive = errors.New("generation is not the live one any more")

// stillLive asks the sink whether readers still see the generation that is followed, and whether it holds what was saved. A sink
// that does not answer is no reason for anything: writing finds out.
func (f *follower) stillLive(ctx context.Context) error {
	infos, err := f.runner.wanted.Load().Store.Generations(ctx)
	if err != nil {
		if Class(err) == Fatal {
			return err
		}
		return nil
	}
	live := liveOf(infos)
	if err := f.runner.owned(live); err != nil {
		return err
	}
	if live.Number != f.info.Number || !live.Created.Equal(f.info.Created) {
		return fmt.Errorf("generation %d: %w (live is %d)", f.info.Number, errNotLive, live.Number)
	}
	return f.recheck(ctx)
}
