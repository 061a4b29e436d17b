package archive

import (
	"context"
	"errors"
	"fmt"

	"github.com/lanternist/lanternist/journal"
	"github.com/lanternist/lanternist/row"
)

// ErrNotEmpty means that there is something where a journal is to be restored.
var ErrNotEmpty = errors.New("journal is not empty")

// ErrNothing means that an archive has no files.
var ErrNothing = errors.New("archive is empty")

// Restored is what a restoration has written.
type Restored struct {
	First, Last uint64 // sequences
	Bytes       uint64
}

// Restore fills an empty engine with the newest batches of the archive, as they were appended: at least the last one, and as
// many as have bytes together; 0 is all of them. What is older goes on being read from the archive. An engine into which a
// restoration was cut off is not to be used. progress, which may be nil, is told how many bytes are done.
func (a *Archive) Restore(ctx context.Context, engine journal.Log, bytes uint64, progress func(done, total int64)) (Restored, error) {
	_, last, err := engine.Bounds(ctx)
	if err != nil {
		return Restored{}, fmt.Errorf("restore journal: %w", err)
	}
	if last != 0 {
		return Restored{}, fmt.Errorf("restore journal: %w: it has batches up to %d", ErrNotEmpty, last)
	}
	restored, err := a.restore(ctx, engine, bytes, progress)
	if err != nil {
		err = fmt.Errorf("restore journal: %w", err)
	}
	return restored, err
}

func (a *Archive) restore(ctx context.Context, engine journal.Log, bytes uint64, progress func(done, total int64)) (r Restored, err error) {
	span, err := a.Range()
	if err != nil {
		return r, err
	}
	if span.First == 0 {
		return r, ErrNothing
	}
	final, err := a.entry(ctx, span.Last)
	if err != nil {
		return r, err
	}
	r.First = span.First
	if bytes > 0 {
		first, err := a.Search(ctx, func(e *journal.Entry) bool { return final.End()-e.Position() <= bytes })
		if err != nil {
			return r, err
		}
		r.First = min(first, span.Last)
	}
	begin, err := a.entry(ctx, r.First)
	if err != nil {
		return r, err
	}
	total := int64(final.End() - begin.Position())
	var previous journal.Entry
	for sequence := r.First; sequence <= span.Last; sequence++ {
		b, err := a.Read(ctx, sequence)
		if err != nil {
			return r, err
		}
		e, err := journal.ReadEntry(b)
		if err == nil && sequence > r.First && e.PreviousChecksum() != previous.Checksum() {
			err = errors.New("it does not follow the one before")
		}
		if err != nil {
			return r, &journal.CorruptError{From: sequence, To: sequence, Cause: err}
		}
		if err := engine.Append(ctx, sequence, b); err != nil {
			return r, fmt.Errorf("append batch %d: %w", sequence, err)
		}
		previous = e
		r.Last, r.Bytes = sequence, r.Bytes+uint64(len(b))
		if progress != nil {
			progress(int64(r.Bytes), total)
		}
	}
	return r, nil
}

// entry is what an archived batch says before its parts.
func (a *Archive) entry(ctx context.Context, sequence uint64) (journal.Entry, error) {
	b, err := a.Read(ctx, sequence)
	if err != nil {
		return journal.Entry{}, err
	}
	return journal.ReadEntry(b)
}

// Schemas are the row definitions that the newest file was written with: those that every archived row refers to.
func (a *Archive) Schemas(ctx context.Context) ([]*row.Schema, error) {
	l, err := a.listed()
	if err != nil {
		return nil, err
	}
	if len(l.files) == 0 {
		return nil, ErrNothing
	}
	bucket, err := a.bucket(ctx)
	if err != nil {
		return nil, err
	}
	f := l.files[len(l.files)-1]
	x, err := f.readIndex(ctx, bucket)
	if err != nil {
		return nil, f.damaged(f.first, f.last, err)
	}
	return x.Schemas, nil
}
