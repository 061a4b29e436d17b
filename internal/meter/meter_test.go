package meter

import (
	"math"
	"testing"
	"testing/synctest"
	"time"
)

// near fails the test unless got is within a share of want.
func near(t *testing.T, what string, got, want, share float64) {
	t.Helper()
	if math.Abs(got-want) > share*want {
		t.Errorf("%s: got %g, want about %g", what, got, want)
	}
}

func seconds(r Reading) float64 {
	if r.Left == nil {
		return math.NaN()
	}
	return *r.Left
}

func TestSteadyWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var m Meter
		if r := m.Read(); r != (Reading{}) {
			t.Errorf("before the beginning: %+v", r)
		}
		m.Observe(0, 10_000)
		if r := m.Read(); r.Left != nil || r.Rate != 0 || r.Total != 10_000 {
			t.Errorf("at the beginning: %+v", r)
		}
		for done := int64(10); done <= 1000; done += 10 { // 100 per second, in observations that come too often
			wait(100 * time.Millisecond)
			m.Observe(done, 10_000)
			if done == 50 {
				near(t, "rate after half a second", m.Read().Rate, 100, 0.01)
			}
		}
		r := m.Read()
		near(t, "rate", r.Rate, 100, 0.01)
		near(t, "percent", r.Percent, 10, 0.001)
		near(t, "left", seconds(r), 90, 0.01)
		m.Observe(10_000, 10_000)
		if r := m.Read(); r.Percent != 100 || seconds(r) != 0 {
			t.Errorf("at the end: %+v", r)
		}
	})
}

// Work that comes in strides has the rate of its mean, also between two of them.
func TestStrides(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var m Meter
		m.Observe(0, 0)
		for i := int64(1); i <= 10; i++ {
			for range 30 { // nothing is done for three seconds, and someone looks all the time
				wait(100 * time.Millisecond)
				m.Observe((i-1)*3000, 0)
				if i > 3 {
					near(t, "rate within a stride", m.Read().Rate, 1000, 0.25)
				}
			}
			m.Observe(i*3000, 0)
		}
		near(t, "rate", m.Read().Rate, 1000, 0.1)
		if r := m.Read(); r.Left != nil || r.Percent != 0 {
			t.Errorf("without a total: %+v", r)
		}
	})
}

func TestPaceChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var m Meter
		done := int64(0)
		run := func(perSecond int64, d time.Duration) {
			for range d / time.Second {
				wait(time.Second)
				done += perSecond
				m.Observe(done, 1_000_000)
			}
		}
		m.Observe(0, 1_000_000)
		run(1000, time.Minute)
		run(100, time.Minute)
		near(t, "a minute after it became slower", m.Read().Rate, 100, 0.2)
		wait(5 * time.Minute) // it stands still, and nobody says so
		if r := m.Read(); r.Rate > 1 {
			t.Errorf("it stands still at %g per second, %g seconds left", r.Rate, seconds(r))
		}
		run(0, 10*time.Minute) // it stands still, and says so
		if r := m.Read(); r.Rate > 0.001 || r.Left != nil {
			t.Errorf("it stands still at %g per second, %g seconds left", r.Rate, seconds(r))
		}
		run(500, time.Minute)
		near(t, "after it has gone on", m.Read().Rate, 500, 0.1)
	})
}

// Another phase begins at 0, with a pace of its own.
func TestBeginAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var m Meter
		m.Observe(0, 100)
		wait(time.Second)
		m.Observe(100, 100)
		m.Observe(0, 50)
		if r := m.Read(); r.Rate != 0 || r.Done != 0 || r.Total != 50 {
			t.Errorf("anew: %+v", r)
		}
		wait(time.Second)
		m.Observe(10, 50)
		near(t, "rate", m.Read().Rate, 10, 0.01)
		m.Observe(60, 50) // totals are estimates
		if r := m.Read(); r.Percent != 100 || seconds(r) != 0 {
			t.Errorf("more than there is: %+v", r)
		}
	})
}

// wait lets the time of a synctest bubble pass.
func wait(d time.Duration) { <-time.After(d) }
