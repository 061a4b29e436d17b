package archive

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/lanternist/lanternist/backoff"
	"github.com/lanternist/lanternist/event"
	"github.com/lanternist/lanternist/journal"
	"github.com/lanternist/lanternist/row"
)

// Reader is the archiver's name among the journal's readers.
const Reader = "archive"

// Config says when files are written.
type Config struct {
	// FileSize is how many bytes of entries make a file, before compression; at most a quarter of what the journal keeps.
	// Files are smaller when the journal is full. Default 64 MiB.
	FileSize int64
	// Every is how long an entry waits at most before it is archived, though it fills no file. Default 1h.
	Every time.Duration
	// Program is written into the files: who wrote them, with its version.
	Program string
	// BlockSize is how many bytes of entries are compressed together. Default 1 MiB.
	BlockSize int
	// Backoff spaces attempts after a failure. Default from 50ms to 15s.
	Backoff backoff.Config
}

func (c Config) withDefaults() Config {
	if c.FileSize <= 0 {
		c.FileSize = 64 << 20
	}
	if c.Every <= 0 {
		c.Every = time.Hour
	}
	if c.BlockSize <= 0 {
		c.BlockSize = defaultBlockSize
	}
	return c
}

var (
	// ErrAhead means that the archive has batches that the journal does not have: the journal is an older copy.
	ErrAhead = errors.New("archive is ahead of the journal")
	// ErrOther means that the archive has another batch than the journal: another program has written one of them.
	ErrOther = errors.New("archive and journal have come apart")
)

// Archiver writes what is in a journal into its archive. One runs at a time.
type Archiver struct {
	cfg     Config
	archive *Archive
	journal *journal.Journal
	schemas journal.Schemas
	log     *slog.Logger

	request chan struct{} // somebody wants everything archived; holds one

	mu     sync.Mutex
	state  Status
	wanted uint64 // last sequence that is to be archived at once
	begun  bool   // end is known
	end    uint64 // position up to which everything is archived
}

// NewArchiver is an archiver that does not run yet. From now on the journal keeps everything for it.
func NewArchiver(cfg Config, archive *Archive, j *journal.Journal, schemas journal.Schemas, log *slog.Logger) *Archiver {
	j.Retain(Reader, 0)
	cfg = cfg.withDefaults()
	if size := j.Retention().Size; size > 0 {
		cfg.FileSize = min(cfg.FileSize, size/4) // a journal must not be full before its first file is
	}
	return &Archiver{
		cfg: cfg, archive: archive, journal: j, schemas: schemas, log: log,
		request: make(chan struct{}, 1), state: Status{State: StateStarting},
	}
}

// Run writes files until ctx ends, whose cause it returns, or the journal is closed. What fails is repeated: the journal keeps
// what is not archived.
func (r *Archiver) Run(ctx context.Context) error {
	var next uint64 // sequence of the first batch that is not archived; 0 while that is not known
	delay := backoff.New(r.cfg.Backoff)
	for {
		err := r.step(ctx, &next, &delay)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.Is(err, journal.ErrClosed):
			return err
		case err == nil:
			continue
		}
		r.failed(err, delay.Attempts())
		if err := delay.Wait(ctx); err != nil {
			return err
		}
	}
}

// step finds out where the archive ends, or waits for something to archive and writes one file.
func (r *Archiver) step(ctx context.Context, next *uint64, delay *backoff.Backoff) (err error) {
	if *next == 0 {
		*next, err = r.begin(ctx)
		return err
	}
	last, err := r.wait(ctx, *next)
	if err != nil {
		return err
	}
	// The range stays the same until it is written: nobody may know whether an attempt has left the file.
	for {
		err := r.write(ctx, *next, last)
		if err == nil {
			break
		}
		if ctx.Err() != nil || errors.Is(err, journal.ErrClosed) {
			return err
		}
		r.failed(err, delay.Attempts())
		if err := delay.Wait(ctx); err != nil {
			return err
		}
	}
	*next = last + 1
	delay.Reset()
	return nil
}

// begin lists the archive and checks that it goes with the journal. It returns the first sequence to archive.
func (r *Archiver) begin(ctx context.Context) (uint64, error) {
	leftovers, err := r.archive.load(ctx)
	if err != nil {
		return 0, err
	}
	if err := r.sweep(ctx, leftovers); err != nil {
		return 0, err
	}
	next, end, err := r.follow(ctx)
	if err != nil {
		return 0, err
	}
	r.mu.Lock()
	r.begun, r.end, r.state.State, r.state.Error, r.state.Failures = true, end, StateRunning, "", 0
	r.mu.Unlock()
	return next, nil
}

// sweep removes what uploads that were cut off have left.
func (r *Archiver) sweep(ctx context.Context, leftovers []string) error {
	if len(leftovers) == 0 {
		return nil
	}
	bucket, err := r.archive.bucket(ctx)
	if err != nil {
		return err
	}
	for _, name := range leftovers {
		if err := bucket.Delete(ctx, name); err != nil {
			return fmt.Errorf("remove half an upload: %w", err)
		}
		r.log.Info("half an upload removed from the archive", "file", name)
	}
	return nil
}

// follow is the first sequence to archive, and the position up to which everything is.
func (r *Archiver) follow(ctx context.Context) (next, end uint64, err error) {
	span, err := r.archive.Range()
	if err != nil {
		return 0, 0, err
	}
	first, head := r.journal.Retained(), r.journal.Head().Offset.Sequence()
	if span.Last > head {
		return 0, 0, fmt.Errorf("%w: it ends with batch %d, the journal with batch %d: the journal was restored from an older copy", ErrAhead, span.Last, head)
	}
	if span.Last+1 < first || span.First == 0 {
		if span.First != 0 {
			r.log.Warn("archive begins anew: what came between was trimmed while nothing was archived",
				"archive", fmt.Sprintf("%d-%d", span.First, span.Last), "journal", first)
		}
		h, err := r.journal.EntryHeader(ctx, first)
		if err != nil {
			return 0, 0, err
		}
		return first, h.Position(), nil
	}
	end, err = r.join(ctx, span.Last)
	if err != nil {
		return 0, 0, err
	}
	r.journal.Retain(Reader, event.NewOffset(span.Last, 0))
	return span.Last + 1, end, nil
}

// join checks that the journal goes on where the archive ends, and returns the position.
func (r *Archiver) join(ctx context.Context, last uint64) (uint64, error) {
	l, err := r.archive.listed()
	if err != nil {
		return 0, err
	}
	f := l.files[len(l.files)-1]
	x, err := r.archive.index(ctx, f)
	if errors.Is(err, journal.ErrCorrupt) {
		// What the file has been cannot be read. That is said when it is; here the journal tells where it ended.
		r.log.Error("newest file of the archive cannot be read", "error", err, "hint", "see: lanternist journal verify")
		return r.startOf(ctx, last)
	}
	if err != nil {
		return 0, err
	}
	archived := x.last()
	if last >= r.journal.Retained() {
		own, err := r.journal.EntryHeader(ctx, last)
		if err != nil {
			return 0, err
		}
		if own.Checksum() != archived.Checksum() {
			return 0, fmt.Errorf("%w: batch %d has checksum %08x in %s, and %08x in the journal", ErrOther, last, archived.Checksum(), f.name, own.Checksum())
		}
	} else if own, err := r.journal.EntryHeader(ctx, last+1); err != nil {
		return 0, err
	} else if own.PreviousChecksum() != archived.Checksum() {
		return 0, fmt.Errorf("%w: the journal's batch %d does not follow batch %d in %s", ErrOther, last+1, last, f.name)
	}
	return archived.End(), nil
}

// startOf is the position after a batch.
func (r *Archiver) startOf(ctx context.Context, last uint64) (uint64, error) {
	if last >= r.journal.Retained() {
		h, err := r.journal.EntryHeader(ctx, last)
		return h.End(), err
	}
	h, err := r.journal.EntryHeader(ctx, last+1)
	return h.Position(), err
}

// wait waits until the batches from one on make a file: by their size, by their age, or because somebody wants them. It
// returns the last that goes into it.
func (r *Archiver) wait(ctx context.Context, next uint64) (last uint64, err error) {
	r.mu.Lock()
	start := r.end
	r.mu.Unlock()
	something, forget := r.journal.Await(start + 1)
	defer forget()
	select {
	case <-something:
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
	if r.journal.Head().Offset.Sequence() < next {
		return 0, journal.ErrClosed
	}
	oldest, err := r.journal.EntryHeader(ctx, next)
	if err != nil {
		return 0, err
	}
	r.mu.Lock()
	r.state.Since = oldest.Time()
	wanted := r.wanted
	r.mu.Unlock()
	enough, forgetEnough := r.journal.Await(start + uint64(r.cfg.FileSize))
	defer forgetEnough()
	due := time.NewTimer(time.Until(oldest.Time().Add(r.cfg.Every)))
	defer due.Stop()
	for wanted < next {
		select {
		case <-enough:
			return r.upTo(ctx, next, start)
		case <-due.C:
			return r.upTo(ctx, next, start)
		case <-r.journal.Pressed(Reader):
			return r.upTo(ctx, next, start)
		case <-r.request:
			r.mu.Lock()
			wanted = r.wanted
			r.mu.Unlock()
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
	}
	return r.upTo(ctx, next, start)
}

// upTo is the last batch of a file that begins with next: with which the file is large enough, else the journal's last.
func (r *Archiver) upTo(ctx context.Context, next, start uint64) (uint64, error) {
	head := r.journal.Head().Offset.Sequence()
	last, err := r.journal.Reaching(ctx, next, start+uint64(r.cfg.FileSize))
	return min(last, head), err
}

// Request asks for everything up to the journal's end to be archived now, without waiting for it. It returns the last
// sequence that will be.
func (r *Archiver) Request() uint64 {
	head := r.journal.Head().Offset.Sequence()
	r.mu.Lock()
	r.wanted = max(r.wanted, head)
	r.mu.Unlock()
	select {
	case r.request <- struct{}{}:
	default:
	}
	return head
}

// failed notes a failure.
func (r *Archiver) failed(err error, attempts int) {
	r.mu.Lock()
	r.state.State, r.state.Error, r.state.Failures = StateFailing, err.Error(), r.state.Failures+1
	r.state.FailuresTotal++
	r.mu.Unlock()
	lasting := errors.Is(err, ErrAhead) || errors.Is(err, ErrOther) || errors.Is(err, ErrOverlap) || errors.Is(err, journal.ErrCorrupt)
	switch {
	case attempts > 0:
		r.log.Debug("journal not archived", "error", err, "attempts", attempts+1)
	case lasting:
		r.log.Error("journal not archived: nothing leaves the journal until it is", "error", err, "hint", "see: lanternist journal verify")
	default:
		r.log.Warn("journal not archived; trying again", "error", err)
	}
}

// definitions are all row schemas that there are: those of the entries, and with them every one that was registered before.
func (r *Archiver) definitions() []*row.Schema {
	var all []*row.Schema
	for id := uint32(1); ; id++ {
		s, ok := r.schemas.Schema(id)
		if !ok {
			return all
		}
		all = append(all, s)
	}
}
