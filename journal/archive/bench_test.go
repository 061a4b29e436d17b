package archive

import (
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/lanternist/lanternist/journal"
)

// benchWorld is a journal in memory with about so many MiB of small changes.
func benchWorld(b *testing.B, mib int) *world {
	w := &world{t: b, memory: &memoryLog{}, store: folderStore(b), random: rand.New(rand.NewPCG(1, 1)), all: map[uint64]string{}}
	w.open(journal.Retention{})
	for w.journal.Head().Position < uint64(mib)<<20 {
		w.n++
		if _, err := w.journal.Append(b.Context(), []journal.Part{transaction(w.random, w.n, 100, 120)}); err != nil {
			b.Fatal(err)
		}
	}
	return w
}

func BenchmarkWrite(b *testing.B) {
	w := benchWorld(b, 64)
	bytes := w.journal.Head().Position
	b.SetBytes(int64(bytes))
	b.ReportAllocs()
	for b.Loop() {
		w.store = folderStore(b)
		w.archive = New(opened(w.store), w.archive.id, quiet())
		w.archiveAll(Config{})
	}
	b.ReportMetric(float64(bytes)/float64(w.archive.files.Load().bytes), "ratio")
}

func BenchmarkRead(b *testing.B) {
	w := benchWorld(b, 64)
	w.archiveAll(Config{})
	last := w.journal.Head().Offset.Sequence()
	b.Run("entries", func(b *testing.B) {
		b.SetBytes(int64(w.journal.Head().Position))
		b.ReportAllocs()
		for b.Loop() {
			w.archive = New(opened(w.store), w.archive.id, quiet())
			if err := w.archive.Load(b.Context()); err != nil {
				b.Fatal(err)
			}
			for sequence := uint64(1); sequence <= last; sequence++ {
				if _, err := w.archive.Read(b.Context(), sequence); err != nil {
					b.Fatal(err)
				}
			}
		}
	})
	w.t = b
	w.append(1, 1, 1)
	w.trim(last + 1)
	b.Run("batches", func(b *testing.B) {
		b.SetBytes(int64(w.journal.Head().Position))
		b.ReportAllocs()
		for b.Loop() {
			w.fresh()
			for sequence := uint64(1); sequence <= last; sequence++ {
				if _, err := w.journal.Read(b.Context(), sequence); err != nil {
					b.Fatal(err)
				}
			}
		}
	})
	b.Run("verify", func(b *testing.B) {
		b.SetBytes(int64(w.journal.Head().Position))
		for b.Loop() {
			if v, err := w.archive.Verify(b.Context(), w.engine, nil); err != nil || len(v.Damage) > 0 {
				b.Fatal(errors.Join(err), v.Damage)
			}
		}
	})
}
