package projectors

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/lanternist/lanternist/views"
)

// counters are what a runner has done since the process started.
type counters struct {
	documents, deletes, batches, rounds, retries, parked atomic.Uint64

	events, journalBatches atomic.Uint64 // read by the live generation's follower

	rate    meter
	seconds histogram // of the calls of Write that the sink answered
}

// wrote counts one answered Write, and says how many documents it put and deleted.
func (c *counters) wrote(took time.Duration, documents []views.Document, failures []Failure) (puts, deletes int) {
	for i := range documents {
		if documents[i].Body == nil {
			deletes++
		}
	}
	for _, f := range failures {
		if documents[f.Index].Body == nil {
			deletes--
		}
	}
	applied := len(documents) - len(failures)
	c.batches.Add(1)
	c.deletes.Add(uint64(deletes))
	c.documents.Add(uint64(applied - deletes))
	c.rate.add(applied, time.Now())
	c.seconds.observe(took)
	return applied - deletes, deletes
}

func (c *counters) fill(s *Status) {
	s.Documents, s.Deletes, s.Batches = c.documents.Load(), c.deletes.Load(), c.batches.Load()
	s.Rounds, s.Retries = c.rounds.Load(), c.retries.Load()
	s.Rate = c.rate.perSecond(time.Now())
}

// meter is a rate over the last meterSeconds.
type meter struct {
	mu      sync.Mutex
	buckets [meterSeconds]struct {
		second int64
		count  int
	}
}

const meterSeconds = 10

func (m *meter) add(n int, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	second := now.Unix()
	b := &m.buckets[second%meterSeconds]
	if b.second != second {
		b.second, b.count = second, 0
	}
	b.count += n
}

// perSecond leaves the second that is not over out, unless it is all there is.
func (m *meter) perSecond(now time.Time) float64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	second, sum := now.Unix(), 0
	for _, b := range m.buckets {
		if b.second < second && b.second > second-meterSeconds {
			sum += b.count
		}
	}
	return float64(sum) / (meterSeconds - 1)
}

// histogram counts durations in fixed buckets, in the form that Prometheus wants.
type histogram struct {
	mu     sync.Mutex
	counts [len(histogramBounds)]uint64 // each of durations up to its bound and over the one before
	count  uint64
	sum    float64
}

// histogramBounds are in seconds.
var histogramBounds = [...]float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}

func (h *histogram) observe(d time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	seconds := d.Seconds()
	h.count++
	h.sum += seconds
	for i, bound := range histogramBounds {
		if seconds <= bound {
			h.counts[i]++
			return
		}
	}
}

// cumulative is the histogram's state, with each bucket counting all durations up to its bound.
func (h *histogram) cumulative() (count uint64, sum float64, buckets map[float64]uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	buckets = make(map[float64]uint64, len(histogramBounds))
	total := uint64(0)
	for i, bound := range histogramBounds {
		total += h.counts[i]
		buckets[bound] = total
	}
	return h.count, h.sum, buckets
}
