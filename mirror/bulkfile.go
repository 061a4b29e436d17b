package mirror

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/cockroachdb/pebble/v2/objstorage/objstorageprovider"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// l0Crowded is how many files over one another, at the top of the database, a load does not add to.
const l0Crowded = 12

// loadingDir, in the mirror's folder, holds files that have not become part of the database yet.
const loadingDir = "loading"

// prepareFiles removes files that a crash has left, and makes the folder for new ones.
func (m *Mirror) prepareFiles() error {
	m.filesDir = m.cfg.fs.PathJoin(m.cfg.Dir, loadingDir)
	if err := m.cfg.fs.RemoveAll(m.filesDir); err != nil {
		return fmt.Errorf("remove files of an interrupted load: %w", err)
	}
	if err := m.cfg.fs.MkdirAll(m.filesDir, 0o755); err != nil {
		return fmt.Errorf("create folder for loading: %w", err)
	}
	opts := m.cfg.options(m.damage, m.log)
	opts.EnsureDefaults()
	m.fileOptions = opts.MakeWriterOptions(0, m.db.TableFormat())
	return nil
}

// removeFiles removes files that did not become part of the database.
func (m *Mirror) removeFiles(files []string) {
	for _, path := range files {
		if err := m.cfg.fs.Remove(path); err != nil {
			m.log.Warn("file of a load not removed", "path", path, "err", err) // the next Open does
		}
	}
}

// write writes the rows that are not known, and their index entries, into files, durably.
func (b *Bulk) write() (files []string, err error) {
	began := time.Now()
	defer func() { b.spent.Writing += time.Since(began) }()
	defer func() {
		if err != nil {
			b.m.removeFiles(files)
			files = nil
		}
	}()
	if b.fresh == 0 {
		return nil, nil
	}
	path, err := b.m.writeFile(b.rows, func(i int) bool { return !b.known[i] })
	if err != nil {
		return nil, err
	}
	files = append(files, path)
	for i, ix := range b.indexes {
		b.collect(ix, b.columns[i])
		if len(b.entries.items) == 0 {
			continue
		}
		if path, err = b.m.writeFile(b.entries, func(int) bool { return true }); err != nil {
			return files, err
		}
		files = append(files, path)
	}
	return files, nil
}

// collect makes the entries of an index.
func (b *Bulk) collect(ix *index, columns []origin) {
	b.entries.reset()
	for i, it := range b.rows.items {
		if b.known[i] {
			continue
		}
		var has bool
		if b.key, has = appendEntry(b.key[:0], ix, columns, b.rows.value(it)[recordHeader:], b.rows.key(it)[prefixLen:]); has {
			b.entries.add(b.key, 0, nil)
		}
	}
	b.entries.sort()
}

// writeFile writes the chosen ones of sorted records.
func (m *Mirror) writeFile(r *records, chosen func(i int) bool) (path string, err error) {
	path = m.cfg.fs.PathJoin(m.filesDir, strconv.FormatUint(m.files.Add(1), 10)+".sst")
	file, err := m.cfg.fs.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return "", fmt.Errorf("create file: %w", err)
	}
	w := sstable.NewWriter(objstorageprovider.NewFileWritable(file), m.fileOptions)
	for i, it := range r.items {
		if err == nil && chosen(i) {
			err = w.Set(r.key(it), r.value(it))
		}
	}
	if err = errors.Join(err, w.Close()); err != nil {
		m.removeFiles([]string{path})
		return "", fmt.Errorf("write %s: %w", path, err)
	}
	return path, nil
}
