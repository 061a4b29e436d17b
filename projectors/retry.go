package projectors

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/lanternist/lanternist/backoff"
)

// repeatable says whether an operation that failed with err is repeated as it is.
func repeatable(err error) bool {
	return Class(err) == Transient && !errors.Is(err, ErrLost)
}

// trouble is what a runner is waiting out: how many operations are being repeated, since when and why. It is what Status
// shows, and what logs the beginning and the end, once each, however many workers are stuck at the same time.
type trouble struct {
	log *slog.Logger

	mu     sync.Mutex
	stuck  int
	since  time.Time
	reason error
}

func (t *trouble) enter(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.reason = err
	if t.stuck++; t.stuck == 1 {
		t.since = time.Now()
		t.log.Warn("retrying", "error", err)
	}
}

func (t *trouble) update(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.reason = err
}

func (t *trouble) leave() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.stuck--; t.stuck == 0 {
		t.log.Info("retrying ended", "after", time.Since(t.since).Round(time.Millisecond), "reason", t.reason)
		t.since, t.reason = time.Time{}, nil
	}
}

// state is since when operations are being repeated, and the newest reason; the reason is nil when none is.
func (t *trouble) state() (time.Time, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.since, t.reason
}

// repetition is one operation of a runner that may have to be repeated. It is not safe for concurrent use.
type repetition struct {
	runner *Runner
	waits  backoff.Backoff
	since  time.Time // of the first failure in a row; zero when the last attempt succeeded
}

func (r *Runner) repetition() *repetition {
	return &repetition{runner: r, waits: backoff.New(r.cfg.Backoff)}
}

// wait records the failure of an attempt and waits before the next one.
func (p *repetition) wait(ctx context.Context, err error) error {
	p.failed(err)
	return p.waits.Wait(ctx)
}

// failed records the failure of an attempt.
func (p *repetition) failed(err error) {
	p.runner.counters.retries.Add(1)
	p.stuck(err)
}

// stuck says that the operation cannot be done now.
func (p *repetition) stuck(err error) {
	if p.since.IsZero() {
		p.since = time.Now()
		p.runner.trouble.enter(err)
	} else {
		p.runner.trouble.update(err)
	}
}

// over says that the operation succeeded, or is given up. It may be called at any time.
func (p *repetition) over() {
	if p.since.IsZero() {
		return
	}
	p.since = time.Time{}
	p.waits.Reset()
	p.runner.trouble.leave()
}

// repeat does an operation until it succeeds, for as long as its errors are transient. It returns any other error with
// the operation's name before it, and the context's cause when that is done.
func (r *Runner) repeat(ctx context.Context, operation string, do func() error) error {
	p := r.repetition()
	defer p.over()
	for {
		err := do()
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		err = fmt.Errorf("%s: %w", operation, err)
		if !repeatable(err) {
			return err
		}
		if err := p.wait(ctx, err); err != nil {
			return err
		}
	}
}

// ask does an operation of the sink until it succeeds, as repeat does, and not while the sink's circuit is open.
func (r *Runner) ask(ctx context.Context, operation string, do func() error) error {
	p := r.repetition()
	defer p.over()
	for {
		probe, err := r.cfg.Circuit.enter(ctx, p.stuck)
		if err != nil {
			return err
		}
		err = do()
		if ctx.Err() != nil {
			r.cfg.Circuit.giveUp(probe)
			if err == nil {
				return nil
			}
			return context.Cause(ctx)
		}
		if err == nil || !repeatable(err) {
			r.cfg.Circuit.leave(probe, nil)
			if err != nil {
				return fmt.Errorf("%s: %w", operation, err)
			}
			return nil
		}
		err = fmt.Errorf("%s: %w", operation, err)
		r.cfg.Circuit.leave(probe, err)
		if err := p.again(ctx, err); err != nil {
			return err
		}
	}
}

// again records the failure of an attempt and waits before the next one, unless the sink's circuit decides when that is.
func (p *repetition) again(ctx context.Context, err error) error {
	if p.runner.cfg.Circuit.closed() {
		return p.wait(ctx, err)
	}
	p.failed(err)
	return nil
}
