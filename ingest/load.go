package ingest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pglogrepl"
	"golang.org/x/sync/errgroup"

	"github.com/lanternist/lanternist/backoff"
	"github.com/lanternist/lanternist/cdc"
	"github.com/lanternist/lanternist/mirror"
	"github.com/lanternist/lanternist/row"
)

// LoadConfig bounds the load of tables.
type LoadConfig struct {
	// Workers copy ranges at once. Default 4.
	Workers int
	// Session is how long one snapshot is held on the source before no further range is begun under it.
	// Default 5m.
	Session time.Duration
	// RangeRows is about how many rows a range has. Default 50,000.
	RangeRows int
}

// askAgain is how long the end of a load waits before it asks for the source's position once more: the reader may have
// lost its connection, and with it the question.
const askAgain = 10 * time.Second

// Loader copies tables into the mirror that it does not hold yet, while the stream flows on (DESIGN D3).
type Loader struct {
	cfg    LoadConfig
	source cdc.Config
	mirror *mirror.Mirror
	ask    func(pglogrepl.LSN)
	log    *slog.Logger

	rows, estimate atomic.Int64
	started        atomic.Int64 // unix nanoseconds, 0 before
	loading        atomic.Bool
	longest        atomic.Int64 // nanoseconds a snapshot was held
}

// NewLoader is a loader for the tables of a source. ask makes the source say when it has reached a position, so that an
// idle one does not hold the end of a load back (cdc.Reader.RequestPosition).
func NewLoader(cfg LoadConfig, source cdc.Config, m *mirror.Mirror, ask func(pglogrepl.LSN), log *slog.Logger) *Loader {
	if cfg.Workers == 0 {
		cfg.Workers = 4
	}
	if cfg.Session == 0 {
		cfg.Session = 5 * time.Minute
	}
	if cfg.RangeRows == 0 {
		cfg.RangeRows = 50_000
	}
	return &Loader{cfg: cfg, source: source, mirror: m, ask: ask, log: log}
}

// LoadProgress is how far a load has come.
type LoadProgress struct {
	Loading bool          `json:"loading"`
	Rows    int64         `json:"rows"`
	Total   int64         `json:"total"` // an estimate, never below Rows
	Elapsed time.Duration `json:"elapsed"`
	Longest time.Duration `json:"longest_session"` // a snapshot was held on the source
}

// Progress may be called at any time.
func (l *Loader) Progress() LoadProgress {
	p := LoadProgress{Loading: l.loading.Load(), Rows: l.rows.Load(), Longest: time.Duration(l.longest.Load())}
	p.Total = max(l.estimate.Load(), p.Rows)
	if at := l.started.Load(); at != 0 {
		p.Elapsed = time.Since(time.Unix(0, at))
	}
	return p
}

// piece is a range of a table that has not been loaded.
type piece struct {
	schema *row.Schema
	index  int
	rng    cdc.Range
}

// Run loads what is missing of the tables and returns when all of them are complete in the mirror, or with the
// cause. The stream must be running: a table is complete only when the stream has reached its snapshot.
func (l *Loader) Run(ctx context.Context, tables []*row.Schema) error {
	var missing []*row.Schema
	for _, t := range tables {
		if !l.mirror.Loaded(t.OID) {
			missing = append(missing, t)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	l.started.Store(time.Now().UnixNano())
	l.loading.Store(true)
	defer l.loading.Store(false)
	l.log.Info("load started", "tables", len(missing))
	if err := l.sessions(ctx, missing); err != nil {
		return err
	}
	for _, t := range missing {
		if err := l.finish(ctx, t); err != nil {
			return err
		}
	}
	p := l.Progress()
	l.log.Info("load finished", "tables", len(missing), "rows", p.Rows, "took", p.Elapsed.Round(time.Millisecond))
	return nil
}

// sessions copies all pieces, under as many snapshots as it takes. A source that is away is waited for.
func (l *Loader) sessions(ctx context.Context, tables []*row.Schema) error {
	waits := backoff.New(backoff.Config{})
	var todo []piece
	for plan := true; plan || len(todo) > 0; {
		before := len(todo)
		left, err := l.session(ctx, tables, todo, plan)
		var own *mirrorError
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err == nil:
			plan, todo = false, left
			if len(left) < before {
				waits.Reset()
			}
			continue
		case errors.As(err, &own) || !cdc.Retryable(err):
			return err
		}
		l.log.Warn("load interrupted", "error", err)
		if err := waits.Wait(ctx); err != nil {
			return err
		}
	}
	return nil
}

// mirrorError is an error that another snapshot would not help against.
type mirrorError struct{ error }

func (e *mirrorError) Unwrap() error { return e.error }

// session copies pieces under one snapshot until all are done, the session has lasted long enough, or the snapshot is
// of no more use, and returns what is left. The first session also plans the pieces.
func (l *Loader) session(ctx context.Context, tables []*row.Schema, todo []piece, plan bool) (left []piece, err error) {
	s, err := cdc.OpenSession(ctx, l.source)
	if err != nil {
		return nil, fmt.Errorf("open snapshot: %w", err)
	}
	began := time.Now()
	defer func() {
		if closing := s.Close(); closing != nil {
			l.log.Warn("snapshot not closed in order", "error", closing)
		}
		l.longest.Store(max(l.longest.Load(), int64(time.Since(began))))
	}()
	if plan {
		if todo, err = l.plan(ctx, s, tables); err != nil {
			return nil, err
		}
	}
	l.log.Info("snapshot opened", "at", s.ConsistentPoint().String(), "ranges", len(todo))
	var mu sync.Mutex
	stale := false
	next := func() (piece, bool) {
		mu.Lock()
		defer mu.Unlock()
		if len(todo) == 0 || stale || time.Since(began) > l.cfg.Session {
			return piece{}, false
		}
		p := todo[0]
		todo = todo[1:]
		return p, true
	}
	g, gctx := errgroup.WithContext(ctx)
	for range l.cfg.Workers {
		g.Go(func() error {
			for p, ok := next(); ok && gctx.Err() == nil; p, ok = next() {
				err := l.copy(gctx, s, p)
				if l.passes(gctx, err) {
					l.log.Warn("snapshot given up", "table", p.schema.QualifiedName(), "error", err)
					mu.Lock()
					todo, stale = append(todo, p), true
					mu.Unlock()
					return nil
				}
				if err != nil {
					return fmt.Errorf("load %s range %d: %w", p.schema.QualifiedName(), p.index, err)
				}
			}
			return gctx.Err()
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return todo, nil
}

// passes says whether a piece can be copied under another snapshot after an error under this one.
func (l *Loader) passes(ctx context.Context, err error) bool {
	var own *mirrorError
	if err == nil || ctx.Err() != nil || errors.As(err, &own) {
		return false
	}
	return errors.Is(err, cdc.ErrRewritten) || errors.Is(err, cdc.ErrSnapshotGone) || cdc.Retryable(err)
}

// plan divides the tables into ranges, or takes up the ranges that an earlier run left.
func (l *Loader) plan(ctx context.Context, s *cdc.Session, tables []*row.Schema) ([]piece, error) {
	var todo []piece
	l.estimate.Store(0)
	l.rows.Store(0)
	for _, t := range tables {
		rows, err := s.EstimateRows(ctx, t)
		if err != nil {
			return nil, fmt.Errorf("estimate rows of %s: %w", t.QualifiedName(), err)
		}
		l.estimate.Add(rows)
		state, begun, err := l.mirror.LoadState(t.OID)
		if err != nil {
			return nil, fmt.Errorf("read load state of %s: %w", t.QualifiedName(), err)
		}
		if !begun {
			if state, err = l.begin(ctx, s, t); err != nil {
				return nil, err
			}
		}
		for i, r := range state.Ranges {
			if r.Done {
				l.rows.Add(r.Rows)
				continue
			}
			todo = append(todo, piece{schema: t, index: i, rng: cdc.Range{From: r.From, To: r.To}})
		}
	}
	return todo, nil
}

func (l *Loader) begin(ctx context.Context, s *cdc.Session, t *row.Schema) (mirror.LoadState, error) {
	ranges, err := s.Ranges(ctx, t, l.cfg.RangeRows)
	if err != nil {
		return mirror.LoadState{}, fmt.Errorf("divide %s into ranges: %w", t.QualifiedName(), err)
	}
	planned := make([]mirror.LoadRange, len(ranges))
	for i, r := range ranges {
		planned[i] = mirror.LoadRange{From: r.From, To: r.To}
	}
	if err := l.mirror.StartLoad(t, planned); err != nil {
		return mirror.LoadState{}, &mirrorError{fmt.Errorf("start load of %s: %w", t.QualifiedName(), err)}
	}
	state, _, err := l.mirror.LoadState(t.OID)
	return state, err
}

// copy loads one range. The range is recorded as done after its rows are in the mirror.
func (l *Loader) copy(ctx context.Context, s *cdc.Session, p piece) error {
	var count int64
	err := s.Copy(ctx, p.schema, p.rng, func(rows []row.Row) error {
		if err := l.mirror.Load(p.schema.OID, p.schema, s.ConsistentPoint(), rows); err != nil {
			return &mirrorError{err}
		}
		count += int64(len(rows))
		l.rows.Add(int64(len(rows)))
		return nil
	})
	if err != nil {
		l.rows.Add(-count) // they are read again
		return err
	}
	if err := l.mirror.FinishRange(p.schema.OID, p.index, s.ConsistentPoint(), count); err != nil {
		return &mirrorError{err}
	}
	return nil
}

// finish waits for the stream to reach every snapshot that the table was read under, then completes it.
func (l *Loader) finish(ctx context.Context, t *row.Schema) error {
	state, _, err := l.mirror.LoadState(t.OID)
	if err != nil {
		return fmt.Errorf("read load state of %s: %w", t.QualifiedName(), err)
	}
	var until pglogrepl.LSN
	for _, r := range state.Ranges {
		until = max(until, r.ConsistentPoint)
	}
	for {
		progress, moved := l.mirror.Progress()
		if progress.LSN >= until {
			break
		}
		l.ask(until)
		select {
		case <-moved:
		case <-time.After(askAgain):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	if err := l.mirror.FinishLoad(ctx, t.OID); err != nil {
		return fmt.Errorf("finish load of %s: %w", t.QualifiedName(), err)
	}
	return nil
}
