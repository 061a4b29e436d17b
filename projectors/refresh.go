package projectors

import (
	"context"
	"errors"
	"fmt"

	"github.com/lanternist/lanternist/event"
	"github.com/lanternist/lanternist/internal/faultpoint"
	"github.com/lanternist/lanternist/views"
)

// Overwriter is implemented by a Generation whose sink counts what others do to a document: when a person changes or
// deletes one, the sink gives that a version above the one that the document was written with, and until the next event
// no Write would be newer.
type Overwriter interface {
	// Overwrite is Write, but what the sink holds in a version up to last gives way, too. It keeps such a version, or one
	// above it up to last.
	Overwrite(ctx context.Context, version, last event.Offset, docs []views.Document) ([]Failure, error)
}

// refreshing is what Refresh asks the live follower for.
type refreshing struct {
	ids  []string
	done chan error // has room for one
}

// Refresh has the documents with these ids composed and written again, as if an event had touched each of them, in a
// round of the live generation. A document that does not exist any more is deleted, and so is one whose id is not
// one that the view gives. It returns when each is applied or parked; with an error some may not be.
func (r *Runner) Refresh(ctx context.Context, ids []string) error {
	if err := r.askRefresh(ctx, ids); err != nil {
		return fmt.Errorf("refresh %d documents of %s: %w", len(ids), r.cfg.Name, err)
	}
	return nil
}

func (r *Runner) askRefresh(ctx context.Context, ids []string) error {
	live, _ := r.following.Load().(liveContext)
	if live.ctx == nil {
		return ErrNotRunning
	}
	q := refreshing{ids: ids, done: make(chan error, 1)}
	select {
	case r.refreshes <- q:
	case <-live.ctx.Done():
		return context.Cause(live.ctx)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	select {
	case err := <-q.done: // whoever took it answers
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// refresh runs a round that has the documents written, and answers.
func (f *follower) refresh(ctx context.Context, q refreshing) error {
	f.wanted = q.ids
	err := f.runRound(ctx)
	f.wanted = nil
	if errors.Is(err, errStalled) {
		q.done <- fmt.Errorf("%w for %v", err, f.runner.cfg.StallMax)
	} else {
		q.done <- err
	}
	return f.ended(ctx, err)
}

// refresh hands the documents that were asked for to the pool.
func (r *round) refresh(ctx context.Context) error {
	if len(r.f.wanted) == 0 {
		return nil
	}
	if err := r.begin(ctx); err != nil {
		return err
	}
	if err := r.overwrite(ctx); err != nil {
		return err
	}
	view := r.f.def.View
	for _, id := range r.f.wanted {
		key, err := view.Key(id)
		if err != nil || view.ID(key) != id {
			err = r.f.pool.remove(id)
		} else {
			err = r.emit(key)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// overwrite has the round's documents take the place of edits, where the sink counts them: up to the last version that
// belongs to the batch that the round ends with, which is below that of every event to come.
func (r *round) overwrite(ctx context.Context) error {
	if _, ok := r.f.generation.(Overwriter); !ok {
		return nil
	}
	end, last := r.end.Offset, r.f.runner.journal.Head().Offset
	if last != end {
		batch, err := r.f.read(ctx, end.Sequence())
		if err != nil {
			return err
		}
		last = batch.Last()
	}
	if last == end { // else events of this batch are to come
		r.f.pool.last = event.NewOffset(end.Sequence(), event.MaxBatchEvents-1)
	}
	return nil
}

// put writes documents to the sink, over edits when the round asks for that.
func (w *worker) put(ctx context.Context, version event.Offset, documents []views.Document) ([]Failure, error) {
	if err := w.runner.alone.confirm(ctx, w.runner.journal, w.follower.def.Store); err != nil {
		return nil, err
	}
	if o, ok := w.follower.generation.(Overwriter); ok && w.follower.pool.last > version {
		return o.Overwrite(ctx, version, w.follower.pool.last, documents)
	}
	if w.follower.live {
		faultpoint.Hit(w.runner.cfg.Name, "write")
		defer faultpoint.Hit(w.runner.cfg.Name, "wrote")
	}
	return w.follower.generation.Write(ctx, version, documents)
}
