package asof

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/jackc/pglogrepl"

	"github.com/lanternist/lanternist/event"
	"github.com/lanternist/lanternist/internal/faultpoint"
	"github.com/lanternist/lanternist/journal"
	"github.com/lanternist/lanternist/mirror"
	"github.com/lanternist/lanternist/mirror/checkpoint"
)

// tables are a view's tables at a moment, in a mirror of their own.
type tables struct {
	*mirror.Mirror
	dir  string
	from *checkpoint.Manifest
	last *checkpoint.Transaction // that is in them
	lsn  pglogrepl.LSN           // everything captured that committed before it is in them
}

// close removes them.
func (t *tables) close() error { return errors.Join(t.Close(), os.RemoveAll(t.dir)) }

// restore makes the tables of a plan, from the newest checkpoint that is not damaged.
func (s *Service) restore(ctx context.Context, p *Plan, report func(Progress)) (*tables, error) {
	var damage []error
	for _, m := range p.from {
		t, err := s.restoreFrom(ctx, p, m, report)
		damaged := new(checkpoint.DamagedError)
		if err == nil || ctx.Err() != nil || !errors.As(err, &damaged) {
			return t, err
		}
		s.log.Error("mirror checkpoint is damaged, an older one is tried", "error", err)
		damage = append(damage, err)
	}
	return nil, fmt.Errorf("%w: %w", ErrUnavailable, errors.Join(damage...))
}

func (s *Service) restoreFrom(ctx context.Context, p *Plan, m *checkpoint.Manifest, report func(Progress)) (_ *tables, err error) {
	for _, schema := range m.Schemas {
		if known, ok := s.Schemas.Schema(schema.ID); !ok || known.OID != schema.OID || known.QualifiedName() != schema.QualifiedName() {
			return nil, fmt.Errorf("%w: mirror checkpoint %s has rows of schema %d of %s, which is not known here: the control store is not the one that was in use then",
				ErrUnavailable, m.Name(), schema.ID, schema.QualifiedName())
		}
	}
	dir := filepath.Join(s.cfg.Dir, p.Name)
	if err := os.RemoveAll(dir); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(dir))
		}
	}()
	err = s.Checkpoints.Restore(ctx, m, dir, func(done, total int64) { report(Progress{Phase: Restoring, Done: done, Total: total}) })
	if err != nil {
		return nil, err
	}
	faultpoint.Hit("asof", "copied")
	opened, err := mirror.Open(mirror.Config{Dir: dir, CacheSize: s.cfg.CacheSize}, s.Schemas, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, fmt.Errorf("open mirror checkpoint %s: %w", m.Name(), err)
	}
	t := &tables{Mirror: opened, dir: dir, from: m, last: m.Last, lsn: m.LSN}
	if err := s.advance(ctx, p, t, report); err != nil {
		return nil, errors.Join(err, t.Close())
	}
	return t, nil
}

// advance takes the tables to the plan's moment.
func (s *Service) advance(ctx context.Context, p *Plan, t *tables, report func(Progress)) error {
	if id, err := t.JournalID(); err != nil || id != s.Journal.Identity() || t.Position() != t.from.Offset {
		return errors.Join(fmt.Errorf("mirror checkpoint %s is at %s of journal %s, its manifest says %s of %s",
			t.from.Name(), t.Position(), id, t.from.Offset, s.Journal.Identity()), err)
	}
	for _, schema := range p.View.Schemas() {
		if !t.Loaded(schema.OID) {
			return fmt.Errorf("mirror checkpoint %s: %s is not complete, its manifest says it is", t.from.Name(), schema.QualifiedName())
		}
	}
	if err := t.EnsureIndexes(ctx, p.View.Indexes()); err != nil {
		return err
	}
	if err := s.apply(ctx, p, t, report); err != nil {
		return fmt.Errorf("take mirror checkpoint %s to %s: %w", t.from.Name(), p.Moment, err)
	}
	if p.Moment.LSN != 0 {
		t.lsn = p.Moment.LSN
	}
	t.Advance(t.lsn)
	return nil
}

// apply applies the journal's events up to the plan's offset to the view's tables.
func (s *Service) apply(ctx context.Context, p *Plan, t *tables, report func(Progress)) error {
	of := map[uint32]bool{}
	for _, oid := range p.View.Tables() {
		of[oid] = true
	}
	at := t.from.Offset
	first, last := at.Sequence()+1, p.Offset.Sequence()
	for sequence := first; sequence <= last; sequence++ {
		batch, err := s.Journal.Read(ctx, sequence)
		if err != nil {
			return err
		}
		if at, err = t.applyBatch(batch, p.Offset, at, of); err != nil {
			return fmt.Errorf("batch %d: %w", sequence, err)
		}
		report(Progress{Phase: Applying, Done: int64(sequence - first + 1), Total: int64(last - first + 1)})
	}
	// The moment is the end of a transaction; its last part may have no events, and be in a batch after it.
	return t.Begin().Commit(at, t.lsn, true)
}

// applyBatch applies what a batch has of the tables up to an offset, and returns the offset of the last event.
func (t *tables) applyBatch(batch *journal.Batch, until, at event.Offset, of map[uint32]bool) (event.Offset, error) {
	b := t.Begin()
	defer b.Discard()
	whole := true
	for i := range batch.Parts {
		part := &batch.Parts[i]
		for k := range part.Events {
			ev := part.Events[k] // the journal's own is shared, and Apply completes what it is given
			if ev.Offset > until {
				return at, b.Commit(at, t.lsn, whole)
			}
			if ev.Schema != nil && of[ev.Schema.OID] {
				if err := b.Apply(&ev); err != nil {
					return at, fmt.Errorf("event %s: %w", ev.Offset, err)
				}
			}
			at = ev.Offset
		}
		if len(part.Events) > 0 {
			t.last = &checkpoint.Transaction{CommitLSN: part.CommitLSN, CommitTime: part.CommitTime.UTC()}
		}
		if whole = part.Complete; whole {
			t.lsn = max(t.lsn, part.EndLSN)
		}
	}
	return at, b.Commit(at, t.lsn, whole)
}
