package checkpoint

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"gocloud.dev/gcerrors"
	"golang.org/x/sync/errgroup"

	"github.com/lanternist/lanternist/internal/bucket"
	"github.com/lanternist/lanternist/internal/faultpoint"
)

// errSlow says that a copy took so long to write that what it counts on may have been removed.
var errSlow = errors.New("it took too long: what it shares with older copies may be gone")

// Stored is what Put did.
type Stored struct {
	*Manifest
	Written int64 // bytes that were not there before
}

// Put stores the files of dir, a copy that Mirror.Checkpoint made and m describes, and fills in its Format, JournalID
// and Files. The copy is there when Put returns without error, and not before. progress, which may be nil, is told how many
// bytes of how many have been looked at or written.
func (s *Store) Put(ctx context.Context, dir string, m Manifest, progress func(done, total int64)) (Stored, error) {
	s, err := s.at(ctx)
	if err != nil {
		return Stored{}, fmt.Errorf("store mirror checkpoint at %s: %w", m.Offset, err)
	}
	stored, err := s.put(ctx, dir, m, progress)
	if err != nil {
		return Stored{}, fmt.Errorf("store mirror checkpoint at %s: %w", m.Offset, err)
	}
	return stored, nil
}

func (s *Store) put(ctx context.Context, dir string, m Manifest, progress func(done, total int64)) (Stored, error) {
	began := time.Now()
	var err error
	m.Format, m.JournalID = format, s.id
	if m.Files, err = filesOf(dir); err != nil {
		return Stored{}, err
	}
	there, err := s.named(ctx)
	if err != nil {
		return Stored{}, err
	}
	var done, written atomic.Int64
	total := 2 * m.Size() // each is read once for its hash, and once to be stored
	report := func(n int64) {
		if n := done.Add(n); progress != nil {
			progress(n, total)
		}
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(s.cfg.Transfers)
	for i := range m.Files {
		f := &m.Files[i]
		g.Go(func() error {
			path := filepath.Join(dir, filepath.FromSlash(f.Path))
			if err := f.hash(path); err != nil {
				return err
			}
			report(f.Size)
			n, err := s.store(gctx, path, f, there)
			written.Add(n)
			report(f.Size)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return Stored{}, err
	}
	faultpoint.Hit("checkpoint", "objects")
	name, text, err := m.encode()
	if err != nil {
		return Stored{}, err
	}
	if time.Since(began) > s.cfg.Grace/2 {
		return Stored{}, errSlow
	}
	if err := s.write(ctx, s.manifests()+name, bytes.NewReader(text)); err != nil {
		return Stored{}, err
	}
	m.name = name
	return Stored{Manifest: &m, Written: written.Load() + int64(len(text))}, nil
}

// filesOf lists the files of a folder, with their sizes.
func filesOf(dir string) (files []File, err error) {
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		files = append(files, File{Path: filepath.ToSlash(name), Size: info.Size()})
		return nil
	})
	return files, err
}

// named are the hashes of what the manifests that are there name, with the sizes.
func (s *Store) named(ctx context.Context) (map[string]int64, error) {
	list, err := s.list(ctx, s.manifests())
	if err != nil {
		return nil, err
	}
	there := map[string]int64{}
	for _, m := range list.Manifests {
		for _, f := range m.Files {
			there[f.SHA256] = f.Size
		}
	}
	return there, nil
}

// hash fills in the file's hash.
func (f *File) hash(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	h := sha256.New()
	n, err := io.Copy(h, file)
	if err != nil {
		return fmt.Errorf("read %s: %w", f.Path, err)
	}
	if n != f.Size {
		return fmt.Errorf("read %s: it has %d bytes, and had %d", f.Path, n, f.Size)
	}
	f.SHA256 = hex.EncodeToString(h.Sum(nil))
	return nil
}

// store writes a file's contents, unless a manifest names them and they are there, and says how much it wrote.
func (s *Store) store(ctx context.Context, path string, f *File, there map[string]int64) (int64, error) {
	key := s.object(f.SHA256)
	if size, ok := there[f.SHA256]; ok && size == f.Size {
		attributes, err := s.bucket.Attributes(ctx, key)
		if err == nil && attributes.Size == f.Size {
			return 0, nil
		}
		if err != nil && gcerrors.Code(err) != gcerrors.NotFound {
			return 0, fmt.Errorf("look for %s: %w", key, err)
		}
		// It is gone or cut off: storing it mends the copies that share it.
		s.log.Warn("object of a mirror checkpoint stored again: it was gone or cut off", "object", key)
	}
	file, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer file.Close()
	return f.Size, s.write(ctx, key, file)
}

// write writes an object, which appears whole or not at all.
func (s *Store) write(ctx context.Context, key string, from io.Reader) error {
	w, err := bucket.CreateOver(ctx, s.bucket, key)
	if err != nil {
		return err
	}
	if _, err := io.Copy(w, from); err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", key, err), w.Abort())
	}
	if err := w.Close(); err != nil {
		return fmt.Errorf("write %s: %w", key, err)
	}
	return nil
}
