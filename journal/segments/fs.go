package segments

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	walfs "github.com/hashicorp/raft-wal/fs"
	"github.com/hashicorp/raft-wal/metadb"
	"github.com/hashicorp/raft-wal/types"

	"github.com/lanternist/lanternist/internal/disk"
)

// fileSystem is the WAL's file system on a disk that is waited for when it is full. Without a disk it is as it is.
type fileSystem struct {
	*walfs.FS
	disk *disk.Disk
	dir  string
}

func newFileSystem(dir string, d *disk.Disk) fileSystem { return fileSystem{walfs.New(), d, dir} }

// Commit implements storage. A commit that did not succeed has changed nothing, and may be repeated.
func (f fileSystem) Commit(commit func() error) error {
	path := filepath.Join(f.dir, metadb.FileName)
	return f.disk.Failed("write", path, f.disk.Retry(path, commit))
}

// Create implements types.VFS.
func (f fileSystem) Create(dir, name string, size uint64) (file types.WritableFile, err error) {
	path := filepath.Join(dir, name)
	again := false
	err = f.disk.Retry(path, func() error {
		if again { // there was no room for the whole file, and a part of it is there
			if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
		again = true
		file, err = f.FS.Create(dir, name, size)
		return err
	})
	if err != nil {
		return nil, err
	}
	return segmentWriter{file, f.disk, path}, nil
}

// OpenWriter implements types.VFS.
func (f fileSystem) OpenWriter(dir, name string) (file types.WritableFile, err error) {
	path := filepath.Join(dir, name)
	err = f.disk.Retry(path, func() error {
		file, err = f.FS.OpenWriter(dir, name)
		return err
	})
	if err != nil {
		return nil, err
	}
	return segmentWriter{file, f.disk, path}, nil
}

// OpenReader implements types.VFS.
func (f fileSystem) OpenReader(dir, name string) (file types.ReadableFile, err error) {
	err = f.disk.Retry(filepath.Join(dir, name), func() error {
		file, err = f.FS.OpenReader(dir, name)
		return err
	})
	return file, err
}

// Delete implements types.VFS.
func (f fileSystem) Delete(dir, name string) error {
	again := false
	return f.disk.Retry(filepath.Join(dir, name), func() error {
		err := f.FS.Delete(dir, name)
		if again && errors.Is(err, fs.ErrNotExist) {
			return nil // only the folder was not synced
		}
		again = true
		return err
	})
}

// segmentWriter is the segment that is being written.
type segmentWriter struct {
	types.WritableFile
	disk *disk.Disk
	path string
}

// WriteAt implements io.WriterAt.
func (w segmentWriter) WriteAt(p []byte, at int64) (int, error) {
	return w.disk.WriteAll(w.path, p, func(p []byte, written int) (int, error) {
		return w.WritableFile.WriteAt(p, at+int64(written))
	})
}

// Sync implements types.WritableFile.
func (w segmentWriter) Sync() error { return w.disk.Sync(w.path, w.WritableFile.Sync) }
