package disk

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

func TestRetryWaitsForWhatPasses(t *testing.T) {
	for _, cause := range []error{syscall.ENOSPC, syscall.EDQUOT, syscall.EMFILE, syscall.ENFILE} {
		d := New("journal", discard())
		attempts := 0
		err := d.Retry("file", func() error {
			if attempts++; attempts == 3 {
				return nil
			}
			if w, waits := d.Waiting(); waits != (attempts == 2) || waits && (w.Store != "journal" || w.Path != "file" || w.Error == "") {
				t.Errorf("%v: attempt %d: waiting %+v, %t", cause, attempts, w, waits)
			}
			return &os.PathError{Op: "write", Path: "file", Err: cause}
		})
		if err != nil || attempts != 3 {
			t.Errorf("%v: %d attempts, %v", cause, attempts, err)
		}
		if w, waits := d.Waiting(); waits {
			t.Errorf("%v: still waiting: %+v", cause, w)
		}
	}
}

func TestRetryReturnsWhatDoesNotPass(t *testing.T) {
	d := New("journal", discard())
	attempts := 0
	err := d.Retry("file", func() error { attempts++; return syscall.EIO })
	if !errors.Is(err, syscall.EIO) || attempts != 1 || d.Err() != nil {
		t.Errorf("%d attempts, %v; remembered %v", attempts, err, d.Err())
	}
	var none *Disk
	if err := none.Retry("file", func() error { return syscall.ENOSPC }); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("without a disk: %v", err)
	}
}

// TestWriteGoesOnWhereItStopped: a full disk takes a part of what is written, and the rest once there is room.
func TestWriteGoesOnWhereItStopped(t *testing.T) {
	d := New("mirror", discard())
	var got []byte
	room := 3
	n, err := d.WriteAll("file", []byte("0123456789"), func(p []byte, written int) (int, error) {
		if written != len(got) {
			t.Errorf("goes on at %d, %d are written", written, len(got))
		}
		take := min(room, len(p))
		got = append(got, p[:take]...)
		if take < len(p) {
			return take, syscall.ENOSPC
		}
		return take, nil
	})
	if err != nil || n != 10 || string(got) != "0123456789" {
		t.Errorf("%d written, %v: %q", n, err, got)
	}
}

func TestAFailedSyncIsRemembered(t *testing.T) {
	d := New("control", discard())
	attempts := 0
	// Not even a sync that finds no room is tried again: what was to be written may be gone from the system's memory.
	if err := d.Sync("file", func() error { attempts++; return syscall.ENOSPC }); !errors.Is(err, syscall.ENOSPC) || attempts != 1 {
		t.Errorf("%d attempts, %v", attempts, err)
	}
	select {
	case <-d.Lost():
	default:
		t.Error("nobody is told")
	}
	if err := d.Err(); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("remembered %v", err)
	}
}

// fullFS has no room while full is set.
type fullFS struct {
	vfs.FS
	full *atomic.Bool
}

type fullFile struct {
	vfs.File
	full *atomic.Bool
}

func (f fullFS) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	if f.full.Load() {
		return nil, syscall.ENOSPC
	}
	file, err := f.FS.Create(name, category)
	return fullFile{file, f.full}, err
}

func (f fullFile) Write(p []byte) (int, error) {
	if f.full.Load() {
		n, err := f.File.Write(p[:len(p)/2])
		return n, errors.Join(err, syscall.ENOSPC)
	}
	return f.File.Write(p)
}

func TestPebbleFilesWait(t *testing.T) {
	full := &atomic.Bool{}
	d := New("mirror", discard())
	fs := d.Pebble(fullFS{vfs.Default, full})
	path := filepath.Join(t.TempDir(), "file")
	file, err := fs.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	full.Store(true)
	done := make(chan error, 1)
	go func() {
		_, err := file.Write([]byte("all of this"))
		done <- errors.Join(err, file.Sync(), file.Close())
	}()
	for {
		if _, waits := d.Waiting(); waits {
			break
		}
		select {
		case err := <-done:
			t.Fatalf("written to a full disk: %v", err)
		default:
		}
	}
	full.Store(false)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != "all of this" {
		t.Errorf("%q, %v", got, err)
	}
}
