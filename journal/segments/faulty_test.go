package segments

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/lanternist/lanternist/internal/faults"
	"github.com/lanternist/lanternist/journal"
	"github.com/lanternist/lanternist/journal/journaltest"
)

// diskRun is a log on a faulty disk, and what it has promised.
type diskRun struct {
	t            *testing.T
	dir          string
	disk         *faultyDisk
	acknowledged uint64 // every entry up to it, from trimmed on
	attempted    uint64
	trimmed      uint64
}

func newDiskRun(t *testing.T, seed uint64) *diskRun {
	return &diskRun{t: t, dir: t.TempDir(), disk: newFaultyDisk(seed), trimmed: 1}
}

func (r *diskRun) open() (*Log, error) {
	return Open(r.dir, Config{SegmentSize: 4 << 10, storage: r.disk}, discard())
}

// work appends, reads, trims and opens the log again, until something fails or all is done.
func (r *diskRun) work() error {
	for range 3 {
		log, err := r.open()
		if err != nil {
			return err
		}
		err = r.session(log)
		if err := errors.Join(err, log.Close()); err != nil {
			return err
		}
	}
	return nil
}

func (r *diskRun) session(log *Log) error {
	for range 14 {
		next := r.acknowledged + 1
		r.attempted = max(r.attempted, next)
		if err := log.Append(r.t.Context(), next, journaltest.Entry(next)); err != nil {
			// Whatever comes next, the log must not go on as if nothing had been.
			if again := log.Append(r.t.Context(), next, journaltest.Entry(next)); !errors.Is(again, journal.ErrBroken) && !errors.Is(again, journal.ErrFenced) {
				r.t.Errorf("append after %v: %v", err, again)
			}
			return err
		}
		r.acknowledged = next
		if next%3 == 0 {
			at := r.trimmed + (next-r.trimmed)/2
			if entry, err := log.Read(r.t.Context(), at); err != nil {
				return err
			} else if !bytes.Equal(entry, journaltest.Entry(at)) {
				r.t.Errorf("entry %d is read as another", at)
			}
		}
		if next%10 == 0 {
			r.trimmed = next - 6
			if err := log.Trim(r.t.Context(), r.trimmed); err != nil {
				return err
			}
		}
	}
	return nil
}

// problem says what is wrong with the log when its disk is healthy again: what was acknowledged must be there, in order,
// with at most the one entry after it whose append was cut off; and the log must go on with so many appends. What is there
// is acknowledged from now on: the source is told of it.
func (r *diskRun) problem(appends int) error {
	log, err := r.open()
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	defer log.Close()
	first, last, err := log.Bounds(r.t.Context())
	if err != nil {
		return err
	}
	if r.acknowledged > 0 && first > r.trimmed || last < r.acknowledged || last > r.attempted {
		return fmt.Errorf("it holds %d-%d; %d-%d were acknowledged, %d was attempted", first, last, r.trimmed, r.acknowledged, r.attempted)
	}
	for sequence := max(first, 1); sequence <= last; sequence++ {
		if entry, err := log.Read(r.t.Context(), sequence); err != nil || !bytes.Equal(entry, journaltest.Entry(sequence)) {
			return fmt.Errorf("entry %d: %d bytes, %w", sequence, len(entry), err)
		}
	}
	for range appends {
		last++
		if err := log.Append(r.t.Context(), last, journaltest.Entry(last)); err != nil {
			return fmt.Errorf("append %d afterwards: %w", last, err)
		}
	}
	r.acknowledged, r.attempted = last, last
	return nil
}

// survives looks at the log, then loses the power, looks and goes on, and loses the power again.
func (r *diskRun) survives() error {
	for _, appends := range []int{0, 4, 0} {
		if err := r.problem(appends); err != nil {
			return err
		}
		r.disk.lose(r.t)
	}
	return nil
}

// from is the first operation that is tried and by how many the next one is later: not each is tried each time.
func from(seed uint64) (first, step int) {
	if faults.Heavy() {
		return 1, 1
	}
	return 1 + int(seed%9), 9
}

// TestFaultJournalDiskError fails operation i for every i until a run succeeds. Every second time the power is lost as
// well, before the log is opened again.
func TestFaultJournalDiskError(t *testing.T) {
	result := faults.Cause(t, faults.Fault{
		ID: "journal-disk-error", Area: "Journal",
		Fault: "any one operation on the journal's files fails, or the power is lost after it",
		Promise: "what could not be made durable is not acknowledged to the source; the journal takes nothing more until it is opened again, " +
			"and then holds everything that was acknowledged, in order, and at most the one batch more whose outcome was unknown",
		Answer: "nothing: the daemon ends, and goes on when it is started again; if it ends again, look at the disk, then `lanternist journal verify`",
	})
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	first, step := from(seed)
	tried := 0
	for i := first; ; i += step {
		r := newDiskRun(t, seed+uint64(i))
		r.disk.failAt = i
		err := r.work()
		if err == nil && !r.disk.hasFailed() {
			break
		}
		tried++
		r.disk.heal()
		if i%2 == 0 {
			r.disk.lose(t)
		}
		if problem := r.survives(); problem != nil {
			t.Fatalf("operation %d failed (%v): %v", i, err, problem)
		}
	}
	if tried*step < 100 {
		t.Errorf("only %d operations failed", tried)
	}
	result.Notef("%d operations failed, one in each run", tried)
}

// TestFaultJournalCrash ends the process at operation k, for every k. Then either only the process is gone, or the power,
// too, and with it a random part of what was not synced. After the next start the power is lost once more: what the log
// has found there must be durable, for the source is told of it.
func TestFaultJournalCrash(t *testing.T) {
	result := faults.Cause(t, faults.Fault{
		ID: "journal-crash", Area: "Journal",
		Fault:   "the process, or the machine, dies at any operation on the journal's files; a random part of what was not synced is lost, also of sectors within one write",
		Promise: "every acknowledged batch is there after the start, in order, none half visible, and what the start has found stays, even if the power is lost again",
		Answer:  "nothing: a batch that was torn is cut off, and the source sends it again",
	})
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	first, step := from(seed)
	crashes := 0
	for k := first; ; k += step {
		for _, power := range []bool{false, true} {
			r := newDiskRun(t, seed+uint64(k))
			r.disk.dieAt = k
			if err := r.work(); err == nil && !r.disk.hasFailed() {
				if crashes*step < 200 {
					t.Errorf("only %d crashes", crashes)
				}
				result.Notef("%d crashes", crashes)
				return
			}
			crashes++
			r.disk.heal()
			if power {
				r.disk.lose(t)
			}
			if problem := r.survives(); problem != nil {
				t.Fatalf("crash at operation %d, power lost: %t: %v", k, power, problem)
			}
		}
	}
}

// TestSabotageOfSyncIsNoticed proves that the tests above can fail: on a disk that says that it has synced and has not,
// they find entries that are gone.
func TestSabotageOfSyncIsNoticed(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	found := 0
	for k := 20; k < 120; k += 20 {
		r := newDiskRun(t, seed+uint64(k))
		r.disk.dieAt, r.disk.deaf = k, true
		if err := r.work(); err == nil {
			break
		}
		r.disk.heal()
		r.disk.lose(t)
		if r.survives() != nil {
			found++
		}
	}
	if found == 0 {
		t.Fatal("entries were acknowledged before they were durable, and nothing was found: the tests could not fail")
	}
	t.Logf("found in %d runs", found)
}
