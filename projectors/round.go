package projectors

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/lanternist/lanternist/event"
	"github.com/lanternist/lanternist/internal/faultpoint"
	"github.com/lanternist/lanternist/internal/sabotage"
	"github.com/lanternist/lanternist/journal"
	"github.com/lanternist/lanternist/mirror"
)

// round is one round of a follower: from its position to the mirror's progress when the round began, or, once a snapshot
// was needed, to that of the snapshot.
//
// All events up to the round's end are worked out and composed as seen from the snapshot. An event's affected documents
// may therefore be known only by a later event of the same round: an order whose item changed at e1 and which then moved from
// customer 1 to customer 2 at e2 affects, seen from after e2, only customer 2 at e1, and both at e2. That is why
// nothing between is promised: the watermark moves when the round has ended.
type round struct {
	f        *follower
	end      mirror.Progress
	next     uint64           // sequence of the batch to read next; the follower's moves when what came before is written
	snapshot *mirror.Snapshot // nil until an event touches the view
	given    *mirror.Snapshot // where the round is to end; nil when it takes a snapshot of its own, which it closes
	seen     keySet
	whole    bool      // every document was reconciled with the snapshot: the rest of the round's events say nothing new
	since    int       // events since the last checkpoint within the round
	oldest   time.Time // append time of the first batch that is not applied; of the live generation
}

// runRound processes every event up to the mirror's progress, and moves the promise there.
func (f *follower) runRound(ctx context.Context) error {
	end, _ := f.runner.mirror.Progress()
	if err := f.stillLoaded(); err != nil {
		return err
	}
	return f.runRoundTo(ctx, end, nil)
}

// runRoundTo is runRound up to an end: the mirror's progress, or that of a given snapshot, which stays open.
func (f *follower) runRoundTo(ctx context.Context, end mirror.Progress, given *mirror.Snapshot) error {
	r := &round{f: f, end: end, next: f.next, given: given}
	defer r.close()
	if err := r.run(ctx); err != nil {
		return err
	}
	f.position, f.next = r.end.Offset, r.next
	f.round = max(f.round, f.position)
	wrote := r.snapshot != nil && f.pool.written
	if f.round > f.position {
		// The mirror is still behind a round that a crash cut off: it is caught up with before anything is promised.
		f.saver.offer(f.checkpoint(f.mark.LSN), f.events, wrote)
		return nil
	}
	f.promise(r.end)
	f.saver.offer(f.checkpoint(f.mark.LSN), f.events, wrote)
	f.runner.counters.rounds.Add(1)
	if !r.oldest.IsZero() {
		f.runner.reachedAfter(time.Since(r.oldest))
	}
	return nil
}

func (r *round) close() {
	if r.snapshot == nil {
		return
	}
	r.f.pool.end()
	if r.given != nil {
		return
	}
	if err := r.snapshot.Close(); err != nil {
		r.f.runner.log.Error("snapshot not closed", "error", err)
	}
}

// run reads the journal from the follower's position to the round's end.
func (r *round) run(ctx context.Context) error {
	f := r.f
	if err := r.refresh(ctx); err != nil {
		return err
	}
	for r.next <= r.end.Offset.Sequence() && !r.whole {
		more, err := r.one(ctx)
		if err != nil {
			return err
		}
		if !more {
			break
		}
	}
	if r.snapshot == nil {
		return nil
	}
	if err := f.pool.drain(); err != nil {
		return err
	}
	faultpoint.Hit(f.runner.cfg.Name, "round", "written")
	if r.whole {
		r.next = r.end.Offset.Sequence()
	}
	return nil
}

// one reads a batch and has what it affects written. It says whether the next batch may belong to the round, too.
func (r *round) one(ctx context.Context) (more bool, err error) {
	f := r.f
	batch, held, err := f.fetch(ctx, r.next)
	if err != nil {
		return false, err
	}
	defer held.release()
	if err := r.batch(ctx, batch); err != nil {
		return false, err
	}
	if batch.Last() > r.end.Offset {
		return false, nil // the rest of the batch belongs to a later round
	}
	return true, r.passed(batch)
}

// fetch gets one batch. One that is not in the memory that all readers share takes of that of the sink, until it is released.
func (f *follower) fetch(ctx context.Context, sequence uint64) (*journal.Batch, reservation, error) {
	if batch, ok := f.runner.journal.Recent(sequence); ok {
		return batch, reservation{}, nil
	}
	known := &f.runner.batchSizes
	held, err := f.runner.cfg.Memory.batches.reserve(ctx, max(batchLeast, known.expect(1)))
	if err != nil {
		return nil, reservation{}, err
	}
	batch, err := f.read(ctx, sequence)
	if err != nil {
		held.release()
		return nil, reservation{}, err
	}
	known.note(int(batch.Memory()))
	held.grow(batch.Memory(), batch.Memory())
	return batch, held, nil
}

// batchLeast is reserved for a batch of which nothing is known.
const batchLeast = 256 << 10

// read reads one batch. What the journal no longer has, or cannot read, ends the follower; an engine that is away is
// waited for.
func (f *follower) read(ctx context.Context, sequence uint64) (*journal.Batch, error) {
	var batch *journal.Batch
	err := f.runner.repeat(ctx, "read journal", func() (err error) {
		batch, err = f.runner.journal.Read(ctx, sequence)
		switch {
		case errors.Is(err, journal.ErrTrimmed), errors.Is(err, journal.ErrCorrupt):
			return Permanentf("%w: %w", errCannotFollow, err)
		case errors.Is(err, journal.ErrClosed), errors.Is(err, journal.ErrNotFound):
			return Fatalf("", "%w", err)
		}
		return err
	})
	return batch, err
}

// batch works out which documents the batch's events affect.
func (r *round) batch(ctx context.Context, batch *journal.Batch) error {
	if r.f.live {
		r.began(batch)
	}
	for i := range batch.Parts {
		events := batch.Parts[i].Events
		for k := range events {
			ev := &events[k]
			if ev.Offset <= r.f.position {
				continue
			}
			if ev.Offset > r.end.Offset {
				return nil
			}
			if ev.Op == event.Gap {
				return fmt.Errorf("there is a gap in the journal at %s: %w", ev.Offset, errCannotFollow)
			}
			if r.whole {
				return nil
			}
			r.f.events++
			r.since++
			if ev.Schema == nil || !r.f.def.tables[ev.Schema.OID] {
				continue
			}
			if err := r.event(ctx, ev); err != nil {
				return fmt.Errorf("event %s: %w", ev.Offset, err)
			}
		}
	}
	return nil
}

// began notes how old the oldest batch is that is not applied.
func (r *round) began(batch *journal.Batch) {
	if r.oldest.IsZero() {
		r.oldest = batch.Time
		r.f.runner.oldest.Store(batch.Time.UnixMicro())
	}
}

// event hands the documents that one event affects to the pool.
func (r *round) event(ctx context.Context, ev *event.Event) error {
	if err := r.begin(ctx); err != nil {
		return err
	}
	all, err := r.f.def.View.Affected(r.snapshot, ev, r.emit)
	if err != nil {
		return err
	}
	if all {
		r.whole = true
		return r.reconcile(ctx)
	}
	return nil
}

// emit hands one document to the pool unless the round has done so before.
func (r *round) emit(key []byte) error {
	if !r.seen.add(key) {
		return nil
	}
	return r.f.pool.add(key)
}

// begin takes the snapshot, if the round has none. The round then ends where the snapshot is.
func (r *round) begin(ctx context.Context) error {
	if r.snapshot != nil {
		return nil
	}
	snapshot := r.given
	if snapshot == nil {
		var err error
		if snapshot, err = r.f.runner.mirror.Snapshot(ctx); err != nil {
			return fmt.Errorf("take a snapshot: %w", err)
		}
	}
	r.snapshot, r.end = snapshot, snapshot.Progress()
	r.seen = newKeySet(r.f.runner.cfg.RoundKeys)
	if sabotage.Off(sabotage.WriteFirst) && r.f.live {
		end := Checkpoint{Offset: r.end.Offset, Round: r.end.Offset, LSN: r.end.LSN, JournalID: r.f.runner.journalID, Served: r.f.served}
		if err := r.f.generation.SaveCheckpoint(ctx, end); err != nil {
			return err
		}
	}
	r.f.pool.begin(ctx, snapshot)
	return r.f.stillLoaded()
}

// passed moves on behind a batch that was read to its end. In a long round it has everything so far written and offers a
// checkpoint from which a restart, or the next round, goes on. It promises nothing.
func (r *round) passed(batch *journal.Batch) error {
	f := r.f
	r.next++
	if f.report != nil {
		f.reading = r.next
		f.report()
	}
	if f.live {
		f.runner.counters.events.Add(uint64(batch.Len()))
		f.runner.counters.journalBatches.Add(1)
	}
	if r.whole || r.since < f.runner.cfg.CheckpointEvents || batch.Last() >= r.end.Offset {
		return nil
	}
	r.since, r.oldest = 0, time.Time{}
	if r.snapshot != nil {
		if err := f.pool.drain(); err != nil {
			return err
		}
	}
	f.position, f.round, f.next = batch.Last(), r.end.Offset, r.next
	f.reached()
	f.saver.offer(f.checkpoint(f.mark.LSN), f.events, r.snapshot != nil)
	return nil
}
