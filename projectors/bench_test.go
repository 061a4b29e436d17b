package projectors

import (
	"fmt"
	"testing"

	"github.com/jackc/pglogrepl"

	"github.com/lanternist/lanternist/row"
)

// BenchmarkBacklog applies a backlog of changes, each of another document, to a sink that costs nothing.
func BenchmarkBacklog(b *testing.B) {
	const documents = 20_000
	view := compile(b, orderView)
	s, sink := newSource(b, view), newMemory()
	defaults := func(c *Config) { c.PieceDocuments, c.Workers = 0, 0 }
	r := s.runner(view, sink, defaults)
	stop := s.run(r)
	s.commit(insert(customers, "1", "Ada"))
	s.reach(r, commitMany(s, documents, insert))
	_ = stop()
	b.ReportAllocs()
	changes := 0
	for b.Loop() {
		b.StopTimer()
		token := commitMany(s, documents, update)
		changes += documents
		r := s.runner(view, sink, defaults)
		b.StartTimer()
		stop := s.run(r)
		s.reach(r, token)
		b.StopTimer()
		_ = stop()
		b.StartTimer()
	}
	b.ReportMetric(float64(changes)/b.Elapsed().Seconds(), "changes/s")
}

// BenchmarkCommitToWatermark is what a runner adds between the commit of the mirror and the watermark.
func BenchmarkCommitToWatermark(b *testing.B) {
	view := compile(b, orderView)
	s, sink := newSource(b, view), newMemory()
	r := s.runner(view, sink)
	s.run(r)
	s.reach(r, s.commit(insert(orders, "1", "1", "new")))
	i := 0
	for b.Loop() {
		b.StopTimer()
		i++
		token := s.commit(update(orders, "1", "1", fmt.Sprint(i)))
		b.StartTimer()
		s.reach(r, token)
	}
}

func commitMany(s *source, n int, op func(*row.Schema, ...string) change) (token pglogrepl.LSN) {
	const batch = 1000
	for from := 0; from < n; from += batch {
		changes := make([]change, batch)
		for i := range changes {
			s.serial++
			changes[i] = op(orders, fmt.Sprint(from+i), "1", fmt.Sprint("status ", s.serial))
		}
		token = s.commit(changes...)
	}
	return token
}
