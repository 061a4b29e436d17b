package projectors

import (
	"context"
	"sync"
	"time"

	"github.com/lanternist/lanternist/event"
	"github.com/lanternist/lanternist/mirror"
)

// pool composes and writes documents of one snapshot in pieces, several at once. Keys are added by one goroutine. A full
// pool makes that goroutine wait: what is in memory is bounded by the pieces of its workers.
type pool struct {
	workers []*worker
	idle    chan *worker
	filling *worker // holds the piece that keys are added to; nil when it is empty
	tally   tally
	pace    *pacer // nil when pieces are written as they come

	// Of the work at hand, set by begin.
	ctx      context.Context
	cancel   context.CancelCauseFunc
	snapshot *mirror.Snapshot
	version  event.Offset
	last     event.Offset // see Overwriter; 0 in most rounds
	running  sync.WaitGroup
	written  bool // something was handed to a worker
}

func newPool(workers []*worker) *pool {
	p := &pool{workers: workers, idle: make(chan *worker, len(workers))}
	for _, w := range workers {
		p.idle <- w
	}
	return p
}

// begin starts work on a snapshot. end must follow.
func (p *pool) begin(ctx context.Context, snapshot *mirror.Snapshot) {
	p.ctx, p.cancel = context.WithCancelCause(ctx)
	p.snapshot, p.version, p.last, p.written = snapshot, snapshot.Progress().Offset, 0, false
}

// add has the document of a root key composed and written. The key is copied.
func (p *pool) add(key []byte) error {
	if err := p.fill(); err != nil {
		return err
	}
	return p.added(p.filling.piece.addKey(key))
}

// remove has a document deleted whose id is no key of the view.
func (p *pool) remove(id string) error {
	if err := p.fill(); err != nil {
		return err
	}
	return p.added(p.filling.piece.addForeign(id))
}

// fill makes sure that there is a piece to add to.
func (p *pool) fill() error {
	if p.filling != nil {
		return nil
	}
	p.written = true
	select {
	case p.filling = <-p.idle:
		return nil
	case <-p.ctx.Done():
		return context.Cause(p.ctx)
	}
}

func (p *pool) added(full bool) error {
	if full {
		w := p.filling
		p.filling = nil
		p.running.Go(func() { p.work(w) })
	}
	return context.Cause(p.ctx)
}

// work processes a worker's piece; the first error ends the work of all.
func (p *pool) work(w *worker) {
	if err := p.process(w); err != nil {
		p.cancel(err)
	} else if !w.follower.live {
		w.runner.status.course.within()
	}
	p.idle <- w
}

func (p *pool) process(w *worker) error {
	if p.pace == nil {
		return w.process(p.ctx, p.snapshot, p.version)
	}
	if err := p.pace.enter(p.ctx, len(w.piece.ends)); err != nil {
		return err
	}
	began := time.Now()
	defer func() { p.pace.leave(time.Since(began)) }()
	return w.process(p.ctx, p.snapshot, p.version)
}

// drain returns when everything added is written or parked, or with the first error. A piece that is the only one is
// processed by the caller: a small round costs no change of goroutine.
func (p *pool) drain() error {
	if w := p.filling; w != nil {
		p.filling = nil
		p.work(w)
	}
	p.running.Wait()
	if err := context.Cause(p.ctx); err != nil {
		return err
	}
	p.over()
	return nil
}

// over ends what workers were repeating: another may since have done the work of one that gave up. None may be at work.
func (p *pool) over() {
	for _, w := range p.workers {
		w.repetition.over()
	}
}

// end forgets what was added and not drained, and waits for the workers.
func (p *pool) end() {
	p.cancel(context.Canceled)
	if w := p.filling; w != nil {
		p.filling = nil
		w.piece.reset()
		p.idle <- w
	}
	p.running.Wait()
	p.snapshot = nil
}
