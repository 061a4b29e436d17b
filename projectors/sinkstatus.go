package projectors

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// SinkStatus is what the projectors of one sink share, at one moment.
type SinkStatus struct {
	Sink    string        `json:"sink"` // "search", "cache"
	Circuit CircuitStatus `json:"circuit"`
	Memory  MemoryStatus  `json:"memory"`
	// WriteBytes is how large one request of documents is made now; it shrinks when the sink is slow or refuses, and grows back.
	WriteBytes int `json:"write_bytes"`
}

// sinkCollector exports the status of sinks as Prometheus metrics, labelled by sink.
type sinkCollector struct{ sinks func() []SinkStatus }

// RegisterSinks registers metrics of what sinks asks for.
func RegisterSinks(registerer prometheus.Registerer, sinks func() []SinkStatus) error {
	if err := registerer.Register(sinkCollector{sinks}); err != nil {
		return fmt.Errorf("register sink metrics: %w", err)
	}
	return nil
}

func describeSink(name, help string, more ...string) *prometheus.Desc {
	return prometheus.NewDesc("lanternist_sink_"+name, help, append([]string{"sink"}, more...), nil)
}

var (
	circuitDesc = describeSink("circuit", "1 for the state that the sink's circuit is in, for writers and for readers.", "for", "state")
	openedDesc  = describeSink("circuit_opened_total", "Times that the sink's circuit has opened.")
	probesDesc  = describeSink("circuit_probes_total", "Times that the sink was tried while its circuit was open.")
	sizeDesc    = describeSink("write_bytes", "How large one request of documents is made now.")
	memoryDesc  = describeSink("memory_bytes", "Memory reserved for documents on their way, and for batches of the journal read from disk.", "for")
	limitDesc   = describeSink("memory_limit_bytes", "Memory that may be reserved.")
	waitingDesc = describeSink("memory_waiting", "Workers and projectors that wait for memory.")
)

// Describe implements prometheus.Collector.
func (c sinkCollector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{circuitDesc, openedDesc, probesDesc, sizeDesc, memoryDesc, limitDesc, waitingDesc} {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (c sinkCollector) Collect(out chan<- prometheus.Metric) {
	for _, s := range c.sinks() {
		gauge := func(d *prometheus.Desc, value float64, labels ...string) {
			out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, append([]string{s.Sink}, labels...)...)
		}
		count := func(d *prometheus.Desc, value uint64) {
			out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(value), s.Sink)
		}
		for _, state := range circuitStates {
			gauge(circuitDesc, oneIf(state == s.Circuit.State), "writes", string(state))
			gauge(circuitDesc, oneIf(state == s.Circuit.Reads), "reads", string(state))
		}
		count(openedDesc, s.Circuit.Opened)
		count(probesDesc, s.Circuit.Probes)
		gauge(sizeDesc, float64(s.WriteBytes))
		gauge(memoryDesc, float64(s.Memory.Documents), "documents")
		gauge(memoryDesc, float64(s.Memory.Batches), "batches")
		gauge(limitDesc, float64(s.Memory.Limit))
		gauge(waitingDesc, float64(s.Memory.Waiting))
	}
}

func oneIf(is bool) float64 {
	if is {
		return 1
	}
	return 0
}
