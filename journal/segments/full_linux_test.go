package segments

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/lanternist/lanternist/internal/devstack"
	"github.com/lanternist/lanternist/internal/disk"
	"github.com/lanternist/lanternist/internal/faults"
)

// fullLog is a log on a small file system without room for one more segment. Its next append waits.
type fullLog struct {
	*Log
	disk *disk.Disk
	last uint64
}

func newFullLog(t *testing.T) *fullLog {
	t.Helper()
	mount := t.TempDir()
	if err := syscall.Mount("lanternist-test", mount, "tmpfs", 0, "size=8m"); err != nil {
		t.Skipf("mount a small file system: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(mount, 0); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	d := disk.New("journal", slog.New(slog.DiscardHandler))
	log, err := Open(filepath.Join(mount, "log"), Config{SegmentSize: 1 << 20, Disk: d}, discard())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := log.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	f := &fullLog{Log: log, disk: d}
	for free := int64(8 << 20); free >= 1<<20+entryBytes; {
		f.last++
		if err := log.Append(t.Context(), f.last, make([]byte, entryBytes)); err != nil {
			t.Fatal(err)
		}
		var s syscall.Statfs_t
		if err := syscall.Statfs(mount, &s); err != nil {
			t.Fatal(err)
		}
		free = int64(s.Bavail) * s.Bsize
	}
	return f
}

const entryBytes = 100 << 10

// begin begins an append that has to wait, and returns what it will end in.
func (f *fullLog) begin(ctx context.Context, t *testing.T) <-chan error {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- f.Append(ctx, f.last+1, make([]byte, entryBytes)) }()
	devstack.Eventually(t, time.Minute, func() error {
		if _, waits := f.disk.Waiting(); !waits {
			return errors.New("the disk is full, and nothing waits")
		}
		return nil
	})
	return done
}

func TestFaultJournalDiskFullIsTrimmed(t *testing.T) {
	faults.Cause(t, faults.Fault{
		ID: "disk-full-journal-trimmed", Area: "Journal",
		Fault: "the journal's disk is full, and meanwhile some of what is in the journal gets older than `journal.retention.age`",
		Promise: "appends wait with the room for one segment left and hold up no trim: it frees that room, and the stream goes on; a stop while they wait " +
			"leaves the journal as it was",
		Answer: "nothing: it goes on by itself; to be without the wait, bound the journal by size: `journal.retention.size`",
	})
	log := newFullLog(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := log.begin(ctx, t)
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("an append that was stopped: %v", err)
	}
	if _, last, err := log.Bounds(t.Context()); err != nil || last != log.last {
		t.Errorf("the log ends with %d, %v; want %d", last, err, log.last)
	}

	done = log.begin(t.Context(), t)
	if _, err := log.Read(t.Context(), log.last); err != nil {
		t.Errorf("read while the disk is full: %v", err)
	}
	if err := log.Trim(t.Context(), log.last-5); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	for sequence := log.last + 2; sequence < log.last+20; sequence++ {
		if err := log.Append(t.Context(), sequence, make([]byte, entryBytes)); err != nil {
			t.Fatal(err)
		}
	}
	if waiting, waits := log.disk.Waiting(); waits || log.disk.Err() != nil {
		t.Errorf("%+v, %v", waiting, log.disk.Err())
	}
}

// TestRoomIsWaitedForBeforeAnythingIsWritten: an append that lacks room leaves nothing behind.
func TestRoomIsWaitedForBeforeAnythingIsWritten(t *testing.T) {
	log := newFullLog(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := log.begin(ctx, t)
	before, err := log.Size(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if files, err := os.ReadDir(filepath.Join(log.dir, largeDir)); err == nil {
		t.Errorf("%d files of large entries", len(files))
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if after, err := log.Size(t.Context()); err != nil || after != before {
		t.Errorf("%d bytes, %d before, %v", after, before, err)
	}
}
