package ingest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/sync/errgroup"

	"github.com/lanternist/lanternist/cdc"
	"github.com/lanternist/lanternist/row"
)

// loadSession is the part of a load that is done under one snapshot.
type loadSession struct {
	*Loader
	*cdc.Session
	asked time.Time               // before the snapshot was taken: a table that was added later is not read from it
	began time.Time               // when it was asked for: the source may hold the snapshot from then on, while it waits for what is open
	stale atomic.Bool             // the snapshot, or the source, is gone
	end   func()                  // ends the snapshot, once
	over  context.CancelCauseFunc // ends what is being read

	// guarded by mu
	taken   int  // pieces
	reads   int  // of pieces, under way
	ranges  int  // read to their end
	overdue bool // the session has lasted long enough
	ended   bool // nothing is read any more
}

// errOver is the cause of the end of reading a range when its session has lasted long enough. It is read anew, in another.
var errOver = errors.New("the session is over")

// session copies pieces under one snapshot until there are none that may be copied now, the session has lasted long
// enough, or the snapshot is of no more use. It ends the snapshot. Its error is fatal.
func (l *Loader) session(ctx context.Context, under *cdc.Session, asked time.Time, completing *errgroup.Group) error {
	s := &loadSession{Loader: l, Session: under, asked: asked, began: asked}
	s.end = sync.OnceFunc(s.close)
	defer s.end()
	l.mu.Lock()
	l.sessions++
	l.mu.Unlock()
	l.log.Info("snapshot opened", "at", under.ConsistentPoint().String())
	return s.run(ctx, completing)
}

// close ends the snapshot.
func (s *loadSession) close() {
	if err := s.Close(); err != nil {
		s.log.Warn("snapshot not closed in order", "error", err)
	}
	held := time.Since(s.began)
	s.mu.Lock()
	s.longest = max(s.longest, held)
	s.mu.Unlock()
	s.log.Info("snapshot closed", "at", s.ConsistentPoint().String(), "held", held.Round(time.Millisecond))
}

func (s *loadSession) run(ctx context.Context, completing *errgroup.Group) error {
	g, gctx := errgroup.WithContext(ctx)
	reading, over := context.WithCancelCause(gctx)
	defer over(nil)
	s.over = over
	clock := time.AfterFunc(s.cfg.Session-endAhead(s.cfg.Session)-time.Since(s.began), s.lastedLongEnough)
	defer clock.Stop()
	for range s.cfg.Workers {
		g.Go(func() error {
			for p, ok := s.next(); ok && gctx.Err() == nil; p, ok = s.next() {
				tctx, release := p.table.within(gctx)
				err := s.load(tctx, reading, p)
				release()
				if errors.Is(err, errOver) {
					s.putBack(p)
					s.release(p, false)
					continue
				}
				s.release(p, err == nil)
				if err := s.judge(gctx, p.table, err); err != nil {
					return err
				}
				s.settle(ctx, p.table, completing)
			}
			return context.Cause(gctx)
		})
	}
	return g.Wait()
}

// endAhead is how long before its end a session ends what is still being read, so that the snapshot is gone in time.
func endAhead(session time.Duration) time.Duration { return min(session/10, time.Second) }

// lastedLongEnough ends what is being read, if the session has brought the load further. If not, it goes on until it has:
// a range that takes longer than a session would never be done.
func (s *loadSession) lastedLongEnough() {
	s.mu.Lock()
	s.overdue = true
	further := s.ranges > 0
	s.mu.Unlock()
	if further {
		s.cutOff()
	}
}

// cutOff ends the snapshot with all that is being read under it. That must not wait for rows on their way into the mirror: they are of a
// COPY, which the source holds the snapshot for until its last row is taken, or the connection is gone.
func (s *loadSession) cutOff() {
	s.over(errOver)
	if err := s.Abort(); err != nil {
		s.log.Warn("snapshot not closed in order", "error", err)
	}
	s.end()
}

// putBack has a range read in another session. What was read of it is in the mirror, or not: it makes no difference.
func (s *loadSession) putBack(p piece) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t := p.table; t.planned && !t.removed() {
		t.todo = append([]piece{p}, t.todo...)
	}
	s.log.Debug("range cut off", "table", p.table.name(), "range", p.index)
}

// unplanned are the tables of which it is not known what is left, and that may be read now. They are busy until release.
func (l *Loader) unplanned() (tables []*table) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	for _, t := range l.tables {
		if t.state == reading && !t.planned && !t.removed() && !t.due.After(now) {
			t.busy++
			t.users++
			tables = append(tables, t)
		}
	}
	return tables
}

// next is a piece to be copied.
func (s *loadSession) next() (piece, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.due()
	if t == nil {
		return piece{}, false
	}
	p := t.todo[0]
	t.todo = t.todo[1:]
	t.busy++
	t.users++
	s.taken++
	s.reads++
	s.log.Debug("range begun", "table", t.name(), "range", p.index, "refill", len(p.keys), "snapshot_age", time.Since(s.began))
	return p, true
}

// due is a table that has a piece to be copied in this session, or nil. A session begins none that is likely to end when it
// is too old; but the first piece may be begun at any age, so that each session brings the load further.
func (s *loadSession) due() *table {
	age := time.Since(s.began)
	if s.ended || s.overdue && s.ranges > 0 || s.stale.Load() || age > s.cfg.Session-min(s.rangeTook, s.cfg.Session/2) && s.taken > 0 {
		return nil
	}
	for _, t := range s.tables {
		if t.state == reading && t.planned && !t.removed() && !t.due.After(s.asked) && len(t.todo) > 0 {
			return t
		}
	}
	return nil
}

// pieceRead notes that a piece has been read, or will not be. The snapshot is ended with the last one: what is left to do, bringing
// rows into the mirror, does not need it.
func (s *loadSession) pieceRead() {
	s.mu.Lock()
	s.reads--
	s.ended = s.ended || s.reads == 0 && s.due() == nil
	ended := s.ended
	s.mu.Unlock()
	if ended {
		s.end()
	}
}

// release ends the work on a piece. One that was copied is a success of its table.
func (l *Loader) release(p piece, copied bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p.table.busy--
	p.table.users--
	if p.table.removed() {
		l.change()
	}
	if copied && p.table.planned {
		p.table.err = nil
		p.table.waits.Reset()
	}
}

// judge decides what comes of an error of reading a table. It returns only those that end the load.
func (s *loadSession) judge(ctx context.Context, t *table, err error) error {
	var own *fatal
	switch {
	case err == nil || t.removed():
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.As(err, &own) && !ofTable(err):
		return err
	}
	if lost(err) {
		s.stale.Store(true)
	}
	s.putOff(t, err, s.began)
	return nil
}

// putOff has a table read anew, from its definition on, after a while. What was recorded as done stays done. A table that was put off
// since the given time stays as it is: another worker has met the error, too.
func (l *Loader) putOff(t *table, err error, since time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	t.todo = nil
	if t.removed() || t.due.After(since) {
		return
	}
	t.planned, t.err = false, err
	wait := t.waits.Next()
	t.due = time.Now().Add(wait)
	l.log.Warn("table put off", "table", t.name(), "error", err, "attempts", t.waits.Attempts(), "again_in", wait.Round(time.Millisecond))
}

// lost says whether an error of the source is not that of one table: the snapshot or the server is gone.
func lost(err error) bool {
	if errors.Is(err, cdc.ErrSnapshotGone) {
		return true
	}
	var refusal *pgconn.PgError
	if errors.As(err, &refusal) {
		return len(refusal.Code) == 5 && (refusal.Code[:2] == "08" || refusal.Code[:3] == "57P")
	}
	return cdc.Retryable(err) && !errors.Is(err, cdc.ErrRewritten) && !errors.Is(err, pgx.ErrNoRows)
}

// settle has a table completed of which everything is read.
func (l *Loader) settle(ctx context.Context, t *table, completing *errgroup.Group) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if t.state == reading && t.planned && !t.removed() && len(t.todo) == 0 && t.busy == 0 {
		t.state, t.err = finishing, nil
		t.users++
		completing.Go(func() error { return l.finish(ctx, t) })
	}
}

// slowRange is how long a range may take before the log says where the time went.
const slowRange = 5 * time.Second

// load copies one piece. A range is recorded as done, durably, after its rows are in the mirror. It is errOver when reading ends
// before the range does.
func (s *loadSession) load(ctx, reading context.Context, p piece) error {
	read := sync.OnceFunc(s.pieceRead)
	defer read()
	if p.keys != nil {
		return s.refill(ctx, reading, p)
	}
	copying, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	defer context.AfterFunc(reading, func() { stop(context.Cause(reading)) })()
	began, point, t := time.Now(), s.ConsistentPoint(), p.table
	bulk := s.mirror.Bulk(p.schema.OID, p.schema, point)
	defer bulk.Close()
	var count int64
	var paced, took time.Duration
	err := s.Copy(copying, p.schema, p.rng, func(rows []row.Row) error {
		from := time.Now()
		if err := s.pace(copying, len(rows)); err != nil {
			return err
		}
		paced += time.Since(from)
		if err := bulk.Add(ctx, rows); err != nil {
			return &fatal{err}
		}
		took += time.Since(from)
		count += int64(len(rows))
		s.count(t, int64(len(rows)))
		return nil
	})
	copied := time.Since(began)
	if err == nil {
		s.rangeRead()
	}
	read()
	var own *fatal
	if err != nil && !errors.As(err, &own) && errors.Is(context.Cause(reading), errOver) {
		s.count(t, -count)
		return errOver
	}
	if err == nil {
		if err = bulk.Flush(ctx); err != nil {
			err = &fatal{err}
		}
	}
	if err != nil {
		s.count(t, -count) // they are read again
		return fmt.Errorf("load %s: %w", p, err)
	}
	from := time.Now()
	if err := s.mirror.FinishRange(p.schema.OID, p.index, point, count); err != nil {
		return &fatal{fmt.Errorf("load %s: %w", p, err)}
	}
	s.reached(t, nil)
	s.tookRange(copied)
	level := slog.LevelDebug
	if time.Since(began)-paced > slowRange {
		level = slog.LevelInfo
	}
	spent := bulk.Spent()
	s.log.Log(ctx, level, "range loaded", "table", t.name(), "range", p.index, "rows", count, "took", time.Since(began), "source", copied-took,
		"paced", paced, "waiting", spent.Waiting, "writing", spent.Writing, "ingesting", spent.Ingesting,
		"one_by_one", spent.OneByOne, "loading", spent.Loading, "syncing", time.Since(from))
	return nil
}

// refill copies the rows of a piece's keys.
func (s *loadSession) refill(ctx, reading context.Context, p piece) error {
	// The stream must reach this snapshot before the table is complete, also after a crash: the point is recorded with
	// a range before the rows are there.
	state, _, err := s.mirror.LoadState(p.schema.OID)
	if err != nil || len(state.Ranges) == 0 {
		return &fatal{fmt.Errorf("load %s: read load state: %d ranges, %w", p, len(state.Ranges), err)}
	}
	if err := s.mirror.FinishRange(p.schema.OID, 0, s.ConsistentPoint(), state.Ranges[0].Rows); err != nil {
		return &fatal{fmt.Errorf("load %s: %w", p, err)}
	}
	keys := make([][]string, len(p.keys))
	for i, key := range p.keys {
		for _, part := range row.SplitKey(key) {
			keys[i] = append(keys[i], string(part))
		}
	}
	err = s.CopyKeys(ctx, p.schema, keys, func(rows []row.Row) error { // they were counted before
		if err := s.pace(ctx, len(rows)); err != nil {
			return err
		}
		if err := s.mirror.Load(p.schema.OID, p.schema, s.ConsistentPoint(), rows); err != nil {
			return &fatal{err}
		}
		return nil
	})
	var own *fatal
	switch {
	case err != nil && !errors.As(err, &own) && errors.Is(context.Cause(reading), errOver):
		return errOver
	case err != nil:
		return fmt.Errorf("load %s: %w", p, err)
	}
	s.reached(p.table, p.keys)
	return nil
}

// rangeRead notes that a range was read to its end: the session has brought the load further.
func (s *loadSession) rangeRead() {
	s.mu.Lock()
	s.ranges++
	overdue := s.overdue
	s.mu.Unlock()
	if overdue {
		s.cutOff()
	}
}

// reached notes that rows of this snapshot are in the table, and which keys were read again.
func (s *loadSession) reached(t *table, keys [][]byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t.until = max(t.until, s.ConsistentPoint())
	if keys != nil {
		t.refill = nil
	}
}

// tookRange notes how long a range took to be read. What was slow once counts for less with each range that was not.
func (s *loadSession) tookRange(took time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rangeTook = max(took, s.rangeTook*3/4)
}

func (s *loadSession) count(t *table, rows int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t.rows += rows
}
