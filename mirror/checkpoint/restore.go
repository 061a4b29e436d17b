package checkpoint

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync/atomic"

	"gocloud.dev/gcerrors"
	"golang.org/x/sync/errgroup"
)

// Restore writes the files of a copy to dir, which it makes, and which must be empty if it is there. With an error, which is a
// DamagedError when what is stored is not what was written, dir holds nothing of use. progress may be nil.
func (s *Store) Restore(ctx context.Context, m *Manifest, dir string, progress func(done, total int64)) error {
	s, err := s.at(ctx)
	if err != nil {
		return fmt.Errorf("restore mirror checkpoint: %w", err)
	}
	err = s.each(ctx, m, progress, func(ctx context.Context, f File, count func(int64)) error {
		return s.fetch(ctx, m, f, filepath.Join(dir, filepath.FromSlash(f.Path)), count)
	})
	if err != nil {
		return fmt.Errorf("restore mirror checkpoint: %w", err)
	}
	return nil
}

// Verify reads all files of a copy and compares each with its hash. All that is damaged is named in the error.
func (s *Store) Verify(ctx context.Context, m *Manifest, progress func(done, total int64)) error {
	s, err := s.at(ctx)
	if err != nil {
		return fmt.Errorf("verify mirror checkpoint: %w", err)
	}
	found := make(chan error, len(m.Files))
	err = s.each(ctx, m, progress, func(ctx context.Context, f File, count func(int64)) error {
		err := s.copy(ctx, m, f, io.Discard, count)
		if damaged := new(DamagedError); errors.As(err, &damaged) {
			found <- damaged
			return nil
		}
		return err
	})
	close(found)
	for damaged := range found {
		err = errors.Join(err, damaged)
	}
	return err
}

// each does something with all files of a copy, some at once.
func (s *Store) each(ctx context.Context, m *Manifest, progress func(done, total int64), do func(ctx context.Context, f File, count func(int64)) error) error {
	var done atomic.Int64
	total := m.Size()
	count := func(n int64) {
		if n := done.Add(n); progress != nil {
			progress(n, total)
		}
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(s.cfg.Transfers)
	for _, f := range m.Files {
		g.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			return do(ctx, f, count)
		})
	}
	return g.Wait()
}

// fetch writes one file.
func (s *Store) fetch(ctx context.Context, m *Manifest, f File, path string, count func(int64)) (err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	return s.copy(ctx, m, f, file, count)
}

// copy copies the contents of a file to w, and compares them with their hash.
func (s *Store) copy(ctx context.Context, m *Manifest, f File, w io.Writer, count func(int64)) error {
	key := s.object(f.SHA256)
	damaged := func(format string, args ...any) error {
		return &DamagedError{Checkpoint: m.Name(), File: f.Path, Object: key, Cause: fmt.Errorf(format, args...)}
	}
	r, err := s.bucket.NewReader(ctx, key, nil)
	if gcerrors.Code(err) == gcerrors.NotFound {
		return damaged("it is gone: %w", err)
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", key, err)
	}
	defer r.Close()
	h := sha256.New()
	n, err := io.Copy(io.MultiWriter(w, h, counter(count)), r)
	if err != nil {
		return fmt.Errorf("read %s: %w", key, err)
	}
	if n != f.Size {
		return damaged("it has %d bytes, %d were written", n, f.Size)
	}
	if sum := hex.EncodeToString(h.Sum(nil)); sum != f.SHA256 {
		return damaged("its SHA-256 is %s", sum)
	}
	return nil
}

// counter is told how much is written.
type counter func(int64)

func (c counter) Write(p []byte) (int, error) {
	c(int64(len(p)))
	return len(p), nil
}
