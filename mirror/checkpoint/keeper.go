package checkpoint

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/lanternist/lanternist/event"
	"github.com/lanternist/lanternist/journal"
	"github.com/lanternist/lanternist/mirror"
	"github.com/lanternist/lanternist/row"
)

// ErrBusy means that a copy is being made already.
var ErrBusy = errors.New("a mirror checkpoint is being made")

// KeeperConfig is how a Keeper works.
type KeeperConfig struct {
	// Dir is where a copy is before it is stored: on the disk of the mirror, and nobody else's. Required.
	Dir string
	// Every is how long after the last copy the next one is made. Required.
	Every time.Duration
	// Keep is how many copies are kept. 0: Run makes none, and Make removes none.
	Keep int
	// Epoch is the source's, for manifests.
	Epoch string
	// Look is how often Run looks whether one is due, and how soon it tries again after an error. Default 5s.
	Look time.Duration
}

// Keeper makes copies of a mirror, and removes old ones.
type Keeper struct {
	cfg     KeeperConfig
	store   *Store
	mirror  *mirror.Mirror
	journal *journal.Journal
	schemas Versions
	log     *slog.Logger

	making sync.Mutex

	mu     sync.Mutex
	status Status
}

// Versions knows all versions of a table's definition. It is *schemas.Registry.
type Versions interface {
	Versions(oid uint32) []*row.Schema
}

// Status is what a keeper has done lately.
type Status struct {
	Last  *Manifest // the newest copy known; nil before the first, and before the store has been asked
	Error string    // why the last attempt made none
}

// NewKeeper makes a keeper. It does no I/O.
func NewKeeper(cfg KeeperConfig, store *Store, m *mirror.Mirror, j *journal.Journal, schemas Versions, log *slog.Logger) *Keeper {
	cfg.Look = cmp.Or(cfg.Look, 5*time.Second)
	return &Keeper{cfg: cfg, store: store, mirror: m, journal: j, schemas: schemas, log: log}
}

// Status is what was done lately. It does no I/O.
func (k *Keeper) Status() Status {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.status
}

func (k *Keeper) note(m *Manifest, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.status.Error = ""; err != nil {
		k.status.Error = err.Error()
	}
	if m != nil {
		k.status.Last = m
	}
}

// Run makes a copy when one is due, until the context is done, whose cause it returns: when loaded says so for the first
// time, when Every has passed since the last one and something has changed, and when a table has been loaded since. What goes wrong is logged, told by Status, and tried again.
func (k *Keeper) Run(ctx context.Context, loaded func() bool) error {
	if k.cfg.Keep == 0 {
		<-ctx.Done()
		return context.Cause(ctx)
	}
	wait, known := time.Duration(0), false
	for {
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		case <-timer.C:
		}
		err := k.look(ctx, loaded, &known)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if wait = k.cfg.Look; err != nil {
			if k.Status().Error != err.Error() {
				k.log.Warn("mirror checkpoint not made, it is tried again", "error", err)
			}
			k.note(nil, err)
			wait = max(wait, min(time.Minute, k.cfg.Every/4))
		}
	}
}

// look makes a copy if one is due.
func (k *Keeper) look(ctx context.Context, loaded func() bool, known *bool) error {
	if !loaded() {
		return nil
	}
	if !*known {
		list, err := k.store.List(ctx)
		if err != nil {
			return err
		}
		if n := len(list.Manifests); n > 0 {
			k.note(list.Manifests[n-1], nil)
		}
		*known = true
	}
	if !k.due() {
		return nil
	}
	_, err := k.Make(ctx, nil)
	if errors.Is(err, ErrBusy) {
		return nil
	}
	return err
}

// due says whether Run makes a copy now.
func (k *Keeper) due() bool {
	last := k.Status().Last
	if last == nil {
		return true
	}
	progress, _ := k.mirror.Progress()
	if time.Since(last.Made) >= k.cfg.Every && progress.Offset != last.Offset {
		return true
	}
	for _, t := range k.mirror.Describe() {
		had, ok := last.Table(t.OID)
		if t.Complete && (!ok || !had.Complete || had.LoadedAt != t.LoadedAt) {
			return true
		}
	}
	return false
}

// Make makes a copy now, stores it and removes old ones. It returns when the copy can be used. ErrBusy: one is being made.
func (k *Keeper) Make(ctx context.Context, progress func(done, total int64)) (stored Stored, err error) {
	if !k.making.TryLock() {
		return Stored{}, ErrBusy
	}
	defer k.making.Unlock()
	began := time.Now()
	if err := os.RemoveAll(k.cfg.Dir); err != nil { // what a crash left
		return Stored{}, fmt.Errorf("make mirror checkpoint: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(k.cfg.Dir)) }()
	c, err := k.mirror.Checkpoint(ctx, k.cfg.Dir)
	if err != nil {
		return Stored{}, err
	}
	m, err := k.describe(ctx, c)
	if err != nil {
		return Stored{}, fmt.Errorf("describe mirror checkpoint: %w", err)
	}
	if stored, err = k.store.Put(ctx, k.cfg.Dir, m, progress); err != nil {
		return Stored{}, err
	}
	k.note(stored.Manifest, nil)
	k.log.Info("mirror checkpoint made", "checkpoint", stored.Name(), "offset", stored.Offset, "lsn", stored.LSN, "bytes", stored.Size(),
		"written", stored.Written, "held", c.Held.Round(time.Microsecond), "took", time.Since(began).Round(time.Millisecond))
	if k.cfg.Keep == 0 {
		return stored, nil
	}
	// The copy is there whatever becomes of old ones.
	if pruned, err := k.store.Prune(ctx, k.cfg.Keep); err != nil {
		k.log.Warn("old mirror checkpoints not removed; they will be after the next one", "error", err)
	} else if pruned != (Pruned{}) {
		k.log.Info("old mirror checkpoints removed", "checkpoints", pruned.Checkpoints, "objects", pruned.Objects, "bytes", pruned.Bytes)
	}
	return stored, nil
}

// describe is the manifest of a copy, but for its files.
func (k *Keeper) describe(ctx context.Context, c *mirror.Checkpoint) (Manifest, error) {
	m := Manifest{Epoch: k.cfg.Epoch, Offset: c.Progress.Offset, LSN: c.Progress.LSN, Made: time.Now().UTC()}
	for _, t := range c.Tables {
		m.Tables = append(m.Tables, Table(t))
		m.Schemas = append(m.Schemas, k.schemas.Versions(t.OID)...)
	}
	var err error
	m.Last, err = LastBefore(ctx, k.journal, m.Offset)
	return m, err
}

// LastBefore is the transaction of the last event up to an offset that the journal holds; nil when it holds none.
func LastBefore(ctx context.Context, j *journal.Journal, offset event.Offset) (*Transaction, error) {
	for sequence := offset.Sequence(); sequence >= j.First() && sequence > 0; sequence-- {
		batch, err := j.Read(ctx, sequence)
		if err != nil {
			if trimmed := new(journal.TrimmedError); errors.As(err, &trimmed) {
				return nil, nil
			}
			return nil, fmt.Errorf("find the last transaction: %w", err)
		}
		for i := len(batch.Parts) - 1; i >= 0; i-- {
			if p := &batch.Parts[i]; len(p.Events) > 0 && p.Events[0].Offset <= offset {
				return &Transaction{CommitLSN: p.CommitLSN, CommitTime: p.CommitTime.UTC()}, nil
			}
		}
	}
	return nil, nil
}

// List reads which copies there are.
func (k *Keeper) List(ctx context.Context) (Listing, error) { return k.store.List(ctx) }
