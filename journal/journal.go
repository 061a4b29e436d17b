package journal

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pglogrepl"

	"github.com/lanternist/lanternist/event"
)

// Journal is an open journal. One goroutine calls Append; all other methods are safe for concurrent use.
type Journal struct {
	engine  Log
	schemas Schemas
	cfg     Config
	log     *slog.Logger
	id      ID

	appending sync.Mutex // one Append at a time; held while it waits for room
	trimming  sync.Mutex // one trim at a time
	broken    error      // of the append whose outcome is unknown; guarded by appending
	trimAt    uint64     // position at which Append looks at the bounds again; guarded by appending

	mu      sync.RWMutex
	head    header                   // of the last batch
	first   header                   // of the first batch retained
	recent  ring                     // of the last batches
	links   links                    // to batches read lately
	readers map[string]event.Offset  // what active readers still need: everything after
	grown   chan struct{}            // closed when head moves; nil when no one waits
	freed   chan struct{}            // closed when readers change; nil when no one waits
	awaited []*awaited               // positions that somebody waits for
	blocked string                   // the reader that Append waits for
	pressed map[string]chan struct{} // by reader: closed when Append waits for it
	archive Archive                  // what is not in the journal any more; nil when there is none
	closed  bool
}

// Head is the end of the journal: the last batch's last event, and how far the last transaction got.
type Head struct {
	Offset    event.Offset  // of the last event
	Time      time.Time     // when the last batch was appended
	XID       uint32        // of the last transaction
	CommitLSN pglogrepl.LSN // of the last transaction; 0 in a new journal
	Ordinal   uint32        // one more than that of its last event: how many of its changes are in the journal
	Complete  bool          // it is in the journal to its end
	EndLSN    pglogrepl.LSN // of the last transaction that is complete; 0 in a new journal
	Position  uint64        // bytes of all batches ever appended
}

// Open opens the journal that the engine holds, or makes a new one when the engine is empty. It reads two
// entries, however large the journal is. The journal closes the engine.
func Open(ctx context.Context, engine Log, schemas Schemas, cfg Config, log *slog.Logger) (*Journal, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("open journal: %w", err)
	}
	j := &Journal{engine: engine, schemas: schemas, cfg: cfg, log: log, readers: map[string]event.Offset{}}
	j.recent.limit = cfg.CacheBytes
	if err := j.recover(ctx); err != nil {
		return nil, fmt.Errorf("open journal: %w", err)
	}
	j.trimAt = j.head.end() + cfg.trimStep()
	return j, nil
}

// recover finds where the journal begins and ends.
func (j *Journal) recover(ctx context.Context) error {
	first, last, err := j.engine.Bounds(ctx)
	if err != nil {
		return err
	}
	if last == 0 {
		return j.begin(ctx)
	}
	if last+1 < j.cfg.MinSequence {
		return fmt.Errorf("%w: it ends with batch %d, but batch %d has been seen: it was restored from an older copy",
			ErrBehind, last, j.cfg.MinSequence-1)
	}
	if j.head, err = j.readHeader(ctx, last); err != nil {
		return err
	}
	j.id = j.head.id
	j.first, err = j.readHeader(ctx, first)
	return err
}

// begin makes a new journal: its first batch has no events and gives it its identity.
func (j *Journal) begin(ctx context.Context) error {
	if _, err := rand.Read(j.id[:]); err != nil {
		return fmt.Errorf("make an identity: %w", err)
	}
	j.id[6] = j.id[6]&0x0f | 0x40 // UUID version 4
	j.id[8] = j.id[8]&0x3f | 0x80
	h := header{sequence: j.cfg.MinSequence, id: j.id, appended: time.Now().UnixMicro(), complete: true}
	entry := h.append(make([]byte, 0, headerSize))
	h.crc, h.length = seal(entry), headerSize
	if err := j.engine.Append(ctx, h.sequence, entry); err != nil {
		return fmt.Errorf("append batch %d: %w", h.sequence, err)
	}
	j.head, j.first = h, h
	j.log.Info("journal created", "id", j.id.String(), "sequence", h.sequence)
	return nil
}

// Identity is the journal's identity, the same for its whole life, as a UUID.
func (j *Journal) Identity() string { return j.id.String() }

// MaxEntry is the largest batch the engine takes, in bytes. EncodedSize bounds what parts become.
func (j *Journal) MaxEntry() int { return j.engine.MaxEntry() }

// MaxInline is the largest batch that the engine stores as it is, in bytes: what a batch of many events is kept under. A
// single event may be larger.
func (j *Journal) MaxInline() int { return j.engine.MaxInline() }

// Head is the end of the journal.
func (j *Journal) Head() Head {
	j.mu.RLock()
	defer j.mu.RUnlock()
	return j.head.head()
}

// head is what a header says of the journal's end when it is the last one.
func (h *header) head() Head {
	return Head{
		Offset: h.last(), Time: h.time(), XID: h.lastXID, CommitLSN: h.lastCommitLSN,
		Ordinal: h.nextOrdinal, Complete: h.complete, EndLSN: h.endLSN, Position: h.end(),
	}
}

// Stats is a journal's state for status and metrics.
type Stats struct {
	First, Last uint64                  // sequences retained in the journal itself
	Bytes       int64                   // of the batches retained
	Stored      int64                   // that the engine takes, in bytes; -1 when it cannot say
	Oldest      time.Time               // when the first batch retained was appended
	Cached      int64                   // bytes of batches in memory
	Readers     map[string]event.Offset // active readers, and the offset up to which they need nothing
	Blocked     string                  // the reader that Append waits for because the journal is full, or ""
}

// Stats returns the journal's state now.
func (j *Journal) Stats(ctx context.Context) Stats {
	stored, err := j.engine.Size(ctx)
	if err != nil {
		j.log.Debug("journal size not known", "error", err)
		stored = -1
	}
	j.mu.RLock()
	defer j.mu.RUnlock()
	s := Stats{
		First: j.first.sequence, Last: j.head.sequence, Bytes: int64(j.head.end() - j.first.position),
		Stored: stored, Oldest: j.first.time(), Cached: j.recent.bytes, Blocked: j.blocked,
		Readers: make(map[string]event.Offset, len(j.readers)),
	}
	for name, offset := range j.readers {
		s.Readers[name] = offset
	}
	return s
}

// Close closes the journal and its engine. Readers that wait in Next get ErrClosed.
func (j *Journal) Close() error {
	j.mu.Lock()
	if j.closed {
		j.mu.Unlock()
		return nil
	}
	j.closed = true
	j.wake(&j.grown)
	j.reached(true)
	j.wake(&j.freed)
	j.mu.Unlock()
	j.appending.Lock() // an append in flight ends first
	defer j.appending.Unlock()
	j.trimming.Lock()
	defer j.trimming.Unlock()
	if err := j.engine.Close(); err != nil {
		return fmt.Errorf("close journal: %w", err)
	}
	return nil
}

// wake wakes everyone who waits on a channel. The caller holds mu.
func (j *Journal) wake(signal *chan struct{}) {
	if *signal != nil {
		close(*signal)
		*signal = nil
	}
}

// wait returns the channel that the next wake closes. The caller holds mu.
func (j *Journal) wait(signal *chan struct{}) <-chan struct{} {
	if *signal == nil {
		*signal = make(chan struct{})
	}
	return *signal
}
