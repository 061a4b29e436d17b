package projectors

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pglogrepl"

	"github.com/lanternist/lanternist/backoff"
	"github.com/lanternist/lanternist/deadletter"
	"github.com/lanternist/lanternist/journal"
	"github.com/lanternist/lanternist/mirror"
	"github.com/lanternist/lanternist/views"
)

// ErrRunning is returned by Run when the runner is running already.
var ErrRunning = errors.New("projector is running already")

// Runner keeps one view's documents in one sink. Run does the work; the other methods may be called at any time, from any
// goroutine.
type Runner struct {
	cfg       Config
	mirror    *mirror.Mirror
	journal   *journal.Journal
	journalID string
	letters   *deadletter.Store
	log       *slog.Logger

	wanted   atomic.Pointer[definition] // a new generation is built by it
	served   atomic.Pointer[definition] // the documents that readers see are of it
	compiled compiled
	// unsettled is the wish whose promotion was begun last, until it is known which generation is live. Of the running goroutine.
	unsettled revival
	undone    atomic.Pointer[error] // why the configured definition could not be built

	watermark Watermark
	trouble   trouble
	counters  counters
	delays    delays
	// How large documents are, and batches read from disk.
	documentSizes, batchSizes sizes
	shelf                     shelf
	alone                     alone
	pauses                    pauses
	status                    state
	oldest                    atomic.Int64 // append time of the batch being processed, in microseconds since 1970; 0 when caught up

	building  sync.Mutex    // held while a generation is built, and while what a build left is removed
	changing  atomic.Bool   // a Rebuild, Redefine or Rollback is under way
	replaying atomic.Bool   // a Replay is under way
	following atomic.Value  // of liveContext: of the live follower, for Rebuild, Rollback and Replay
	handover  chan handover // from Rebuild, Redefine and Rollback
	rewrites  chan rewrite  // from Replay
	revive    chan revival  // from the same, when a fatal error has stopped the runner, or it waits for a Rebuild
	recheck   chan struct{}
	refreshes chan refreshing // from Refresh
}

// NewRunner makes a runner of a view in a sink. The mirror must have the view's indexes before Run is called, and the
// journal must be the one that the mirror follows.
func NewRunner(cfg Config, view *views.View, store Store, m *mirror.Mirror, j *journal.Journal, letters *deadletter.Store, log *slog.Logger) (*Runner, error) {
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("projector %q: %w", cfg.Name, err)
	}
	log = log.With("projector", cfg.Name)
	r := &Runner{
		status: state{course: course{projector: cfg.Name}},
		cfg:    cfg.withDefaults(), mirror: m, journal: j, journalID: j.Identity(), letters: letters, log: log,
		trouble: trouble{log: log}, handover: make(chan handover), revive: make(chan revival),
		recheck: make(chan struct{}, 1), rewrites: make(chan rewrite), refreshes: make(chan refreshing),
	}
	def := define(Definition{View: view, Store: store})
	r.wanted.Store(def)
	r.served.Store(def)
	return r, nil
}

// Name is the projector's name.
func (r *Runner) Name() string { return r.cfg.Name }

// generationName names one generation of this projector, to the journal and in letters: "order_summary.search-g7".
func (r *Runner) generationName(number int) string { return fmt.Sprintf("%s-g%d", r.cfg.Name, number) }

// Watermark is how far readers of the live generation can rely on its documents, with a channel that is closed when that
// changes.
func (r *Runner) Watermark() (mirror.Progress, <-chan struct{}) { return r.watermark.Progress() }

// Wait waits until the watermark has reached lsn. See Watermark.Wait.
func (r *Runner) Wait(ctx context.Context, lsn pglogrepl.LSN) (mirror.Progress, error) {
	return r.watermark.Wait(ctx, lsn)
}

// Serve runs the runner until the context is done, whose cause it returns. When a fatal error has stopped it, Serve waits:
// a Rebuild makes it run again, and with Config.RetryFatal a pause does, too.
func (r *Runner) Serve(ctx context.Context) error {
	var again revival
	pauses := backoff.New(r.cfg.Backoff)
	for {
		began := time.Now()
		_ = r.start(ctx, again) // Status tells, and it was logged
		if time.Since(began) > servedWell {
			pauses.Reset()
		}
		again = revival{}
		var due <-chan time.Time
		if r.cfg.RetryFatal {
			due = time.After(pauses.Next())
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case again = <-r.revive:
		case <-due:
		}
	}
}

// servedWell is how long a runner runs when it does not fail for the same reason as before.
const servedWell = time.Minute

// Run follows the journal until the context is done, whose cause it returns, or an error is fatal. It first builds a
// generation when there is none to go on with. An error stops this projector only; Status tells it, too. Run may be
// called again after it has returned; Serve does so when asked.
//
// While it runs, the journal drops nothing that it needs. When it has returned the journal may: a runner that stays
// stopped for longer than the journal's retention builds its view anew.
func (r *Runner) Run(ctx context.Context) error { return r.start(ctx, revival{}) }

// start is Run, with a generation built first when a revival asks for it.
func (r *Runner) start(ctx context.Context, again revival) error {
	if !r.status.running.CompareAndSwap(false, true) {
		again.answer(ErrRunning)
		return fmt.Errorf("projector %s: %w", r.cfg.Name, ErrRunning)
	}
	defer r.status.running.Store(false)
	r.cfg.Congestion.join(r)
	defer r.cfg.Congestion.leave(r)
	err := r.run(ctx, again)
	again.answer(err)
	if ctx.Err() != nil {
		r.status.stop(nil)
		return context.Cause(ctx)
	}
	err = fmt.Errorf("projector %s: %w", r.cfg.Name, err)
	r.status.stop(err)
	r.log.Error("projector stopped", "error", err, "hint", Hint(err))
	return err
}

// run goes from generation to generation, for as long as what ends one can be healed by another, or by opening it again.
func (r *Runner) run(ctx context.Context, again revival) (err error) {
	defer func() { again.answer(err) }() // the one that came last; start answers the first
	waits := backoff.New(r.cfg.Backoff)
	why, wish := again.why(), again
	held := false // what is live stays as it is until a Rebuild
	for {
		if (why != "" || errors.Is(err, errPaused)) && wish.def == nil && !again.asked() && len(r.Paused()) > 0 {
			if again, err = r.awaitResume(ctx); err != nil {
				return err
			}
			if again.asked() {
				why, wish = again.why(), again
			}
		}
		var f *follower
		f, err = r.obtain(ctx, why, wish)
		if err == nil {
			again.answer(nil)
			why, wish = "", revival{}
			at := f.position
			f, err = r.follow(ctx, f)
			if f.position > at {
				waits.Reset()
			}
		}
		held = f == nil && (held || errors.Is(err, errHeld))
		if held && err != nil && ctx.Err() == nil {
			again.answer(err)
			if again, err = r.awaitRebuild(ctx); err != nil {
				return err
			}
			why, wish = again.why(), again
			continue
		}
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.Is(err, ErrLost):
			r.log.Error("sink lost documents, opening it again", "error", err)
		case errors.Is(err, errPaused):
		case errors.Is(err, views.ErrMisfit):
			r.log.Warn("tables are of another version than the view", "error", err)
		case errors.Is(err, errUnsettled), errors.Is(err, errNotLive):
			r.log.Warn("asking the sink which generation is live", "error", err)
		case errors.Is(err, errCannotFollow):
			why = err.Error()
		default:
			return err
		}
		if err := waits.Wait(ctx); err != nil {
			return err
		}
	}
}

// obtain opens the live generation, or makes another one and promotes it: when there is none that can be gone on with, or for
// a given reason, and then the one that is wished for.
func (r *Runner) obtain(ctx context.Context, why string, wish revival) (*follower, error) {
	r.building.Lock()
	defer r.building.Unlock()
	r.status.enter(StateStarting)
	// Until it is known where to go on, the journal keeps everything.
	r.journal.Retain(r.cfg.Name, 0)
	f, err := r.open(ctx)
	r.journal.Release(r.cfg.Name)
	if err == nil && why == "" {
		r.log.Info("generation opened", "generation", f.info.Number, "offset", f.position)
		return f, nil
	}
	if err == nil {
		f.stop(ctx, false)
	} else if held, ok := errors.AsType[errRedefined](err); ok && why == "" && r.cfg.RebuildOnRequest {
		return nil, fmt.Errorf("%w: %w", errHeld, held)
	} else if build, ok := errors.AsType[errBuild](err); ok {
		why = cmp.Or(why, build.reason)
	} else if why == "" || ctx.Err() != nil {
		return nil, err
	}
	if len(r.Paused()) > 0 && wish.def == nil && !wish.asked() {
		return nil, fmt.Errorf("%w: %s", errPaused, why)
	}
	level := slog.LevelWarn
	if r.status.live.Load() == 0 {
		level = slog.LevelInfo // as at the first start: no reader loses anything
	}
	r.log.Log(ctx, level, wish.doing(), "reason", why)
	r.status.enter(StateWaiting)
	if err := r.waitForLoad(ctx, wish.definition(r)); err != nil {
		return nil, err
	}
	r.status.enter(StateBuilding)
	defer r.status.course.end()
	f, err = wish.make(ctx, r)
	if err != nil {
		return nil, err
	}
	if err := r.promote(ctx, f, wish); err != nil {
		wish.giveUp(ctx, r, f)
		return nil, err
	}
	r.retireAfter(ctx)
	return f, nil
}

// follow keeps the live generation up to date until the context is done or an error ends it. It returns the generation
// that is live then: a Rebuild may have replaced the one it began with.
func (r *Runner) follow(ctx context.Context, f *follower) (_ *follower, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(errNotFollowing)
	r.following.Store(liveContext{ctx})
	defer r.following.Store(liveContext{})
	r.status.enter(StateRunning)
	f.reached()
	at := f.start(ctx)
	defer func() { f.stop(ctx, ctx.Err() != nil) }()
	defer r.buildPending(ctx)()
	watch := time.NewTicker(watchEvery)
	defer watch.Stop()
	for {
		progress, changed := r.mirror.Progress()
		if reasons, resumed := r.pauses.get(); len(reasons) > 0 {
			r.oldest.Store(0)
			r.status.enter(StatePaused)
			select {
			case h := <-r.handover:
				f, at, err = r.takeOver(ctx, f, at, h)
			case q := <-r.refreshes:
				q.done <- errPaused
			case w := <-r.rewrites:
				w.done <- rewritten{err: errPaused}
			case <-r.recheck:
				err = f.recheck(at)
			case <-at.Done():
				err = context.Cause(at)
			case <-resumed:
			}
			if err != nil {
				return f, err
			}
			r.status.enter(StateRunning)
			continue
		}
		if err := f.stillLoaded(); err != nil {
			return f, err
		}
		behind := f.behind(progress)
		if !behind {
			r.oldest.Store(0)
		}
		select {
		case h := <-r.handover:
			f, at, err = r.takeOver(ctx, f, at, h)
		case w := <-r.rewrites:
			err = f.rewrite(at, w)
		case <-r.recheck:
			err = f.recheck(at)
		case <-watch.C:
			err = f.stillLive(at)
		case q := <-r.refreshes:
			err = f.refresh(at, q)
		case <-at.Done():
			err = context.Cause(at)
		case <-ready(behind, changed):
			if behind {
				err = f.step(at)
			}
		}
		if errors.Is(err, errPaused) {
			continue
		}
		if err != nil {
			return f, err
		}
	}
}

// ready is a channel that is closed when there is a round to run; else the one given.
func ready(now bool, later <-chan struct{}) <-chan struct{} {
	if now {
		return closed
	}
	return later
}

var closed = func() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()
