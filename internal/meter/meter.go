// Package meter estimates how fast work goes and how long it still takes, from how much of it was done when.
//
// The rate is a mean of what was seen, weighted by time: what happened a quarter of a minute ago counts a third of what
// happens now. So a burst does not make it jump, and a change of pace shows within half a minute. When nothing is seen for
// longer than is usual the rate falls: work that stands still has no time of its end.
package meter

import (
	"math"
	"time"
)

const (
	memory   = 15 * time.Second       // the age at which an observation counts 1/e
	shortest = 200 * time.Millisecond // of the time between two observations; what is seen within is added up
)

// Meter watches one piece of work. The zero value is ready. It is not safe for concurrent use.
type Meter struct {
	done, total int64

	begun   bool
	at      time.Time // of the observation that the rate is made of
	counted int64     // what was done then
	rate    float64   // weighted sum of the rates seen
	weight  float64   // sum of the weights
	gap     time.Duration
	moved   time.Time // when the last observation came that the rate is made of and that had something done
}

// Reading is how far work is.
type Reading struct {
	Done    int64   `json:"done"`
	Total   int64   `json:"total" doc:"About how much there is; 0 while it is not known."`
	Percent float64 `json:"percent" doc:"0 while the total is not known."`
	Rate    float64 `json:"rate" doc:"Per second, lately."`
	// Left is how many seconds the rest takes at this rate; nil when that is not known.
	Left *float64 `json:"left_seconds,omitempty" doc:"How long the rest takes at this rate; none when that is not known."`
}

// Observe says how much is done now, and how much there is in all; below 1 that is not known. When less is done than before,
// the work, or another phase of it, has begun anew.
func (m *Meter) Observe(done, total int64) {
	now := time.Now()
	if !m.begun || done < m.done {
		*m = Meter{begun: true, at: now, counted: done, moved: now}
	}
	m.done, m.total = done, max(total, 0)
	gap := now.Sub(m.at)
	if gap < shortest || (done == m.counted && gap < m.patience()) {
		return // what comes in strides is no standing still
	}
	decay := math.Exp(-gap.Seconds() / memory.Seconds())
	m.rate = m.rate*decay + (1-decay)*float64(done-m.counted)/gap.Seconds()
	m.weight = m.weight*decay + (1 - decay)
	m.gap, m.at, m.counted = gap, now, done
	m.moved = now
}

// patience is how long nothing need be done before that counts: twice as long as it was between the last two observations.
func (m *Meter) patience() time.Duration {
	if m.gap == 0 {
		return memory
	}
	return max(2*m.gap, time.Second)
}

// Read tells how far the work is now. It is 0 of 0 before the first observation.
func (m *Meter) Read() Reading {
	r := Reading{Done: m.done, Total: m.total, Rate: m.now()}
	if m.total < 1 {
		return r
	}
	r.Percent = math.Min(100, float64(m.done)*100/float64(m.total))
	left := math.Max(0, float64(m.total-m.done))
	if seconds := left / r.Rate; left == 0 || seconds < longest.Seconds() {
		if left == 0 {
			seconds = 0
		}
		r.Left = &seconds
	}
	return r
}

// longest is the time that is worth telling.
const longest = 1000 * 24 * time.Hour

// now is the rate, which falls while nothing is observed.
func (m *Meter) now() float64 {
	if m.weight == 0 {
		return 0
	}
	rate := m.rate / m.weight
	if idle := time.Since(m.moved) - m.patience(); idle > 0 {
		rate *= math.Exp(-idle.Seconds() / memory.Seconds())
	}
	return rate
}
