package projectors

import (
	"context"
	"fmt"
	"math"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// pacer decides how many pieces of a new generation are written at once, so that live generations do not suffer.
//
// It is a controller of additive increase and multiplicative decrease, as TCP's congestion avoidance is (V. Jacobson, Congestion
// Avoidance and Control, 1988; RFC 5681): D.-M. Chiu and R. Jain, Analysis of the Increase and Decrease Algorithms for Congestion
// Avoidance in Computer Networks, 1989, show that of the linear controls this one leads several who share a resource, and know
// nothing of each other, to a fair and efficient share. Here they are fills of several views, in one process or in many. As long as
// there is no sign of congestion the limit grows by paceIncrease each paceInterval; at a sign it is halved, and then left
// alone for paceSettle, until the effect shows.
//
// A limit below one is a share of the time: one piece, and then a pause. It does not fall below paceLeast: a fill always comes to
// its end. It is safe for concurrent use.
type pacer struct {
	most   float64
	look   func() string // why the sink is congested; "" when it is not
	held   func(string)  // told why the fill is held back, and "" when it is not any more
	bucket *rate.Limiter // nil when there is no fixed bound

	mu       sync.Mutex
	limit    float64
	running  int
	next     time.Time // of the next look
	notYet   time.Time // no piece begins before it
	told     string
	wakeups  chan struct{} // closed when a piece has ended
	pushedAt time.Time     // of the last decrease
}

const (
	paceInterval = 100 * time.Millisecond
	paceIncrease = 0.25
	paceSettle   = 500 * time.Millisecond
	paceLeast    = 1.0 / 16
	pauseMost    = 2 * time.Second
)

// newPacer makes a pacer of at most so many pieces at once, and so many documents per second; 0 is no such bound.
func newPacer(most, perSecond int, look func() string, held func(string)) *pacer {
	p := &pacer{most: float64(most), limit: math.Ceil(float64(most) / 2), look: look, held: held, wakeups: make(chan struct{})}
	if perSecond > 0 {
		p.bucket = rate.NewLimiter(rate.Limit(perSecond), max(1, perSecond/10))
	}
	return p
}

// enter waits until a piece of so many documents may be written. leave must follow, unless there is an error.
func (p *pacer) enter(ctx context.Context, documents int) error {
	if err := p.await(ctx, documents); err != nil {
		return err
	}
	for {
		p.mu.Lock()
		now := time.Now()
		p.adjust(now)
		wait, ended := p.notYet.Sub(now), p.wakeups
		if wait <= 0 && p.running < int(math.Ceil(p.limit)) {
			p.running++
			p.mu.Unlock()
			return context.Cause(ctx)
		}
		p.mu.Unlock()
		if wait <= 0 || wait > paceInterval {
			wait = paceInterval // look again
		}
		timer := time.NewTimer(wait)
		select {
		case <-ended:
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
}

// await keeps to the fixed bound.
func (p *pacer) await(ctx context.Context, documents int) error {
	for p.bucket != nil && documents > 0 {
		n := min(documents, p.bucket.Burst())
		if err := p.bucket.WaitN(ctx, n); err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return err
		}
		documents -= n
	}
	return nil
}

// leave says that a piece was written, and how long that took.
func (p *pacer) leave(took time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	p.running--
	p.adjust(now)
	if p.limit < 1 {
		pause := time.Duration(float64(took) * (1/p.limit - 1))
		p.notYet = now.Add(min(pause, pauseMost))
	}
	close(p.wakeups)
	p.wakeups = make(chan struct{})
}

// adjust moves the limit, when it is time to. The caller holds mu.
func (p *pacer) adjust(now time.Time) {
	if now.Before(p.next) {
		return
	}
	p.next = now.Add(paceInterval)
	reason := p.look()
	switch {
	case reason != "" && now.Sub(p.pushedAt) >= paceSettle:
		p.pushedAt = now
		p.limit = max(paceLeast, p.limit/2)
		p.tell(reason)
	case reason != "":
		p.tell(reason)
	case now.Sub(p.pushedAt) < paceSettle:
	default:
		p.limit = min(p.most, p.limit+paceIncrease)
		if p.limit == p.most || p.told == "" {
			p.tell("")
		}
	}
}

// tell says why the fill is held back, and how much. The caller holds mu.
func (p *pacer) tell(reason string) {
	if reason != "" {
		reason = fmt.Sprintf("%s; %.2g of %g pieces are written at once", reason, p.limit, p.most)
	}
	if reason != p.told {
		p.told = reason
		p.held(reason)
	}
}
