package projectors

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/lanternist/lanternist/backoff"
)

// ErrUnanswered in the chain of an error says that the sink gave no answer: it could not be reached, or took too long. What a
// sink answers, be it a refusal, shows that it can still be read.
var ErrUnanswered = errors.New("no answer")

// Unanswered puts ErrUnanswered into the chain of an error, and leaves its text as it is.
func Unanswered(err error) error {
	if err == nil || errors.Is(err, ErrUnanswered) {
		return err
	}
	return &unanswered{err}
}

type unanswered struct{ err error }

func (e *unanswered) Error() string        { return e.err.Error() }
func (e *unanswered) Unwrap() error        { return e.err }
func (e *unanswered) Is(target error) bool { return target == ErrUnanswered }

// OpenError is what a reader gets while the sink does not answer.
type OpenError struct {
	Since      time.Time
	RetryAfter time.Duration // until the sink is asked again
	Cause      error         // what came of the last attempt
}

// Error implements error.
func (e *OpenError) Error() string {
	return fmt.Sprintf("the sink has not answered since %s: %v", e.Since.UTC().Format(time.RFC3339), e.Cause)
}

// Unwrap is what came of the last attempt.
func (e *OpenError) Unwrap() error { return e.Cause }

// CircuitState is whether calls go through to a sink.
type CircuitState string

// The states of a Circuit.
const (
	CircuitClosed   CircuitState = "closed"    // calls go through
	CircuitOpen     CircuitState = "open"      // none does until the next probe
	CircuitHalfOpen CircuitState = "half-open" // one does: the probe
)

// circuitStates are all of them.
var circuitStates = []CircuitState{CircuitClosed, CircuitOpen, CircuitHalfOpen}

// CircuitConfig bounds a Circuit. Zero fields have their defaults.
type CircuitConfig struct {
	// Failures is how many calls must fail in a row, of all projectors together, before the circuit opens. Default 5.
	Failures int
	// Pauses are those between probes. Default 200ms to 15s.
	Pauses backoff.Config
}

// Circuit keeps those who use one sink from hammering it while it is dead. Calls that fail with a transient error as a whole,
// CircuitConfig.Failures of them in a row, open it. While it is open there are no calls but one small probe at a time, with growing
// pauses between them: one of the calls that wait, of a single document when it is a write. The first success closes it.
//
// Readers have a circuit of their own within it, which only ErrUnanswered opens: a sink that refuses what is written to it
// can still be read. They do not wait: they get an OpenError.
//
// The runners of one sink in a process share one (Config.Circuit), with the sink's readers. It is safe for concurrent use.
type Circuit struct {
	failuresMax int

	mu      sync.Mutex
	writes  breaker
	reads   breaker
	readAt  time.Time     // of the last read that was answered
	changed chan struct{} // closed when a probe has ended, or the circuit has opened or closed
}

// NewCircuit makes a closed circuit.
func NewCircuit(cfg CircuitConfig) *Circuit {
	set(&cfg.Failures, 5)
	set(&cfg.Pauses.Min, 200*time.Millisecond)
	return &Circuit{
		failuresMax: cfg.Failures, changed: make(chan struct{}),
		writes: breaker{pauses: backoff.New(cfg.Pauses)}, reads: breaker{pauses: backoff.New(cfg.Pauses)},
	}
}

// breaker is the state of one direction. Whoever uses it holds the circuit's lock. Its times are compared by the monotonic clock.
type breaker struct {
	open     bool
	failures int       // in a row
	first    time.Time // of them
	since    time.Time // it is open
	reason   error     // of the last failure
	pauses   backoff.Backoff
	next     time.Time // no probe before it
	probing  bool
	opened   uint64 // times
	probes   uint64
}

// failed notes a failure and says whether it opened the circuit.
func (b *breaker) failed(err error, probe bool, most int) (tripped bool) {
	now := time.Now()
	if b.failures++; b.failures == 1 {
		b.first = now
	}
	b.reason = err
	switch {
	case !b.open && b.failures >= most:
		b.trip(now)
		return true
	case b.open && probe:
		b.next = now.Add(b.pauses.Next())
	}
	return false
}

func (b *breaker) trip(now time.Time) {
	b.open, b.since = true, now
	b.opened++
	b.next = now.Add(b.pauses.Next())
}

// succeeded notes a success and says whether it closed the circuit.
func (b *breaker) succeeded() (healed bool) {
	healed = b.open
	b.open, b.failures, b.first, b.since, b.reason = false, 0, time.Time{}, time.Time{}, nil
	b.pauses.Reset()
	return healed
}

// admit says whether a call may be made, and whether it is the probe.
func (b *breaker) admit(now time.Time) (admitted, probe bool) {
	if !b.open {
		return true, false
	}
	if b.probing || now.Before(b.next) {
		return false, false
	}
	b.probing = true
	b.probes++
	return true, true
}

func (b *breaker) state() CircuitState {
	switch {
	case !b.open:
		return CircuitClosed
	case b.probing:
		return CircuitHalfOpen
	}
	return CircuitOpen
}

// enter waits until a call may be made; leave must follow. The call should be small when it is the probe. blocked is told at most
// once, that and why the call has to wait. The error is the context's cause.
func (c *Circuit) enter(ctx context.Context, blocked func(error)) (probe bool, err error) {
	for {
		c.mu.Lock()
		now := time.Now()
		admitted, probe := c.writes.admit(now)
		wait, reason, changed := c.writes.next.Sub(now), c.writes.reason, c.changed
		probing := c.writes.probing
		c.mu.Unlock()
		if admitted {
			return probe, nil
		}
		if blocked != nil {
			blocked(reason)
			blocked = nil
		}
		if err := c.await(ctx, wait, probing, changed); err != nil {
			return false, err
		}
	}
}

// await waits for the time of the next probe, when none is under way, or for a change.
func (c *Circuit) await(ctx context.Context, wait time.Duration, probing bool, changed <-chan struct{}) error {
	var due <-chan time.Time
	if !probing {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		due = timer.C
	}
	select {
	case <-due:
	case <-changed:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	return nil
}

// leave tells what came of a call: nil when the sink answered it, or why it must be repeated.
func (c *Circuit) leave(probe bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if probe {
		c.writes.probing = false
	}
	changed := probe
	if err == nil {
		changed = c.writes.succeeded() || changed
		c.reads.succeeded()
	} else if c.writes.failed(err, probe, c.failuresMax) {
		changed = true
		// Without an answer to readers meanwhile, they would wait for one as long as the writers did.
		if errors.Is(err, ErrUnanswered) && c.readAt.Before(c.writes.first) && !c.reads.open {
			c.reads.reason = err
			c.reads.trip(time.Now())
		}
	}
	if changed {
		close(c.changed)
		c.changed = make(chan struct{})
	}
}

// giveUp tells that a call was not made, or that nobody waited for its end.
func (c *Circuit) giveUp(probe bool) {
	if !probe {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.writes.probing = false
	close(c.changed)
	c.changed = make(chan struct{})
}

// closed says that calls go through.
func (c *Circuit) closed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.writes.open
}

// Read has a reader ask the sink, or returns an OpenError without asking while the sink does not answer readers. A nil Circuit
// lets everyone ask.
func (c *Circuit) Read(ctx context.Context, ask func() error) error {
	if c == nil {
		return ask()
	}
	probe, err := c.admitReader()
	if err != nil {
		return err
	}
	answered := false
	defer func() { // also when ask panics: a probe must not stay under way
		if !answered {
			c.readerLeft(probe)
		}
	}()
	err = ask()
	answered = true
	if errors.Is(ctx.Err(), context.Canceled) { // nobody waited for the answer
		c.readerLeft(probe)
		return err
	}
	c.wasRead(probe, err)
	return err
}

func (c *Circuit) admitReader() (probe bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	admitted, probe := c.reads.admit(now)
	if !admitted {
		return false, &OpenError{Since: c.reads.since, RetryAfter: max(0, c.reads.next.Sub(now)), Cause: c.reads.reason}
	}
	return probe, nil
}

func (c *Circuit) readerLeft(probe bool) {
	if probe {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.reads.probing = false
	}
}

func (c *Circuit) wasRead(probe bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if probe {
		c.reads.probing = false
	}
	// A reader whose time is over has often waited for what another one had asked for.
	if errors.Is(err, ErrUnanswered) || errors.Is(err, context.DeadlineExceeded) {
		c.reads.failed(err, probe, c.failuresMax)
		return
	}
	c.reads.succeeded()
	c.readAt = time.Now()
}

// CircuitStatus is a circuit at one moment.
type CircuitStatus struct {
	State CircuitState `json:"state"`
	// Reads is the state of the circuit for readers, which only a sink that gives no answer opens.
	Reads    CircuitState `json:"reads"`
	Since    time.Time    `json:"since,omitzero"` // it is not closed, in either direction
	Failures int          `json:"failures"`       // in a row
	Error    string       `json:"error,omitempty"`
	Opened   uint64       `json:"opened"` // how often it has opened since the process started
	Probes   uint64       `json:"probes"` // how often the sink was tried while it was open
}

// Status is the circuit's state now.
func (c *Circuit) Status() CircuitStatus {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := CircuitStatus{
		State: c.writes.state(), Reads: c.reads.state(), Since: c.writes.since, Failures: c.writes.failures,
		Opened: c.writes.opened, Probes: c.writes.probes + c.reads.probes,
	}
	reason := c.writes.reason
	if s.State == CircuitClosed && s.Reads != CircuitClosed {
		s.Since, reason = c.reads.since, c.reads.reason
	}
	if reason != nil {
		s.Error = reason.Error()
	}
	return s
}
