package journal_test

import (
	"context"
	"log/slog"
	"sync"
	"testing"

	"github.com/lanternist/lanternist/journal"
	"github.com/lanternist/lanternist/journal/segments"
)

// faulty is a real log between which and the journal a test may step.
type faulty struct {
	journal.Log
	mu     sync.Mutex
	reads  int
	most   int                                           // what MaxEntry is to be, unless 0
	change map[uint64]func(entry []byte) ([]byte, error) // what is read of a sequence
	append func(sequence uint64) error                   // what happens before an append
}

// Read implements journal.Log.
func (f *faulty) Read(ctx context.Context, sequence uint64) ([]byte, error) {
	entry, err := f.Log.Read(ctx, sequence)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.reads++
	if change := f.change[sequence]; change != nil && err == nil {
		return change(entry)
	}
	return entry, err
}

// MaxEntry implements journal.Log.
func (f *faulty) MaxEntry() int {
	if f.most != 0 {
		return f.most
	}
	return f.Log.MaxEntry()
}

// Append implements journal.Log.
func (f *faulty) Append(ctx context.Context, sequence uint64, entry []byte) error {
	if f.append != nil {
		if err := f.append(sequence); err != nil {
			return err
		}
	}
	return f.Log.Append(ctx, sequence, entry)
}

// flip makes a log answer with a flipped bit for some sequences.
func (f *faulty) flip(sequences ...uint64) {
	for _, sequence := range sequences {
		f.alter(sequence, func(entry []byte) ([]byte, error) {
			entry[len(entry)-1] ^= 0x10
			return entry, nil
		})
	}
}

// alter makes a log answer otherwise for a sequence.
func (f *faulty) alter(sequence uint64, change func([]byte) ([]byte, error)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.change == nil {
		f.change = map[uint64]func([]byte) ([]byte, error){}
	}
	f.change[sequence] = change
}

// opened is a journal on a folder.
type opened struct {
	*journal.Journal
	engine *faulty
}

// open opens the journal in dir and closes it when the test ends.
func open(t testing.TB, dir string, cfg journal.Config) opened {
	t.Helper()
	o, err := tryOpen(t, dir, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// tryOpen is open for journals that may be refused.
func tryOpen(t testing.TB, dir string, cfg journal.Config) (opened, error) {
	t.Helper()
	log, err := segments.Open(dir, segments.Config{SegmentSize: 64 << 10}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	engine := &faulty{Log: log}
	j, err := journal.Open(t.Context(), engine, journal.Known, cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		if closeErr := engine.Close(); closeErr != nil {
			t.Fatal(closeErr)
		}
		return opened{}, err
	}
	t.Cleanup(func() { j.Close() })
	return opened{j, engine}, nil
}

// cold opens a journal that holds what another wrote, with nothing in memory.
func cold(t testing.TB, warm opened, dir string, cfg journal.Config) opened {
	t.Helper()
	if err := warm.Close(); err != nil {
		t.Fatal(err)
	}
	return open(t, dir, cfg)
}

// fill appends the transactions from..to, one batch each, of two events each.
func fill(t testing.TB, j opened, from, to int) {
	t.Helper()
	for n := from; n <= to; n++ {
		if _, err := j.Append(t.Context(), []journal.Part{journal.Transaction(n, 2)}); err != nil {
			t.Fatalf("append transaction %d: %v", n, err)
		}
	}
}

// segmentLog opens an engine alone.
func segmentLog(t testing.TB, dir string) *segments.Log {
	t.Helper()
	log, err := segments.Open(dir, segments.Config{}, discard())
	if err != nil {
		t.Fatal(err)
	}
	return log
}

// discard is a logger for what a test does not look at.
func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }
