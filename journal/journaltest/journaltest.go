// Package journaltest is the conformance suite of journal.Log: what every engine has to do, whatever it is
// made of. An engine's own tests call Run; what only some engines can do is left to them.
package journaltest

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/lanternist/lanternist/journal"
)

// Open opens the log at home, which is unique for each test and may be opened again after Close.
type Open func(t *testing.T, home string) (journal.Log, error)

// Run runs the suite.
func Run(t *testing.T, open Open) {
	for _, test := range []struct {
		name string
		run  func(t *testing.T, s *suite)
	}{
		{"empty", empty},
		{"append and read", appendAndRead},
		{"starts at a high sequence", startsHigh},
		{"refuses a wrong sequence", refusesWrongSequence},
		{"trim", trim},
		{"trim keeps the last entry", trimKeepsLast},
		{"survives reopening", survivesReopening},
		{"reopened after trim", reopenedAfterTrim},
		{"refuses a second writer", refusesSecondWriter},
		{"large entries", largeEntries},
		{"entries over the engine's own bound", entriesOverTheBound},
		{"entries are not shared", notShared},
		{"concurrent readers", concurrentReaders},
		{"context", endedContext},
		{"closed", closed},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, &suite{t: t, open: open, home: t.TempDir()}) })
	}
}

// suite is one test's engine.
type suite struct {
	t    *testing.T
	open Open
	home string
}

// log opens the log and closes it when the test ends.
func (s *suite) log() journal.Log {
	s.t.Helper()
	log, err := s.open(s.t, s.home)
	if err != nil {
		s.t.Fatalf("open: %v", err)
	}
	s.t.Cleanup(func() {
		if err := log.Close(); err != nil {
			s.t.Errorf("close: %v", err)
		}
	})
	return log
}

// Entry is the entry that the tests store under a sequence: some bytes that only it has.
func Entry(sequence uint64) []byte {
	r := rand.New(rand.NewPCG(sequence, 1))
	entry := make([]byte, 8+r.IntN(3000))
	for i := range entry {
		entry[i] = byte(r.Uint32())
	}
	binary.BigEndian.PutUint64(entry, sequence)
	return entry
}

// fill appends entries from..to.
func (s *suite) fill(log journal.Log, from, to uint64) {
	s.t.Helper()
	for sequence := from; sequence <= to; sequence++ {
		if err := log.Append(s.t.Context(), sequence, Entry(sequence)); err != nil {
			s.t.Fatalf("append %d: %v", sequence, err)
		}
	}
}

// holds checks that the log holds exactly the entries first..last.
func (s *suite) holds(log journal.Log, first, last uint64) {
	s.t.Helper()
	gotFirst, gotLast, err := log.Bounds(s.t.Context())
	if err != nil || gotFirst != first || gotLast != last {
		s.t.Fatalf("bounds are %d-%d, %v; want %d-%d", gotFirst, gotLast, err, first, last)
	}
	for sequence := first; sequence <= last && last != 0; sequence++ {
		entry, err := log.Read(s.t.Context(), sequence)
		if err != nil || !bytes.Equal(entry, Entry(sequence)) {
			s.t.Fatalf("entry %d is not what was appended (%d bytes, %v)", sequence, len(entry), err)
		}
	}
	for _, outside := range []uint64{0, first - 1, last + 1, last + 1000} {
		if outside >= first && outside <= last && last != 0 {
			continue
		}
		if _, err := log.Read(s.t.Context(), outside); !errors.Is(err, journal.ErrNotFound) {
			s.t.Fatalf("read %d, outside of %d-%d: %v", outside, first, last, err)
		}
	}
}

func empty(t *testing.T, s *suite) {
	log := s.log()
	s.holds(log, 0, 0)
	if err := log.Trim(t.Context(), 100); err != nil {
		t.Fatalf("trim: %v", err)
	}
	s.holds(log, 0, 0)
	if log.MaxInline() < 64<<10 || log.MaxEntry() < log.MaxInline() {
		t.Fatalf("takes entries of %d bytes, stores %d as they are", log.MaxEntry(), log.MaxInline())
	}
}

func appendAndRead(t *testing.T, s *suite) {
	log := s.log()
	for last := uint64(1); last <= 50; last++ {
		s.fill(log, last, last)
		entry, err := log.Read(t.Context(), last)
		if err != nil || !bytes.Equal(entry, Entry(last)) {
			t.Fatalf("entry %d after it was appended: %d bytes, %v", last, len(entry), err)
		}
	}
	s.holds(log, 1, 50)
	if size, err := log.Size(t.Context()); err != nil || size < 50*8 {
		t.Fatalf("size %d, %v", size, err)
	}
}

func startsHigh(t *testing.T, s *suite) {
	const first = 1 << 40
	log := s.log()
	s.fill(log, first, first+20)
	s.holds(log, first, first+20)
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	log = s.log()
	s.fill(log, first+21, first+30)
	s.holds(log, first, first+30)
}

func refusesWrongSequence(t *testing.T, s *suite) {
	log := s.log()
	s.fill(log, 5, 10)
	for _, sequence := range []uint64{0, 1, 9, 10, 12, 1000} {
		if err := log.Append(t.Context(), sequence, Entry(sequence)); !errors.Is(err, journal.ErrFenced) {
			t.Fatalf("append %d after 10: %v", sequence, err)
		}
	}
	s.holds(log, 5, 10)
	s.fill(log, 11, 12) // nothing was written, so the log goes on
	s.holds(log, 5, 12)
}

func trim(t *testing.T, s *suite) {
	log := s.log()
	s.fill(log, 1, 60)
	for _, before := range []uint64{0, 1, 2, 30, 10, 59} { // 10 has gone already
		if err := log.Trim(t.Context(), before); err != nil {
			t.Fatalf("trim before %d: %v", before, err)
		}
		first := max(before, 1)
		if before == 10 {
			first = 30
		}
		s.holds(log, first, 60)
	}
	s.fill(log, 61, 70)
	s.holds(log, 59, 70)
}

func trimKeepsLast(t *testing.T, s *suite) {
	log := s.log()
	s.fill(log, 1, 10)
	for _, before := range []uint64{10, 11, 5000} {
		if err := log.Trim(t.Context(), before); err != nil {
			t.Fatalf("trim before %d: %v", before, err)
		}
		s.holds(log, 10, 10)
	}
	s.fill(log, 11, 12)
	s.holds(log, 10, 12)
}

func survivesReopening(t *testing.T, s *suite) {
	last := uint64(0)
	for range 5 {
		log := s.log()
		s.fill(log, last+1, last+7)
		last += 7
		s.holds(log, 1, last)
		if err := log.Close(); err != nil {
			t.Fatalf("close: %v", err)
		}
	}
	s.holds(s.log(), 1, last)
}

func reopenedAfterTrim(t *testing.T, s *suite) {
	log := s.log()
	s.fill(log, 1, 40)
	if err := log.Trim(t.Context(), 25); err != nil {
		t.Fatal(err)
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	log = s.log()
	s.holds(log, 25, 40)
	if err := log.Trim(t.Context(), 1000); err != nil {
		t.Fatal(err)
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	log = s.log()
	s.holds(log, 40, 40)
	s.fill(log, 41, 42)
	s.holds(log, 40, 42)
}

// refusesSecondWriter: the second is refused when it opens, or the one that has been overtaken when it appends.
func refusesSecondWriter(t *testing.T, s *suite) {
	first := s.log()
	s.fill(first, 1, 3)
	second, err := s.open(t, s.home)
	if errors.Is(err, journal.ErrLocked) {
		s.fill(first, 4, 5)
		s.holds(first, 1, 5)
		return
	}
	if err != nil {
		t.Fatalf("second open: %v", err)
	}
	s.t.Cleanup(func() {
		if err := second.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	s.fill(second, 4, 6)
	if err := first.Append(t.Context(), 4, []byte("from the first writer")); !errors.Is(err, journal.ErrFenced) {
		t.Fatalf("append of the writer that was overtaken: %v", err)
	}
	if err := first.Append(t.Context(), 7, []byte("from the first writer")); err == nil {
		t.Fatal("the writer that was overtaken may go on")
	}
	s.fill(second, 7, 8)
	s.holds(second, 1, 8)
}

func largeEntries(t *testing.T, s *suite) {
	log := s.log()
	large := bytes.Repeat([]byte("0123456789abcdef"), min(log.MaxInline(), 8<<20)/16)
	s.fill(log, 1, 1)
	if err := log.Append(t.Context(), 2, large); err != nil {
		t.Fatalf("append %d bytes: %v", len(large), err)
	}
	s.fill(log, 3, 3)
	got, err := log.Read(t.Context(), 2)
	if err != nil || !bytes.Equal(got, large) {
		t.Fatalf("read %d bytes, %v; want %d", len(got), err, len(large))
	}
	if err := log.Append(t.Context(), 4, make([]byte, log.MaxEntry()+1)); !errors.Is(err, journal.ErrTooLarge) {
		t.Fatalf("append over the bound: %v", err)
	}
	s.fill(log, 4, 4)
	for _, sequence := range []uint64{1, 3, 4} {
		if got, err := log.Read(t.Context(), sequence); err != nil || !bytes.Equal(got, Entry(sequence)) {
			t.Fatalf("entry %d beside a large one: %d bytes, %v", sequence, len(got), err)
		}
	}
}

// entriesOverTheBound: what the engine stores elsewhere is read as if it lay in the log, and goes with it.
func entriesOverTheBound(t *testing.T, s *suite) {
	log := s.log()
	over := func(sequence uint64) []byte {
		entry := bytes.Repeat(Entry(sequence), 1+log.MaxInline()/len(Entry(sequence)))
		return append(entry, byte(sequence))
	}
	holds := func(log journal.Log, large ...uint64) {
		t.Helper()
		for _, sequence := range large {
			if got, err := log.Read(t.Context(), sequence); err != nil || !bytes.Equal(got, over(sequence)) {
				t.Fatalf("large entry %d: %d bytes, %v; want %d", sequence, len(got), err, len(over(sequence)))
			}
		}
	}
	s.fill(log, 1, 1)
	for _, sequence := range []uint64{2, 3, 5} {
		if sequence == 5 {
			s.fill(log, 4, 4)
		}
		if err := log.Append(t.Context(), sequence, over(sequence)); err != nil {
			t.Fatalf("append %d bytes: %v", len(over(sequence)), err)
		}
	}
	s.fill(log, 6, 6)
	holds(log, 2, 3, 5)
	whole, err := log.Size(t.Context())
	if err != nil || whole < int64(3*log.MaxInline()) {
		t.Fatalf("size %d, %v", whole, err)
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	log = s.log()
	holds(log, 2, 3, 5)
	if err := log.Trim(t.Context(), 4); err != nil {
		t.Fatal(err)
	}
	holds(log, 5)
	for _, gone := range []uint64{2, 3} {
		if _, err := log.Read(t.Context(), gone); !errors.Is(err, journal.ErrNotFound) {
			t.Fatalf("trimmed entry %d: %v", gone, err)
		}
	}
	if size, err := log.Size(t.Context()); err != nil || size > whole-int64(2*log.MaxInline()) {
		t.Fatalf("size %d after two large entries were trimmed of %d, %v", size, whole, err)
	}
	if err := log.Append(t.Context(), 7, over(7)); err != nil {
		t.Fatal(err)
	}
	holds(log, 5, 7)
}

// notShared: an engine keeps neither the slice it was given nor the one it gave.
func notShared(t *testing.T, s *suite) {
	log := s.log()
	entry := Entry(1)
	if err := log.Append(t.Context(), 1, entry); err != nil {
		t.Fatal(err)
	}
	clear(entry)
	got, err := log.Read(t.Context(), 1)
	if err != nil || !bytes.Equal(got, Entry(1)) {
		t.Fatalf("the entry changed with the slice that was appended, or %v", err)
	}
	clear(got)
	if got, err = log.Read(t.Context(), 1); err != nil || !bytes.Equal(got, Entry(1)) {
		t.Fatalf("the entry changed with the slice that was read, or %v", err)
	}
}

// concurrentReaders read while entries are appended and trimmed.
func concurrentReaders(t *testing.T, s *suite) {
	const last = 120
	log := s.log()
	s.fill(log, 1, 1)
	ctx, cancel := context.WithCancel(t.Context())
	var readers sync.WaitGroup
	for n := range 3 {
		readers.Go(func() {
			r := rand.New(rand.NewPCG(uint64(n), 2))
			for ctx.Err() == nil {
				if err := readOne(ctx, log, r); err != nil && ctx.Err() == nil {
					t.Errorf("reader %d: %v", n, err)
					return
				}
			}
		})
	}
	for sequence := uint64(2); sequence <= last; sequence++ {
		s.fill(log, sequence, sequence)
		if sequence%20 == 0 {
			if err := log.Trim(t.Context(), sequence-15); err != nil {
				t.Errorf("trim: %v", err)
			}
		}
	}
	cancel()
	readers.Wait()
	s.holds(log, last-15, last)
}

// readOne reads a random entry within the bounds; one that has been trimmed meanwhile may be gone.
func readOne(ctx context.Context, log journal.Log, r *rand.Rand) error {
	first, last, err := log.Bounds(ctx)
	if err != nil {
		return err
	}
	if first == 0 || first > last {
		return fmt.Errorf("bounds are %d-%d", first, last)
	}
	sequence := first + r.Uint64N(last-first+1)
	entry, err := log.Read(ctx, sequence)
	if errors.Is(err, journal.ErrNotFound) {
		if first, _, err = log.Bounds(ctx); err == nil && first <= sequence {
			err = fmt.Errorf("entry %d is missing", sequence)
		}
		return err
	}
	if err != nil {
		return fmt.Errorf("entry %d: %w", sequence, err)
	}
	if !bytes.Equal(entry, Entry(sequence)) {
		return fmt.Errorf("entry %d is not what was appended", sequence)
	}
	return nil
}

func endedContext(t *testing.T, s *suite) {
	log := s.log()
	s.fill(log, 1, 2)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := log.Append(ctx, 3, Entry(3)); !errors.Is(err, context.Canceled) {
		t.Errorf("append: %v", err)
	}
	if _, err := log.Read(ctx, 1); !errors.Is(err, context.Canceled) {
		t.Errorf("read: %v", err)
	}
	if _, _, err := log.Bounds(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("bounds: %v", err)
	}
	s.fill(log, 3, 3) // nothing was written, so the log goes on
	s.holds(log, 1, 3)
}

func closed(t *testing.T, s *suite) {
	log := s.log()
	s.fill(log, 1, 2)
	for range 2 {
		if err := log.Close(); err != nil {
			t.Fatalf("close: %v", err)
		}
	}
	if err := log.Append(t.Context(), 3, Entry(3)); !errors.Is(err, journal.ErrClosed) {
		t.Errorf("append: %v", err)
	}
	if _, err := log.Read(t.Context(), 1); !errors.Is(err, journal.ErrClosed) {
		t.Errorf("read: %v", err)
	}
	if _, _, err := log.Bounds(t.Context()); !errors.Is(err, journal.ErrClosed) {
		t.Errorf("bounds: %v", err)
	}
	if err := log.Trim(t.Context(), 2); !errors.Is(err, journal.ErrClosed) {
		t.Errorf("trim: %v", err)
	}
}
