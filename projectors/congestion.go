package projectors

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// Congestion tells whether a sink keeps up with the live generations that are written to it. The runners of one sink in a process
// share one (Config.Congestion): the filling of a new generation of one view yields to the live ones of all. It is safe for
// concurrent use; its zero value is ready.
type Congestion struct {
	fills atomic.Int32 // generations being filled: what is seen meanwhile is not what is usual

	mu      sync.Mutex
	members map[*Runner]struct{}
}

const (
	// lateFactor is how many times its usual value a delay may be before it counts as late.
	lateFactor = 3
	// lagAllowed and writeAllowed are delays that are never late.
	lagAllowed   = 300 * time.Millisecond
	writeAllowed = 200 * time.Millisecond
)

func (c *Congestion) join(r *Runner) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.members == nil {
		c.members = map[*Runner]struct{}{}
	}
	c.members[r] = struct{}{}
}

func (c *Congestion) leave(r *Runner) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.members, r)
}

// signs are what one fill has seen of the sink so far.
type signs struct {
	congestion *Congestion
	pushbacks  uint64 // counted at the last look
}

// begin says that a fill begins, which end ends.
func (c *Congestion) begin() *signs {
	c.fills.Add(1)
	s := &signs{congestion: c}
	_ = s.look() // what was counted before is none of this fill's
	return s
}

func (s *signs) end() { s.congestion.fills.Add(-1) }

// look says why the sink does not keep up; "" when it does.
func (s *signs) look() string {
	c := s.congestion
	c.mu.Lock()
	defer c.mu.Unlock()
	reason, pushbacks := "", uint64(0)
	for r := range c.members {
		pushbacks += r.counters.retries.Load()
		if p, ok := r.served.Load().Store.(Pressured); ok {
			pushbacks += p.Pushbacks()
		}
		if reason == "" {
			reason = r.late()
		}
	}
	if pushbacks > s.pushbacks {
		reason = "the sink has no room for more"
	}
	s.pushbacks = pushbacks
	return reason
}

// Pressured may be implemented by a Store whose sink says when it has no room.
type Pressured interface {
	// Pushbacks counts how often the sink has said so.
	Pushbacks() uint64
}

// delays are how late a runner's live generation is.
type delays struct{ lag, write delay }

// delay is a duration as it usually is, and as it is now: averages in which the last ones weigh most.
type delay struct{ usual, now atomic.Int64 }

// delayWeight is the share of a new value in an average, as in the smoothed round-trip time of TCP (RFC 6298).
const delayWeight = 8

func (d *delay) add(took time.Duration, undisturbed bool) {
	average(&d.now, took)
	if undisturbed {
		average(&d.usual, took)
	}
}

func average(a *atomic.Int64, v time.Duration) {
	old := a.Load()
	if old == 0 {
		a.Store(max(1, int64(v)))
		return
	}
	a.Store(max(1, old+(int64(v)-old)/delayWeight))
}

// late says whether a duration is more than can be put down to its usual variation.
func (d *delay) late(now, allowed time.Duration) bool {
	return now > max(allowed, lateFactor*time.Duration(d.usual.Load()))
}

// reachedAfter notes how old the oldest batch of a round was when the round was over.
func (r *Runner) reachedAfter(lag time.Duration) {
	r.delays.lag.add(lag, r.cfg.Congestion.fills.Load() == 0)
}

// wroteLive notes how long the sink took for documents of the live generation.
func (r *Runner) wroteLive(took time.Duration) {
	r.delays.write.add(took, r.cfg.Congestion.fills.Load() == 0)
}

// late says in what way the live generation is late; "" when it is not, or when none is followed.
func (r *Runner) late() string {
	if live, _ := r.following.Load().(liveContext); live.ctx == nil {
		return ""
	}
	if oldest := r.oldest.Load(); oldest != 0 {
		if lag := time.Since(time.UnixMicro(oldest)); r.delays.lag.late(lag, lagAllowed) {
			return fmt.Sprintf("%s is %v behind", r.cfg.Name, lag.Round(10*time.Millisecond))
		}
	}
	if took := time.Duration(r.delays.write.now.Load()); r.delays.write.late(took, writeAllowed) {
		return fmt.Sprintf("writes of %s take %v", r.cfg.Name, took.Round(time.Millisecond))
	}
	return ""
}
