package projectors

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lanternist/lanternist/backoff"
	"github.com/lanternist/lanternist/views"
)

var errDead = errors.New("connection refused")

// pass lets time pass, in a bubble of synctest.
func pass(d time.Duration) { <-time.After(d) }

// Fifty projectors share a sink that is dead for ten minutes: it is not tried more often than one small probe at a time, with
// growing pauses; at its first success all go on.
func TestCircuitProbesADeadSink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const pauseMax = 30 * time.Second
		c := NewCircuit(CircuitConfig{Pauses: backoff.Config{Max: pauseMax}})
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var dead atomic.Bool
		dead.Store(true)
		var calls, atOnce, most atomic.Int64
		var users sync.WaitGroup
		for range 50 {
			users.Go(func() {
				for {
					probe, err := c.enter(ctx, nil)
					if err != nil {
						return
					}
					calls.Add(1)
					most.Store(max(most.Load(), atOnce.Add(1)))
					pass(time.Millisecond)
					atOnce.Add(-1)
					if !dead.Load() {
						c.leave(probe, nil)
						return
					}
					c.leave(probe, errDead)
				}
			})
		}
		pass(time.Second)
		opened := c.Status()
		if opened.State == CircuitClosed || opened.Error != errDead.Error() || opened.Opened != 1 || opened.Since.IsZero() {
			t.Errorf("circuit: %+v", opened)
		}
		calls.Store(0)
		most.Store(0)
		pass(10 * time.Minute)
		// At least a tenth of the longest pause is between two probes, after the first few.
		if n := calls.Load(); n < 10 || n > 250 {
			t.Errorf("%d calls in ten minutes", n)
		}
		if n := most.Load(); n > 1 {
			t.Errorf("%d calls at once while the circuit is open", n)
		}
		dead.Store(false)
		began := time.Now()
		users.Wait()
		if took := time.Since(began); took > pauseMax+time.Second {
			t.Errorf("closed after %v", took)
		}
		if s := c.Status(); s.State != CircuitClosed || s.Error != "" || !s.Since.IsZero() || s.Probes == 0 {
			t.Errorf("circuit: %+v", s)
		}
	})
}

func TestCircuitForReaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := NewCircuit(CircuitConfig{Failures: 2, Pauses: backoff.Config{Min: time.Second, Max: time.Second}})
		away := Unanswered(errDead)
		read := func(err error) error { return c.Read(t.Context(), func() error { return err }) }
		fail := func(err error) {
			t.Helper()
			probe, enterErr := c.enter(t.Context(), nil)
			check(t, enterErr)
			c.leave(probe, err)
		}
		// What is refused can be read.
		fail(errors.New("OOM"))
		fail(errors.New("OOM"))
		if s := c.Status(); s.State != CircuitOpen || s.Reads != CircuitClosed {
			t.Fatalf("%+v", s)
		}
		check(t, read(nil))
		fail(nil)
		// Readers have been answered since: it is for them to find out.
		pass(time.Minute)
		fail(away)
		check(t, read(nil))
		fail(away)
		if s := c.Status(); s.State != CircuitOpen || s.Reads != CircuitClosed {
			t.Fatalf("%+v", s)
		}
		fail(nil)
		pass(time.Minute)
		fail(away)
		fail(away)
		open, refused := errors.AsType[*OpenError](read(nil))
		if !refused || open.RetryAfter > time.Second || !errors.Is(open, ErrUnanswered) {
			t.Fatalf("a read of a dead sink: %v", open)
		}
		// One reader at a time tries it.
		pass(time.Second)
		if err := c.Read(t.Context(), func() error {
			if _, refused := errors.AsType[*OpenError](read(nil)); !refused {
				t.Error("two probes at once")
			}
			return away
		}); !errors.Is(err, errDead) {
			t.Fatal(err)
		}
		gone, cancel := context.WithCancel(t.Context())
		pass(time.Second)
		_ = c.Read(gone, func() error { cancel(); return away }) // its client has gone: it says nothing
		check(t, read(nil))
		if s := c.Status(); s.State != CircuitOpen || s.Reads != CircuitClosed {
			t.Fatalf("%+v", s)
		}
		fail(nil)
		_ = read(away)
		_ = read(fmt.Errorf("wait for a refresh: %w", context.DeadlineExceeded))
		if s := c.Status(); s.State != CircuitClosed || s.Reads != CircuitOpen || s.Error == "" {
			t.Fatalf("readers find a dead sink: %+v", s)
		}
		fail(nil)
		check(t, read(nil))
	})
}

// A sink dies under a runner with several workers and comes back: nothing is lost, it is probed with one document, and the
// others that write to it are held back as well.
func TestRunnersShareACircuit(t *testing.T) {
	view := compile(t, orderView)
	s := newSource(t, view)
	circuit := NewCircuit(CircuitConfig{Failures: 3, Pauses: backoff.Config{Min: time.Millisecond, Max: 20 * time.Millisecond}})
	var sinks []*memory
	var runners []*Runner
	for i := range 3 {
		sink := newMemory()
		r := s.runner(view, sink, func(c *Config) {
			c.Name, c.Circuit, c.Workers, c.PieceDocuments = fmt.Sprintf("order%d.memory", i), circuit, 3, 10
		})
		s.run(r)
		sinks, runners = append(sinks, sink), append(runners, r)
	}
	for _, r := range runners {
		s.reach(r, s.commit(insert(orders, "0", "1", "new")))
		following(t, r)
	}
	var attempts atomic.Int64
	for _, sink := range sinks {
		sink.mu.Lock()
		sink.refuse = func(views.Document) error { // each document of a write, and so its size
			attempts.Add(1)
			return Unanswered(errDead)
		}
		sink.mu.Unlock()
	}
	for i := range 300 {
		s.commit(insert(orders, fmt.Sprint(i+1), "1", "new"))
	}
	eventually(t, "an open circuit", func() bool { return circuit.Status().State != CircuitClosed })
	probed := circuit.Status().Probes
	attempts.Store(0)
	eventually(t, "probes", func() bool { return circuit.Status().Probes >= probed+20 })
	if n := attempts.Load(); n > 30+3*3*10 { // those that were under way when it opened
		t.Errorf("%d documents were sent with about 20 probes", n)
	}
	if st := runners[0].Status(); st.State != StateRetrying {
		t.Errorf("state %s", st.State)
	}
	for _, sink := range sinks {
		sink.script(nil, nil)
	}
	end := s.commit(insert(orders, "999", "1", "new"))
	for i, r := range runners {
		s.reach(r, end)
		wantDocuments(t, sinks[i], s.documents(view))
		if n := r.Status().Parked; n != 0 {
			t.Errorf("%d parked", n)
		}
	}
	if st := circuit.Status(); st.State != CircuitClosed {
		t.Errorf("circuit %+v", st)
	}
}

// on_permanent: stop.
func TestStopOnPermanent(t *testing.T) {
	view := compile(t, orderView)
	s, sink := newSource(t, view), newMemory()
	r := s.runner(view, sink, func(c *Config) { c.StopOnPermanent, c.MaxAttempts = true, 2 })
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	s.reach(r, s.commit(insert(orders, "1", "1", "new")))
	before, _ := r.Watermark()
	sink.script(nil, func(d views.Document) error {
		if d.ID == "2" {
			return Permanentf("mapping conflict")
		}
		return nil
	})
	s.commit(insert(orders, "2", "1", "new"))
	err := <-ended
	if Class(err) != Fatal || Hint(err) == "" {
		t.Fatalf("ended with %v", err)
	}
	if mark, _ := r.Watermark(); mark != before {
		t.Errorf("the watermark moved to %v", mark)
	}
	if n := r.Status().Parked; n != 0 {
		t.Errorf("%d parked", n)
	}
}

// on_fatal: retry.
func TestRetryFatal(t *testing.T) {
	view := compile(t, orderView)
	s, sink := newSource(t, view), newMemory()
	var denied atomic.Int64
	sink.script(func(string) error {
		if denied.Add(1) <= 5 {
			return Fatalf("grant the right", "no right")
		}
		return nil
	}, nil)
	r := s.runner(view, sink, func(c *Config) {
		c.RetryFatal, c.Backoff = true, backoff.Config{Min: time.Millisecond, Max: 5 * time.Millisecond}
	})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = r.Serve(ctx)
	}()
	s.reach(r, s.commit(insert(orders, "1", "1", "new")))
	wantDocuments(t, sink, s.documents(view))
	cancel()
	<-ended
}
