package archive

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"gocloud.dev/blob"
	"gocloud.dev/blob/memblob"
	"pgregory.net/rapid"

	"github.com/lanternist/lanternist/backoff"
	"github.com/lanternist/lanternist/event"
	"github.com/lanternist/lanternist/internal/bucket"
	"github.com/lanternist/lanternist/internal/devstack"
	"github.com/lanternist/lanternist/journal"
)

// until waits until an archiver's status is as it should be.
func until(t testing.TB, r *Archiver, what string, is func(s Status) bool) {
	t.Helper()
	devstack.Eventually(t, 20*time.Second, func() error {
		if s := r.Status(); !is(s) {
			return fmt.Errorf("%s: status is %+v", what, s)
		}
		return nil
	})
}

func TestFilesAreWrittenWhenTheyAreFull(t *testing.T) {
	w := newWorld(t, memoryStore(t), journal.Retention{})
	r := w.archiver(Config{FileSize: 10 << 10})
	run(t, r)
	until(t, r, "running", func(s Status) bool { return s.State == StateRunning })
	if s := r.Status(); s.Files != 0 || s.Behind == 0 {
		t.Errorf("status %+v", s)
	}
	w.append(100, 2, 200)
	until(t, r, "files", func(s Status) bool { return s.Behind < 10<<10 })
	s := r.Status()
	if s.First != 1 || s.Files < 3 || s.WrittenFiles != uint64(s.Files) || s.WrittenRaw == 0 || s.Since.IsZero() || s.Bytes != int64(s.WrittenBytes) {
		t.Errorf("status %+v", s)
	}
	// What is left is written when somebody asks for it, and not written again.
	if wanted := r.Request(); wanted != 101 {
		t.Errorf("wanted %d", wanted)
	}
	until(t, r, "all", func(s Status) bool { return s.Last == 101 && s.Behind == 0 && s.Wanted == 0 && s.Since.IsZero() })
	files := r.Status().Files
	r.Request()
	w.append(1, 1, 1)
	r.Request()
	until(t, r, "one more", func(s Status) bool { return s.Last == 102 })
	if got := r.Status().Files; got != files+1 {
		t.Errorf("%d files after %d", got, files)
	}
}

func TestWhatFillsNoFileIsWrittenInTime(t *testing.T) {
	w := newWorld(t, memoryStore(t), journal.Retention{})
	w.append(3, 2, 20)
	r := w.archiver(Config{Every: 10 * time.Millisecond})
	run(t, r)
	until(t, r, "the first", func(s Status) bool { return s.Last == 4 && s.Files == 1 })
	w.append(3, 2, 20)
	until(t, r, "the second", func(s Status) bool { return s.Last == 7 })
}

func TestALargeBatchIsAFileOfItsOwn(t *testing.T) {
	w := newWorld(t, memoryStore(t), journal.Retention{})
	w.append(2, 2, 20)
	w.append(1, 1, 3<<20)
	w.append(2, 2, 20)
	w.append(1, 3, 1<<20)
	w.archiveAll(Config{FileSize: 1 << 20, BlockSize: 4 << 10})
	w.append(1, 1, 1)
	w.trim(8)
	w.check()
	if v := w.verify(); len(v.Damage) > 0 || v.Batches != 8 {
		t.Errorf("verified %+v", v)
	}
}

func TestNothingLeavesTheJournalBeforeItIsArchived(t *testing.T) {
	w := newWorld(t, memoryStore(t), journal.Retention{Size: 1 << 20})
	var away atomic.Bool
	away.Store(true)
	w.archive = New(func(context.Context) (*blob.Bucket, error) {
		if away.Load() {
			return nil, errors.New("no route to host")
		}
		return w.store, nil
	}, w.archive.id, quiet())
	w.journal.Attach(w.archive)
	r := w.archiver(Config{FileSize: 100 << 10})
	run(t, r)
	until(t, r, "failing", func(s Status) bool {
		return s.State == StateFailing && s.Failures > 1 && strings.Contains(s.Error, "no route to host")
	})
	w.append(10, 1, 90<<10)
	// It is full: appending waits for the archive, and goes on when that is back.
	full, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	w.n++
	_, err := w.journal.Append(full, []journal.Part{transaction(w.random, w.n, 1, 200<<10)})
	if !errors.Is(err, journal.ErrFull) || !strings.Contains(err.Error(), Reader) {
		t.Fatalf("append to a full journal: %v", err)
	}
	if stats := w.journal.Stats(t.Context()); stats.First != 1 {
		t.Errorf("journal %+v", stats)
	}
	away.Store(false)
	w.appendParts(transaction(w.random, w.n, 1, 200<<10))
	until(t, r, "running", func(s Status) bool { return s.State == StateRunning && s.Error == "" })
	w.append(20, 1, 90<<10)
	r.Request()
	until(t, r, "all", func(s Status) bool { return s.Behind == 0 })
	if retained := w.journal.Retained(); retained == 1 || w.journal.First() != 1 {
		t.Errorf("retained from %d, readable from %d", retained, w.journal.First())
	}
	w.check()
}

// A batch that has no room in the journal as long as anything else is there does not wait until a file is due.
func TestAFullJournalIsArchivedAtOnce(t *testing.T) {
	w := newWorld(t, memoryStore(t), journal.Retention{Size: 1 << 20})
	r := w.archiver(Config{})
	run(t, r)
	until(t, r, "running", func(s Status) bool { return s.State == StateRunning })
	w.append(3, 1, 50<<10)
	w.append(1, 1, 1000<<10)
	w.append(1, 1, 20)
	w.append(1, 1, 1000<<10)
	if s := r.Status(); s.Last < 6 || s.First != 1 {
		t.Errorf("status %+v", s)
	}
	w.check()
}

func TestAnArchiverGoesOnWhereTheLastOneEnded(t *testing.T) {
	eachStore(t, func(t *testing.T, store *blob.Bucket) {
		w := newWorld(t, store, journal.Retention{})
		for range 5 {
			w.append(20, 2, 50)
			w.archive = New(opened(store), w.archive.id, quiet())
			w.journal.Attach(w.archive)
			w.archiveAll(Config{FileSize: 2 << 10})
		}
		w.trim(101)
		w.check()
		if v := w.verify(); len(v.Damage) > 0 {
			t.Errorf("damage: %v", v.Damage)
		}
	})
}

func TestAnOlderCopyOfTheJournalIsNotArchived(t *testing.T) {
	w := newWorld(t, memoryStore(t), journal.Retention{})
	w.append(20, 2, 50)
	copied := t.TempDir()
	if err := w.journal.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(copied, os.DirFS(w.dir)); err != nil {
		t.Fatal(err)
	}
	w.open(journal.Retention{})
	w.append(20, 2, 50)
	w.archiveAll(Config{})
	if err := w.journal.Close(); err != nil {
		t.Fatal(err)
	}
	w.dir = copied
	w.open(journal.Retention{})
	r := w.archiver(Config{})
	run(t, r)
	until(t, r, "ahead", func(s Status) bool { return s.State == StateFailing && strings.Contains(s.Error, ErrAhead.Error()) })
	// It goes on by itself, on another way.
	w.append(25, 3, 51)
	until(t, r, "apart", func(s Status) bool { return strings.Contains(s.Error, ErrOther.Error()) })
	if len(w.names()) != 1 {
		t.Errorf("files: %v", w.names())
	}
}

// TestEveryFailure lets the i-th operation on the store fail, for every i, until a run does not fail.
func TestEveryFailure(t *testing.T) {
	for _, losing := range []bool{false, true} {
		f, store := newFaulty(t)
		for i := 1; ; i++ {
			failed := false
			f.set(nil, nil)
			w := newWorld(t, store, journal.Retention{})
			w.append(12, 2, 60)
			if losing { // the i-th close is done, and nobody is told
				n := 0
				f.set(nil, func(string) bool { n++; failed = failed || n == i; return n == i })
			} else {
				f.set(func(n int, _ string) error {
					if n != i {
						return nil
					}
					failed = true
					return errFault
				}, nil)
			}
			w.archiveAll(Config{FileSize: 1 << 10, BlockSize: 512})
			f.set(nil, nil)
			w.append(1, 1, 1)
			w.trim(14)
			w.fresh()
			w.check()
			if v := w.verify(); len(v.Damage) > 0 {
				t.Fatalf("operation %d failed: %v", i, v.Damage)
			}
			if !failed {
				t.Logf("losing %t: %d operations", losing, i-1)
				break
			}
		}
	}
}

// TestHalfAnUploadIsNotSeen leaves an upload as a crash does, at each block, and archives again.
func TestHalfAnUploadIsNotSeen(t *testing.T) {
	store := folderStore(t)
	w := newWorld(t, store, journal.Retention{})
	w.append(20, 2, 100)
	for upTo := uint64(1); upTo <= 21; upTo += 4 {
		out, err := bucket.Create(t.Context(), store, nameOf(w.archive.id, 1, 21))
		if err != nil {
			t.Fatal(err)
		}
		fw, err := newFileWriter(out, w.archive.id, description{First: 1, Last: 21}, 200)
		if err != nil {
			t.Fatal(err)
		}
		for sequence := uint64(1); sequence <= upTo; sequence++ {
			entry, err := w.journal.Entry(t.Context(), sequence)
			if err != nil {
				t.Fatal(err)
			}
			if err := fw.add(entry); err != nil {
				t.Fatal(err)
			}
		}
		if upTo == 21 {
			if _, err := fw.finish(nil); err != nil {
				t.Fatal(err)
			}
		}
		// No Close, no Abort: the process is gone.
	}
	files, leftovers, err := listFiles(t.Context(), store, w.archive.id)
	if err != nil || len(files) != 0 || len(leftovers) != 6 {
		t.Fatalf("%v, %v, %v", files, leftovers, err)
	}
	w.archiveAll(Config{})
	if _, leftovers, err = listFiles(t.Context(), store, w.archive.id); err != nil || len(leftovers) != 0 {
		t.Errorf("left over: %v, %v", leftovers, err)
	}
	w.append(1, 1, 1)
	w.trim(22)
	w.check()
}

// TestAnyBatchesInAnyFiles archives batches of any size in files and blocks of any size, and reads them back across any
// border.
func TestAnyBatchesInAnyFiles(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := &world{t: rt, memory: &memoryLog{}, store: memblob.OpenBucket(nil), random: rand.New(rand.NewPCG(1, 1)), all: map[uint64]string{}}
		w.open(journal.Retention{})
		rounds := rapid.IntRange(1, 4).Draw(rt, "rounds")
		for range rounds {
			for range rapid.IntRange(1, 12).Draw(rt, "batches") {
				var parts []journal.Part
				for range rapid.IntRange(1, 3).Draw(rt, "transactions") {
					w.n++
					size := rapid.SampledFrom([]int{0, 10, 300, 5000}).Draw(rt, "size")
					parts = append(parts, transaction(w.random, w.n, rapid.IntRange(0, 4).Draw(rt, "events"), size))
				}
				w.appendParts(parts...)
			}
			w.archiveAll(Config{
				FileSize:  int64(rapid.SampledFrom([]int{1, 500, 4000, 100_000}).Draw(rt, "file")),
				BlockSize: rapid.SampledFrom([]int{1, 300, 2000, 1 << 20}).Draw(rt, "block"),
			})
		}
		head := w.journal.Head().Offset.Sequence()
		w.trim(rapid.Uint64Range(1, head).Draw(rt, "border"))
		w.check()
		if v := w.verify(); len(v.Damage) > 0 || v.Batches != head {
			rt.Fatalf("verified %+v", v)
		}
		at := rapid.Uint64Range(1, head).Draw(rt, "at")
		if _, err := w.journal.Next(t.Context(), event.NewOffset(at, 0)-1); err != nil {
			rt.Fatal(err)
		}
		if err := errors.Join(w.journal.Close(), w.store.Close()); err != nil {
			rt.Fatal(err)
		}
	})
}

func TestRunEndsWithItsContext(t *testing.T) {
	w := newWorld(t, memoryStore(t), journal.Retention{})
	r := w.archiver(Config{Backoff: backoff.Config{Min: time.Hour, Max: time.Hour}})
	cause := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	done := make(chan error)
	go func() { done <- r.Run(ctx) }()
	until(t, r, "running", func(s Status) bool { return s.State == StateRunning })
	cancel(cause)
	if err := <-done; !errors.Is(err, cause) {
		t.Errorf("run: %v", err)
	}
	// So it does when the journal is closed.
	go func() { done <- r.Run(t.Context()) }()
	r.Request()
	until(t, r, "all", func(s Status) bool { return s.Behind == 0 })
	if err := w.journal.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; !errors.Is(err, journal.ErrClosed) {
		t.Errorf("run: %v", err)
	}
}
