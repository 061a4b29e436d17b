package projectors

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/jackc/pglogrepl"

	"github.com/lanternist/lanternist/event"
	"github.com/lanternist/lanternist/mirror"
)

// errCannotFollow says that the journal no longer has what comes after the follower's position. The generation can only
// be built anew.
var errCannotFollow = errors.New("generation cannot follow the journal")

// follower keeps one generation up to date with the journal, in rounds. Its methods are called by one goroutine.
type follower struct {
	runner     *Runner
	def        *definition // the generation's own
	generation Generation
	info       Info
	letters    letterbox
	live       bool // readers see the generation
	served     bool // readers have seen it
	pool       *pool
	saver      *saver
	stopSaver  func() // nil while the follower rests

	position event.Offset    // every event up to it is applied or parked, as seen from at most round
	round    event.Offset    // no promise before a round has reached it; at most position except after a start within a round
	next     uint64          // sequence of the batch to read next
	mark     mirror.Progress // where the last whole round ended
	events   uint64          // read by this follower

	wanted  []string // ids of documents that the round writes whatever its events say
	report  func()   // called for each batch read, when somebody wants to know
	reading uint64   // sequence of the batch to read next, also within a round; for report
}

// newFollower goes on from a checkpoint. Its claim on the journal begins there.
func (r *Runner) newFollower(def *definition, g Generation, info Info, cp Checkpoint) *follower {
	f := &follower{
		runner: r, def: def, generation: g, info: info, live: info.Live, served: info.Live || cp.Served, letters: r.letterbox(info.Number, !info.Live),
		position: cp.Offset, round: cp.Round, mark: cp.promise(), next: cp.Offset.Sequence(),
	}
	if f.next == 0 { // at the journal's beginning
		f.next = r.journal.First()
	}
	f.claim(cp.Offset)
	f.saver = newSaver(r, g, cp, func(cp Checkpoint) {
		f.claim(cp.Offset)
		r.shelf.saved(info.Number, cp)
	})
	r.shelf.saved(info.Number, cp)
	if f.served && !cp.Served { // as when the process died between the promotion and the next checkpoint
		f.saver.offer(f.checkpoint(cp.LSN), 0, true)
	}
	workers := make([]*worker, r.cfg.Workers)
	for i := range workers {
		workers[i] = f.newWorker()
	}
	f.pool = newPool(workers)
	return f
}

// promise is the watermark that a checkpoint stands for. Its offset is not known in the middle of a round.
func (cp Checkpoint) promise() mirror.Progress {
	if cp.Round > cp.Offset {
		return mirror.Progress{LSN: cp.LSN}
	}
	return mirror.Progress{Offset: cp.Offset, LSN: cp.LSN}
}

// claim keeps the journal from dropping what this follower, started again, would need.
func (f *follower) claim(from event.Offset) {
	f.runner.journal.Retain(f.runner.generationName(f.info.Number), from)
}

// start begins to save checkpoints. What is done with the follower is done with the context it returns: when a checkpoint
// can never be saved, that is its cause.
func (f *follower) start(ctx context.Context) context.Context {
	ctx, cancel := context.WithCancelCause(ctx)
	var running sync.WaitGroup
	running.Go(func() {
		if err := f.saver.run(ctx); err != nil {
			cancel(err)
		}
	})
	f.stopSaver = func() {
		cancel(context.Canceled)
		running.Wait()
	}
	return ctx
}

// rest ends the follower's goroutine, until start is called again.
func (f *follower) rest() {
	if f.stopSaver != nil {
		f.stopSaver()
		f.stopSaver = nil
	}
}

// stop ends the follower and its claim on the journal. With save it saves the last checkpoint first, for which it takes
// Config.StopTimeout at most, even when the context is done.
func (f *follower) stop(ctx context.Context, save bool) {
	f.rest()
	f.pool.over()
	if save && !f.runner.cfg.Circuit.closed() {
		f.runner.log.Warn("last checkpoint not saved, for the sink does not take it; what came after it will be applied again", "generation", f.info.Number)
	} else if save {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), f.runner.cfg.StopTimeout)
		defer cancel()
		if err := f.saver.last(ctx); err != nil {
			f.runner.log.Warn("last checkpoint not saved; what came after it will be applied again", "generation", f.info.Number, "error", err)
		}
	}
	f.runner.journal.Release(f.runner.generationName(f.info.Number))
}

// behind says that there are events between the follower and the mirror, or that only the mirror's progress without events
// is to be followed, which it does.
func (f *follower) behind(progress mirror.Progress) bool {
	if progress.Offset > f.position {
		return true
	}
	if progress.Offset == f.position && f.round <= f.position {
		f.promise(progress)
		f.saver.follow(f.checkpoint(f.mark.LSN))
	}
	return false
}

// promise moves the mark, and the watermark when readers see this generation. What was promised stays so: after a start the mirror does
// not know of the source's idle positions that it had passed before.
func (f *follower) promise(progress mirror.Progress) {
	progress.LSN = max(progress.LSN, f.mark.LSN)
	f.mark = progress
	f.reached()
	if f.live {
		f.runner.watermark.advance(progress)
	}
}

// reached tells the status how far the live follower is.
func (f *follower) reached() {
	if f.live {
		f.runner.status.position.Store(uint64(f.position))
	}
}

// checkpoint is the follower's position with a promise.
func (f *follower) checkpoint(lsn pglogrepl.LSN) Checkpoint {
	return Checkpoint{Offset: f.position, Round: max(f.round, f.position), LSN: lsn, JournalID: f.runner.journalID, Served: f.served}
}

// catchUp runs rounds until there is nothing between the follower and what the mirror had when it was called.
func (f *follower) catchUp(ctx context.Context) error {
	target, _ := f.runner.mirror.Progress()
	for f.mark.Offset < target.Offset || f.mark.LSN < target.LSN {
		progress, changed := f.runner.mirror.Progress()
		if f.behind(progress) {
			if err := f.step(ctx); err != nil {
				return err
			}
			continue
		}
		if f.mark.Offset >= target.Offset && f.mark.LSN >= target.LSN {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// step runs one round. A round that stalled is no error: the next one goes on with a newer snapshot.
func (f *follower) step(ctx context.Context) error { return f.ended(ctx, f.runRound(ctx)) }

// ended is what the end of a round means to the follower.
func (f *follower) ended(ctx context.Context, err error) error {
	if errors.Is(err, errStalled) {
		f.runner.log.Info("round begun again from a newer snapshot", "generation", f.info.Number, "position", f.position)
		return nil
	}
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("round after %s: %w", f.position, err)
	}
	return err
}
