package projectors

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
)

// errReplaced ends a replay during which the view's definition changed. The new generation was filled from the mirror, and has
// what the replay would have written.
var errReplaced = errors.New("the view's definition has changed meanwhile, and all its documents were written anew")

// rewrite is a piece of a replay that the live follower is asked to write between two rounds. Whoever asked does not
// touch the piece before the answer, nor at all when it does not wait for it.
type rewrite struct {
	ctx   context.Context // of whoever asks
	def   *definition     // the keys in the piece are of it
	piece *piece
	done  chan rewritten // has room for one
}

// rewritten is what became of it.
type rewritten struct {
	generation                 Generation // the live one
	documents, deletes, parked int64
	err                        error
}

// newReplayPiece is as large as all workers can take at once.
func (r *Runner) newReplayPiece() *piece { return &piece{limit: r.cfg.PieceDocuments * r.cfg.Workers} }

// flush has the documents that were added written, and waits for it.
func (p *replay) flush(ctx context.Context) error {
	if p.keys.empty() {
		return context.Cause(ctx)
	}
	done, err := p.ask(ctx)
	if err != nil {
		return err
	}
	p.result.Documents += done.documents
	p.result.Deleted += done.deletes
	p.result.Parked += done.parked
	p.keys.reset()
	p.report()
	return nil
}

// generation is the one that is live now.
func (p *replay) generation(ctx context.Context) (Generation, error) {
	if err := p.flush(ctx); err != nil {
		return nil, err
	}
	done, err := p.ask(ctx)
	return done.generation, err
}

// ask hands the piece to the live follower.
func (p *replay) ask(ctx context.Context) (rewritten, error) {
	w := rewrite{ctx: ctx, def: p.def, piece: p.keys, done: make(chan rewritten, 1)}
	select {
	case p.runner.rewrites <- w:
	case <-ctx.Done():
		return rewritten{}, context.Cause(ctx)
	}
	select {
	case done := <-w.done:
		return done, done.err
	case <-ctx.Done():
		select {
		case done := <-w.done: // it may be why the context is done
			return done, done.err
		default:
		}
		p.keys = p.runner.newReplayPiece() // the follower may still read the old one
		return rewritten{}, context.Cause(ctx)
	}
}

// rewrite composes and writes the documents of a piece, as they are now. It moves neither the follower's position nor any
// promise: documents that are ahead of the watermark break none. Only what the follower could not go on with either is an
// error here; the rest is answered to whoever asked.
func (f *follower) rewrite(ctx context.Context, w rewrite) error {
	before := f.pool.tally.read()
	err := f.writePiece(ctx, w)
	after := f.pool.tally.read()
	w.done <- rewritten{f.generation, after.documents - before.documents, after.deletes - before.deletes, after.parked - before.parked, err}
	if err != nil && (stops(err) || errors.Is(err, errCannotFollow)) {
		return fmt.Errorf("replay: %w", err)
	}
	return nil
}

func (f *follower) writePiece(ctx context.Context, w rewrite) error {
	if w.def.hash != f.def.hash {
		return errReplaced
	}
	if w.piece.empty() {
		return nil
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(w.ctx, func() { cancel(context.Cause(w.ctx)) })()
	snapshot, err := f.runner.mirror.Snapshot(ctx)
	if err != nil {
		return fmt.Errorf("take a snapshot: %w", err)
	}
	defer func() {
		if err := snapshot.Close(); err != nil {
			f.runner.log.Error("snapshot not closed", "error", err)
		}
	}()
	if err := f.stillLoaded(); err != nil {
		return err
	}
	f.pool.begin(ctx, snapshot)
	defer f.pool.over() // nobody comes back to what was given up
	defer f.pool.end()
	for i := range w.piece.ends {
		if err := f.pool.add(w.piece.key(i)); err != nil {
			return err
		}
	}
	for _, id := range w.piece.foreign {
		if err := f.pool.remove(id); err != nil {
			return err
		}
	}
	return f.pool.drain()
}

// tally counts what a pool's workers have settled.
type tally struct{ documents, deletes, parked atomic.Int64 }

type tallied struct{ documents, deletes, parked int64 }

func (t *tally) read() tallied {
	return tallied{t.documents.Load(), t.deletes.Load(), t.parked.Load()}
}
