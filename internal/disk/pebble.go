package disk

import (
	"io"
	"os"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Pebble is inner for a Pebble database. Pebble panics when its log or its manifest cannot be written, so what does not pass never
// returns to it: the goroutine that asked stays where it is until the process ends, which Lost asks for.
func (d *Disk) Pebble(inner vfs.FS) vfs.FS {
	if d == nil {
		return inner
	}
	return pebbleFS{inner, d}
}

type pebbleFS struct {
	vfs.FS
	disk *Disk
}

// Unwrap implements vfs.FS.
func (f pebbleFS) Unwrap() vfs.FS { return f.FS }

// open opens a file as soon as there is a descriptor for it.
func (f pebbleFS) open(name string, open func() (vfs.File, error)) (file vfs.File, err error) {
	err = f.disk.Retry(name, func() error {
		file, err = open()
		return err
	})
	if err != nil {
		return nil, err
	}
	return &pebbleFile{file, f.disk, name}, nil
}

func (f pebbleFS) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	return f.open(name, func() (vfs.File, error) { return f.FS.Create(name, category) })
}

func (f pebbleFS) Open(name string, opts ...vfs.OpenOption) (vfs.File, error) {
	return f.open(name, func() (vfs.File, error) { return f.FS.Open(name, opts...) })
}

func (f pebbleFS) OpenReadWrite(name string, category vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	return f.open(name, func() (vfs.File, error) { return f.FS.OpenReadWrite(name, category, opts...) })
}

func (f pebbleFS) OpenDir(name string) (vfs.File, error) {
	return f.open(name, func() (vfs.File, error) { return f.FS.OpenDir(name) })
}

func (f pebbleFS) ReuseForWrite(old, name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	return f.open(name, func() (vfs.File, error) { return f.FS.ReuseForWrite(old, name, category) })
}

func (f pebbleFS) Link(old, name string) error {
	return f.disk.Retry(name, func() error { return f.FS.Link(old, name) })
}

func (f pebbleFS) Rename(old, name string) error {
	return f.disk.Retry(name, func() error { return f.FS.Rename(old, name) })
}

func (f pebbleFS) MkdirAll(dir string, perm os.FileMode) error {
	return f.disk.Retry(dir, func() error { return f.FS.MkdirAll(dir, perm) })
}

func (f pebbleFS) List(dir string) (names []string, err error) {
	err = f.disk.Retry(dir, func() error {
		names, err = f.FS.List(dir)
		return err
	})
	return names, err
}

func (f pebbleFS) Lock(name string) (lock io.Closer, err error) {
	err = f.disk.Retry(name, func() error {
		lock, err = f.FS.Lock(name)
		return err
	})
	return lock, err
}

type pebbleFile struct {
	vfs.File
	disk *Disk
	name string
}

// never keeps an error that does not pass from Pebble.
func (f *pebbleFile) never(err error) {
	if err != nil {
		select {}
	}
}

func (f *pebbleFile) Write(p []byte) (int, error) {
	n, err := f.disk.WriteAll(f.name, p, func(p []byte, _ int) (int, error) { return f.File.Write(p) })
	f.never(err)
	return n, nil
}

func (f *pebbleFile) WriteAt(p []byte, at int64) (int, error) {
	n, err := f.disk.WriteAll(f.name, p, func(p []byte, written int) (int, error) { return f.File.WriteAt(p, at+int64(written)) })
	f.never(err)
	return n, nil
}

// Preallocate is a favour: without room for it there may still be room for what is written.
func (f *pebbleFile) Preallocate(offset, length int64) error {
	if err := f.File.Preallocate(offset, length); err != nil && !passes(err) {
		return err
	}
	return nil
}

func (f *pebbleFile) Sync() error {
	f.never(f.disk.Sync(f.name, f.File.Sync))
	return nil
}

func (f *pebbleFile) SyncData() error {
	f.never(f.disk.Sync(f.name, f.File.SyncData))
	return nil
}

func (f *pebbleFile) SyncTo(length int64) (full bool, err error) {
	f.never(f.disk.Sync(f.name, func() error {
		full, err = f.File.SyncTo(length)
		return err
	}))
	return full, nil
}
