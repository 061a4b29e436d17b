package httpapi

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the API's own.
type metrics struct {
	requests  *prometheus.CounterVec
	durations *prometheus.HistogramVec
	waits     prometheus.Histogram
}

// secondsBuckets span what a cached read and a long wait take.
var secondsBuckets = []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30}

func newMetrics(registry prometheus.Registerer, s *Server) (*metrics, error) {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "lanternist_http_requests_total", Help: "Requests answered.",
		}, []string{"route", "status"}),
		durations: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "lanternist_http_request_seconds", Help: "Time to answer, waiting included.", Buckets: secondsBuckets,
		}, []string{"route"}),
		waits: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "lanternist_http_wait_seconds", Help: "Time that requests with a token waited for it, of those that had to.", Buckets: secondsBuckets,
		}),
	}
	waiting := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "lanternist_http_waiting", Help: "Requests that wait for a token now.",
	}, func() float64 { return float64(len(s.waiters)) })
	for _, c := range append(s.resourceMetrics(), m.requests, m.durations, m.waits, waiting, jobMetrics{s}) {
		if err := registry.Register(c); err != nil {
			return nil, fmt.Errorf("http: register metrics: %w", err)
		}
	}
	return m, nil
}

// jobMetrics are those of long work, of each kind and subject the last. They are read from the jobs when asked for.
type jobMetrics struct{ server *Server }

var jobDescs = struct{ done, total, rate, left, running, failed *prometheus.Desc }{
	jobDesc("done", "How much of a long piece of work is done."),
	jobDesc("total", "About how much there is; 0 while it is not known."),
	jobDesc("rate", "Done per second, lately; of one that has ended, on the whole."),
	jobDesc("left_seconds", "How long the rest takes at this rate. Missing while that is not known."),
	jobDesc("running", "1 while it runs."),
	jobDesc("failed", "1 when the last one failed."),
}

func jobDesc(name, help string) *prometheus.Desc {
	return prometheus.NewDesc("lanternist_job_"+name, help, []string{"kind", "subject"}, nil)
}

// Describe implements prometheus.Collector.
func (m jobMetrics) Describe(out chan<- *prometheus.Desc) {
	d := jobDescs
	for _, desc := range []*prometheus.Desc{d.done, d.total, d.rate, d.left, d.running, d.failed} {
		out <- desc
	}
}

// Collect implements prometheus.Collector.
func (m jobMetrics) Collect(out chan<- prometheus.Metric) {
	for _, j := range m.server.Jobs() {
		gauge := func(desc *prometheus.Desc, value float64) {
			out <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, j.Kind, j.Subject)
		}
		gauge(jobDescs.done, float64(j.Done))
		gauge(jobDescs.total, float64(j.Total))
		gauge(jobDescs.rate, j.Rate)
		gauge(jobDescs.running, truth(j.State == JobRunning))
		gauge(jobDescs.failed, truth(j.State == JobFailed))
		if j.Left != nil {
			gauge(jobDescs.left, *j.Left)
		}
	}
}

func truth(is bool) float64 {
	if is {
		return 1
	}
	return 0
}
