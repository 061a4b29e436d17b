package deadletter

import (
	"context"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

var (
	lettersDesc = prometheus.NewDesc("lanternist_dead_letters", "Dead letters now.", []string{"projector", "class"}, nil)
	oldestDesc  = prometheus.NewDesc("lanternist_dead_letters_oldest_seconds", "Age of the oldest dead letter.", []string{"projector", "class"}, nil)
)

// metricsTimeout bounds looking for the oldest letter.
const metricsTimeout = 10 * time.Second

// Register exports how many letters there are, and how old the oldest is, by projector and class.
func Register(registerer prometheus.Registerer, s *Store) error {
	if err := registerer.Register(collector{s}); err != nil {
		return fmt.Errorf("register metrics of dead letters: %w", err)
	}
	return nil
}

type collector struct{ store *Store }

// Describe implements prometheus.Collector.
func (c collector) Describe(out chan<- *prometheus.Desc) {
	out <- lettersDesc
	out <- oldestDesc
}

// Collect implements prometheus.Collector.
func (c collector) Collect(out chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), metricsTimeout)
	defer cancel()
	depths, err := c.store.Depths(ctx)
	if err != nil {
		out <- prometheus.NewInvalidMetric(lettersDesc, err)
		return
	}
	for _, d := range depths {
		out <- prometheus.MustNewConstMetric(lettersDesc, prometheus.GaugeValue, float64(d.Letters), d.Projector, d.Class)
		out <- prometheus.MustNewConstMetric(oldestDesc, prometheus.GaugeValue, max(0, time.Since(d.Oldest).Seconds()), d.Projector, d.Class)
	}
}
