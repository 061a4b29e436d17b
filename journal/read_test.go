package journal_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pglogrepl"

	"github.com/lanternist/lanternist/event"
	"github.com/lanternist/lanternist/journal"
)

func TestNextFindsTheEventAfter(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, journal.Config{MinSequence: 10})
	fill(t, j, 1, 5) // batches 11-15 of two events
	for range 2 {
		for _, test := range []struct {
			after event.Offset
			want  uint64
		}{
			{0, 10}, {event.NewOffset(3, 7), 10}, {event.NewOffset(9, 0xffff), 10},
			{event.NewOffset(10, 0), 11}, {event.NewOffset(11, 0), 11}, {event.NewOffset(11, 1), 12},
			{event.NewOffset(11, 9), 12}, {event.NewOffset(11, 0xffff), 12}, {event.NewOffset(15, 0), 15},
		} {
			b, err := j.Next(t.Context(), test.after)
			if err != nil || b.Sequence != test.want {
				t.Errorf("after %s comes %+v, %v; want batch %d", test.after, b, err, test.want)
			}
		}
		if _, err := j.Next(t.Context(), event.NewOffset(16, 0)); !errors.Is(err, journal.ErrBehind) {
			t.Errorf("after what the journal does not have: %v", err)
		}
		if _, err := j.Read(t.Context(), 16); !errors.Is(err, journal.ErrNotFound) {
			t.Errorf("read what is not there yet: %v", err)
		}
		if _, err := j.Read(t.Context(), 9); !errors.Is(err, journal.ErrTrimmed) {
			t.Errorf("read what was never there: %v", err)
		}
		j = cold(t, j, dir, journal.Config{})
	}
}

// TestNextWaits for the append that it needs, and for no other.
func TestNextWaits(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		j := open(t, dir, journal.Config{})
		fill(t, j, 1, 1)
		head := j.Head().Offset
		ctx, cancel := context.WithCancel(t.Context())
		got := make(chan string, 3)
		for range 2 {
			go func() {
				b, err := j.Next(t.Context(), head)
				if err != nil {
					got <- err.Error()
					return
				}
				got <- fmt.Sprint(b.Sequence)
			}()
		}
		go func() {
			_, err := j.Next(ctx, head)
			got <- err.Error()
		}()
		synctest.Wait()
		if len(got) != 0 {
			t.Fatalf("a reader did not wait: %s", <-got)
		}
		cancel()
		if s := <-got; s != context.Canceled.Error() {
			t.Fatalf("a reader whose context ended got %s", s)
		}
		fill(t, j, 2, 2)
		for range 2 {
			if s := <-got; s != "3" {
				t.Fatalf("a reader got %s", s)
			}
		}
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// TestReadersWhileAppending: each reader sees each event once and in order, wherever it comes from.
func TestReadersWhileAppending(t *testing.T) {
	j := open(t, t.TempDir(), journal.Config{CacheBytes: 4 << 10}) // a dozen batches: readers fall out of it
	const transactions = 400
	var readers sync.WaitGroup
	for range 3 {
		readers.Go(func() {
			var after event.Offset
			for n := 0; n < transactions; {
				b, err := j.Next(t.Context(), after)
				if err != nil {
					t.Errorf("next after %s: %v", after, err)
					return
				}
				for i := range b.Parts {
					n++
					if want := journal.Describe([]journal.Part{journal.Transaction(n, 2)}); journal.Describe(b.Parts[i:i+1]) != want {
						t.Errorf("batch %d holds not transaction %d", b.Sequence, n)
						return
					}
				}
				after = b.Last()
			}
		})
	}
	fill(t, j, 1, transactions)
	readers.Wait()
	if cached := j.Stats(t.Context()).Cached; cached > 4<<10 {
		t.Errorf("%d bytes are in memory", cached)
	}
}

func TestRecentBatchesAreReadFromMemory(t *testing.T) {
	j := open(t, t.TempDir(), journal.Config{})
	fill(t, j, 1, 50)
	before := j.engine.reads
	after := event.NewOffset(2, 1)
	for after < j.Head().Offset {
		b, err := j.Next(t.Context(), after)
		if err != nil {
			t.Fatal(err)
		}
		after = b.Last()
	}
	if n := j.engine.reads - before; n != 0 {
		t.Errorf("%d entries were read from the engine", n)
	}
}

func TestColdReaderReadsEachEntryOnce(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, journal.Config{})
	fill(t, j, 1, 50)
	j = cold(t, j, dir, journal.Config{})
	before := j.engine.reads
	after := event.NewOffset(2, 0) // in the middle of the first transaction
	for after < j.Head().Offset {
		b, err := j.Next(t.Context(), after)
		if err != nil {
			t.Fatal(err)
		}
		after = b.Last()
	}
	if n := j.engine.reads - before; n != 51 {
		t.Errorf("%d entries were read for 50 batches and one header", n)
	}
}

func TestDamageIsReportedAsARange(t *testing.T) {
	const first, last = 1, 21 // 1 has no events, n+1 holds transaction n
	for _, test := range []struct {
		name     string
		damage   func(f *faulty)
		from, to uint64
	}{
		{"a flipped bit", func(f *faulty) { f.flip(12) }, 12, 12},
		{"flipped bits in a row", func(f *faulty) { f.flip(12, 13, 14, 15, 17) }, 12, 15},
		{"a hole", func(f *faulty) { f.alter(12, gone); f.alter(13, gone) }, 12, 13},
		{"up to the end but for the last", func(f *faulty) {
			for n := uint64(12); n < last; n++ {
				f.flip(n)
			}
		}, 12, last - 1},
		{"an engine that cannot read it", func(f *faulty) {
			f.alter(12, func([]byte) ([]byte, error) { return nil, journal.ErrCorrupt })
		}, 12, 12},
		{"another one in its place", func(f *faulty) {
			f.alter(12, func([]byte) ([]byte, error) { return f.Log.Read(context.Background(), 13) })
		}, 12, 12},
		{"one of another journal", func(f *faulty) {
			f.alter(12, func(entry []byte) ([]byte, error) {
				entry[32] ^= 1
				journal.Reseal(entry)
				return entry, nil
			})
		}, 12, 12},
		{"one that was written anew", func(f *faulty) {
			f.alter(12, func(entry []byte) ([]byte, error) {
				binary.BigEndian.PutUint64(entry[56:], 1)
				journal.Reseal(entry)
				return entry, nil
			})
		}, 12, 13},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			j := open(t, dir, journal.Config{})
			fill(t, j, 1, last-1)
			j = cold(t, j, dir, journal.Config{})
			test.damage(j.engine)
			var after event.Offset
			var err error
			var read uint64
			for head := j.Head().Offset; err == nil && after < head; {
				var b *journal.Batch
				if b, err = j.Next(t.Context(), after); err == nil {
					after, read = b.Last(), b.Sequence
				}
			}
			var corrupt *journal.CorruptError
			if !errors.As(err, &corrupt) || !errors.Is(err, journal.ErrCorrupt) || corrupt.From != test.from || corrupt.To != test.to {
				t.Fatalf("after batch %d: %v; want batches %d-%d", read, err, test.from, test.to)
			}
			if read >= test.to {
				t.Fatalf("batch %d was given out", read)
			}
			if b, err := j.Read(t.Context(), test.to+1); err != nil || b.Sequence != test.to+1 {
				t.Errorf("the batch after the damage: %v", err)
			}
		})
	}
}

// gone makes an entry missing.
func gone([]byte) ([]byte, error) { return nil, journal.ErrNotFound }

func TestDamageAtTheEndsIsFoundAtOpen(t *testing.T) {
	for _, sequence := range []uint64{1, 5} {
		dir := t.TempDir()
		j := open(t, dir, journal.Config{})
		fill(t, j, 1, 4)
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
		engine := &faulty{Log: segmentLog(t, dir)}
		engine.flip(sequence)
		_, err := journal.Open(t.Context(), engine, journal.Known, journal.Config{}, discard())
		var corrupt *journal.CorruptError
		if !errors.As(err, &corrupt) || corrupt.From != sequence || corrupt.To != sequence {
			t.Errorf("damage in batch %d: %v", sequence, err)
		}
		if err := engine.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestSeek(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, journal.Config{})
	// Batches: 1 is empty; 2 holds transactions 1, 2; 3 holds 3 and the beginning of 4; 4 goes on; 5 ends it; 6 holds 5.
	for _, parts := range [][]journal.Part{
		{journal.Transaction(1, 2), journal.Transaction(2, 3)},
		{journal.Transaction(3, 1), journal.PartOf(4, 0, 2, false)},
		{journal.PartOf(4, 2, 3, false)},
		{journal.PartOf(4, 5, 0, true)},
		{journal.Transaction(5, 2)},
	} {
		if _, err := j.Append(t.Context(), parts); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		for _, test := range []struct {
			lsn  pglogrepl.LSN
			want event.Offset // the offset of the first event after it
		}{
			{0, event.NewOffset(2, 0)}, {1000, event.NewOffset(2, 0)}, {1001, event.NewOffset(2, 2)},
			{2000, event.NewOffset(2, 2)}, {2001, event.NewOffset(3, 0)}, {3001, event.NewOffset(3, 1)},
			{4000, event.NewOffset(3, 1)}, {4001, event.NewOffset(6, 0)}, {5000, event.NewOffset(6, 0)}, {5001, 0},
		} {
			byLSN, err := j.SeekLSN(t.Context(), test.lsn)
			if err != nil {
				t.Fatal(err)
			}
			byTime, err := j.SeekTime(t.Context(), journal.Epoch.Add(time.Duration(test.lsn)*time.Millisecond))
			if err != nil {
				t.Fatal(err)
			}
			want := test.want - 1
			if test.want == 0 {
				want = j.Head().Offset
			}
			if byLSN != want || byTime != want {
				t.Errorf("position %d is after %s, its time after %s; want %s", test.lsn, byLSN, byTime, want)
			}
			if test.want == 0 {
				continue
			}
			b, err := j.Next(t.Context(), byLSN)
			if err != nil || b.Sequence != test.want.Sequence() {
				t.Errorf("after %s comes %+v, %v", byLSN, b, err)
			}
		}
		j = cold(t, j, dir, journal.Config{})
	}
}

// TestSeekTimeWhenTheSourcesClockWentBack: nothing that committed at the time or later is missed.
func TestSeekTimeWhenTheSourcesClockWentBack(t *testing.T) {
	j := open(t, t.TempDir(), journal.Config{})
	for n, second := range []int{10, 20, 5, 6, 30} {
		p := journal.Transaction(n+1, 1)
		p.CommitTime = journal.Epoch.Add(time.Duration(second) * time.Second)
		if _, err := j.Append(t.Context(), []journal.Part{p}); err != nil {
			t.Fatal(err)
		}
	}
	for second, want := range map[int]uint64{5: 2, 10: 2, 15: 3, 20: 3, 25: 6, 30: 6} {
		at, err := j.SeekTime(t.Context(), journal.Epoch.Add(time.Duration(second)*time.Second))
		if err != nil || at.Sequence()+1 != want {
			t.Errorf("second %d is after %s, %v; want before batch %d", second, at, err, want)
		}
	}
}

// TestTrimBetweenTheLookAndTheRead is no damage.
func TestTrimBetweenTheLookAndTheRead(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, journal.Config{})
	fill(t, j, 1, 20)
	j = cold(t, j, dir, journal.Config{})
	j.engine.alter(8, func([]byte) ([]byte, error) {
		if err := j.engine.Trim(context.Background(), 15); err != nil {
			t.Error(err)
		}
		return nil, journal.ErrNotFound
	})
	var trimmed *journal.TrimmedError
	if _, err := j.Read(t.Context(), 8); !errors.As(err, &trimmed) || trimmed.First != 15 {
		t.Errorf("read: %v", err)
	}
}
