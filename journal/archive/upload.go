package archive

import (
	"context"
	"errors"
	"fmt"
	"time"

	"gocloud.dev/blob"

	"github.com/lanternist/lanternist/event"
	"github.com/lanternist/lanternist/internal/bucket"
	"github.com/lanternist/lanternist/journal"
)

// write writes the file of a range of batches and gives up the claim on them. Writing it again is harmless.
func (r *Archiver) write(ctx context.Context, first, last uint64) error {
	began := time.Now()
	store, err := r.archive.bucket(ctx)
	if err != nil {
		return err
	}
	l, err := r.archive.listed()
	if err != nil {
		return err
	}
	about := description{Program: r.cfg.Program, First: first, Last: last, Previous: l.previous(first)}
	f := &file{name: nameOf(r.archive.id, first, last), id: r.archive.id, first: first, last: last}
	f.size, err = r.upload(ctx, store, f, about, bucket.Create)
	if errors.Is(err, bucket.ErrNotExclusive) {
		f.size, err = r.upload(ctx, store, f, about, bucket.CreateOver)
	}
	if errors.Is(err, bucket.ErrExists) {
		f.size, err = r.adopt(ctx, store, f)
	}
	if err != nil {
		return fmt.Errorf("archive batches %d-%d: %w", first, last, err)
	}
	end, err := r.journal.EntryHeader(ctx, last)
	if err != nil {
		return err
	}
	begin, err := r.journal.EntryHeader(ctx, first)
	if err != nil {
		return err
	}
	r.archive.add(f, about.Previous == "", begin.First())
	r.journal.Retain(Reader, event.NewOffset(last, 0))
	raw := end.End() - begin.Position()
	r.mu.Lock()
	r.end = end.End()
	s := &r.state
	s.State, s.Error, s.Failures, s.Since = StateRunning, "", 0, time.Time{}
	s.Written, s.WrittenFiles, s.WrittenBytes, s.WrittenRaw = time.Now(), s.WrittenFiles+1, s.WrittenBytes+uint64(f.size), s.WrittenRaw+raw
	r.mu.Unlock()
	r.log.Info("journal archived", "file", f.name, "batches", last-first+1, "bytes", f.size, "raw", raw, "took", time.Since(began).Round(time.Millisecond))
	return nil
}

// previous is the name of the file that one which begins with a sequence goes on from, or "".
func (l *listing) previous(first uint64) string {
	if n := len(l.files); n > 0 && l.files[n-1].last+1 == first {
		return l.files[n-1].name
	}
	return ""
}

// upload writes the file. It reads the entries as the journal has them, with the memory of one block.
func (r *Archiver) upload(ctx context.Context, store *blob.Bucket, f *file, about description,
	create func(context.Context, *blob.Bucket, string) (*bucket.Writer, error),
) (size int64, err error) {
	out, err := create(ctx, store, f.name)
	if err != nil {
		return 0, err
	}
	if size, err = r.fill(ctx, out, about); err != nil {
		return 0, errors.Join(err, out.Abort())
	}
	return size, out.Close()
}

// fill writes the entries.
func (r *Archiver) fill(ctx context.Context, out *bucket.Writer, about description) (int64, error) {
	w, err := newFileWriter(out, r.archive.id, about, r.cfg.BlockSize)
	if err != nil {
		return 0, err
	}
	for sequence := about.First; sequence <= about.Last; sequence++ {
		entry, err := r.journal.Entry(ctx, sequence)
		if err != nil {
			return 0, err
		}
		if err := w.add(entry); err != nil {
			return 0, err
		}
	}
	return w.finish(r.definitions())
}

// adopt takes a file that is there already, when it is the one that was to be written: an upload of which the answer was
// lost.
func (r *Archiver) adopt(ctx context.Context, store *blob.Bucket, f *file) (int64, error) {
	attributes, err := store.Attributes(ctx, f.name)
	if err != nil {
		return 0, err
	}
	there := *f
	there.size = attributes.Size
	x, err := there.readIndex(ctx, store)
	if err != nil {
		return 0, there.damaged(f.first, f.last, err)
	}
	for i := range x.places {
		sequence := x.places[i].last()
		own, err := r.journal.EntryHeader(ctx, sequence)
		if err != nil {
			return 0, err
		}
		if own.Checksum() != x.places[i].ending.Checksum() {
			return 0, fmt.Errorf("%w: batch %d has checksum %08x in %s, and %08x in the journal",
				ErrOther, sequence, x.places[i].ending.Checksum(), f.name, own.Checksum())
		}
	}
	return there.size, nil
}

// add makes a new file known to readers. alone says that it does not go on from the one before.
func (a *Archive) add(f *file, alone, beginning bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	l := a.files.Load()
	if alone {
		l = l.with(f, true, beginning)
	} else {
		l = l.with(f, false, false)
	}
	a.files.Store(l)
}

var _ journal.Archive = (*Archive)(nil)
