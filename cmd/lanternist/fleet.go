package main

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/lanternist/lanternist/projectors"
	"github.com/lanternist/lanternist/projectors/cache"
	"github.com/lanternist/lanternist/projectors/search"
	"github.com/lanternist/lanternist/views"
)

// runner is a projector. View and store are those of the documents that readers see, which may change at any time.
type runner struct {
	*projectors.Runner
	sink string
	// wanted is the view as it is configured. Only who changes the deployment, or opens it, looks at it.
	wanted *views.View
	// added says that it came while the daemon ran: until it has something to show, the others are what the daemon is asked for.
	added bool

	cancel context.CancelCauseFunc // nil before it runs
	done   chan struct{}           // closed when it has ended
}

func (r *runner) view() *views.View { return r.Definition().View }

// search is the store; nil unless it writes to Elasticsearch.
func (r *runner) search() *search.Store {
	s, _ := r.Definition().Store.(*search.Store)
	return s
}

// cache is the store; nil unless it writes to Redis.
func (r *runner) cache() *cache.Store {
	s, _ := r.Definition().Store.(*cache.Store)
	return s
}

// shows says that readers can see documents.
func (r *runner) shows() bool { return r.Status().Generation != 0 }

// sinkOf is the name of a store's sink.
func sinkOf(store projectors.Store) string {
	if _, ok := store.(*search.Store); ok {
		return "search"
	}
	return "cache"
}

// fleet is the projectors of a daemon. They come and go, and none is disturbed by what becomes of another. It is safe for
// concurrent use; its zero value has none.
type fleet struct {
	mu      sync.Mutex
	runners []*runner
	ctx     context.Context // that they run in; nil while they do not
	running sync.WaitGroup
}

// list is those that there are now, in the order in which they came.
func (f *fleet) list() []*runner {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.runners)
}

// find is the projector of a name; nil when there is none.
func (f *fleet) find(name string) *runner {
	for _, r := range f.list() {
		if r.Name() == name {
			return r
		}
	}
	return nil
}

// of lists the projectors of a view.
func (f *fleet) of(view string) []*runner {
	return slices.DeleteFunc(f.list(), func(r *runner) bool { return r.view().Name() != view })
}

// add takes a projector in, which then runs when the others do.
func (f *fleet) add(r *runner) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.runners = append(f.runners, r)
	if f.ctx != nil {
		f.start(r)
	}
}

// start runs a projector. The caller holds mu.
func (f *fleet) start(r *runner) {
	ctx, cancel := context.WithCancelCause(f.ctx)
	r.cancel, r.done = cancel, make(chan struct{})
	f.running.Go(func() {
		defer close(r.done)
		defer cancel(nil)
		_ = r.Serve(ctx) // it ends with its context, and Status has told why it did not work meanwhile
	})
}

// errRemoved is the cause of the context of a projector that was removed.
var errRemoved = errors.New("the projector is removed")

// remove takes a projector out and waits for its end.
func (f *fleet) remove(r *runner) {
	f.mu.Lock()
	f.runners = slices.DeleteFunc(f.runners, func(other *runner) bool { return other == r })
	cancel, done := r.cancel, r.done
	f.mu.Unlock()
	if cancel != nil {
		cancel(errRemoved)
		<-done
	}
}

// run runs all of them, and those that come, until the context ends. One that cannot go on stops alone, and waits for a
// rebuild to revive it; the others and the daemon go on.
func (f *fleet) run(ctx context.Context) error {
	f.mu.Lock()
	f.ctx = ctx
	for _, r := range f.runners {
		f.start(r)
	}
	f.mu.Unlock()
	<-ctx.Done()
	f.mu.Lock()
	f.ctx = nil // none is started any more
	f.mu.Unlock()
	f.running.Wait()
	return context.Cause(ctx)
}
