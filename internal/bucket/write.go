package bucket

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"gocloud.dev/blob"
	"gocloud.dev/gcerrors"
)

var (
	// ErrExists means that there is an object of the name already.
	ErrExists = errors.New("exists already")
	// ErrNotExclusive means that the store cannot refuse to overwrite: CreateOver is what is left.
	ErrNotExclusive = errors.New("the store cannot refuse to overwrite")
)

// Writer writes one object. Nobody sees it before Close has returned nil; from then on it is whole and durable.
type Writer struct {
	out    *blob.Writer
	cancel context.CancelFunc
	key    string
	file   *os.File // of a folder; nil in other stores
}

// Create begins an object that is not there yet. Close or Abort must be called.
func Create(ctx context.Context, b *blob.Bucket, key string) (*Writer, error) {
	return create(ctx, b, key, true)
}

// CreateOver is Create for stores that cannot refuse to overwrite, and for objects that may be.
func CreateOver(ctx context.Context, b *blob.Bucket, key string) (*Writer, error) {
	return create(ctx, b, key, false)
}

func create(ctx context.Context, b *blob.Bucket, key string, exclusive bool) (*Writer, error) {
	ctx, cancel := context.WithCancel(ctx)
	w := &Writer{cancel: cancel, key: key}
	var err error
	w.out, err = b.NewWriter(ctx, key, &blob.WriterOptions{
		ContentType: "application/octet-stream", // with a type nothing is held back to guess one
		IfNotExist:  exclusive,
		BeforeWrite: func(as func(any) bool) error {
			as(&w.file)
			return nil
		},
	})
	if err != nil {
		cancel()
		return nil, fmt.Errorf("create %s: %w", key, unsupported(err))
	}
	return w, nil
}

// Write implements io.Writer.
func (w *Writer) Write(p []byte) (int, error) { return w.out.Write(p) }

// Close makes the object appear. It is ErrExists when another one of the name has appeared meanwhile. After any other error
// it is unknown whether the object is there.
func (w *Writer) Close() error {
	defer w.cancel()
	if w.file != nil {
		if err := w.file.Sync(); err != nil {
			return errors.Join(fmt.Errorf("write %s: %w", w.key, err), w.Abort())
		}
	}
	err := w.out.Close()
	switch {
	case gcerrors.Code(err) == gcerrors.FailedPrecondition:
		return fmt.Errorf("write %s: %w", w.key, ErrExists)
	case err != nil:
		return fmt.Errorf("write %s: %w", w.key, unsupported(err))
	case w.file == nil:
		return nil
	}
	dir := filepath.Dir(w.file.Name())
	for range strings.Count(w.key, "/") + 1 { // the folders may be new as well
		if err := syncDir(dir); err != nil {
			return fmt.Errorf("write %s: %w", w.key, err)
		}
		dir = filepath.Dir(dir)
	}
	return nil
}

// Abort ends the writing. The object does not appear.
func (w *Writer) Abort() error {
	w.cancel()
	if err := w.out.Close(); err != nil && !errors.Is(err, context.Canceled) && gcerrors.Code(err) != gcerrors.Canceled {
		return fmt.Errorf("abort %s: %w", w.key, err)
	}
	return nil
}

// unsupported says of an error whether it is the answer of a store that knows no conditional writes.
func unsupported(err error) error {
	if gcerrors.Code(err) == gcerrors.Unimplemented || strings.Contains(err.Error(), "NotImplemented") {
		return fmt.Errorf("%w: %w", ErrNotExclusive, err)
	}
	return err
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
