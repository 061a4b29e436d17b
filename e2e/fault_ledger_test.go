package e2e

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/time/rate"
)

// ledgerTable is written by the ledger alone: each value that a row ever had is known, committed or not.
const ledgerTable = `CREATE TABLE ledger (id bigint PRIMARY KEY, serial bigint NOT NULL, body text NOT NULL)`

const ledgerView = `view: ledger
from: public.ledger
fields:
  id:
  serial:
  body: {as: keyword}
search:
cache:
`

const ledgerTruth = `SELECT id::text, jsonb_build_object('id', id, 'serial', serial, 'body', body) FROM ledger`

// ledger writes rows and keeps, for each, what committed: the record that source, journal and sinks are compared with. Each
// writer has rows of its own and numbers its values, over all of them, without ever repeating a number.
type ledger struct {
	pool    *pgxpool.Pool
	pace    *rate.Limiter
	gate    sync.RWMutex // held for reading by each transaction; the storm holds it to have silence
	workers []*ledgerWriter

	committed, rolledBack, unknown, retried atomic.Int64
}

// ledgerWriter writes the rows from first on.
type ledgerWriter struct {
	*ledger
	number int64
	first  int64
	random *rand.Rand

	mu     sync.Mutex
	serial int64           // the last that was given to a value
	now    map[int64]int64 // row → serial of the value it has; 0: it is not there
	past   map[int64][]int64
	never  map[int64]bool // serials that were rolled back
}

const (
	ledgerRows    = 200
	ledgerStride  = 1_000_000 // between the rows of two writers
	ledgerAtOnce  = 5         // rows of a larger transaction
	ledgerPayload = 40
)

func newLedger(pool *pgxpool.Pool, perSecond float64, writers int, seed uint64) *ledger {
	l := &ledger{pool: pool, pace: rate.NewLimiter(rate.Limit(perSecond), 5)}
	for n := range writers {
		l.workers = append(l.workers, &ledgerWriter{
			ledger: l, number: int64(n), first: int64(n+1) * ledgerStride, random: rand.New(rand.NewPCG(seed, uint64(n)+100)),
			now: map[int64]int64{}, past: map[int64][]int64{}, never: map[int64]bool{},
		})
	}
	return l
}

// run has the writers write until ctx ends. The error is one that no fault explains.
func (l *ledger) run(ctx context.Context, writers []*ledgerWriter) error {
	var running sync.WaitGroup
	failed := make(chan error, len(writers))
	for _, w := range writers {
		running.Go(func() {
			for ctx.Err() == nil && l.pace.Wait(ctx) == nil {
				if err := w.transaction(ctx); err != nil {
					failed <- fmt.Errorf("ledger writer %d: %w", w.number, err)
					return
				}
			}
		})
	}
	running.Wait()
	close(failed)
	return <-failed
}

// change is what a transaction does to one row: gives it a value, or deletes it.
type change struct {
	id, serial int64 // serial 0: deletes it
}

// transaction changes one row or some. It returns once it is known whether they were changed.
func (w *ledgerWriter) transaction(ctx context.Context) error {
	w.gate.RLock()
	defer w.gate.RUnlock()
	if ctx.Err() != nil {
		return nil
	}
	changes := w.choose()
	_, err := w.commit(ctx, changes, w.random.IntN(25) == 0)
	return err
}

func (w *ledgerWriter) choose() []change {
	n := 1
	if w.random.IntN(8) == 0 {
		n = 1 + w.random.IntN(ledgerAtOnce)
	}
	var changes []change
	for len(changes) < n {
		c := change{id: w.first + w.random.Int64N(ledgerRows)}
		if slices.ContainsFunc(changes, func(o change) bool { return o.id == c.id }) {
			continue
		}
		if w.now[c.id] == 0 || w.random.IntN(6) > 0 {
			w.serial++
			c.serial = w.serial
		}
		changes = append(changes, c)
	}
	return changes
}

// commit makes the changes in one transaction, or rolls them back on purpose. Whether a transaction whose connection was lost
// has committed is found out: committed says so. Only the end of ctx leaves that open, and is an error.
func (w *ledgerWriter) commit(ctx context.Context, changes []change, rollBack bool) (committed bool, err error) {
	errBack := errors.New("rolled back on purpose")
	lost := context.WithoutCancel(ctx)
	lost, cancel := context.WithTimeout(lost, time.Minute)
	defer cancel()
	err = pgx.BeginFunc(lost, w.pool, func(tx pgx.Tx) error {
		// Nobody can ask what became of the transaction before it has ended.
		if _, err := tx.Exec(lost, "SELECT pg_advisory_xact_lock(7, $1)", w.number); err != nil {
			return err
		}
		for _, c := range changes {
			sql, args := "DELETE FROM ledger WHERE id = $1", []any{c.id}
			if c.serial != 0 {
				sql, args = `INSERT INTO ledger VALUES ($1, $2, $3) ON CONFLICT (id) DO UPDATE SET serial = excluded.serial, body = excluded.body`,
					[]any{c.id, c.serial, ledgerBody(c.id, c.serial)}
			}
			if _, err := tx.Exec(lost, sql, args...); err != nil {
				return err
			}
		}
		if rollBack {
			return errBack
		}
		return nil
	})
	switch {
	case err == nil:
		w.committed.Add(1)
		w.record(changes)
		return true, nil
	case errors.Is(err, errBack):
		w.rolledBack.Add(1)
		w.forget(changes)
		return false, nil
	}
	w.unknown.Add(1)
	return w.find(ctx, changes)
}

// ledgerBody is the value that belongs to a serial.
func ledgerBody(id, serial int64) string {
	return fmt.Sprintf("%0*d", ledgerPayload, id*1_000_003+serial)
}

// find asks the source, until it answers, what became of changes.
func (w *ledgerWriter) find(ctx context.Context, changes []change) (committed bool, err error) {
	for {
		committed, err = w.look(ctx, changes[0])
		switch {
		case err == nil && committed:
			w.committed.Add(1)
			w.record(changes)
			return true, nil
		case err == nil:
			w.forget(changes)
			return false, nil
		case ctx.Err() != nil:
			return false, fmt.Errorf("what became of row %d, serial %d, was not found out: %w", changes[0].id, changes[0].serial, err)
		}
		w.retried.Add(1)
		select {
		case <-ctx.Done():
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func (w *ledgerWriter) look(ctx context.Context, c change) (committed bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	var serial int64
	err = pgx.BeginFunc(ctx, w.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock(7, $1)", w.number); err != nil {
			return err
		}
		return tx.QueryRow(ctx, "SELECT coalesce((SELECT serial FROM ledger WHERE id = $1), 0)", c.id).Scan(&serial)
	})
	if err != nil {
		return false, err
	}
	return serial == c.serial, nil
}

// record keeps what has committed.
func (w *ledgerWriter) record(changes []change) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range changes {
		if c.serial == 0 && w.now[c.id] == 0 {
			continue // there was nothing to delete
		}
		w.now[c.id] = c.serial
		w.past[c.id] = append(w.past[c.id], c.serial)
	}
}

// forget keeps that values never were.
func (w *ledgerWriter) forget(changes []change) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range changes {
		if c.serial != 0 {
			w.never[c.serial] = true
		}
	}
}

// writerOf is the writer whose row it is.
func (l *ledger) writerOf(id string) (*ledgerWriter, int64) {
	n, err := strconv.ParseInt(id, 10, 64)
	if err != nil || n < ledgerStride || n/ledgerStride > int64(len(l.workers)) {
		return nil, 0
	}
	return l.workers[n/ledgerStride-1], n
}
