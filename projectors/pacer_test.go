package projectors

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// filling writes pieces that take a tenth of a second each, as many at once as there are workers, until stop is called. It
// counts those that were written.
func filling(p *pacer, workers int) (written *atomic.Int64, stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	written = new(atomic.Int64)
	var running sync.WaitGroup
	for range workers {
		running.Go(func() {
			for p.enter(ctx, 1000) == nil {
				time.Sleep(100 * time.Millisecond) //nolint:forbidigo // in a synctest bubble, in no time
				p.leave(100 * time.Millisecond)
				written.Add(1)
			}
		})
	}
	return written, func() {
		cancel()
		running.Wait()
	}
}

// In the bubble time is the test's own, so what a second yields is exact up to the order of goroutines.
func TestPacerYieldsAndComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var sign atomic.Value
		sign.Store("")
		var mu sync.Mutex
		var told []string
		p := newPacer(4, 0, func() string { return sign.Load().(string) }, func(why string) {
			mu.Lock()
			defer mu.Unlock()
			told = append(told, why)
		})
		written, stop := filling(p, 4)
		second := func() int64 {
			before := written.Load()
			time.Sleep(time.Second) //nolint:forbidigo // in a synctest bubble, in no time
			return written.Load() - before
		}

		second()
		if n := second(); n < 36 {
			t.Errorf("%d pieces in a second without a sign of congestion, want about 40", n)
		}
		sign.Store("orders.search is 2s behind")
		second()
		second()
		second()
		if n := second(); n > 2 {
			t.Errorf("%d pieces in a second after four of congestion, want 1", n)
		}
		before := written.Load()
		for range 10 {
			second()
		}
		if n := written.Load() - before; n < 4 {
			t.Errorf("%d pieces in ten seconds of congestion: a fill must come to its end", n)
		}
		sign.Store("")
		second()
		second()
		if n := second(); n < 30 {
			t.Errorf("%d pieces in the third second after the congestion, want about 40", n)
		}
		stop()
		mu.Lock()
		defer mu.Unlock()
		if len(told) < 3 || !strings.Contains(strings.Join(told, "\n"), "orders.search is 2s behind; 2 of 4 pieces") || told[len(told)-1] != "" {
			t.Errorf("told %q", told)
		}
	})
}

// Two fills that see the same signs, of which one began with all there is, end up with about the same share.
func TestPacersShareFairly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		seed := uint64(time.Now().UnixNano())
		t.Logf("seed %d", seed)
		random := rand.New(rand.NewPCG(seed, 1))
		var all [2]*pacer
		var shares [2]float64
		limit := func(p *pacer) float64 {
			p.mu.Lock()
			defer p.mu.Unlock()
			return p.limit
		}
		for i := range all {
			all[i] = newPacer(16, 0, nil, func(string) {})
		}
		all[0].limit, all[1].limit = 16, paceLeast
		sum := func() float64 { return all[0].limit + all[1].limit } // each holds its own lock, and nobody else is at work
		for i := range all {
			all[i].look = func() string {
				if sum() > 12+random.Float64() {
					return "full"
				}
				return ""
			}
		}
		for step := range 4000 {
			time.Sleep(paceInterval / 2) //nolint:forbidigo // in a synctest bubble, in no time
			for i, p := range all {
				p.mu.Lock()
				p.adjust(time.Now())
				p.mu.Unlock()
				if step > 2000 {
					shares[i] += limit(p)
				}
			}
		}
		if ratio := shares[0] / shares[1]; ratio < 0.8 || ratio > 1.25 {
			t.Errorf("shares %v", shares)
		}
		if used := (shares[0] + shares[1]) / 2000; used < 6 {
			t.Errorf("they use %.1f of 12", used)
		}
	})
}

func TestPacerKeepsToAFixedRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPacer(4, 5000, func() string { return "" }, func(string) {})
		written, stop := filling(p, 4)
		time.Sleep(10 * time.Second) //nolint:forbidigo // in a synctest bubble, in no time
		if n := written.Load(); n < 45 || n > 51 {
			t.Errorf("%d pieces of 1,000 in 10s, want 50", n)
		}
		stop()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := p.enter(ctx, 1); !errors.Is(err, context.Canceled) {
			t.Errorf("enter: %v", err)
		}
	})
}

func TestCongestionIsLatenessBeyondTheUsual(t *testing.T) {
	view := compile(t, orderView)
	s := newSource(t, view)
	shared := &Congestion{}
	a := s.runner(view, newMemory(), func(c *Config) { c.Congestion = shared })
	shared.join(a)
	a.following.Store(liveContext{t.Context()})
	signs := shared.begin()
	if why := signs.look(); why != "" {
		t.Errorf("congested at once: %s", why)
	}
	a.counters.retries.Add(1)
	if why := signs.look(); why != "the sink has no room for more" {
		t.Errorf("after a push back: %q", why)
	}
	if why := signs.look(); why != "" {
		t.Errorf("the push back counts twice: %s", why)
	}
	a.oldest.Store(time.Now().Add(-2 * time.Second).UnixMicro())
	if why := signs.look(); !strings.Contains(why, "order.memory is 2s behind") {
		t.Errorf("behind: %q", why)
	}
	signs.end()
	for range 100 {
		a.reachedAfter(1500 * time.Millisecond) // it always is
	}
	signs = shared.begin()
	defer signs.end()
	if why := signs.look(); why != "" {
		t.Errorf("as late as usual: %s", why)
	}
	for range 100 {
		a.wroteLive(500 * time.Millisecond) // now, not usual
	}
	if why := signs.look(); why != "writes of order.memory take 500ms" {
		t.Errorf("slow writes: %q", why)
	}
	shared.leave(a)
	if why := signs.look(); why != "" {
		t.Errorf("of one that is gone: %s", why)
	}
}
