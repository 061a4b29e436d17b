package archive

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// metric is one number of a Status.
type metric struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(*Status) float64
}

// collector exports an archiver's status. It reads it when it is asked, so nothing is counted twice.
type collector struct {
	archiver *Archiver
	metrics  []metric
}

// Register registers the metrics of an archiver.
func Register(registerer prometheus.Registerer, r *Archiver) error {
	c := &collector{archiver: r}
	add := func(kind prometheus.ValueType, name, help string, value func(*Status) float64) {
		c.metrics = append(c.metrics, metric{prometheus.NewDesc("lanternist_archive_"+name, help, nil, nil), kind, value})
	}
	add(prometheus.GaugeValue, "files", "Files of this journal in the blob store.", func(s *Status) float64 { return float64(s.Files) })
	add(prometheus.GaugeValue, "bytes", "Bytes of them.", func(s *Status) float64 { return float64(s.Bytes) })
	add(prometheus.GaugeValue, "missing_files", "Files that should be there and are not.", func(s *Status) float64 { return float64(s.Missing) })
	add(prometheus.GaugeValue, "first_batch", "Sequence of the first batch archived.", func(s *Status) float64 { return float64(s.First) })
	add(prometheus.GaugeValue, "last_batch", "Sequence of the last batch archived.", func(s *Status) float64 { return float64(s.Last) })
	add(prometheus.GaugeValue, "behind_bytes", "Bytes of batches that are not archived yet.", func(s *Status) float64 { return float64(s.Behind) })
	add(prometheus.GaugeValue, "failing", "1 while attempts to archive fail.", func(s *Status) float64 {
		if s.State == StateFailing {
			return 1
		}
		return 0
	})
	add(prometheus.CounterValue, "written_files_total", "Files written.", func(s *Status) float64 { return float64(s.WrittenFiles) })
	add(prometheus.CounterValue, "written_bytes_total", "Bytes of files written.", func(s *Status) float64 { return float64(s.WrittenBytes) })
	add(prometheus.CounterValue, "archived_bytes_total", "Bytes of batches archived, before compression.", func(s *Status) float64 { return float64(s.WrittenRaw) })
	add(prometheus.CounterValue, "failures_total", "Attempts to archive that failed.", func(s *Status) float64 { return float64(s.FailuresTotal) })
	if err := registerer.Register(c); err != nil {
		return fmt.Errorf("register archive metrics: %w", err)
	}
	return nil
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(out chan<- *prometheus.Desc) {
	for _, m := range c.metrics {
		out <- m.desc
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	s := c.archiver.Status()
	for _, m := range c.metrics {
		out <- prometheus.MustNewConstMetric(m.desc, m.kind, m.value(&s))
	}
}
