package stream

import (
	"context"
	"io"
	"time"

	"github.com/jackc/pglogrepl"

	"github.com/lanternist/lanternist/event"
	"github.com/lanternist/lanternist/journal"
)

// Bounds bound one Read.
type Bounds struct {
	Events int // at most; 0 sets no bound
	Bytes  int // about, of events as they are stored; one event may be larger. 0 sets no bound
	// Batches are read from the journal, at most, whether or not an event of them is wanted. 0 sets no bound.
	Batches int
}

// Reader reads a span of the journal in order. It is not safe for concurrent use.
type Reader struct {
	journal *journal.Journal
	span    Span
	wanted  *selection

	at    event.Offset  // everything up to it has been read
	lsn   pglogrepl.LSN // everything that committed before it has been read
	batch *journal.Batch
	part  int // next in the batch
	next  int // next event of the part
	buf   []event.Event
	read  int64 // events, wanted or not
	seen  int64 // batches
}

// NewReader reads the events of a span that a filter wants.
func NewReader(j *journal.Journal, span Span, filter Filter) *Reader {
	return &Reader{journal: j, span: span, wanted: newSelection(filter), at: span.After}
}

// At is how far the reader has come: every event up to it was returned by Read, or is not wanted.
func (r *Reader) At() event.Offset { return r.at }

// LSN is the position before which every transaction of the span was read; 0 while none was.
func (r *Reader) LSN() pglogrepl.LSN { return r.lsn }

// Time is when the batch that is being read was appended; zero when the next one has to be read first.
func (r *Reader) Time() time.Time {
	if r.batch == nil {
		return time.Time{}
	}
	return r.batch.Time
}

// Read returns the events that come next, as many as there are within the bounds: none when there are none now, or when none of
// those that were read is wanted. At the end of the span it is io.EOF. The slice is valid until the next call; after an error
// nothing has been read.
func (r *Reader) Read(ctx context.Context, bounds Bounds) ([]event.Event, error) {
	r.buf = r.buf[:0]
	bytes, batches := 0, 0
	for {
		if r.batch == nil {
			if r.ended() {
				return r.buf, r.eof()
			}
			if r.journal.Head().Offset <= r.at || (bounds.Batches > 0 && batches == bounds.Batches) {
				return r.buf, nil
			}
			batch, err := r.journal.Next(ctx, r.at)
			if err != nil {
				if len(r.buf) > 0 {
					return r.buf, nil // what was read first; the error comes again
				}
				return nil, err
			}
			batches++
			r.seen++
			r.batch, r.part, r.next = batch, 0, 0
		}
		if full := r.take(bounds, &bytes); full {
			return r.buf, nil
		}
	}
}

// eof is the end of the span, once there is nothing left to return.
func (r *Reader) eof() error {
	if len(r.buf) > 0 {
		return nil
	}
	return io.EOF
}

// ended says that the rest of the journal is not in the span.
func (r *Reader) ended() bool { return r.at >= r.span.Last }

// take takes events of the batch until the bounds are reached, which it says, or the batch is.
func (r *Reader) take(bounds Bounds, bytes *int) (full bool) {
	for ; r.part < len(r.batch.Parts); r.part++ {
		p := &r.batch.Parts[r.part]
		within := r.within(p)
		for ; r.next < len(p.Events); r.next++ {
			ev := &p.Events[r.next]
			if ev.Offset <= r.span.After {
				continue
			}
			if ev.Offset > r.span.Last {
				r.at, r.batch = max(r.at, r.span.Last), nil
				return false
			}
			if within && r.wanted.wants(ev) {
				size := journal.EncodedEventSize(ev)
				if n := len(r.buf); n > 0 && (n == bounds.Events || bounds.Bytes > 0 && *bytes+size > bounds.Bytes) {
					return true
				}
				*bytes += size
				r.buf = append(r.buf, *ev)
			}
			r.read++
			r.at = ev.Offset
		}
		r.next = 0
		if p.Complete {
			r.lsn = p.EndLSN
		}
	}
	r.at, r.batch = max(r.at, r.batch.Last()), nil
	return false
}

// within says whether a part's transaction committed in the span's time.
func (r *Reader) within(p *journal.Part) bool {
	return (r.span.Since.IsZero() || !p.CommitTime.Before(r.span.Since)) && (r.span.Until.IsZero() || !p.CommitTime.After(r.span.Until))
}

// Wait waits until there is something to read, or the span has been read to its end.
func (r *Reader) Wait(ctx context.Context) error {
	if r.batch != nil || r.ended() {
		return nil
	}
	_, err := r.journal.Next(ctx, r.at)
	return err
}
