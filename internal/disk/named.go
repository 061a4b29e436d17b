package disk

import (
	"errors"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Named is inner for a Pebble database, with the name of each new manifest made durable before anything can point to it. Pebble makes it
// durable together with that of the marker that points to it, in one sync of the folder: a file system that keeps the one and
// not the other, when the power fails before the sync has returned, would leave a database that does not open.
func Named(inner vfs.FS) vfs.FS { return namedFS{inner} }

type namedFS struct{ vfs.FS }

// Unwrap implements vfs.FS.
func (f namedFS) Unwrap() vfs.FS { return f.FS }

// Create implements vfs.FS.
func (f namedFS) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	file, err := f.FS.Create(name, category)
	if err != nil || !strings.HasPrefix(f.PathBase(name), "MANIFEST-") {
		return file, err
	}
	if err := f.syncDir(f.PathDir(name)); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

func (f namedFS) syncDir(name string) error {
	dir, err := f.OpenDir(name)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
