package projectors

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/lanternist/lanternist/event"
	"github.com/lanternist/lanternist/internal/sabotage"
	"github.com/lanternist/lanternist/mirror"
	"github.com/lanternist/lanternist/views"
)

// errStalled ends a round whose sink has not taken a piece for Config.StallMax. The next round begins where this one did,
// with a newer snapshot.
var errStalled = errors.New("sink stalled")

// worker composes the documents of one piece at a time and writes them to one generation. It is not safe for
// concurrent use.
type worker struct {
	runner     *Runner
	follower   *follower
	composer   *views.Composer // nil between pieces
	repetition *repetition

	piece     piece
	documents []views.Document // composed, not yet written
	bytes     int              // of their bodies
	most      int              // of bytes, since the piece was begun
	memory    reservation      // for the piece
	attempts  map[string]int   // refusals so far, by document id, of the documents being written
	dead      error            // why the sink took nothing of the last offer; nil when it answered for itself
}

func (f *follower) newWorker() *worker {
	r := f.runner
	return &worker{
		runner: r, follower: f, repetition: r.repetition(),
		piece: piece{limit: r.cfg.PieceDocuments}, attempts: map[string]int{},
	}
}

// process writes or parks every document of the piece, and empties the piece.
func (w *worker) process(ctx context.Context, snapshot *mirror.Snapshot, version event.Offset) error {
	defer w.piece.reset()
	if w.piece.empty() {
		return nil
	}
	if err := w.reserve(ctx); err != nil {
		return err
	}
	w.composer = w.follower.def.composer()
	defer w.release()
	for i := range w.piece.ends {
		if err := w.compose(ctx, snapshot, version, w.piece.key(i)); err != nil {
			return err
		}
		if w.bytes >= w.runner.cfg.PieceBytes || !w.memory.grow(memoryWeight*int64(w.bytes), w.pieceMemory()) {
			if err := w.flush(ctx, version); err != nil {
				return err
			}
		}
	}
	for _, id := range w.piece.foreign {
		w.documents = append(w.documents, views.Document{ID: id})
	}
	return w.flush(ctx, version)
}

// pieceMemory is what the documents of one Write take.
func (w *worker) pieceMemory() int64 { return memoryWeight * int64(w.runner.cfg.PieceBytes) }

// reserveLeast is what a piece reserves at least.
const reserveLeast = 64 << 10

// reserve waits for the memory that the piece will probably take.
func (w *worker) reserve(ctx context.Context) (err error) {
	known := &w.runner.documentSizes
	expected := min(memoryWeight*known.expect(len(w.piece.ends)), max(w.pieceMemory(), memoryWeight*known.largest.Load()))
	ctx, cancel := w.patience(ctx)
	defer cancel()
	w.memory, err = w.runner.cfg.Memory.documents.reserve(ctx, max(reserveLeast, expected))
	return err
}

// keepDocuments is how many documents a worker keeps room for.
const keepDocuments = 100

// release gives the memory of the piece back.
func (w *worker) release() {
	w.discard()
	w.follower.def.giveBack(w.composer, w.most)
	w.composer, w.most = nil, 0
	if cap(w.documents) > keepDocuments {
		w.documents = nil
	}
	w.memory.release()
}

// patience bounds waiting for the sink, or for others who wait for it: a live round does not wait for longer than
// Config.StallMax.
func (w *worker) patience(ctx context.Context) (context.Context, context.CancelFunc) {
	if !w.follower.live {
		return ctx, func() {}
	}
	return context.WithTimeoutCause(ctx, w.runner.cfg.StallMax, errStalled)
}

// compose adds the document of a key to those to be written, or parks it when it cannot be composed: composing the same
// rows again would fail again.
func (w *worker) compose(ctx context.Context, snapshot *mirror.Snapshot, version event.Offset, key []byte) error {
	document, err := w.composer.Compose(snapshot, key)
	if err == nil {
		w.documents = append(w.documents, document)
		w.bytes += len(document.Body)
		w.most = max(w.most, w.bytes)
		w.runner.documentSizes.note(len(document.Body))
		return nil
	}
	id := w.follower.def.View.ID(key)
	err = fmt.Errorf("compose %s at %s: %w", id, version, err)
	if Class(err) != Permanent {
		return err
	}
	return w.park(ctx, views.Document{Key: key, ID: id}, version, err, 1)
}

func (w *worker) park(ctx context.Context, d views.Document, version event.Offset, reason error, attempts int) error {
	if w.runner.cfg.StopOnPermanent {
		return Fatalf(hintRefused, "after %d attempts: %w", attempts, reason)
	}
	w.follower.pool.tally.parked.Add(1)
	return w.follower.letters.park(ctx, d, version, reason, attempts)
}

const hintRefused = "mend the row, the view or the sink, and rebuild the view or restart; or set on_permanent: park for this projector"

// flush writes what was composed.
func (w *worker) flush(ctx context.Context, version event.Offset) error {
	if len(w.documents) == 0 {
		return nil
	}
	err := w.write(ctx, version, w.documents)
	w.discard()
	return err
}

func (w *worker) discard() {
	clear(w.documents)
	w.documents, w.bytes = w.documents[:0], 0
	w.composer.Reset()
}

// write returns when each document is applied or parked. What the sink did not take is offered again after a wait; what
// it refuses for good is parked after Config.MaxAttempts.
func (w *worker) write(ctx context.Context, version event.Offset, documents []views.Document) error {
	clear(w.attempts)
	for len(documents) > 0 {
		probe, err := w.enter(ctx)
		if err != nil {
			return err
		}
		if probe {
			documents, err = w.probe(ctx, version, documents)
		} else {
			documents, err = w.offer(ctx, version, documents)
		}
		if ctx.Err() != nil {
			w.runner.cfg.Circuit.giveUp(probe)
			return context.Cause(ctx)
		}
		w.runner.cfg.Circuit.leave(probe, w.dead)
		switch {
		case err == nil:
			w.repetition.over()
			continue
		case stops(err):
			return err
		}
		if err := w.repetition.again(ctx, err); err != nil {
			return err
		}
		if w.follower.live && Class(err) == Transient && w.stalled() {
			return errStalled
		}
	}
	return nil
}

// enter waits until the sink's circuit lets a call through. A round does not wait for longer than Config.StallMax.
func (w *worker) enter(ctx context.Context) (probe bool, err error) {
	ctx, cancel := w.patience(ctx)
	defer cancel()
	return w.runner.cfg.Circuit.enter(ctx, w.repetition.stuck)
}

// probe offers one of the documents, to see whether the sink takes it. It returns those that are left.
func (w *worker) probe(ctx context.Context, version event.Offset, documents []views.Document) ([]views.Document, error) {
	left, err := w.offer(ctx, version, documents[:1])
	if err == nil {
		return documents[1:], nil
	}
	if len(left) == 0 { // it was parked, and what came then failed
		return documents[1:], err
	}
	return documents, err
}

// stalled says that this worker has written nothing for Config.StallMax.
func (w *worker) stalled() bool { return time.Since(w.repetition.since) >= w.runner.cfg.StallMax }

// offer makes one attempt at writing the documents and settles those that were applied, or refused for the last time.
// It returns those that are left, moved to the front of the slice it was given, and why.
func (w *worker) offer(ctx context.Context, version event.Offset, documents []views.Document) ([]views.Document, error) {
	began := time.Now()
	failures, err := w.put(ctx, version, documents)
	w.dead = nothingTaken(documents, failures, err)
	if err != nil {
		err = fmt.Errorf("write %d documents at %s: %w", len(documents), version, err)
		if Class(err) == Permanent {
			return w.divide(ctx, version, documents, err)
		}
		return documents, err
	}
	took := time.Since(began)
	if w.follower.live {
		w.runner.wroteLive(took)
	}
	puts, deletes := w.runner.counters.wrote(took, documents, failures)
	w.follower.pool.tally.documents.Add(int64(puts))
	w.follower.pool.tally.deletes.Add(int64(deletes))
	return w.settle(ctx, version, documents, failures)
}

// nothingTaken is why a sink took none of the documents for now; nil when it took some, or said something of one.
func nothingTaken(documents []views.Document, failures []Failure, err error) error {
	if err != nil {
		if repeatable(err) {
			return err
		}
		return nil
	}
	if len(failures) < len(documents) {
		return nil
	}
	for _, f := range failures {
		if !repeatable(f.Err) || errors.Is(f.Err, ErrOthersTaken) {
			return nil
		}
		err = f.Err
	}
	return err
}

// divide finds the documents for which a whole call is refused, by offering its halves.
func (w *worker) divide(ctx context.Context, version event.Offset, documents []views.Document, cause error) ([]views.Document, error) {
	if len(documents) == 1 {
		return w.settle(ctx, version, documents, []Failure{{Index: 0, Err: cause}})
	}
	half := len(documents) / 2
	left, err := w.offer(ctx, version, documents[:half])
	if ctx.Err() != nil || stops(err) {
		return documents, err
	}
	right, rightErr := w.offer(ctx, version, documents[half:])
	return append(left, right...), worse(err, rightErr)
}

// settle resolves the letters of what was applied, parks what was refused for the last time, and returns the rest with an
// error that says why there is a rest. The error is fatal when a failure is.
func (w *worker) settle(ctx context.Context, version event.Offset, documents []views.Document, failures []Failure) ([]views.Document, error) {
	if len(failures) == 0 && w.follower.letters.empty() {
		return nil, nil
	}
	failed := make(map[int]error, len(failures))
	for _, f := range failures {
		failed[f.Index] = f.Err
	}
	left := documents[:0]
	var reason error
	for i, d := range documents {
		err, refused := failed[i]
		if !refused {
			if err := w.follower.letters.resolve(ctx, d.ID, version); err != nil {
				return documents, err
			}
			continue
		}
		err = fmt.Errorf("write document %s at %s: %w", d.ID, version, err)
		parked, parkErr := w.refuse(ctx, version, d, err)
		if parkErr != nil {
			return documents, parkErr
		}
		if !parked {
			left = append(left, d)
			reason = worse(reason, err)
		}
	}
	if reason == nil {
		return nil, nil
	}
	return left, fmt.Errorf("%d of %d documents not written: %w", len(left), len(documents), reason)
}

// refuse counts a refusal and parks the document when it was the last.
func (w *worker) refuse(ctx context.Context, version event.Offset, d views.Document, err error) (parked bool, _ error) {
	if Class(err) != Permanent {
		return false, nil
	}
	w.attempts[d.ID]++
	if w.attempts[d.ID] < w.runner.cfg.MaxAttempts {
		return false, nil
	}
	if sabotage.Off(sabotage.Park) {
		return true, nil
	}
	return true, w.park(ctx, d, version, err, w.attempts[d.ID])
}

// stops says that an error ends the runner, or its work on this generation.
func stops(err error) bool { return Class(err) == Fatal || errors.Is(err, ErrLost) }

// worse is the error to act on when there are two: one that stops before any other.
func worse(a, b error) error {
	if a == nil || (!stops(a) && stops(b)) {
		return b
	}
	return a
}
