package httpapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lanternist/lanternist/internal/devstack"
	"github.com/lanternist/lanternist/projectors"
)

func TestJobs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newJobs(quiet)
		leave := make(chan error)
		plan := func(kind, subject string, besides ...string) jobPlan {
			return jobPlan{kind: kind, subject: subject, besides: besides, unit: "rows", detail: 0, run: func(ctx context.Context, j *job) error {
				for i := range int64(10) {
					wait(time.Second)
					j.progress(100*(i+1), 4000)
					j.change(func(detail any) any { return detail.(int) + 1 })
				}
				select {
				case err := <-leave:
					return err
				case <-ctx.Done():
					return context.Cause(ctx)
				}
			}}
		}
		started := func(p jobPlan, want bool) *job {
			t.Helper()
			j, ok := r.start(p)
			if ok != want {
				t.Errorf("%s of %s: started %t", p.kind, p.subject, ok)
			}
			return j
		}
		first := started(plan("rebuild", "a", "rollback"), true)
		started(plan("rebuild", "a", "rollback"), false)
		started(plan("rollback", "a", "rebuild"), false)
		wait(time.Second)
		started(plan("verify", "a"), true)
		started(plan("rebuild", "b", "rollback"), true)
		wait(time.Minute)
		synctest.Wait()

		status, detail := first.look()
		if status.State != JobRunning || status.Done != 1000 || status.Percent != 25 || detail != 10 || status.Unit != "rows" || !status.Finished.IsZero() {
			t.Errorf("running: %+v %v", status, detail)
		}
		leave <- nil // to one of them
		leave <- errors.New("no luck")
		leave <- nil
		synctest.Wait()
		var failed []string
		for _, j := range r.list() {
			if j.Left != nil || j.Finished.Sub(j.Started) < time.Minute || j.Done != 1000 || j.Rate == 0 {
				t.Errorf("ended: %+v", j)
			}
			if j.State == JobFailed {
				failed = append(failed, j.Error)
			}
		}
		if fmt.Sprint(failed) != "[no luck]" || len(r.list()) != 3 {
			t.Errorf("failed: %q of %+v", failed, r.list())
		}
		if list := r.list(); list[0].Kind != "rebuild" || list[0].Subject != "a" || list[1].Subject != "b" || list[2].Kind != "verify" {
			t.Errorf("order: %+v", list)
		}

		again := started(plan("rollback", "a", "rebuild"), true) // the other one has ended
		again.cancel(errors.New("stopped by request"))
		<-again.ended
		if s := again.status(); s.State != JobFailed || s.Error != "stopped by request" {
			t.Errorf("stopped: %+v", s)
		}
		last := started(plan("replay", "a"), true)
		r.stop()
		if s := last.status(); s.State != JobFailed || s.Error != errServerStops.Error() {
			t.Errorf("the server stopped: %+v", s)
		}
		started(plan("replay", "b"), false)
	})
}

// What has ended is not remembered without bound; what runs is.
func TestJobsAreForgotten(t *testing.T) {
	r := newJobs(quiet)
	leave := make(chan struct{})
	if _, ok := r.start(jobPlan{kind: "long", subject: "one", run: func(context.Context, *job) error { <-leave; return nil }}); !ok {
		t.Fatal("not started")
	}
	for i := range 2 * maxJobs {
		j, ok := r.start(jobPlan{kind: "short", subject: fmt.Sprint(i), run: func(context.Context, *job) error { return nil }})
		if !ok {
			t.Fatal("not started")
		}
		<-j.ended
	}
	if n := len(r.list()); n != maxJobs {
		t.Errorf("%d jobs are remembered", n)
	}
	if r.get("long", "one") == nil || r.get("short", fmt.Sprint(2*maxJobs-1)) == nil || r.get("short", "0") != nil {
		t.Error("the wrong ones are forgotten")
	}
	close(leave)
	r.stop()
}

// The list, the status and the metrics tell of jobs that were asked for, of the load, and of generations that are built.
func TestJobsAreShown(t *testing.T) {
	var load atomic.Pointer[LoadStatus]
	load.Store(&LoadStatus{Loading: true, Rows: 40, Total: 160})
	w := newWorld(t, func(_ *Config, p *Parts) { p.Load = func() LoadStatus { return *load.Load() } })
	leave := make(chan struct{})
	w.cache.rebuild = func(_ context.Context, progress projectors.Progress) error {
		w.cache.mu.Lock()
		w.cache.status.Build = &projectors.BuildProgress{Done: 3, Total: 4}
		w.cache.mu.Unlock()
		progress(3, 4)
		<-leave
		w.cache.mu.Lock()
		defer w.cache.mu.Unlock()
		w.cache.status.Build = nil
		return nil
	}
	w.do(http.MethodPost, "/v1/views/orders/rebuild?sink=cache").want(t, 202)
	jobs := func(want ...string) (all []Job) {
		t.Helper()
		devstack.Eventually(t, time.Minute, func() error {
			all = into[jobsBody](t, w.get("/v1/jobs").want(t, 200)).Jobs
			var got []string
			for _, j := range all {
				got = append(got, fmt.Sprintf("%s %s %s %d/%d %s %g%%", j.Kind, j.Subject, j.State, j.Done, j.Total, j.Unit, j.Percent))
			}
			if strings.Join(got, "; ") != strings.Join(want, "; ") {
				return fmt.Errorf("got %q, want %q", got, want)
			}
			return nil
		})
		return all
	}
	jobs("rebuild orders running 3/4 documents 75%", "load tables running 40/160 rows 25%")
	status := into[Status](t, w.get("/v1/status").want(t, 200))
	if len(status.Jobs) != 2 || status.Jobs[1].Kind != "load" || status.Load.Rows != 40 || status.Load.Percent != 25 {
		t.Errorf("status: %+v %+v", status.Jobs, status.Load)
	}
	metrics := string(w.get("/metrics").body)
	for _, want := range []string{
		`lanternist_job_done{kind="load",subject="tables"} 40`, `lanternist_job_total{kind="load",subject="tables"} 160`,
		`lanternist_job_done{kind="rebuild",subject="orders"} 3`, `lanternist_job_running{kind="rebuild",subject="orders"} 1`,
		`lanternist_job_failed{kind="rebuild",subject="orders"} 0`,
	} {
		if !strings.Contains(metrics, want+"\n") {
			t.Errorf("no %s", want)
		}
	}

	close(leave)
	load.Store(&LoadStatus{Rows: 40, Total: 160})
	jobs("rebuild orders done 3/4 documents 75%", "load tables done 40/160 rows 25%")
	w.cache.mu.Lock() // a generation that is built without having been asked for
	w.cache.status.Build = &projectors.BuildProgress{Done: 1, Total: 2}
	w.cache.mu.Unlock()
	jobs("rebuild orders done 3/4 documents 75%", "load tables done 40/160 rows 25%", "build orders.cache running 1/2 documents 50%")
	if metrics = string(w.get("/metrics").body); !strings.Contains(metrics, `lanternist_job_running{kind="rebuild",subject="orders"} 0`+"\n") {
		t.Error("the rebuild runs for the metrics")
	}
}

// wait lets the time of a synctest bubble pass.
func wait(d time.Duration) { <-time.After(d) }
