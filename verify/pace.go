package verify

import (
	"context"
	"sync"
	"time"
)

// pace spaces work evenly, at most so much per second. It is safe for concurrent use.
type pace struct {
	each time.Duration
	mu   sync.Mutex
	next time.Time
}

func newPace(perSecond int) *pace { return &pace{each: time.Second / time.Duration(perSecond)} }

// paceSlack is how far work may run ahead, so that not every document costs a timer.
const paceSlack = 20 * time.Millisecond

// wait returns when the next piece of work may begin.
func (p *pace) wait(ctx context.Context) error {
	p.mu.Lock()
	now := time.Now()
	if p.next.Before(now) {
		p.next = now
	}
	p.next = p.next.Add(p.each)
	ahead := p.next.Sub(now)
	p.mu.Unlock()
	if ahead <= paceSlack {
		return context.Cause(ctx)
	}
	timer := time.NewTimer(ahead)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
