package projectors

import (
	"context"
	"sync"

	"github.com/jackc/pglogrepl"

	"github.com/lanternist/lanternist/mirror"
)

// Watermark is the promise of one projector: every transaction that committed before LSN shows in the documents that
// readers see, or is parked. It moves forward; only the loss of a sink's data takes it back. It is safe for concurrent
// use; its zero value promises nothing.
type Watermark struct {
	mu       sync.Mutex
	progress mirror.Progress
	changed  chan struct{} // made when someone waits
}

// Progress is how far the watermark has come, with a channel that is closed when it moves.
// The offset is 0 when it is not known: after a start in the middle of a round.
func (w *Watermark) Progress() (mirror.Progress, <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.changed == nil {
		w.changed = make(chan struct{})
	}
	return w.progress, w.changed
}

// Wait waits until the watermark has reached lsn and returns where it is. When the context is done first, it returns
// how far the watermark had come by then, and the context's cause.
func (w *Watermark) Wait(ctx context.Context, lsn pglogrepl.LSN) (mirror.Progress, error) {
	for {
		progress, changed := w.Progress()
		if progress.LSN >= lsn {
			return progress, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			progress, _ = w.Progress()
			return progress, context.Cause(ctx)
		}
	}
}

// advance moves the watermark forward, in both its parts.
func (w *Watermark) advance(to mirror.Progress) {
	w.mu.Lock()
	defer w.mu.Unlock()
	to.LSN = max(to.LSN, w.progress.LSN)
	to.Offset = max(to.Offset, w.progress.Offset)
	w.set(to)
}

// reset moves the watermark to what a generation just opened can promise.
func (w *Watermark) reset(to mirror.Progress) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.set(to)
}

func (w *Watermark) set(to mirror.Progress) {
	if to == w.progress {
		return
	}
	w.progress = to
	if w.changed != nil {
		close(w.changed)
		w.changed = nil
	}
}
