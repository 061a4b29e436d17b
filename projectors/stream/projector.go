package stream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pglogrepl"

	"github.com/lanternist/lanternist/control"
	"github.com/lanternist/lanternist/deadletter"
	"github.com/lanternist/lanternist/event"
	"github.com/lanternist/lanternist/internal/meter"
	"github.com/lanternist/lanternist/journal"
	"github.com/lanternist/lanternist/mirror"
	"github.com/lanternist/lanternist/projectors"
)

// Parts are what a Projector works with.
type Parts struct {
	Journal *journal.Journal
	Control control.Store // keeps the checkpoint
	Letters *deadletter.Store
	// Schemas are what the events are described by. Needed to redrive those that were refused.
	Schemas journal.Schemas
	// Mirror tells how far the source is, also while it is idle: the watermark then follows without events. Optional.
	Mirror Mirror
}

// Mirror is what a Projector needs of a *mirror.Mirror.
type Mirror interface {
	Progress() (mirror.Progress, <-chan struct{})
}

// Projector hands events on, in order. Run does so; the other methods may be called at any time, from any goroutine.
type Projector struct {
	cfg     Config
	handler Handler
	parts   Parts
	log     *slog.Logger

	running   atomic.Bool
	replaying atomic.Bool
	handling  chan struct{} // holds a token while the handler is called
	ordering  chan struct{} // holds a token while events are handed on of which some may have to wait for others
	held      held          // guarded by ordering

	saved   event.Offset // of the checkpoint; of Run's goroutine, as savedAt is
	savedAt time.Time

	mu       sync.Mutex
	state    projectors.State
	cause    error // why it stopped
	at       event.Offset
	lsn      pglogrepl.LSN
	oldest   time.Time // when the batch that is being handed on was appended; zero when all are
	events   uint64
	batches  uint64
	rate     meter.Meter
	retries  uint64
	retrying int // operations
	since    time.Time
	reason   error
}

// New makes a projector. It does no I/O. From now on until Close the journal keeps what the projector needs: all that it holds,
// until Run has found where to go on.
func New(cfg Config, handler Handler, parts Parts, log *slog.Logger) (*Projector, error) {
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("projector %q: %w", cfg.Name, err)
	}
	if cfg.OnRefusal != Stop && parts.Letters == nil {
		return nil, fmt.Errorf("projector %q: there is no place to park events in", cfg.Name)
	}
	if cfg.OnRefusal == Hold && parts.Schemas == nil {
		return nil, fmt.Errorf("projector %q: without schemas, events that are held could not be handed on", cfg.Name)
	}
	p := &Projector{
		cfg: cfg.withDefaults(), handler: handler, parts: parts, log: log.With("projector", cfg.Name),
		handling: make(chan struct{}, 1), ordering: make(chan struct{}, 1), state: projectors.StateStopped,
	}
	parts.Journal.Retain(cfg.Name, 0)
	return p, nil
}

// Name is the projector's name.
func (p *Projector) Name() string { return p.cfg.Name }

// Close ends the projector's claim on the journal. It must not be running. It may be made again later, as long as the journal
// or its archive holds what comes after its checkpoint.
func (p *Projector) Close() { p.parts.Journal.Release(p.cfg.Name) }

// Run hands events on until the context is done, whose cause it returns, or an error is fatal. It may be called again after it
// has returned. When the events with which it is to begin are not held any more, it says so before it hands on any:
// projectors.NotRetainedError.
func (p *Projector) Run(ctx context.Context) error {
	if !p.running.CompareAndSwap(false, true) {
		return fmt.Errorf("projector %s: %w", p.cfg.Name, projectors.ErrRunning)
	}
	defer p.running.Store(false)
	p.enter(projectors.StateStarting, nil)
	err := p.run(ctx)
	if ctx.Err() != nil {
		p.enter(projectors.StateStopped, nil)
		return context.Cause(ctx)
	}
	err = fmt.Errorf("projector %s: %w", p.cfg.Name, err)
	p.enter(projectors.StateStopped, err)
	p.log.Error("projector stopped", "error", err, "hint", projectors.Hint(err))
	return err
}

func (p *Projector) run(ctx context.Context) error {
	var from Checkpoint
	if err := p.repeat(ctx, func() (err error) {
		from, err = p.resume(ctx)
		return lasting(err)
	}); err != nil {
		return err
	}
	p.saved, p.savedAt = from.Offset, time.Now()
	p.reached(from.Offset, from.LSN)
	p.parts.Journal.Retain(p.cfg.Name, from.Offset)
	ctx, ended, err := p.beginHolding(ctx)
	if err != nil {
		return err
	}
	defer ended()
	p.enter(projectors.StateRunning, nil)
	err = p.follow(ctx, NewReader(p.parts.Journal, Span{After: from.Offset, Last: Forever}, p.cfg.Filter))
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		err = cause // of what goes on beside
	}
	return errors.Join(err, p.saveLast(ctx))
}

// follow hands on what comes.
func (p *Projector) follow(ctx context.Context, r *Reader) error {
	for {
		events, err := p.next(ctx, r)
		if err != nil {
			return err
		}
		if len(events) > 0 {
			p.handlingSince(r.Time())
			if _, err := p.deliver(ctx, events); err != nil {
				return err
			}
			p.handled(len(events))
		}
		p.reached(r.At(), r.LSN())
		if p.due() <= 0 {
			if err := p.save(ctx); err != nil {
				return err
			}
		}
	}
}

// next waits for events. The checkpoint is saved when it is due meanwhile. It returns none when only events that are not wanted
// were read.
func (p *Projector) next(ctx context.Context, r *Reader) (events []event.Event, err error) {
	if err := p.wait(ctx, r); err != nil {
		return nil, err
	}
	err = p.repeat(ctx, func() error {
		events, err = r.Read(ctx, p.bounds())
		return lasting(err)
	})
	return events, err
}

func (p *Projector) wait(ctx context.Context, r *Reader) error {
	p.handlingSince(time.Time{})
	if p.checkpoint().Offset != p.saved {
		early, cancel := context.WithTimeout(ctx, p.due())
		err := r.Wait(early)
		cancel()
		if err == nil {
			return nil
		}
		if err := p.save(ctx); err != nil {
			return err
		}
	}
	return p.repeat(ctx, func() error { return lasting(r.Wait(ctx)) })
}

// bounds are those of one slice. Batches are bounded so that the checkpoint moves on while nothing that is read is wanted.
func (p *Projector) bounds() Bounds {
	return Bounds{Events: p.cfg.BatchEvents, Bytes: p.cfg.BatchBytes, Batches: 256}
}

// saveLast saves the checkpoint when the projector stops, for which it has Config.StopTimeout, also when the context is done.
func (p *Projector) saveLast(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), p.cfg.StopTimeout)
	defer cancel()
	if err := p.save(ctx); err != nil {
		p.log.Warn("last checkpoint not saved; what came after it will be handed on again", "error", err)
	}
	return nil
}

// lasting makes an error of the journal fatal that does not go away.
func lasting(err error) error {
	if _, gone := errors.AsType[*projectors.NotRetainedError](err); gone {
		return projectors.Fatalf("have its checkpoint forgotten and say where it is to begin: what is missing is not held any more", "%w", err)
	}
	if errors.Is(err, journal.ErrCorrupt) || errors.Is(err, journal.ErrUnknownSchema) {
		return projectors.Fatalf("restore the damaged batches, or have the projector begin after them", "%w", err)
	}
	for _, sentinel := range []error{journal.ErrTrimmed, journal.ErrClosed, journal.ErrBehind} {
		if errors.Is(err, sentinel) {
			return projectors.Fatalf("", "%w", err)
		}
	}
	return err
}
