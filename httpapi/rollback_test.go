package httpapi

import (
	"context"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/lanternist/lanternist/internal/devstack"
	"github.com/lanternist/lanternist/projectors"
)

func TestRollback(t *testing.T) {
	w := newWorld(t, nil)
	w.get("/v1/views/orders/rollback").want(t, 404)
	started, leave := make(chan struct{}), make(chan error)
	w.cache.rollback = func(_ context.Context, progress projectors.Progress) error {
		progress(2, 5)
		started <- struct{}{}
		return <-leave
	}
	w.search.rollback = func(context.Context, projectors.Progress) error { return projectors.ErrNoRollback }
	w.do(http.MethodPost, "/v1/views/orders/rollback").want(t, 202).header(t, "Location", "/v1/views/orders/rollback")
	<-started
	// One change at a time, of either kind.
	w.do(http.MethodPost, "/v1/views/orders/rollback").want(t, 409)
	w.do(http.MethodPost, "/v1/views/orders/rebuild").want(t, 409)
	w.get("/v1/views/orders/rebuild").want(t, 404)
	if s := into[rebuildBody](t, w.get("/v1/views/orders/rollback").want(t, 200)).Sinks["cache"]; s.Done != 2 || s.Total != 5 {
		t.Errorf("got %+v", s)
	}
	leave <- nil
	var state rebuildBody
	devstack.Eventually(t, time.Minute, func() error {
		state = into[rebuildBody](t, w.get("/v1/views/orders/rollback").want(t, 200))
		if state.State == JobRunning {
			return fmt.Errorf("%+v", state)
		}
		return nil
	})
	if state.State != JobFailed || state.Sinks["cache"].State != JobDone || state.Sinks["search"].Error != projectors.ErrNoRollback.Error() {
		t.Errorf("got %+v", state)
	}
}

func TestRetire(t *testing.T) {
	w := newWorld(t, nil)
	w.get("/v1/views/orders/retire").want(t, 404)
	w.cache.retire = func(_ context.Context, progress projectors.Progress) error {
		progress(1, 1)
		return nil
	}
	w.search.retire = func(context.Context, projectors.Progress) error { return projectors.ErrNotRunning }
	w.do(http.MethodPost, "/v1/views/orders/retire").want(t, 202).header(t, "Location", "/v1/views/orders/retire")
	var state rebuildBody
	devstack.Eventually(t, time.Minute, func() error {
		state = into[rebuildBody](t, w.get("/v1/views/orders/retire").want(t, 200))
		if state.State == JobRunning {
			return fmt.Errorf("%+v", state)
		}
		return nil
	})
	if state.Sinks["cache"].State != JobDone || state.Sinks["cache"].Done != 1 || state.Sinks["search"].State != JobFailed {
		t.Errorf("got %+v", state)
	}
}

func TestGenerations(t *testing.T) {
	w := newWorld(t, nil)
	w.cache.status.Generations = []projectors.GenerationStatus{
		{Number: 1, Current: true, Offset: 7, LSN: "0/10", Refusal: "is gone"}, {Number: 2, Live: true},
	}
	got := into[generationsBody](t, w.get("/v1/views/orders/generations").want(t, 200))
	if cache := got.Sinks["cache"]; len(got.Sinks) != 2 || len(cache) != 2 || cache[0] != w.cache.status.Generations[0] || !cache[1].Live {
		t.Errorf("got %+v", got)
	}
	w.get("/v1/views/none/generations").want(t, 404)
}
