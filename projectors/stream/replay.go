package stream

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/lanternist/lanternist/event"
	"github.com/lanternist/lanternist/projectors"
)

// Replay hands the events of a range to the handler again, in the order of the journal, in calls of their own between those of
// live events; Replaying tells the handler. It gives all transactions of the range and nothing else: of a range of offsets those
// that the first and the last event belong to, with all of their events. Transactions of which the journal does not have the end
// yet are not part of any range. Events that the filter does not want are only counted, as all are in a dry run: Touching is how
// many were, or would be, handed on.
//
// The checkpoint and the watermark stay as they are. It does not matter whether the projector runs.
//
// A range that is not held any more is a projectors.NotRetainedError before anything is handed on. The replay has no claim on the
// journal, for that could stop the source and all other projectors for its sake: when the journal drops what it has not read
// yet, and no archive has it, it ends with the same error. What is damaged ends it, too, with an error that names what. progress
// may be nil; it is called by one goroutine.
func (p *Projector) Replay(ctx context.Context, what projectors.ReplayRange, progress func(projectors.ReplayResult)) (projectors.ReplayResult, error) {
	if !p.replaying.CompareAndSwap(false, true) {
		return projectors.ReplayResult{}, fmt.Errorf("replay %s: %w", p.cfg.Name, projectors.ErrReplaying)
	}
	defer p.replaying.Store(false)
	if progress == nil {
		progress = func(projectors.ReplayResult) {}
	}
	result := projectors.ReplayResult{From: what.From, To: what.To}
	err := p.replay(context.WithValue(ctx, replayKey{}, true), what, &result, progress)
	if err != nil {
		return result, fmt.Errorf("replay %s: %w", p.cfg.Name, err)
	}
	return result, nil
}

func (p *Projector) replay(ctx context.Context, what projectors.ReplayRange, result *projectors.ReplayResult, progress func(projectors.ReplayResult)) error {
	var span Span
	err := p.repeat(ctx, func() (err error) {
		span, err = resolveReplay(ctx, p.parts.Journal, what)
		return lasting(err)
	})
	if err != nil {
		return err
	}
	if what.To == 0 {
		result.To = span.Last
	}
	if span.Last > span.After {
		result.BatchesTotal = int64(span.Last.Sequence() - (span.After + 1).Sequence() + 1)
	}
	r := NewReader(p.parts.Journal, span, p.cfg.Filter)
	for {
		progress(*result)
		ended, err := p.replaySome(ctx, r, what.DryRun, result)
		if err != nil {
			return notRetained(ctx, p.parts.Journal, r.At()+1, err)
		}
		if ended {
			result.Batches = result.BatchesTotal
			progress(*result)
			return nil
		}
	}
}

// replaySome reads what comes next and hands it on.
func (p *Projector) replaySome(ctx context.Context, r *Reader, dry bool, result *projectors.ReplayResult) (ended bool, err error) {
	bounds := p.bounds()
	bounds.Batches = 16 // so that progress shows
	var events []event.Event
	err = p.repeat(ctx, func() (err error) {
		events, err = r.Read(ctx, bounds)
		if ended = errors.Is(err, io.EOF); ended {
			return nil
		}
		return lasting(err)
	})
	result.Events, result.Batches = r.read, min(r.seen, result.BatchesTotal)
	if err != nil || len(events) == 0 {
		return ended, err
	}
	if !dry {
		parked, err := p.deliver(ctx, events)
		result.Parked += parked
		if err != nil {
			return false, err
		}
	}
	result.Touching += int64(len(events))
	return ended, nil
}
