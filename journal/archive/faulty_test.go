package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"

	"gocloud.dev/blob"
	"gocloud.dev/blob/driver"
	"gocloud.dev/blob/memblob"
	"gocloud.dev/gcerrors"
)

// errFault is what a faulty store answers.
var errFault = errors.New("connection reset by peer")

// faulty is a store in memory of which operations fail. It is a driver, so that everything above it is real.
type faulty struct {
	driver.Bucket // nil: what is not written below is not used
	inner         *blob.Bucket

	mu   sync.Mutex
	ops  int
	fail func(n int, op string) error // is asked before each operation, counted from 1
	lose func(op string) bool         // the operation is done, and its answer is lost
}

// newFaulty is a store that works until fail is set.
func newFaulty(t testing.TB) (*faulty, *blob.Bucket) {
	f := &faulty{inner: memblob.OpenBucket(nil)}
	b := blob.NewBucket(f)
	t.Cleanup(func() {
		b.Close()
		f.inner.Close()
	})
	return f, b
}

func (f *faulty) step(op string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ops++
	if f.fail == nil {
		return nil
	}
	if err := f.fail(f.ops, op); err != nil {
		return fmt.Errorf("%s: %w", op, err)
	}
	return nil
}

// set begins to count again, with other faults.
func (f *faulty) set(fail func(n int, op string) error, lose func(op string) bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ops, f.fail, f.lose = 0, fail, lose
}

func (f *faulty) lost(op string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.lose != nil && f.lose(op)
}

func (f *faulty) ErrorCode(err error) gcerrors.ErrorCode {
	if errors.Is(err, errFault) {
		return gcerrors.Unknown
	}
	return gcerrors.Code(err)
}

func (f *faulty) As(any) bool             { return false }
func (f *faulty) ErrorAs(error, any) bool { return false }
func (f *faulty) Close() error            { return nil }

func (f *faulty) Attributes(ctx context.Context, key string) (*driver.Attributes, error) {
	if err := f.step("attributes"); err != nil {
		return nil, err
	}
	a, err := f.inner.Attributes(ctx, key)
	if err != nil {
		return nil, err
	}
	return &driver.Attributes{Size: a.Size, ModTime: a.ModTime, ContentType: a.ContentType}, nil
}

func (f *faulty) ListPaged(ctx context.Context, opts *driver.ListOptions) (*driver.ListPage, error) {
	if err := f.step("list"); err != nil {
		return nil, err
	}
	page := &driver.ListPage{}
	it := f.inner.List(&blob.ListOptions{Prefix: opts.Prefix, Delimiter: opts.Delimiter})
	for {
		o, err := it.Next(ctx)
		if errors.Is(err, io.EOF) {
			return page, nil
		}
		if err != nil {
			return nil, err
		}
		page.Objects = append(page.Objects, &driver.ListObject{Key: o.Key, Size: o.Size, ModTime: o.ModTime, IsDir: o.IsDir})
	}
}

func (f *faulty) NewRangeReader(ctx context.Context, key string, offset, length int64, _ *driver.ReaderOptions) (driver.Reader, error) {
	if err := f.step("read"); err != nil {
		return nil, err
	}
	r, err := f.inner.NewRangeReader(ctx, key, offset, length, nil)
	if err != nil {
		return nil, err
	}
	return &faultyReader{r, f}, nil
}

type faultyReader struct {
	*blob.Reader
	f *faulty
}

func (r *faultyReader) Read(p []byte) (int, error) {
	if err := r.f.step("read on"); err != nil {
		return 0, err
	}
	return r.Reader.Read(p)
}

func (r *faultyReader) Attributes() *driver.ReaderAttributes {
	return &driver.ReaderAttributes{Size: r.Size(), ModTime: r.ModTime(), ContentType: r.ContentType()}
}

func (f *faulty) NewTypedWriter(ctx context.Context, key, contentType string, opts *driver.WriterOptions) (driver.Writer, error) {
	if err := f.step("create"); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	w, err := f.inner.NewWriter(ctx, key, &blob.WriterOptions{ContentType: contentType, IfNotExist: opts.IfNotExist})
	if err != nil {
		cancel()
		return nil, err
	}
	return &faultyWriter{w, f, cancel}, nil
}

type faultyWriter struct {
	*blob.Writer
	f      *faulty
	cancel context.CancelFunc
}

func (w *faultyWriter) Write(p []byte) (int, error) {
	if err := w.f.step("write"); err != nil {
		return 0, err
	}
	return w.Writer.Write(p)
}

func (w *faultyWriter) Close() error {
	defer w.cancel()
	if err := w.f.step("close"); err != nil {
		w.cancel()
		return errors.Join(err, w.Writer.Close())
	}
	if err := w.Writer.Close(); err != nil {
		return err
	}
	if w.f.lost("close") {
		return fmt.Errorf("close: %w", errFault)
	}
	return nil
}

func (f *faulty) Delete(ctx context.Context, key string, _ *driver.DeleteOptions) error {
	if err := f.step("delete"); err != nil {
		return err
	}
	return f.inner.Delete(ctx, key)
}
