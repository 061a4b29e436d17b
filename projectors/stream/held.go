package stream

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/lanternist/lanternist/deadletter"
	"github.com/lanternist/lanternist/event"
	"github.com/lanternist/lanternist/row"
)

// ErrHoldFull means that Config.HoldEvents are held.
var ErrHoldFull = errors.New("too many events are held")

// held is what the events concern that are dead letters, or wait behind one: later events of it wait, too.
type held struct {
	loaded bool
	events int
	keys   map[string]int // how many of the events concern it
	tables map[string]int // how many concern a row of the table
	whole  map[string]int // how many concern the whole table
}

// wholeTable ends the key of all rows of a table; a row's has no * in it.
const wholeTable = "/*"

// keys are what an event concerns.
func (p *Projector) keys(ev *event.Event) []string {
	if p.cfg.Key != nil {
		if key := p.cfg.Key(ev); key != "" {
			return []string{"key:" + key}
		}
		return nil
	}
	if ev.Schema == nil {
		return []string{"message:" + ev.Prefix}
	}
	var keys []string
	for _, r := range []row.Row{ev.After, ev.Before} {
		if r == nil {
			continue
		}
		of := event.Event{Op: ev.Op, Schema: ev.Schema, After: r}
		key := string(of.AppendSubject(nil))
		if key == ev.Schema.QualifiedName() {
			keys = nil
			break
		}
		if !slices.Contains(keys, key) {
			keys = append(keys, key)
		}
	}
	if keys == nil || ev.Op == event.Truncate {
		return []string{ev.Schema.QualifiedName() + wholeTable}
	}
	return keys
}

// tableOf is the table of a row's key.
func tableOf(key string) string { return key[:max(0, strings.LastIndexByte(key, '/'))] }

// blocks says that an event which concerns any of the keys has to wait.
func (h *held) blocks(keys []string) bool {
	if h.events == 0 {
		return false
	}
	return slices.ContainsFunc(keys, func(key string) bool {
		if name, ok := strings.CutSuffix(key, wholeTable); ok {
			return h.whole[name] > 0 || h.tables[name] > 0
		}
		return h.keys[key] > 0 || h.whole[tableOf(key)] > 0
	})
}

// add notes that an event is held, or is not any more.
func (h *held) add(keys []string, by int) {
	if h.keys == nil {
		h.keys, h.tables, h.whole = map[string]int{}, map[string]int{}, map[string]int{}
	}
	h.events += by
	for _, key := range keys {
		if name, ok := strings.CutSuffix(key, wholeTable); ok {
			change(h.whole, name, by)
			continue
		}
		change(h.keys, key, by)
		change(h.tables, tableOf(key), by)
	}
}

func change(counts map[string]int, key string, by int) {
	if counts[key] += by; counts[key] <= 0 {
		delete(counts, key)
	}
}

// inOrder is the right to hand events on. It is given back by what it returns.
func (p *Projector) inOrder(ctx context.Context) (done func(), err error) {
	select {
	case p.ordering <- struct{}{}:
		return func() { <-p.ordering }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// load finds out what is held.
func (p *Projector) load(ctx context.Context) error {
	h := held{loaded: true}
	err := p.repeat(ctx, func() error {
		h = held{loaded: true}
		return p.parts.Letters.List(ctx, deadletter.Filter{Projector: p.cfg.Name}, func(l deadletter.Letter) error {
			h.add(l.Keys, 1)
			return nil
		})
	})
	if err != nil {
		return fmt.Errorf("read what is held: %w", err)
	}
	p.held = h
	return nil
}

// free divides what may be handed on from what has to wait, which it keeps durably, as many as it says.
func (p *Projector) free(ctx context.Context, events []event.Event) (free []event.Event, waiting int64, err error) {
	if p.held.events == 0 {
		return events, 0, nil
	}
	for i := range events {
		ev := &events[i]
		if !p.held.blocks(p.keys(ev)) {
			free = append(free, *ev)
			continue
		}
		l := p.letter(ev)
		var kept bool // before a crash
		err := p.repeat(ctx, func() (err error) {
			_, kept, err = p.parts.Letters.Parked(ctx, p.cfg.Name, l.DocumentID)
			return err
		})
		if err != nil {
			return nil, waiting, err
		}
		if kept {
			continue
		}
		l.Class, l.Reason = deadletter.Waiting, "an earlier event of "+strings.Join(l.Keys, ", ")+" is a dead letter"
		if err := p.keep(ctx, l); err != nil {
			return nil, waiting, err
		}
		waiting++
	}
	return free, waiting, nil
}
