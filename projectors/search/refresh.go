package search

import (
	"context"
	"fmt"
	"net/http"
	"sync"

	"github.com/lanternist/lanternist/event"
)

// Refresh returns when every document that was written with a version up to after is visible to Search.
// The caller must know that the live generation's runner has applied after (its watermark has reached it): then the writes are
// in the index, and Refresh only makes them visible. It costs nothing when an earlier refresh showed them, and callers that
// wait at the same time share a refresh that began after the last of them had come.
//
// A promotion between Refresh and a search would undo the promise; Search with Query.After keeps it. Both count on promotions going
// through this Store: a process in which another one's promotion is noticed makes a new Store.
func (s *Store) Refresh(ctx context.Context, after event.Offset) error {
	if err := s.visible.reach(ctx, after); err != nil {
		return fmt.Errorf("refresh %s: %w", s.names.alias, readError(err))
	}
	return nil
}

// visibility knows up to which offset an alias shows every write.
type visibility struct {
	client *Client
	alias  string

	mu       sync.Mutex
	shown    event.Offset
	target   string        // what a refresh names: the alias, and while it moves also the index that it moves to
	settled  chan struct{} // closed when the alias has stopped moving; nil while it does not
	term     int           // counts the beginnings and ends of promotions
	running  *refreshRound
	upcoming *refreshRound // those who came after running began
}

// refreshRound is one refresh and those who wait for it.
type refreshRound struct {
	upTo event.Offset
	done chan struct{}
	err  error // set before done is closed
}

func newVisibility(c *Client, alias string) *visibility {
	return &visibility{client: c, alias: alias, target: alias}
}

// move tells that the alias begins to move to index, or, with "", that it has stopped. What was known of it is forgotten.
func (v *visibility) move(index string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.shown = 0
	v.term++
	v.target = v.alias
	if index != "" {
		v.target += "," + index
		v.settled = make(chan struct{})
	} else if v.settled != nil {
		close(v.settled)
		v.settled = nil
	}
}

// moves is a number that changes when the alias begins or ends to move.
func (v *visibility) moves() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.term
}

// state is moves, and, while the alias moves, a channel that is closed when it has stopped.
func (v *visibility) state() (int, <-chan struct{}) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.term, v.settled
}

// reach waits for a round that covers after.
func (v *visibility) reach(ctx context.Context, after event.Offset) error {
	round := v.join(ctx, after)
	if round == nil {
		return nil
	}
	select {
	case <-round.done:
		return round.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// join returns the round to wait for, or nil when nothing needs to be refreshed.
func (v *visibility) join(ctx context.Context, after event.Offset) *refreshRound {
	v.mu.Lock()
	defer v.mu.Unlock()
	if after <= v.shown {
		return nil
	}
	if v.upcoming == nil {
		v.upcoming = &refreshRound{done: make(chan struct{})}
	}
	round := v.upcoming
	round.upTo = max(round.upTo, after)
	if v.running == nil {
		v.begin()
		// The round belongs to everyone who joins it, so it outlives the caller, by Config.Timeout at most.
		v.client.refreshes.Go(func() { v.run(v.client.life) })
	}
	return round
}

// begin makes the upcoming round the running one. The caller holds the lock.
func (v *visibility) begin() { v.running, v.upcoming = v.upcoming, nil }

// run refreshes until nobody waits.
func (v *visibility) run(ctx context.Context) {
	for {
		v.mu.Lock()
		round, term, target := v.running, v.term, v.target
		v.mu.Unlock()

		round.err = v.client.refresh(ctx, target)

		v.mu.Lock()
		if round.err == nil && term == v.term && target == v.alias {
			v.shown = max(v.shown, round.upTo)
		}
		v.running = nil
		if v.upcoming != nil {
			v.begin()
		}
		more := v.running != nil
		v.mu.Unlock()
		close(round.done)
		if !more {
			return
		}
	}
}

// refresh makes everything written to an index or alias visible.
func (c *Client) refresh(ctx context.Context, name string) error {
	var answer struct {
		Shards shards `json:"_shards"`
	}
	if err := c.do(ctx, call{method: http.MethodPost, path: "/" + name + "/_refresh"}, &answer); err != nil {
		return err
	}
	return answer.Shards.complete(false)
}
