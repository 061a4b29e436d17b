package segments

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/hashicorp/raft-wal/metadb"

	"github.com/lanternist/lanternist/internal/faults"
	"github.com/lanternist/lanternist/journal/journaltest"
)

// TestFaultJournalSyncFailsThenLies fails sync i for every i, on a disk that does not write what a failed sync had to write, goes
// on reading it as if it had, and says that all is well at the next sync.
func TestFaultJournalSyncFailsThenLies(t *testing.T) {
	result := faults.Cause(t, faults.Fault{
		ID: "journal-sync-fails-then-lies", Area: "Journal",
		Fault: "a sync of the journal fails, and the system takes for written what it has not written: it is still read, the next sync succeeds, " +
			"and after a loss of power it is gone",
		Promise: "the batch is not acknowledged; the next start writes what may be missing once more before it trusts it, so that what it has found stays",
		Answer:  "nothing: the daemon ends, and goes on when it is started again; look at the disk (`dmesg`)",
	})
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	found := 0
	for i := 1; ; i++ {
		r := newDiskRun(t, seed+uint64(i))
		r.disk.failSync, r.disk.drops = i, true
		err := r.work()
		if err == nil && !r.disk.hasFailed() {
			break
		}
		found++
		r.disk.heal()
		if problem := r.survives(); problem != nil {
			t.Fatalf("sync %d failed (%v): %v", i, err, problem)
		}
	}
	if found < 40 {
		t.Errorf("only %d syncs failed", found)
	}
	result.Notef("%d syncs failed, one in each run", found)
}

// TestMetadataIsWrittenAgain: the metadata of a segment change was not written, although it is read as if it were.
func TestMetadataIsWrittenAgain(t *testing.T) {
	r := newDiskRun(t, 1)
	path := filepath.Join(r.dir, metadb.FileName)
	var before []byte
	for range 2 {
		log, err := r.open()
		if err != nil {
			t.Fatal(err)
		}
		for range 30 {
			r.acknowledged++
			if err := log.Append(t.Context(), r.acknowledged, journaltest.Entry(r.acknowledged)); err != nil {
				t.Fatal(err)
			}
		}
		r.attempted = r.acknowledged
		if err := log.Close(); err != nil {
			t.Fatal(err)
		}
		if before == nil {
			if before, err = os.ReadFile(path); err != nil {
				t.Fatal(err)
			}
		}
	}
	after, err := os.ReadFile(path)
	if err != nil || bytes.Equal(before, after) {
		t.Fatalf("the metadata has not changed, %v", err)
	}
	r.disk.unsynced[path] = &unsynced{durable: append(before, make([]byte, len(after)-len(before))...)}
	log, err := r.open()
	if err != nil {
		t.Fatal(err)
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	r.disk.lose(t)
	if left, err := os.ReadFile(path); err != nil || !bytes.Equal(left, after) {
		t.Errorf("the metadata is not what was read, %v", err)
	}
	if err := r.problem(4); err != nil {
		t.Error(err)
	}
}

// TestReadFrames: what is written again is one append, not the segment.
func TestReadFrames(t *testing.T) {
	dir := t.TempDir()
	log, err := Open(dir, Config{}, discard())
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	name := ""
	for sequence, end := uint64(1), int64(0); sequence < 20; sequence++ {
		entry := journaltest.Entry(sequence)
		if err := log.Append(t.Context(), sequence, entry); err != nil {
			t.Fatal(err)
		}
		if name == "" {
			files, err := segmentFiles(dir)
			if err != nil || len(files) != 1 {
				t.Fatal(files, err)
			}
			name = files[0].path
		}
		file, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		frames, err := readFrames(file)
		from, to := frames.from, frames.to
		if err != nil || from != end || to < from+int64(len(entry)) || to > from+int64(len(entry))+200 {
			t.Errorf("after %d with %d bytes: %d-%d, %v; the one before ended at %d", sequence, len(entry), from, to, err, end)
		}
		end = to
		if err := file.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
