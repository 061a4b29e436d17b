package shop

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"
)

// Traffic changes the shop the way people do, and some of the ways they should not: inserts, updates, moved
// children, changed primary keys, deletes, large values, transactions of many rows, rollbacks.
type Traffic struct {
	// Pool reaches the shop's database. Its size bounds Workers.
	Pool *pgxpool.Pool
	// Workers that change the shop at once. Default 4.
	Workers int
	// Rate bounds the transactions per second over all workers. Default 0: as fast as the database takes them.
	Rate int
	// Seed of the choices. The same seed gives the same choices, not the same interleaving.
	Seed uint64

	committed  atomic.Int64
	rolledBack atomic.Int64
	conflicts  atomic.Int64
	mu         sync.Mutex
	byKind     map[string]int64
}

// Counts are what the traffic has done so far.
type Counts struct {
	Committed  int64            `json:"committed"`   // transactions
	RolledBack int64            `json:"rolled_back"` // on purpose
	Conflicts  int64            `json:"conflicts"`   // lost to another worker (deadlock, row gone), also rolled back
	ByKind     map[string]int64 `json:"by_kind"`
}

// Counts may be called at any time.
func (t *Traffic) Counts() Counts {
	t.mu.Lock()
	defer t.mu.Unlock()
	kinds := make(map[string]int64, len(t.byKind))
	for k, n := range t.byKind {
		kinds[k] = n
	}
	return Counts{Committed: t.committed.Load(), RolledBack: t.rolledBack.Load(), Conflicts: t.conflicts.Load(), ByKind: kinds}
}

// Run makes traffic until ctx ends, which is not an error.
func (t *Traffic) Run(ctx context.Context) error {
	workers := max(t.Workers, 1)
	if t.Workers == 0 {
		workers = 4
	}
	g, ctx := errgroup.WithContext(ctx)
	for w := range workers {
		g.Go(func() error { return t.work(ctx, rand.New(rand.NewPCG(t.Seed, uint64(w))), workers) })
	}
	if err := g.Wait(); err != nil && ctx.Err() == nil {
		return err
	}
	return context.Cause(ctx)
}

// errRollback asks for the transaction to be rolled back on purpose.
var errRollback = errors.New("rolled back on purpose")

func (t *Traffic) work(ctx context.Context, r *rand.Rand, workers int) error {
	var tick <-chan time.Time
	if t.Rate > 0 {
		ticker := time.NewTicker(time.Second * time.Duration(workers) / time.Duration(t.Rate))
		defer ticker.Stop()
		tick = ticker.C
	}
	for ctx.Err() == nil {
		if tick != nil {
			select {
			case <-tick:
			case <-ctx.Done():
				return nil
			}
		}
		a := pick(r)
		err := pgx.BeginFunc(ctx, t.Pool, func(tx pgx.Tx) error { return a.run(ctx, tx, r) })
		if err := t.count(ctx, a.kind, err); err != nil {
			return fmt.Errorf("traffic %s: %w", a.kind, err)
		}
	}
	return nil
}

// count sorts what became of a transaction and returns the error that is nobody's intention.
func (t *Traffic) count(ctx context.Context, kind string, err error) error {
	var pg *pgconn.PgError
	switch {
	case err == nil:
		t.committed.Add(1)
		t.mu.Lock()
		if t.byKind == nil {
			t.byKind = map[string]int64{}
		}
		t.byKind[kind]++
		t.mu.Unlock()
	case errors.Is(err, errRollback):
		t.rolledBack.Add(1)
	case ctx.Err() != nil: // cut off by the end
	case errors.As(err, &pg) && (slices.Contains([]string{"40001", "40P01"}, pg.Code) || pg.Code[:2] == "23"):
		t.conflicts.Add(1) // another worker was faster
	default:
		return err
	}
	return nil //nolint:nilerr // counted
}
