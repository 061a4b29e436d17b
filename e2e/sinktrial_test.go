package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/lanternist/lanternist/examples/shop"
	"github.com/lanternist/lanternist/internal/devstack"
	"github.com/lanternist/lanternist/internal/faults"
)

// sinkFault is something that goes wrong with a sink under traffic. While it lasts the daemon is told to stop, and started again.
type sinkFault struct {
	faults.Fault
	cause  func(*sinkTrial)
	during func(*sinkTrial) // what holds while it lasts
	heal   func(*sinkTrial)
	quiet  bool // no traffic: the fault is in the rows
}

// sinkTrial is one fault under way.
type sinkTrial struct {
	t      *testing.T
	in     *installation
	d      *daemon
	stack  *devstack.Stack
	result *faults.Result
}

// tryFaults causes one fault after the other in an installation of which a sink is the test's own.
func tryFaults(t *testing.T, in *installation, stack *devstack.Stack, list []sinkFault) {
	for _, f := range list {
		t.Run(f.ID, func(t *testing.T) {
			result := faults.Cause(t, f.Fault)
			own := *in
			own.t = t
			x := &sinkTrial{t: t, in: &own, stack: stack, result: result}
			x.run(&f)
		})
	}
}

func (x *sinkTrial) run(f *sinkFault) {
	x.d = x.in.start()
	x.d.ready()
	stopTraffic := func() {}
	if !f.quiet {
		stopTraffic = x.in.startTraffic(randomSource(x.t).Uint64(), busyRate).stop
	}
	f.cause(x)
	healed := false
	defer func() {
		if !healed {
			f.heal(x)
		}
	}()
	f.during(x)
	began := time.Now()
	x.d.stop()
	x.result.Notef("stopped in %.1f s meanwhile", time.Since(began).Seconds())
	inOrder(x.t, x.d.log.text(), `msg=stopping`, `msg="receiving stopped"`, `msg="projectors stopped"`, `msg=stopped`)
	x.d = x.in.start()
	devstack.Eventually(x.t, readyWithin, func() error {
		x.d.alive()
		return x.in.get("/healthz", nil)
	})
	f.heal(x)
	healed = true
	began = time.Now()
	stopTraffic()
	x.d.reach()
	x.result.Recovered(time.Since(began))
	x.t.Logf("%d documents compared", x.in.compare(shop.Truth))
	devstack.Eventually(x.t, reachWithin, func() error {
		for _, p := range x.in.status().Projectors {
			if p.Parked > 0 || p.Error != "" || p.State != "running" {
				return fmt.Errorf("%s is %s with %d dead letters: %s", p.Projector, p.State, p.Parked, p.Error)
			}
		}
		return nil
	})
	x.d.stop()
}

// sinkStatus is the part of the status that is about sinks.
type sinkStatus struct {
	Sink    string `json:"sink"`
	Circuit struct {
		State  string `json:"state"`
		Reads  string `json:"reads"`
		Error  string `json:"error"`
		Probes int    `json:"probes"`
	} `json:"circuit"`
	WriteBytes int `json:"write_bytes"`
}

func (x *sinkTrial) sink(name string) sinkStatus {
	x.t.Helper()
	var s struct {
		Sinks []sinkStatus `json:"sinks"`
	}
	if err := x.in.get("/v1/status", &s); err != nil {
		x.t.Fatal(err)
	}
	for _, one := range s.Sinks {
		if one.Sink == name {
			return one
		}
	}
	x.t.Fatalf("no sink %s in %+v", name, s)
	return sinkStatus{}
}

// open waits until a sink's circuit is not closed, and says something of the fault.
func (x *sinkTrial) open(name, why string) {
	x.t.Helper()
	devstack.Eventually(x.t, reachWithin, func() error {
		x.d.alive()
		if s := x.sink(name); s.Circuit.State == "closed" || !strings.Contains(s.Circuit.Error, why) {
			return fmt.Errorf("%+v, want one that is open for %q", s, why)
		}
		return nil
	})
	x.flows(name)
}

// flows sees to it that the other sink is kept up to date meanwhile.
func (x *sinkTrial) flows(besides string) {
	x.t.Helper()
	path := "/v1/views/order_summary/none"
	if besides == "cache" {
		path = "/v1/views/order_summary/search"
	}
	x.d.reachIn(path, x.in.position())
}

// readsFail waits until reads of a sink are refused at once, with a time to come back.
func (x *sinkTrial) readsFail(path string) {
	x.t.Helper()
	devstack.Eventually(x.t, reachWithin, func() error {
		a, err := x.in.ask(http.MethodGet, path, nil)
		if err == nil && (a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") == "" || !bytes.Contains(a.body, []byte("has not answered since"))) {
			err = fmt.Errorf("status %d: %s", a.status, a.body)
		}
		return err
	})
}

// readable sees to it that a sink answers readers.
func (x *sinkTrial) readable(path string) {
	x.t.Helper()
	if a, err := x.in.ask(http.MethodGet, path, nil); err != nil || a.status != http.StatusOK {
		x.t.Errorf("%s: status %d: %s %v", path, a.status, a.body, err)
	}
}

// parked waits for dead letters of one projector.
func (x *sinkTrial) parked(projector string, want int) {
	x.t.Helper()
	devstack.Eventually(x.t, reachWithin, func() error {
		x.d.alive()
		for _, p := range x.in.status().Projectors {
			if p.Projector == projector && p.Parked != want {
				return fmt.Errorf("%s has %d dead letters, want %d", projector, p.Parked, want)
			}
		}
		return nil
	})
	x.result.Parked(want)
}

// exec changes the source.
func (x *sinkTrial) exec(sql string, args ...any) {
	x.t.Helper()
	ctx := context.WithoutCancel(x.t.Context())
	conn := x.in.database.Conn(ctx)
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, sql, args...); err != nil {
		x.t.Fatal(err)
	}
}

// call makes a call to the cluster itself, which may be in any state.
func (x *sinkTrial) call(method, path, body string) {
	x.t.Helper()
	devstack.Eventually(x.t, reachWithin, func() error {
		req, err := http.NewRequestWithContext(context.WithoutCancel(x.t.Context()), method, x.in.search+path, strings.NewReader(body))
		if err != nil {
			return err
		}
		req.Header.Set("Content-Type", "application/json")
		res, err := client.Do(req)
		if err != nil {
			return err
		}
		defer res.Body.Close()
		var answer json.RawMessage
		_ = json.NewDecoder(res.Body).Decode(&answer) // for the message
		if res.StatusCode >= 300 {
			return fmt.Errorf("%s %s: %s %s", method, path, res.Status, answer)
		}
		return nil
	})
}

// edit replaces text in the configuration.
func (in *installation) edit(replacements ...string) {
	in.t.Helper()
	text, err := os.ReadFile(in.file)
	if err != nil {
		in.t.Fatal(err)
	}
	for i := 0; i+1 < len(replacements); i += 2 {
		if !bytes.Contains(text, []byte(replacements[i])) {
			in.t.Fatalf("the configuration has no %q:\n%s", replacements[i], text)
		}
	}
	in.write("lanternist.yaml", []byte(strings.NewReplacer(replacements...).Replace(string(text))))
}
