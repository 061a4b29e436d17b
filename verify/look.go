package verify

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"

	"golang.org/x/sync/errgroup"

	"github.com/lanternist/lanternist/internal/jsondiff"
	"github.com/lanternist/lanternist/views"
)

// task is a document to look at: in one sink, or in all when sink is negative.
type task struct {
	id   string
	key  []byte // nil: the id is none that the view gives
	sink int
}

// task is the one of a document id.
func (r *run) task(id string, sink int) task {
	key, err := r.view.Key(id)
	if err != nil || r.view.ID(key) != id {
		key = nil
	}
	return task{id: id, key: key, sink: sink}
}

// sight is what was seen of one document in one sink.
type sight struct {
	want         []byte // nil: no document; valid during the visit
	held         Held
	uncomposable bool
}

// wrong says that the sink does not hold what it should.
func (s *sight) wrong() bool {
	switch {
	case s.uncomposable || s.held.Expired:
		return false
	case s.held.Foreign != "":
		return true
	case s.want == nil || s.held.Body == nil:
		return (s.want == nil) != (s.held.Body == nil)
	}
	return !jsondiff.Same(s.held.Body, s.want)
}

// truth names what the document should be.
func (s *sight) truth() truth {
	if s.want == nil {
		return truth{}
	}
	return truth{exists: true, hash: sha256.Sum256(s.want)}
}

// truth is what a document should be, in little memory.
type truth struct {
	exists bool
	hash   [sha256.Size]byte
}

// unknown is the truth of no document.
var unknown = truth{hash: [sha256.Size]byte{1}}

// look looks at the documents that feed hands over, several at once, and has saw told of each in each sink it is looked at
// in. saw is called by several goroutines.
func (r *run) look(ctx context.Context, p *Point, feed func(hand func(task) error) error, saw func(t task, sink int, s *sight) error) error {
	tasks := make(chan task, workers)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		defer close(tasks)
		return feed(func(t task) error {
			if err := r.pace.wait(ctx); err != nil {
				return err
			}
			select {
			case tasks <- t:
				return nil
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		})
	})
	for range workers {
		g.Go(func() error {
			c := r.view.Composer()
			for t := range tasks {
				if err := r.lookAt(ctx, p, c, t, saw); err != nil {
					return err
				}
				c.Reset()
			}
			return nil
		})
	}
	return g.Wait()
}

func (r *run) lookAt(ctx context.Context, p *Point, c *views.Composer, t task, saw func(t task, sink int, s *sight) error) error {
	var s sight
	if t.key != nil {
		doc, err := c.Compose(p.Snapshot, t.key)
		s.uncomposable = errors.Is(err, views.ErrEvaluate) || errors.Is(err, views.ErrTooLarge)
		if err != nil && !s.uncomposable {
			return fmt.Errorf("compose %s: %w", t.id, err)
		}
		s.want = doc.Body
	}
	for i := range r.sinks {
		if t.sink >= 0 && t.sink != i {
			continue
		}
		held, err := r.sinks[i].Documents.Get(ctx, t.id)
		if err != nil {
			return fmt.Errorf("read %s from the %s sink: %w", t.id, r.sinks[i].Name, err)
		}
		s.held = held
		if err := saw(t, i, &s); err != nil {
			return err
		}
	}
	return nil
}
