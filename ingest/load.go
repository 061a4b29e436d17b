package ingest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pglogrepl"
	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"github.com/lanternist/lanternist/backoff"
	"github.com/lanternist/lanternist/cdc"
	"github.com/lanternist/lanternist/mirror"
	"github.com/lanternist/lanternist/row"
	"github.com/lanternist/lanternist/schemas"
)

// LoadConfig bounds the load of tables.
type LoadConfig struct {
	// Workers copy ranges at once. Default 4.
	Workers int
	// Rate is how many rows are copied per second by all workers together. Default 0: unbounded.
	Rate int
	// Session is how long one snapshot is held on the source before no further range is begun under it.
	// Default 5m.
	Session time.Duration
	// RangeRows is about how many rows a range has. Default 50,000, and no more than the workers may copy in half a
	// session at the Rate.
	RangeRows int
	// Retry bounds the waits before a table whose load has failed is tried again. Default 500ms to 1m.
	Retry backoff.Config
}

func (c LoadConfig) withDefaults() LoadConfig {
	if c.Workers == 0 {
		c.Workers = 4
	}
	if c.Session == 0 {
		c.Session = 5 * time.Minute
	}
	if c.RangeRows == 0 {
		c.RangeRows = 50_000
	}
	if c.Rate > 0 {
		perWorker := float64(c.Rate) / float64(c.Workers)
		c.RangeRows = max(1, min(c.RangeRows, int(perWorker*c.Session.Seconds()/2)))
	}
	if c.Retry == (backoff.Config{}) {
		c.Retry = backoff.Config{Min: 500 * time.Millisecond, Max: time.Minute}
	}
	return c
}

// askAgain is how long the end of a load waits before it asks for the source's position once more: the reader may have
// lost its connection, and with it the question.
const askAgain = 10 * time.Second

// Loader copies tables into the mirror that it does not hold yet, while the stream flows on (DESIGN D3). It lives as long
// as the stream, and tables come and go. They are independent: one that cannot be read is tried again after a while, and
// the others go on and are completed.
type Loader struct {
	cfg      LoadConfig
	source   cdc.Config
	registry *schemas.Registry
	mirror   *mirror.Mirror
	ask      func(pglogrepl.LSN)
	log      *slog.Logger
	bucket   *rate.Limiter // nil when there is no rate

	mu        sync.Mutex
	started   time.Time // zero before
	loading   bool
	ended     time.Time // of the load before, when none is under way
	tables    []*table
	sessions  int
	longest   time.Duration // a snapshot was held
	rangeTook time.Duration // how long a range may take, going by the last ones
	changed   chan struct{} // closed, and made anew, when a table comes, goes, or is in another state
}

// NewLoader is a loader for the tables of a source. The registry takes the definitions of tables that are altered while
// they are loaded. ask makes the source say when it has reached a position, so that an idle one does not hold the end
// of a load back (cdc.Reader.RequestPosition).
func NewLoader(cfg LoadConfig, source cdc.Config, registry *schemas.Registry, m *mirror.Mirror, ask func(pglogrepl.LSN), log *slog.Logger) *Loader {
	l := &Loader{cfg: cfg.withDefaults(), source: source, registry: registry, mirror: m, ask: ask, log: log, changed: make(chan struct{})}
	if l.cfg.Rate > 0 {
		// A tenth of a second's rows: enough for batches to flow, too few to be felt as a burst.
		l.bucket = rate.NewLimiter(rate.Limit(l.cfg.Rate), max(1, l.cfg.Rate/10))
	}
	return l
}

// LoadProgress is how far a load has come: one that is under way, or else the last one. A table that is added while others
// are being loaded becomes part of their load.
type LoadProgress struct {
	Loading  bool          `json:"loading"`
	Rows     int64         `json:"rows"`
	Total    int64         `json:"total"` // an estimate, never below Rows
	Elapsed  time.Duration `json:"elapsed"`
	Sessions int           `json:"sessions"`        // snapshots taken
	Longest  time.Duration `json:"longest_session"` // a snapshot was held on the source
	Failing  []TableError  `json:"failing,omitempty"`
}

// TableError is a table that cannot be loaded now. It is tried again.
type TableError struct {
	Table    string `json:"table"`
	Error    string `json:"error"`
	Attempts int    `json:"attempts"`
}

// Progress may be called at any time.
func (l *Loader) Progress() LoadProgress {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.progress()
}

func (l *Loader) progress() LoadProgress {
	p := LoadProgress{Loading: l.loading, Sessions: l.sessions, Longest: l.longest}
	for _, t := range l.tables {
		p.Rows += t.rows
		p.Total += max(t.rows, t.estimate)
		if t.err != nil {
			p.Failing = append(p.Failing, TableError{Table: t.name(), Error: t.err.Error(), Attempts: t.waits.Attempts()})
		}
	}
	switch {
	case l.loading:
		p.Elapsed = time.Since(l.started)
	case !l.started.IsZero():
		p.Elapsed = l.ended.Sub(l.started)
	}
	return p
}

// Run loads the tables that were added, and those that are added while it runs, until ctx ends or there is an error that
// no other snapshot would help against. The stream must be running: a table is complete only when the stream has reached
// its snapshot. Run is called once at a time.
func (l *Loader) Run(ctx context.Context) error {
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return l.read(gctx, g) })
	err := g.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// errLoaded is the cause of the end of a Run that was to load only so much.
var errLoaded = errors.New("everything is loaded")

// Load is Add, and Run until everything that was added is complete.
func (l *Loader) Load(ctx context.Context, schemas ...*row.Schema) error {
	l.Add(schemas...)
	running, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	go func() {
		if l.wait(running) == nil {
			stop(errLoaded)
		}
	}()
	if err := l.Run(running); !errors.Is(err, errLoaded) {
		return err
	}
	return nil
}

// wait waits until no load is under way.
func (l *Loader) wait(ctx context.Context) error {
	for {
		l.mu.Lock()
		loading, changed := l.loading, l.changed
		l.mu.Unlock()
		if !loading {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// Add has tables loaded that are not complete in the mirror, from snapshots that are taken after the call. One that is
// being loaded, since an Add before, goes on as it is.
func (l *Loader) Add(schemas ...*row.Schema) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now, added := time.Now(), 0
	for _, s := range schemas {
		if l.mirror.Loaded(s.OID) || slices.ContainsFunc(l.tables, func(t *table) bool { return t.schema.OID == s.OID && t.state != complete }) {
			continue
		}
		if !l.loading { // what was loaded before is another load
			l.loading, l.started, l.tables, l.sessions, l.longest = true, now, nil, 0, 0
		}
		l.tables = slices.DeleteFunc(l.tables, func(t *table) bool { return t.schema.OID == s.OID })
		l.tables = append(l.tables, newTable(s, now, l.cfg.Retry))
		added++
	}
	if added > 0 {
		l.log.Info("load started", "tables", added)
		l.change()
	}
}

// Remove ends the load of a table, if there is one, and returns when nothing of it comes to the mirror any more.
func (l *Loader) Remove(ctx context.Context, oid uint32) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	i := slices.IndexFunc(l.tables, func(t *table) bool { return t.schema.OID == oid })
	if i < 0 {
		return nil
	}
	t := l.tables[i]
	t.remove()
	for t.users > 0 {
		changed := l.changed
		l.mu.Unlock()
		var err error
		select {
		case <-changed:
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
		l.mu.Lock()
		if err != nil {
			return fmt.Errorf("end the load of %s: %w", t.name(), err)
		}
	}
	l.tables = slices.DeleteFunc(l.tables, func(have *table) bool { return have == t })
	l.change()
	return nil
}

// change tells everyone who waits for it that a table has changed. The caller holds mu.
func (l *Loader) change() {
	if l.loading && !slices.ContainsFunc(l.tables, func(t *table) bool { return t.state != complete }) {
		l.loading, l.ended = false, time.Now()
		p := l.progress()
		l.log.Info("load finished", "tables", len(l.tables), "rows", p.Rows, "took", p.Elapsed.Round(time.Millisecond),
			"snapshots", p.Sessions, "longest_snapshot", p.Longest.Round(time.Millisecond))
	}
	close(l.changed)
	l.changed = make(chan struct{})
}

// read opens one session after the other for as long as there is something to read. A source that is away is waited for.
func (l *Loader) read(ctx context.Context, finishing *errgroup.Group) error {
	waits := backoff.New(backoff.Config{})
	for {
		if err := l.await(ctx); err != nil {
			return err
		}
		err := l.once(ctx, finishing)
		var own *fatal
		switch {
		case err == nil:
			waits.Reset()
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.As(err, &own) || !cdc.Retryable(err):
			return err
		default:
			l.log.Warn("load interrupted", "error", err)
			if err := waits.Wait(ctx); err != nil {
				return err
			}
		}
	}
}

// once plans what is to be planned, and reads what there is to be read under one snapshot.
func (l *Loader) once(ctx context.Context, finishing *errgroup.Group) error {
	some, err := l.planAll(ctx, finishing)
	if err != nil || !some {
		return err
	}
	asked := time.Now()
	s, err := cdc.OpenSession(ctx, l.source)
	if err != nil {
		return err
	}
	return l.session(ctx, s, asked, finishing)
}

// await waits until some table has something to read.
func (l *Loader) await(ctx context.Context) error {
	for {
		l.mu.Lock()
		some, changed := false, l.changed
		var next time.Time
		for _, t := range l.tables {
			if t.state == reading && !t.removed() && (!some || t.due.Before(next)) {
				some, next = true, t.due
			}
		}
		l.mu.Unlock()
		var clock <-chan time.Time
		if some {
			wait := time.Until(next)
			if wait <= 0 {
				return nil
			}
			clock = time.After(wait)
		}
		select {
		case <-clock:
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// pace waits until n more rows may be copied.
func (l *Loader) pace(ctx context.Context, n int) error {
	if l.bucket == nil {
		return nil
	}
	for n > 0 {
		some := min(n, l.bucket.Burst())
		if err := l.bucket.WaitN(ctx, some); err != nil {
			return err
		}
		n -= some
	}
	return nil
}
