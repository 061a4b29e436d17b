package stream

import (
	"context"
	"fmt"
	"time"

	"github.com/lanternist/lanternist/backoff"
	"github.com/lanternist/lanternist/deadletter"
	"github.com/lanternist/lanternist/event"
	"github.com/lanternist/lanternist/journal"
	"github.com/lanternist/lanternist/projectors"
)

// deliver hands a slice on until it is handled. Events that are refused are parked, when that is to be done: then it returns how
// many. To find them the slice is offered in halves.
func (p *Projector) deliver(ctx context.Context, events []event.Event) (parked int64, err error) {
	if p.cfg.OnRefusal == Hold {
		done, err := p.inOrder(ctx)
		if err != nil {
			return 0, err
		}
		defer done()
	}
	return p.deliverSome(ctx, events)
}

func (p *Projector) deliverSome(ctx context.Context, events []event.Event) (parked int64, err error) {
	if p.cfg.OnRefusal == Hold && !Replaying(ctx) {
		if events, parked, err = p.free(ctx, events); err != nil || len(events) == 0 {
			return parked, err
		}
	}
	attempts := 1
	if p.cfg.OnRefusal != Stop && len(events) == 1 {
		attempts = p.cfg.MaxAttempts
	}
	err = p.offer(ctx, events, attempts)
	switch {
	case err == nil:
		return parked, p.resolve(ctx, events)
	case ctx.Err() != nil:
		return parked, context.Cause(ctx)
	case projectors.Class(err) != projectors.Permanent:
		return parked, err
	case p.cfg.OnRefusal == Stop:
		return 0, projectors.Fatalf("correct what the events are handed to, and start the projector again; it goes on with them",
			"events %s to %s were refused: %w", events[0].Offset, events[len(events)-1].Offset, err)
	case len(events) == 1:
		return parked + 1, p.park(ctx, &events[0], err, attempts)
	}
	half := len(events) / 2
	for _, some := range [][]event.Event{events[:half], events[half:]} {
		n, err := p.deliverSome(ctx, some)
		parked += n
		if err != nil {
			return parked, err
		}
	}
	return parked, nil
}

// offer hands a slice on until it is handled, or refused so many times.
func (p *Projector) offer(ctx context.Context, events []event.Event, attempts int) error {
	refused := 0
	waits := backoff.New(p.cfg.Backoff)
	for {
		err := p.repeat(ctx, func() error { return p.handle(ctx, events) })
		if err == nil || projectors.Class(err) != projectors.Permanent {
			return err
		}
		if refused++; refused >= attempts {
			return err
		}
		if err := waits.Wait(ctx); err != nil {
			return err
		}
	}
}

// handle calls the handler, when nobody else does.
func (p *Projector) handle(ctx context.Context, events []event.Event) error {
	select {
	case p.handling <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { <-p.handling }()
	return p.handler.Handle(ctx, events)
}

// park keeps an event that was refused for good.
func (p *Projector) park(ctx context.Context, ev *event.Event, reason error, attempts int) error {
	letter := p.letter(ev)
	letter.Reason, letter.Class, letter.Attempts = reason.Error(), projectors.Class(reason).String(), attempts
	if err := p.keep(ctx, letter); err != nil {
		return err
	}
	p.log.Error("event parked", "event", letter.DocumentID, "offset", ev.Offset, "attempts", attempts, "reason", reason)
	return nil
}

// letter is the letter of an event.
func (p *Projector) letter(ev *event.Event) deadletter.Letter {
	l := deadletter.Letter{
		Projector: p.cfg.Name, DocumentID: p.eventID(ev), Offset: ev.Offset, Payload: event.AppendEnvelope(nil, ev, p.cfg.Source),
		Event: journal.AppendEvent(nil, ev),
	}
	if p.cfg.OnRefusal == Hold {
		l.Keys = p.keys(ev)
	}
	return l
}

// keep parks a letter. What it is about is held from now on, if events are.
func (p *Projector) keep(ctx context.Context, l deadletter.Letter) error {
	if p.cfg.OnRefusal == Hold && p.held.events >= p.cfg.HoldEvents {
		return projectors.Fatalf("lanternist deadletters redrive --projector "+p.cfg.Name+", or discard what is not needed; it goes on with this event then",
			"%w: %d events are held, refused or waiting behind one that was, which is the bound; event %s is not handed on", ErrHoldFull, p.held.events, l.Offset)
	}
	if err := p.repeat(ctx, func() error { return p.parts.Letters.Park(ctx, l) }); err != nil {
		return fmt.Errorf("park event %s: %w", l.Offset, err)
	}
	p.held.add(l.Keys, 1)
	return nil
}

// resolve removes the letters of events that were handled after all.
func (p *Projector) resolve(ctx context.Context, events []event.Event) error {
	letters := p.parts.Letters
	if letters == nil || p.cfg.OnRefusal == Hold || letters.Count(p.cfg.Name) == 0 {
		return nil // an event that is held is let go by a redrive only
	}
	for i := range events {
		id := p.eventID(&events[i])
		err := p.repeat(ctx, func() error { return letters.Resolve(ctx, p.cfg.Name, id, events[i].Offset) })
		if err != nil {
			return fmt.Errorf("resolve letter of event %s: %w", events[i].Offset, err)
		}
	}
	return nil
}

func (p *Projector) eventID(ev *event.Event) string { return string(ev.AppendID(nil, p.cfg.Source)) }

// repeat does an operation until it succeeds, for as long as its errors are transient.
func (p *Projector) repeat(ctx context.Context, do func() error) error {
	waits := backoff.New(p.cfg.Backoff)
	failing := false
	defer func() {
		if failing {
			p.recovered()
		}
	}()
	for {
		err := do()
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case projectors.Class(err) != projectors.Transient:
			return err
		}
		p.failed(err, !failing)
		failing = true
		if err := waits.Wait(ctx); err != nil {
			return err
		}
	}
}

// failed notes that an attempt failed and will be repeated.
func (p *Projector) failed(err error, first bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.retries++
	p.reason = err
	if !first {
		return
	}
	if p.retrying++; p.retrying == 1 {
		p.since = time.Now()
		p.log.Warn("retrying", "error", err)
	}
}

// recovered notes that an operation is not repeated any more.
func (p *Projector) recovered() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.retrying--; p.retrying == 0 {
		p.log.Info("retrying ended", "after", time.Since(p.since).Round(time.Millisecond), "reason", p.reason)
		p.since, p.reason = time.Time{}, nil
	}
}
