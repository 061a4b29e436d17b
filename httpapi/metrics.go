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
	for _, c := range []prometheus.Collector{m.requests, m.durations, m.waits, waiting} {
		if err := registry.Register(c); err != nil {
			return nil, fmt.Errorf("http: register metrics: %w", err)
		}
	}
	return m, nil
}
