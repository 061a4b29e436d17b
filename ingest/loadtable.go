package ingest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pglogrepl"
	"golang.org/x/sync/errgroup"

	"github.com/lanternist/lanternist/backoff"
	"github.com/lanternist/lanternist/cdc"
	"github.com/lanternist/lanternist/mirror"
	"github.com/lanternist/lanternist/row"
)

// stateOfTable is how far a table's load is.
type stateOfTable int

const (
	reading   stateOfTable = iota // something is still to be read from a snapshot
	finishing                     // all is read; the stream has not reached the snapshots yet
	complete
)

// table is one table under load. The Loader's mu guards it.
type table struct {
	schema  *row.Schema
	state   stateOfTable
	planned bool    // todo is what is left
	todo    []piece // no one has begun it
	busy    int     // pieces being copied

	ctx    context.Context // ends when the table is removed
	cancel context.CancelCauseFunc
	users  int // goroutines that have to do with it: none begins after it was removed

	due   time.Time // not read before, and not from a snapshot that was asked for before
	waits backoff.Backoff
	err   error // why it waits; nil when it does not

	refill         [][]byte      // keys of rows that the ranges missed; see mirror.UnfilledError
	until          pglogrepl.LSN // the newest snapshot that was read
	rows, estimate int64
}

// errRemoved is the cause of the end of a removed table's context.
var errRemoved = errors.New("the table was removed")

func newTable(s *row.Schema, due time.Time, retry backoff.Config) *table {
	t := &table{schema: s, due: due, waits: backoff.New(retry)}
	t.ctx, t.cancel = context.WithCancelCause(context.Background())
	return t
}

// remove has no one begin anything with the table any more, and ends what is under way.
func (t *table) remove() {
	t.cancel(errRemoved)
	t.todo, t.planned = nil, false
}

func (t *table) removed() bool { return t.ctx.Err() != nil }

// within is ctx, which also ends when the table is removed. It must be released.
func (t *table) within(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(t.ctx, func() { cancel(errRemoved) })
	return ctx, func() {
		stop()
		cancel(nil)
	}
}

func (t *table) name() string { return t.schema.QualifiedName() }

// piece is a range of a table, or some of its keys, that has not been loaded.
type piece struct {
	table  *table
	schema *row.Schema
	index  int
	rng    cdc.Range
	keys   [][]byte // instead of a range
}

func (p piece) String() string {
	if p.keys != nil {
		return fmt.Sprintf("%d keys of %s", len(p.keys), p.schema.QualifiedName())
	}
	return fmt.Sprintf("%s range %d", p.schema.QualifiedName(), p.index)
}

// fatal is an error that another snapshot would not help against: the mirror's own.
type fatal struct{ error }

func (e *fatal) Unwrap() error { return e.error }

// planAll finds out what is left of the tables that may be read now. It holds no snapshot: to divide large tables takes long.
// It returns whether there is something to be read.
func (l *Loader) planAll(ctx context.Context, completing *errgroup.Group) (bool, error) {
	var failed error
	for _, t := range l.unplanned() {
		if failed == nil {
			failed = l.planOne(ctx, t)
		}
		l.release(piece{table: t}, false)
		l.settle(ctx, t, completing)
	}
	if failed != nil {
		return false, failed
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.ContainsFunc(l.tables, func(t *table) bool { return t.state == reading && t.planned && len(t.todo) > 0 }), nil
}

// planOne plans a table, or puts it off. Its error is one that is not of this table.
func (l *Loader) planOne(ctx context.Context, t *table) error {
	tctx, done := t.within(ctx)
	defer done()
	p, err := cdc.OpenPlanner(tctx, l.source)
	if err == nil {
		err = l.plan(tctx, p, t)
		p.Close()
	}
	var own *fatal
	switch {
	case err == nil || t.removed():
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case p == nil || errors.As(err, &own) && !ofTable(err) || lost(err):
		return err
	}
	l.putOff(t, err, time.Now())
	return nil
}

// ofTable says whether an error of the mirror is that of one table, whose definition has changed: it is to be loaded from the
// beginning, and the others are not concerned.
func ofTable(err error) bool {
	return errors.Is(err, mirror.ErrForsaken) || errors.Is(err, mirror.ErrKeyChanged) || errors.Is(err, mirror.ErrNoKey)
}

// plan finds out what is left of a table.
func (l *Loader) plan(ctx context.Context, s *cdc.Planner, t *table) error {
	schema := t.schema
	if t.err != nil {
		now, err := s.Definition(ctx, schema)
		if err != nil {
			return err
		}
		if schema, err = l.registry.Register(ctx, now); err != nil {
			return &fatal{fmt.Errorf("register %s: %w", now.QualifiedName(), err)}
		}
	}
	estimate, err := s.EstimateRows(ctx, schema)
	if err != nil {
		return fmt.Errorf("estimate rows: %w", err)
	}
	state, begun, err := l.mirror.LoadState(schema.OID)
	if err != nil {
		return &fatal{fmt.Errorf("read load state of %s: %w", schema.QualifiedName(), err)}
	}
	if !begun {
		if state, err = l.begin(ctx, s, schema); err != nil {
			return err
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	t.schema, t.planned, t.estimate, t.rows, t.todo = schema, true, estimate, 0, nil
	for i, r := range state.Ranges {
		t.until = max(t.until, r.ConsistentPoint)
		if r.Done {
			t.rows += r.Rows
			continue
		}
		t.todo = append(t.todo, piece{table: t, schema: schema, index: i, rng: cdc.Range{From: r.From, To: r.To}})
	}
	if t.refill != nil {
		t.todo = append(t.todo, piece{table: t, schema: schema, keys: t.refill})
	}
	return nil
}

// begin divides a table into ranges.
func (l *Loader) begin(ctx context.Context, s *cdc.Planner, schema *row.Schema) (mirror.LoadState, error) {
	ranges, err := s.Ranges(ctx, schema, l.cfg.RangeRows)
	if err != nil {
		return mirror.LoadState{}, fmt.Errorf("divide into ranges: %w", err)
	}
	planned := make([]mirror.LoadRange, len(ranges))
	for i, r := range ranges {
		planned[i] = mirror.LoadRange{From: r.From, To: r.To}
	}
	if err := l.mirror.StartLoad(schema, planned); err != nil {
		return mirror.LoadState{}, &fatal{fmt.Errorf("start load of %s: %w", schema.QualifiedName(), err)}
	}
	l.log.Info("table divided", "table", schema.QualifiedName(), "ranges", len(ranges))
	state, _, err := l.mirror.LoadState(schema.OID)
	return state, err
}

// finish waits for the stream to reach every snapshot that the table was read under, then completes it. Rows that no
// snapshot held whole are read once more.
func (l *Loader) finish(ctx context.Context, t *table) error {
	ctx, release := t.within(ctx)
	defer release()
	err := l.complete(ctx, t)
	var unfilled *mirror.UnfilledError
	l.mu.Lock()
	defer l.mu.Unlock()
	t.users--
	switch {
	case t.removed():
		err = nil
	case err == nil:
		t.state, t.refill = complete, nil
	case ofTable(err):
		t.state, t.planned, t.err, t.due = reading, false, err, time.Now().Add(t.waits.Next())
		err = nil
	case errors.As(err, &unfilled):
		l.log.Info("rows moved between snapshots", "table", t.name(), "rows", len(unfilled.Keys))
		t.state, t.refill, t.planned = reading, unfilled.Keys, false
		err = nil
	}
	l.change()
	return err
}

func (l *Loader) complete(ctx context.Context, t *table) error {
	l.mu.Lock()
	until := t.until
	l.mu.Unlock()
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
	if err := l.mirror.FinishLoad(ctx, t.schema.OID); err != nil {
		return fmt.Errorf("finish load of %s: %w", t.name(), err)
	}
	return nil
}
