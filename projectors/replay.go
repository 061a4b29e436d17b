package projectors

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/lanternist/lanternist/event"
	"github.com/lanternist/lanternist/journal"
	"github.com/lanternist/lanternist/mirror"
)

// ErrReplaying is returned by Replay when one is under way.
var ErrReplaying = errors.New("a replay is under way")

// NotRetainedError says that the journal no longer holds all of a range, and where what it holds begins.
type NotRetainedError struct {
	From   event.Offset
	Oldest journal.Oldest // of offset 0 when the journal holds no event
}

func (e *NotRetainedError) Error() string {
	if e.Oldest.Offset == 0 {
		return fmt.Sprintf("the events from offset %d on are not retained any more; the journal holds none", uint64(e.From))
	}
	return fmt.Sprintf("the events from offset %d on are not retained any more; the oldest there is: %s", uint64(e.From), e.Oldest)
}

// ReplayRange says which events are run again.
type ReplayRange struct {
	From event.Offset // of the first event
	To   event.Offset // of the last event; 0 is the journal's end
	// Since and Until are the bounds when they were given as times, else zero. Commit times do not follow the order of commits
	// exactly: what is in the range of offsets may have committed a little outside. It does no harm to a view; a stream
	// leaves it out.
	Since, Until time.Time
	// DryRun counts and writes nothing. It needs no live generation.
	DryRun bool
}

// ReplayResult is what a replay has done.
type ReplayResult struct {
	From         event.Offset // as asked for
	To           event.Offset // as asked for, or the journal's end when the replay began
	Batches      int64        // of the journal that were read
	BatchesTotal int64        // in the range
	Events       int64        // read
	Touching     int64        // events that affect a document; of a stream, that were handled
	// Documents were written, or found to be newer in the sink; of a dry run, were affected: one that was forgotten because
	// there are many (Config.RoundKeys) and affected again is counted again.
	Documents  int64
	Deleted    int64 // documents that do not exist by the view's definition and were removed, or were not there
	Parked     int64
	Reconciled bool // a TRUNCATE was met: all documents were composed, and the rest of the range not read
}

// Replay runs stored events of the journal again through this projector: every document that they affect is composed as
// it is now and written to the live generation, at the version of now. Documents that were damaged in the sink since are
// right again. It returns when all are written or parked. progress may be nil; it is called by one goroutine.
//
// The watermark and the checkpoint stay with the live follower, which writes the documents between its rounds, in pieces:
// it goes on following meanwhile. A replay that ends early has done a part of the work and no harm.
//
// A range that the journal no longer holds is a NotRetainedError before anything is done. The replay has no claim on the
// journal, for that could stop the source and all other projectors for its sake: when the journal drops what it has not
// read yet, it ends with the same error.
func (r *Runner) Replay(ctx context.Context, what ReplayRange, progress func(ReplayResult)) (ReplayResult, error) {
	if !r.replaying.CompareAndSwap(false, true) {
		return ReplayResult{}, fmt.Errorf("replay %s: %w", r.cfg.Name, ErrReplaying)
	}
	defer r.replaying.Store(false)
	p := &replay{runner: r, def: r.served.Load(), dry: what.DryRun, progress: progress, keys: r.newReplayPiece()}
	if err := p.within(ctx, what); err != nil {
		return p.result, fmt.Errorf("replay %s: %w", r.cfg.Name, err)
	}
	return p.result, nil
}

// replay is one replay. It works out in its caller's goroutine which documents the range affects, from snapshots of its
// own, and has the live follower write them.
//
// The documents are composed from a newer snapshot than the one that their keys were found in. What happened between the
// two is followed as everything is.
type replay struct {
	runner   *Runner
	def      *definition // of the live generation when it began
	dry      bool
	progress func(ReplayResult)

	result   ReplayResult
	next     uint64 // sequence of the batch to read next
	snapshot *mirror.Snapshot
	since    int // events since the snapshot was taken
	seen     keySet
	keys     *piece
	sure     replayMark
}

// replayMark is how far a replay has come for sure: everything before is written.
type replayMark struct {
	result ReplayResult
	next   uint64
}

// within ends the replay when the live generation is not followed any more.
func (p *replay) within(ctx context.Context, what ReplayRange) error {
	if err := p.begin(ctx, what); err != nil {
		return err
	}
	if p.dry {
		return p.run(ctx)
	}
	live, _ := p.runner.following.Load().(liveContext)
	if live.ctx == nil {
		return ErrNotRunning
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(context.Canceled)
	defer context.AfterFunc(live.ctx, func() { cancel(context.Cause(live.ctx)) })()
	return p.run(ctx)
}

// begin checks the range.
func (p *replay) begin(ctx context.Context, what ReplayRange) error {
	r := p.runner
	head := r.journal.Head().Offset
	if what.To == 0 {
		what.To = head
	}
	p.result.From, p.result.To = what.From, what.To
	switch {
	case what.To > head:
		return fmt.Errorf("%w: it ends at offset %d, not at %d", journal.ErrBehind, uint64(head), uint64(what.To))
	case what.From > what.To+1:
		return fmt.Errorf("the range from %s ends before it begins, at %s", what.From, what.To)
	}
	if err := r.journal.Retains(what.From); err != nil {
		return p.notRetained(ctx, err)
	}
	p.next = max(what.From.Sequence(), r.journal.First())
	p.result.BatchesTotal = max(0, int64(what.To.Sequence()+1)-int64(p.next))
	return nil
}

// notRetained says of an error of the journal what there is, when what was asked for is not there.
func (p *replay) notRetained(ctx context.Context, err error) error {
	if !errors.Is(err, journal.ErrTrimmed) {
		return err
	}
	oldest, _, finding := p.runner.journal.Oldest(ctx)
	if finding != nil {
		return errors.Join(err, finding)
	}
	return &NotRetainedError{From: p.result.From, Oldest: oldest}
}

// run runs the range, and from where everything is written again when the sink has stalled: a snapshot is not kept for as
// long as that takes.
func (p *replay) run(ctx context.Context) error {
	defer p.release()
	if err := p.waitForMirror(ctx); err != nil {
		return err
	}
	p.mark()
	for {
		p.seen = newKeySet(p.runner.cfg.RoundKeys)
		err := p.read(ctx)
		if !errors.Is(err, errStalled) {
			return err
		}
		p.release()
		p.keys.reset()
		p.result, p.next = p.sure.result, p.sure.next
	}
}

// waitForMirror waits until the mirror has every event of the range: which documents they affect is told by it.
func (p *replay) waitForMirror(ctx context.Context) error {
	for {
		progress, changed := p.runner.mirror.Progress()
		if progress.Offset >= p.result.To {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// read reads the rest of the range.
func (p *replay) read(ctx context.Context) error {
	for p.next <= p.result.To.Sequence() {
		p.report()
		batch, err := p.batch(ctx, p.next)
		if err != nil {
			return p.notRetained(ctx, err)
		}
		whole, err := p.events(ctx, batch)
		if err != nil {
			return err
		}
		if whole {
			return p.reconcile(ctx)
		}
		p.next++
		p.result.Batches++
		if err := p.pause(ctx); err != nil {
			return err
		}
	}
	if err := p.flush(ctx); err != nil {
		return err
	}
	p.report()
	return nil
}

// batch reads one batch. An engine that is away is waited for.
func (p *replay) batch(ctx context.Context, sequence uint64) (batch *journal.Batch, err error) {
	err = p.runner.repeat(ctx, "read journal", func() (err error) {
		batch, err = p.runner.journal.Read(ctx, sequence)
		for _, lasting := range []error{journal.ErrTrimmed, journal.ErrCorrupt, journal.ErrClosed, journal.ErrNotFound} {
			if errors.Is(err, lasting) {
				return Permanentf("%w", err)
			}
		}
		return err
	})
	return batch, err
}

// events works out which documents a batch's events affect. whole says that it is all of them.
func (p *replay) events(ctx context.Context, batch *journal.Batch) (whole bool, err error) {
	for i := range batch.Parts {
		events := batch.Parts[i].Events
		for k := range events {
			ev := &events[k]
			if ev.Offset < p.result.From || ev.Offset > p.result.To {
				continue
			}
			p.result.Events++
			p.since++
			if ev.Schema == nil || !p.def.tables[ev.Schema.OID] {
				continue
			}
			if whole, err = p.event(ctx, ev); err != nil {
				return false, fmt.Errorf("event %s: %w", ev.Offset, err)
			}
			if whole {
				return true, nil
			}
		}
	}
	return false, nil
}

// event adds the documents that one event affects.
func (p *replay) event(ctx context.Context, ev *event.Event) (whole bool, err error) {
	if err := p.take(ctx); err != nil {
		return false, err
	}
	touches := false
	whole, err = p.def.View.Affected(p.snapshot, ev, func(key []byte) error {
		touches = true
		if !p.seen.add(key) {
			return nil
		}
		return p.add(ctx, key)
	})
	if touches || whole {
		p.result.Touching++
	}
	return whole, err
}

// take takes a snapshot, if there is none.
func (p *replay) take(ctx context.Context) error {
	if p.snapshot != nil {
		return nil
	}
	snapshot, err := p.runner.mirror.Snapshot(ctx)
	if err != nil {
		return fmt.Errorf("take a snapshot: %w", err)
	}
	p.snapshot, p.since = snapshot, 0
	return p.runner.stillLoaded(p.def)
}

func (p *replay) release() {
	if p.snapshot == nil {
		return
	}
	if err := p.snapshot.Close(); err != nil {
		p.runner.log.Error("snapshot not closed", "error", err)
	}
	p.snapshot = nil
}

// add adds the document of a key; a full piece is written.
func (p *replay) add(ctx context.Context, key []byte) error {
	if p.dry {
		p.result.Documents++
		return context.Cause(ctx)
	}
	if p.keys.addKey(key) {
		return p.flush(ctx)
	}
	return nil
}

// pause writes what there is and lets the snapshot go, when it has been kept for long. It is called between batches.
func (p *replay) pause(ctx context.Context) error {
	if p.since < p.runner.cfg.CheckpointEvents {
		return context.Cause(ctx)
	}
	if err := p.flush(ctx); err != nil {
		return err
	}
	p.release()
	p.since = 0
	p.mark()
	return nil
}

func (p *replay) mark() { p.sure = replayMark{p.result, p.next} }

func (p *replay) report() {
	if p.progress != nil {
		p.progress(p.result)
	}
}
