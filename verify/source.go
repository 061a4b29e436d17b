package verify

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/lanternist/lanternist/cdc"
	"github.com/lanternist/lanternist/mirror"
	"github.com/lanternist/lanternist/row"
	"github.com/lanternist/lanternist/views"
)

const (
	copyAttempts = 3        // each under a snapshot of its own
	copyTables   = 4        // at once
	copyCache    = 48 << 20 // memory of the copy, in bytes
	copyMemTable = 16 << 20
)

// Source is the truth that the source knows. Each point is a copy of the view's tables, under one snapshot, in a
// mirror of its own that is removed with the point. What the mirror of the deployment holds plays no part.
type Source struct {
	Config  cdc.Config
	View    *views.View
	Tables  []*row.Schema  // at least those of the view, registered in Schemas
	Schemas mirror.Schemas //
	Dir     string         // of the copy: what is in it is removed
	Log     *slog.Logger
}

// At implements Truth. Tables that are rewritten meanwhile are copied again.
func (s *Source) At(ctx context.Context, copied func(rows int64)) (*Point, error) {
	for attempt := 1; ; attempt++ {
		p, err := s.copy(ctx, copied)
		if err == nil || ctx.Err() != nil || attempt == copyAttempts {
			return p, err
		}
		if !errors.Is(err, cdc.ErrRewritten) && !errors.Is(err, cdc.ErrSnapshotGone) && !cdc.Retryable(err) {
			return nil, err
		}
		s.Log.Warn("copy of the source begun again", "view", s.View.Name(), "error", err)
	}
}

func (s *Source) copy(ctx context.Context, copied func(rows int64)) (*Point, error) {
	session, err := cdc.OpenSession(ctx, s.Config)
	if err != nil {
		return nil, fmt.Errorf("open snapshot: %w", err)
	}
	defer func() {
		if err := session.Close(); err != nil {
			s.Log.Warn("snapshot not closed in order", "error", err)
		}
	}()
	if err := os.RemoveAll(s.Dir); err != nil {
		return nil, fmt.Errorf("remove an older copy: %w", err)
	}
	m, err := mirror.Open(mirror.Config{Dir: s.Dir, CacheSize: copyCache, MemTableSize: copyMemTable}, s.Schemas, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(s.Dir))
	}
	remove := func() error { return errors.Join(m.Close(), os.RemoveAll(s.Dir)) }
	if err := s.fill(ctx, session, m, copied); err != nil {
		return nil, errors.Join(err, remove())
	}
	snapshot, err := m.Snapshot(ctx)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("take a snapshot: %w", err), remove())
	}
	return &Point{
		Snapshot: snapshot, LSN: session.ConsistentPoint(),
		close: func() error { return errors.Join(snapshot.Close(), remove()) },
	}, nil
}

// fill copies the view's tables into an empty mirror.
func (s *Source) fill(ctx context.Context, session *cdc.Session, m *mirror.Mirror, copied func(rows int64)) error {
	if err := m.EnsureIndexes(ctx, s.View.Indexes()); err != nil {
		return err
	}
	point := session.ConsistentPoint()
	var rows atomic.Int64
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(copyTables)
	for _, oid := range s.View.Tables() {
		schema, err := s.table(oid)
		if err != nil {
			return errors.Join(err, g.Wait())
		}
		if err := m.StartLoad(schema, []mirror.LoadRange{{}}); err != nil {
			return errors.Join(err, g.Wait())
		}
		g.Go(func() error {
			var count int64
			bulk := m.Bulk(oid, schema, point)
			defer bulk.Close()
			err := session.Copy(gctx, schema, cdc.Range{}, func(batch []row.Row) error {
				count += int64(len(batch))
				copied(rows.Add(int64(len(batch))))
				return bulk.Add(gctx, batch)
			})
			if err == nil {
				err = bulk.Flush(gctx)
			}
			if err != nil {
				return err
			}
			return m.FinishRange(oid, 0, point, count)
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	m.Advance(point)
	for _, oid := range s.View.Tables() {
		if err := m.FinishLoad(ctx, oid); err != nil {
			return err
		}
	}
	return nil
}

func (s *Source) table(oid uint32) (*row.Schema, error) {
	for _, t := range s.Tables {
		if t.OID == oid {
			return t, nil
		}
	}
	return nil, fmt.Errorf("table %d of view %s is not known", oid, s.View.Name())
}
