package e2e

import (
	"errors"
	"net/http"
	"net/url"
	"syscall"
	"testing"
	"time"

	"github.com/lanternist/lanternist/examples/shop"
	"github.com/lanternist/lanternist/internal/devstack"
	"github.com/lanternist/lanternist/internal/faults"
)

// TestFaultStop tells the daemon to stop at bad moments.
func TestFaultStop(t *testing.T) {
	if !faults.Heavy() {
		t.Skip("heavy: set LANTERNIST_FAULTS=all")
	}
	const answer = "nothing: start it again; give the supervisor's stop timeout 60s"
	server := devstack.PostgresServer(t, devstack.PostgresOptions{})
	installed := installShop(t, options{database: server.Database()}, small)
	trial := func(f faults.Fault, test func(x *sinkTrial)) {
		f.Area, f.Heavy, f.Answer = "Process", true, answer
		t.Run(f.ID, func(t *testing.T) {
			own := *installed
			own.t = t
			x := &sinkTrial{t: t, in: &own, result: faults.Cause(t, f)}
			x.d = x.in.start()
			x.d.ready()
			traffic := x.in.startTraffic(randomSource(t).Uint64(), busyRate)
			test(x)
			x.d = x.in.start()
			began := time.Now()
			x.d.ready()
			traffic.stop()
			x.d.reach()
			x.result.Recovered(time.Since(began))
			x.t.Logf("%d documents compared", x.in.compare(shop.Truth))
			x.d.nothingParked()
			x.d.stop()
		})
	}
	stop := func(x *sinkTrial) {
		began := time.Now()
		x.d.stop()
		x.result.Notef("stopped in %.1f s", time.Since(began).Seconds())
	}
	trial(faults.Fault{
		ID: "stop-while-source-hangs", Fault: "The daemon is told to stop (SIGTERM) while Postgres does not answer",
		Promise: "It ends in time, with 0; everything received is journaled, nothing is lost",
	}, func(x *sinkTrial) {
		check(x.t, server.Pause())
		defer func() { check(x.t, server.Resume()) }()
		stop(x)
	})
	trial(faults.Fault{
		ID: "stop-twice-while-source-hangs", Fault: "A second signal comes while the daemon is stopping",
		Promise: "It exits at once with 130; nothing is lost by that",
	}, func(x *sinkTrial) {
		check(x.t, server.Pause())
		defer func() { check(x.t, server.Resume()) }()
		x.d.signalTwice()
		if code := x.d.exit(stopWithin); code != 130 && code != 0 { // it may have been done by the second
			x.t.Errorf("exited with %d", code)
		}
	})
	trial(faults.Fault{
		ID: "stop-while-clients-wait", Fault: "The daemon is told to stop while clients wait for a token",
		Promise: "They are answered 503 with Retry-After at once, and the stop does not wait for them",
	}, func(x *sinkTrial) {
		answers := make(chan reply, 20)
		for range cap(answers) {
			go func() {
				a, err := x.in.ask(http.MethodGet, "/v1/views/order_summary/1", url.Values{"after": {"FFFF/0"}, "wait": {"30s"}})
				answers <- reply{a, err}
			}()
		}
		devstack.Eventually(x.t, reachWithin, func() error {
			var s struct {
				Waiting int `json:"waiting"`
			}
			err := x.in.get("/v1/status", &s)
			if err == nil && s.Waiting < cap(answers) {
				err = errWaiting
			}
			return err
		})
		stop(x)
		for range cap(answers) {
			a := <-answers
			if a.err != nil || a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") == "" {
				x.t.Errorf("a client that waited: status %d %s, %v", a.status, a.body, a.err)
			}
		}
	})
	trial(faults.Fault{
		ID: "stop-while-rebuilding", Fault: "The daemon is told to stop in the middle of a rebuild",
		Promise: "It ends in time; the live generation stays so, what was half built is removed at the next start",
	}, func(x *sinkTrial) {
		before := x.in.status().generations()
		a, err := x.in.ask(http.MethodPost, "/v1/views/order_summary/rebuild", nil)
		if err != nil || a.status >= 300 {
			x.t.Fatalf("rebuild: status %d %s %v", a.status, a.body, err)
		}
		stop(x)
		again := x.in.start()
		again.ready()
		for projector, generation := range x.in.status().generations() {
			if generation < before[projector] || generation > before[projector]+1 {
				x.t.Errorf("%s has generation %d, had %d", projector, generation, before[projector])
			}
		}
		check(x.t, again.cmd.Process.Signal(syscall.SIGTERM))
		again.exit(stopWithin)
	})
}

var errWaiting = errors.New("not all clients wait yet")

// reply is an answer, or why there was none.
type reply struct {
	answer
	err error
}
