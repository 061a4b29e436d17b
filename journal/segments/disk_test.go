package segments

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/hashicorp/raft-wal/metadb"
	"github.com/hashicorp/raft-wal/types"
)

// errDisk is what an operation of a faulty disk ends in.
var errDisk = errors.New("injected disk error")

// faultyDisk is a disk on a folder that fails one operation, or all from one on, and knows what of what was written is
// durable: what a Sync has covered. lose is a loss of power.
type faultyDisk struct {
	fileSystem
	random *rand.Rand

	mu       sync.Mutex
	ops      int // operations so far
	failAt   int // the operation that fails, 0: none
	dieAt    int // the operation from which on all fail, 0: none
	deaf     bool
	syncs    int  // syncs so far
	failSync int  // the sync that fails, 0: none
	drops    bool // what a failed sync has not written, none writes any more, although it is still read
	failed   bool // some operation has failed
	unsynced map[string]*unsynced
}

// unsynced is what a loss of power may take from a file.
type unsynced struct {
	created bool   // its name is not durable
	durable []byte // the content that is
	writes  []write
}

type write struct {
	at   int64
	data []byte
}

func newFaultyDisk(seed uint64) *faultyDisk {
	return &faultyDisk{fileSystem: newFileSystem("", nil), random: rand.New(rand.NewPCG(seed, 3)), unsynced: map[string]*unsynced{}}
}

// step counts an operation and says whether it fails.
func (d *faultyDisk) step(op, name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ops++
	if d.ops == d.failAt || d.dieAt != 0 && d.ops >= d.dieAt {
		d.failed = true
		return fmt.Errorf("%s %s, operation %d: %w", op, name, d.ops, errDisk)
	}
	return nil
}

// heal lets all operations succeed.
func (d *faultyDisk) heal() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.failAt, d.dieAt, d.failSync, d.failed = 0, 0, 0, false
}

func (d *faultyDisk) hasFailed() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.failed
}

// of is what may be lost of a file, which is durable as it is when it is met for the first time.
func (d *faultyDisk) of(path string) *unsynced {
	u := d.unsynced[path]
	if u == nil {
		content, _ := os.ReadFile(path)
		u = &unsynced{durable: content}
		d.unsynced[path] = u
	}
	return u
}

// lose takes from the disk what was not synced: each file has what is durable of it, and of what was written since each
// sector or not. Nothing may have it open.
func (d *faultyDisk) lose(t *testing.T) {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	for path, u := range d.unsynced {
		if _, err := os.Stat(path); err != nil {
			continue // deleted, which is durable when Delete returns
		}
		if u.created && d.random.IntN(2) == 0 {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if err := os.WriteFile(path, d.left(u), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	clear(d.unsynced)
}

const sector = 512

// left is what a loss of power leaves of a file.
func (d *faultyDisk) left(u *unsynced) []byte {
	content := u.durable
	for _, w := range u.writes {
		for from := int64(0); from < int64(len(w.data)); {
			to := min(int64(len(w.data)), (w.at+from)/sector*sector+sector-w.at)
			if d.random.IntN(2) == 0 && int64(len(content)) >= w.at+to {
				copy(content[w.at+from:], w.data[from:to])
			}
			from = to
		}
	}
	return content
}

// Commit implements storage. A state may have been stored although that could not be told.
func (d *faultyDisk) Commit(commit func() error) error {
	if err := d.step("commit", "metadata"); err != nil {
		return err
	}
	return errors.Join(commit(), d.step("committed", "metadata"))
}

func (d *faultyDisk) ListDir(dir string) ([]string, error) {
	if err := d.step("list", dir); err != nil {
		return nil, err
	}
	return d.fileSystem.ListDir(dir)
}

func (d *faultyDisk) Create(dir, name string, size uint64) (types.WritableFile, error) {
	if err := d.step("create", name); err != nil {
		return nil, err
	}
	f, err := d.fileSystem.Create(dir, name, size)
	if err != nil {
		return nil, err
	}
	path := filepath.Join(dir, name)
	d.mu.Lock()
	d.unsynced[path] = &unsynced{created: true, durable: make([]byte, size)}
	d.mu.Unlock()
	return &faultyFile{WritableFile: f, disk: d, path: path}, nil
}

func (d *faultyDisk) Delete(dir, name string) error {
	if err := d.step("delete", name); err != nil {
		return err
	}
	return d.fileSystem.Delete(dir, name)
}

func (d *faultyDisk) OpenReader(dir, name string) (types.ReadableFile, error) {
	if err := d.step("open", name); err != nil {
		return nil, err
	}
	f, err := d.fileSystem.OpenReader(dir, name)
	if err != nil {
		return nil, err
	}
	return &faultyReader{ReadableFile: f, disk: d, path: name}, nil
}

func (d *faultyDisk) OpenWriter(dir, name string) (types.WritableFile, error) {
	if err := d.step("open", name); err != nil {
		return nil, err
	}
	f, err := d.fileSystem.OpenWriter(dir, name)
	if err != nil {
		return nil, err
	}
	path := filepath.Join(dir, name)
	d.mu.Lock()
	d.of(path)
	d.mu.Unlock()
	return &faultyFile{WritableFile: f, disk: d, path: path}, nil
}

type faultyReader struct {
	types.ReadableFile
	disk *faultyDisk
	path string
}

func (f *faultyReader) ReadAt(b []byte, at int64) (int, error) {
	if err := f.disk.step("read", f.path); err != nil {
		return 0, err
	}
	return f.ReadableFile.ReadAt(b, at)
}

type faultyFile struct {
	types.WritableFile
	disk *faultyDisk
	path string
}

func (f *faultyFile) ReadAt(b []byte, at int64) (int, error) {
	if err := f.disk.step("read", f.path); err != nil {
		return 0, err
	}
	return f.WritableFile.ReadAt(b, at)
}

// WriteAt writes a part when it fails.
func (f *faultyFile) WriteAt(b []byte, at int64) (int, error) {
	err := f.disk.step("write", f.path)
	if err != nil {
		f.disk.mu.Lock()
		b = b[:f.disk.random.IntN(len(b)+1)]
		f.disk.mu.Unlock()
	}
	n, failed := f.WritableFile.WriteAt(b, at)
	f.disk.mu.Lock()
	u := f.disk.of(f.path)
	u.writes = append(u.writes, write{at, append([]byte(nil), b[:n]...)})
	f.disk.mu.Unlock()
	return n, errors.Join(err, failed)
}

// Sync makes durable what was written, unless it fails, or the disk is deaf.
func (f *faultyFile) Sync() error {
	if err := f.disk.step("sync", f.path); err != nil {
		return err
	}
	if f.disk.deaf {
		return nil
	}
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	u := f.disk.of(f.path)
	if f.disk.syncs++; f.disk.syncs == f.disk.failSync {
		f.disk.failed = true
		if f.disk.drops {
			u.durable, u.writes = f.disk.left(u), nil
		}
		return fmt.Errorf("sync %s, sync %d: %w", f.path, f.disk.syncs, errDisk)
	}
	for _, w := range u.writes {
		if grow := w.at + int64(len(w.data)) - int64(len(u.durable)); grow > 0 {
			u.durable = append(u.durable, make([]byte, grow)...)
		}
		copy(u.durable[w.at:], w.data)
	}
	u.created, u.writes = false, nil
	return nil
}

// Close forgets the metadata when it is durable: bbolt goes on with it elsewhere.
func (f *faultyFile) Close() error {
	f.disk.mu.Lock()
	if filepath.Base(f.path) == metadb.FileName && len(f.disk.of(f.path).writes) == 0 {
		delete(f.disk.unsynced, f.path)
	}
	f.disk.mu.Unlock()
	return f.WritableFile.Close()
}
