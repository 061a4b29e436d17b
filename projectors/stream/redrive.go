package stream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/lanternist/lanternist/backoff"
	"github.com/lanternist/lanternist/deadletter"
	"github.com/lanternist/lanternist/event"
	"github.com/lanternist/lanternist/journal"
	"github.com/lanternist/lanternist/projectors"
)

// Redrive hands the events of letters of this projector on again, in the order of the journal, and after each that is taken the ones that
// waited for it. One that is refused again stays, with its attempts counted, and so do those that wait behind it. It may be called
// whether or not the projector runs. When it returns an error some were not tried; nothing is lost.
func (p *Projector) Redrive(ctx context.Context, letters []deadletter.Letter) error {
	chosen := map[string]bool{}
	for i := range letters {
		if letters[i].Projector != p.cfg.Name {
			return fmt.Errorf("redrive dead letter %s: it is of %s, not of %s", letters[i].ID, letters[i].Projector, p.cfg.Name)
		}
		chosen[letters[i].ID] = true
	}
	done, err := p.inOrder(ctx)
	if err != nil {
		return err
	}
	defer done()
	if p.cfg.OnRefusal != Hold {
		for i := range letters {
			if _, err := p.again(ctx, letters[i].ID); err != nil {
				return err
			}
		}
		return nil
	}
	if !p.held.loaded {
		if err := p.load(ctx); err != nil {
			return err
		}
	}
	if len(letters) == 1 && letters[0].Class == deadletter.Waiting {
		before, err := p.before(ctx, &letters[0])
		switch {
		case err != nil:
			return err
		case before != "":
			return fmt.Errorf("event %s waits behind dead letter %s; that one is to be redriven first: lanternist deadletters redrive %s", letters[0].Offset, before, before)
		}
	}
	return p.walk(ctx, chosen)
}

// before is the id of the first letter that another waits for; "" when there is none.
func (p *Projector) before(ctx context.Context, l *deadletter.Letter) (id string, err error) {
	err = p.parts.Letters.List(ctx, deadletter.Filter{Projector: p.cfg.Name}, func(other deadletter.Letter) error {
		var h held
		h.add(other.Keys, 1)
		if other.Offset < l.Offset && other.Class != deadletter.Waiting && h.blocks(l.Keys) {
			id = other.ID
			return io.EOF
		}
		return nil
	})
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return id, err
}

// walk goes through all letters in the order of the journal, and hands on those that are chosen, and those that nothing is in front of
// any more. The caller may hand events on.
func (p *Projector) walk(ctx context.Context, chosen map[string]bool) error {
	var front held // what stays
	return p.parts.Letters.List(ctx, deadletter.Filter{Projector: p.cfg.Name}, func(l deadletter.Letter) error {
		if front.blocks(l.Keys) || l.Class != deadletter.Waiting && !chosen[l.ID] {
			front.add(l.Keys, 1)
			return nil
		}
		taken, err := p.again(ctx, l.ID)
		if err == nil && !taken {
			front.add(l.Keys, 1)
		}
		return err
	})
}

// again hands the event of a letter on, and removes the letter when it is taken.
func (p *Projector) again(ctx context.Context, id string) (taken bool, err error) {
	var l deadletter.Letter
	found := false
	if err := p.repeat(ctx, func() (err error) {
		l, found, err = p.parts.Letters.Get(ctx, id)
		return err
	}); err != nil || !found {
		return true, err
	}
	ev, err := p.eventOf(ctx, &l)
	if err != nil {
		return false, fmt.Errorf("redrive dead letter %s: %w", id, err)
	}
	err = p.offer(ctx, []event.Event{ev}, p.cfg.MaxAttempts)
	switch {
	case err == nil:
		if err := p.repeat(ctx, func() error { return p.parts.Letters.Resolve(ctx, p.cfg.Name, l.DocumentID, l.Offset) }); err != nil {
			return false, err
		}
		p.held.add(l.Keys, -1)
		p.handled(1)
		return true, nil
	case ctx.Err() != nil:
		return false, context.Cause(ctx)
	case projectors.Class(err) != projectors.Permanent:
		return false, err
	}
	return false, p.repeat(ctx, func() error {
		_, updating := p.parts.Letters.Update(ctx, id, func(l *deadletter.Letter) {
			l.Attempts += p.cfg.MaxAttempts
			l.Reason, l.Class, l.Last = err.Error(), projectors.Class(err).String(), time.Now().UTC().Truncate(time.Microsecond)
		})
		return updating
	})
}

// eventOf is the event of a letter: as it was kept, or, of an older letter, from the journal.
func (p *Projector) eventOf(ctx context.Context, l *deadletter.Letter) (event.Event, error) {
	if l.Event != nil && p.parts.Schemas != nil {
		ev, err := journal.ReadEvent(l.Event, p.parts.Schemas)
		if err != nil {
			return ev, projectors.Fatalf("lanternist deadletters discard "+l.ID, "%w; if it cannot be had again, discard it: lanternist deadletters discard %s", err, l.ID)
		}
		return ev, nil
	}
	if err := p.parts.Journal.Retains(l.Offset); err != nil {
		return event.Event{}, fmt.Errorf("%w; discard it: lanternist deadletters discard %s", lasting(notRetained(ctx, p.parts.Journal, l.Offset, err)), l.ID)
	}
	events, err := NewReader(p.parts.Journal, Span{After: l.Offset - 1, Last: l.Offset}, Filter{}).Read(ctx, Bounds{})
	if err != nil {
		return event.Event{}, err
	}
	if len(events) != 1 {
		return event.Event{}, fmt.Errorf("the journal has no event %s", l.Offset)
	}
	return events[0], nil
}

// beginHolding finds out what is held when the projector begins, and hands on what nothing is in front of any more. It does so
// again whenever a letter is discarded, until ended is called; an error of that ends the context.
func (p *Projector) beginHolding(ctx context.Context) (_ context.Context, ended func(), err error) {
	if p.cfg.OnRefusal != Hold {
		return ctx, func() {}, nil
	}
	_, seen, _, _ := p.parts.Letters.Changes(^uint64(0))
	if err := p.letGo(ctx); err != nil {
		return ctx, nil, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		if err := p.watchDiscards(ctx, seen); err != nil && ctx.Err() == nil {
			cancel(err)
		}
	}()
	return ctx, func() {
		cancel(nil)
		<-stopped
	}, nil
}

// letGo finds out what is held, and hands on what nothing is in front of any more.
func (p *Projector) letGo(ctx context.Context) error {
	done, err := p.inOrder(ctx)
	if err != nil {
		return err
	}
	defer done()
	if err := p.load(ctx); err != nil || p.held.events == 0 {
		return err
	}
	return p.repeat(ctx, func() error { return p.walk(ctx, nil) })
}

// watchDiscards lets go what waited for letters that are discarded.
func (p *Projector) watchDiscards(ctx context.Context, seen uint64) error {
	for {
		some, last, missed, changed := p.parts.Letters.Changes(seen)
		for i := range some {
			missed = missed || some[i].Kind == deadletter.Discarded && some[i].Letter.Projector == p.cfg.Name
		}
		seen = last
		if missed {
			if err := p.letGo(ctx); err != nil {
				return err
			}
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// Serve is Run, again and again for as long as what stops the projector is that too many events are held: it goes on when some were
// redriven or discarded.
func (p *Projector) Serve(ctx context.Context) error {
	for {
		err := p.Run(ctx)
		if ctx.Err() != nil || !errors.Is(err, ErrHoldFull) {
			return err
		}
		if err := p.waitForRoom(ctx); err != nil {
			return err
		}
	}
}

func (p *Projector) waitForRoom(ctx context.Context) error {
	waits := backoff.New(p.cfg.Backoff)
	for {
		_, _, _, changed := p.parts.Letters.Changes(^uint64(0))
		if p.parts.Letters.Count(p.cfg.Name) < p.cfg.HoldEvents {
			return waits.Wait(ctx)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
