package search

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/lanternist/lanternist/event"
	"github.com/lanternist/lanternist/internal/devstack"
	"github.com/lanternist/lanternist/views"
)

// heldRefreshes is a client whose refreshes of an alias are counted and wait for a signal.
type heldRefreshes struct {
	count   atomic.Int64
	arrived chan struct{}
	let     chan struct{}
}

func (h *heldRefreshes) client(t *testing.T) *Client {
	h.arrived, h.let = make(chan struct{}, 100), make(chan struct{})
	return proxy(t, func(w http.ResponseWriter, r *http.Request) bool {
		if strings.HasSuffix(r.URL.Path, "orders/_refresh") {
			h.count.Add(1)
			h.arrived <- struct{}{}
			<-h.let
		}
		return false
	})
}

func TestRefreshIsSharedAndOnlyWhenNeeded(t *testing.T) {
	t.Parallel()
	var held heldRefreshes
	c := held.client(t)
	s := newStore(c, "orders", orderFields(), &views.SearchOptions{Settings: map[string]any{"refresh_interval": "-1"}})
	g := live(t, s, 1)
	put(t, g, 10, doc("1", `{"id":1}`))

	var waiters errgroup.Group
	waiters.Go(func() error { return s.Refresh(t.Context(), 10) })
	<-held.arrived // the first refresh is under way
	for v := range event.Offset(50) {
		put(t, g, 20+v, doc("2", `{"id":2}`))
		waiters.Go(func() error { return s.Refresh(t.Context(), 20+v) }) // came too late for it
	}
	devstack.Eventually(t, 10*time.Second, func() error {
		s.visible.mu.Lock()
		defer s.visible.mu.Unlock()
		if u := s.visible.upcoming; u == nil || u.upTo != 69 {
			return errors.New("not all wait yet")
		}
		return nil
	})
	close(held.let)
	if err := waiters.Wait(); err != nil {
		t.Fatal(err)
	}
	if n := held.count.Load(); n != 2 {
		t.Errorf("%d refreshes for 51 waiters, want 2", n)
	}
	if r := found(t, s, Query{Filters: []Filter{{Field: "id", Values: []string{"2"}}}}); r.Total != 1 || r.Hits[0].Version != 69 {
		t.Errorf("found %+v", r.Hits)
	}
	for _, seen := range []event.Offset{0, 5, 10, 69} {
		if err := s.Refresh(t.Context(), seen); err != nil {
			t.Fatal(err)
		}
	}
	if n := held.count.Load(); n != 2 {
		t.Errorf("%d refreshes after asking for what is visible, want 2", n)
	}
	if err := s.Refresh(t.Context(), 70); err != nil || held.count.Load() != 3 {
		t.Errorf("%d refreshes, %v, want a third", held.count.Load(), err)
	}
	if err := s.Promote(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	if err := s.Refresh(t.Context(), 5); err != nil || held.count.Load() != 4 {
		t.Errorf("%d refreshes, %v; after a promotion nothing is known to be visible", held.count.Load(), err)
	}
}

func TestOneImpatientReaderDoesNotSpoilARefresh(t *testing.T) {
	t.Parallel()
	var held heldRefreshes
	c := held.client(t)
	s, _ := orders(t, c)
	ctx, cancel := context.WithCancel(t.Context())
	impatient, patient := make(chan error, 1), make(chan error, 1)
	go func() { impatient <- s.Refresh(ctx, 5) }()
	<-held.arrived
	cancel()
	if err := <-impatient; !errors.Is(err, context.Canceled) {
		t.Errorf("impatient: %v", err)
	}
	go func() { patient <- s.Refresh(t.Context(), 6) }()
	close(held.let)
	if err := <-patient; err != nil {
		t.Errorf("patient: %v", err)
	}
}

func TestFailedRefreshIsNotTakenForDone(t *testing.T) {
	t.Parallel()
	faults := &first{n: 1}
	c := proxy(t, func(w http.ResponseWriter, r *http.Request) bool {
		if strings.HasSuffix(r.URL.Path, "orders/_refresh") && faults.more() {
			w.WriteHeader(http.StatusServiceUnavailable)
			return true
		}
		return false
	})
	s, g := orders(t, c)
	put(t, g, 5, doc("1", `{}`))
	if err := s.Refresh(t.Context(), 5); err == nil {
		t.Fatal("no error")
	}
	if r := found(t, s, Query{After: 5}); r.Total != 1 || faults.calls.Load() != 2 {
		t.Errorf("%d documents, %d refreshes", r.Total, faults.calls.Load())
	}
}
