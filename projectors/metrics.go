package projectors

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// Collector exports the status of runners as Prometheus metrics, labelled by projector and sink. It reads their status when
// it is asked, so nothing is counted twice.
type Collector struct {
	runners func() []*Runner
}

// Register registers a Collector of the runners that there are whenever it is asked: they may come and go.
func Register(registerer prometheus.Registerer, runners func() []*Runner) error {
	if err := registerer.Register(&Collector{runners: runners}); err != nil {
		return fmt.Errorf("register projector metrics: %w", err)
	}
	return nil
}

// metric is one number of a Status.
type metric struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(*Status) float64
}

var metricLabels = []string{"projector", "sink"}

func describe(name, help string) *prometheus.Desc {
	return prometheus.NewDesc("lanternist_projector_"+name, help, metricLabels, nil)
}

var (
	metrics = []metric{
		counter("documents_total", "Documents written.", func(s *Status) float64 { return float64(s.Documents) }),
		counter("deletes_total", "Documents removed.", func(s *Status) float64 { return float64(s.Deletes) }),
		counter("batches_total", "Writes that the sink answered.", func(s *Status) float64 { return float64(s.Batches) }),
		counter("rounds_total", "Rounds of events applied as a whole.", func(s *Status) float64 { return float64(s.Rounds) }),
		counter("retries_total", "Attempts that failed and were repeated.", func(s *Status) float64 { return float64(s.Retries) }),
		gauge("dead_letters", "Documents parked now.", func(s *Status) float64 { return float64(s.Parked) }),
		gauge("generation", "Generation that readers see; 0 when there is none.", func(s *Status) float64 { return float64(s.Generation) }),
		gauge("watermark_offset", "Journal offset up to which everything is applied or parked.", func(s *Status) float64 { return float64(s.Offset) }),
		gauge("watermark_lsn", "LSN before which everything committed is applied or parked.", func(s *Status) float64 { return float64(s.LSN) }),
		gauge("lag_events", "Events in the journal that are not applied, estimated.", func(s *Status) float64 { return float64(s.LagEvents) }),
		gauge("lag_bytes", "WAL between the watermark and the journal's end, in bytes.", func(s *Status) float64 { return float64(s.LagBytes) }),
		gauge("lag_seconds", "Age of the oldest batch that is not applied.", func(s *Status) float64 { return s.LagSeconds }),
	}
	parkedDesc = describe("parked_total", "Documents parked.")
	stateDesc  = prometheus.NewDesc("lanternist_projector_state", "1 for the state that the projector is in.", append(metricLabels, "state"), nil)
	pausedDesc = prometheus.NewDesc("lanternist_projector_paused", "1 for each reason why the projector is paused: file and line of the view, and what of a table has changed.", append(metricLabels, "reason"), nil)
	writeDesc  = describe("write_seconds", "Time the sink took to answer a write.")
	states     = []State{StateStopped, StateStarting, StateWaiting, StateBuilding, StateRunning, StateRetrying, StatePaused}
)

func counter(name, help string, value func(*Status) float64) metric {
	return metric{describe(name, help), prometheus.CounterValue, value}
}

func gauge(name, help string, value func(*Status) float64) metric {
	return metric{describe(name, help), prometheus.GaugeValue, value}
}

// Describe implements prometheus.Collector.
func (c *Collector) Describe(out chan<- *prometheus.Desc) {
	for _, m := range metrics {
		out <- m.desc
	}
	out <- parkedDesc
	out <- stateDesc
	out <- writeDesc
	out <- pausedDesc
}

// Collect implements prometheus.Collector.
func (c *Collector) Collect(out chan<- prometheus.Metric) {
	for _, r := range c.runners() {
		s := r.Status()
		for _, m := range metrics {
			out <- prometheus.MustNewConstMetric(m.desc, m.kind, m.value(&s), s.Projector, s.Sink)
		}
		out <- prometheus.MustNewConstMetric(parkedDesc, prometheus.CounterValue, float64(r.counters.parked.Load()), s.Projector, s.Sink)
		for _, state := range states {
			value := 0.0
			if state == s.State {
				value = 1
			}
			out <- prometheus.MustNewConstMetric(stateDesc, prometheus.GaugeValue, value, s.Projector, s.Sink, string(state))
		}
		for _, reason := range s.Paused {
			out <- prometheus.MustNewConstMetric(pausedDesc, prometheus.GaugeValue, 1, s.Projector, s.Sink, reason)
		}
		count, sum, buckets := r.counters.seconds.cumulative()
		out <- prometheus.MustNewConstHistogram(writeDesc, count, sum, buckets, s.Projector, s.Sink)
	}
}
