package archive

import (
	"context"
	"errors"
	"fmt"
	"io"

	"gocloud.dev/blob"
	"gocloud.dev/gcerrors"

	"github.com/lanternist/lanternist/journal"
)

// file is a file of the archive, by its name. It is immutable.
type file struct {
	name        string
	id          journal.ID
	first, last uint64
	size        int64
	missing     bool // it should be there and is not
}

var (
	// errMissing means that a file that should be there is not.
	errMissing = errors.New("the file is missing")
	// errChanged means that a file is not the one that was listed.
	errChanged = errors.New("the file has changed")
)

// corrupt is the error of batches that cannot be read. It names the file.
func (f *file) corrupt(from, to uint64, cause error) error {
	return &journal.CorruptError{From: from, To: to, Cause: fmt.Errorf("%s: %w", f.name, cause)}
}

// damaged turns what is wrong with a file into the error of a range of its batches, and leaves other errors, which may pass,
// as they are.
func (f *file) damaged(from, to uint64, err error) error {
	switch {
	case errors.Is(err, errMissing), errors.Is(err, errChanged):
		return f.corrupt(from, f.last, err)
	case errors.Is(err, errFormat), errors.Is(err, journal.ErrMalformed):
		return f.corrupt(from, to, err)
	}
	return fmt.Errorf("%s: %w", f.name, err)
}

// read reads a part of a file.
func (f *file) read(ctx context.Context, bucket *blob.Bucket, at, length uint64) ([]byte, error) {
	if f.missing {
		return nil, errMissing
	}
	if at+length > uint64(f.size) {
		return nil, fmt.Errorf("%w: %d bytes at %d are not in a file of %d", errFormat, length, at, f.size)
	}
	r, err := bucket.NewRangeReader(ctx, f.name, int64(at), int64(length), nil)
	if err != nil {
		return nil, f.changed(ctx, bucket, err)
	}
	b := make([]byte, length)
	_, err = io.ReadFull(r, b)
	if closing := r.Close(); err == nil {
		err = closing
	}
	if err != nil {
		return nil, f.changed(ctx, bucket, err)
	}
	return b, nil
}

// changed says whether an error of reading comes from a file that is gone or has another size than it had.
func (f *file) changed(ctx context.Context, bucket *blob.Bucket, err error) error {
	if gcerrors.Code(err) == gcerrors.NotFound {
		return errMissing
	}
	attributes, failed := bucket.Attributes(ctx, f.name)
	switch {
	case failed != nil && gcerrors.Code(failed) == gcerrors.NotFound:
		return errMissing
	case failed == nil && attributes.Size != f.size:
		return fmt.Errorf("%w: it has %d bytes, not %d any more", errChanged, attributes.Size, f.size)
	}
	return err
}

// endBytes is how much of a file's end is read at first: mostly the tail and all of the index.
const endBytes = 32 << 10

// readIndex reads the file's index.
func (f *file) readIndex(ctx context.Context, bucket *blob.Bucket) (*index, error) {
	if f.missing {
		return nil, errMissing
	}
	if f.size < headSize+tailSize {
		return nil, fmt.Errorf("%w: it has %d bytes only", errFormat, f.size)
	}
	length := uint64(min(f.size, endBytes))
	from := uint64(f.size) - length
	end, err := f.read(ctx, bucket, from, length)
	if err != nil {
		return nil, err
	}
	t, err := readTail(end[len(end)-tailSize:])
	if err != nil {
		return nil, err
	}
	if t.index+uint64(t.packed)+tailSize != uint64(f.size) {
		return nil, fmt.Errorf("%w: its index is not where its last bytes say", errFormat)
	}
	if t.index < from {
		if end, err = f.read(ctx, bucket, t.index, uint64(t.packed)); err != nil {
			return nil, err
		}
		from = t.index
	}
	return readIndex(f, t, end[t.index-from:][:t.packed])
}
