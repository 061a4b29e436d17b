package httpapi

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/lanternist/lanternist/internal/devstack"
	"github.com/lanternist/lanternist/verify"
)

func TestVerify(t *testing.T) {
	type call struct {
		view    string
		options verify.Options
	}
	calls, go1 := make(chan call, 1), make(chan error)
	w := newWorld(t, func(_ *Config, p *Parts) {
		p.Verify = func(ctx context.Context, view string, o verify.Options, progress func(verify.Progress)) (*verify.Result, error) {
			progress(verify.Progress{Phase: verify.Comparing, Done: 3, Total: 9})
			calls <- call{view, o}
			select {
			case err := <-go1:
				return &verify.Result{Against: o.Against}, err
			case <-ctx.Done():
				return nil, context.Cause(ctx)
			}
		}
	})
	const path = "/v1/views/orders/verify"
	w.get(path).want(t, 404)
	w.do(http.MethodPost, path+"?against=hearsay").want(t, 422)
	w.do(http.MethodPost, "/v1/views/nothing/verify").want(t, 404)

	w.do(http.MethodPost, path+"?against=source&sample=7&repair=true&rate=100").want(t, 202).header(t, "Location", path)
	want := call{"orders", verify.Options{Against: verify.AgainstSource, Sample: 7, Repair: true, Rate: 100}}
	if got := <-calls; got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	w.do(http.MethodPost, path).want(t, 409)
	if body := into[verifyBody](t, w.get(path).want(t, 200)); body.State != JobRunning || body.Progress.Total != 9 || body.Result != nil {
		t.Errorf("running: %+v", body)
	}
	go1 <- nil
	if body := w.verified(path); body.State != JobDone || body.Result == nil || body.Finished.IsZero() {
		t.Errorf("done: %+v", body)
	}

	w.do(http.MethodPost, path).want(t, 202)
	if got := <-calls; got.options != (verify.Options{Against: verify.AgainstMirror}) {
		t.Errorf("defaults: %+v", got)
	}
	go1 <- errors.New("no luck")
	if body := w.verified(path); body.State != JobFailed || body.Error != "no luck" {
		t.Errorf("failed: %+v", body)
	}

	w.do(http.MethodPost, path).want(t, 202)
	<-calls
	if body := into[verifyBody](t, w.do(http.MethodDelete, path).want(t, 200)); body.State != JobFailed || !strings.Contains(body.Error, "stopped") {
		t.Errorf("stopped: %+v", body)
	}

	w.do(http.MethodPost, path).want(t, 202)
	<-calls
	w.server.jobs.stop()
	if body := w.verified(path); body.State != JobFailed {
		t.Errorf("the server stopped: %+v", body)
	}
	w.do(http.MethodPost, path).want(t, 409)
}

// verified waits for the end of a comparison.
func (w *world) verified(path string) (body verifyBody) {
	w.t.Helper()
	devstack.Eventually(w.t, time.Minute, func() error {
		if body = into[verifyBody](w.t, w.get(path).want(w.t, 200)); body.State == JobRunning {
			return errors.New("still running")
		}
		return nil
	})
	return body
}

func TestVerifyWithoutAComparison(t *testing.T) {
	newWorld(t, nil).do(http.MethodPost, "/v1/views/orders/verify").want(t, 501)
}
