package ingest

import (
	"context"
	"log/slog"
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

// Loader copies tables into the mirror that it does not hold yet, while the stream flows on (DESIGN D3). Tables are
// independent: one that cannot be read is tried again after a while, and the others go on and are completed.
type Loader struct {
	cfg      LoadConfig
	source   cdc.Config
	registry *schemas.Registry
	mirror   *mirror.Mirror
	ask      func(pglogrepl.LSN)
	log      *slog.Logger
	bucket   *rate.Limiter // nil when there is no rate

	mu       sync.Mutex
	started  time.Time // zero before
	loading  bool
	tables   []*table
	sessions int
	longest  time.Duration // a snapshot was held
	changed  chan struct{} // closed, and made anew, when a table has something to read again or is complete
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

// LoadProgress is how far a load has come.
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
	p := LoadProgress{Loading: l.loading, Sessions: l.sessions, Longest: l.longest}
	for _, t := range l.tables {
		p.Rows += t.rows
		p.Total += max(t.rows, t.estimate)
		if t.err != nil {
			p.Failing = append(p.Failing, TableError{Table: t.name(), Error: t.err.Error(), Attempts: t.waits.Attempts()})
		}
	}
	if !l.started.IsZero() {
		p.Elapsed = time.Since(l.started)
	}
	return p
}

// Run loads what is missing of the tables and returns when all of them are complete in the mirror, or with an error
// that no other snapshot would help against. The stream must be running: a table is complete only when the stream has
// reached its snapshot. Run is called once at a time.
func (l *Loader) Run(ctx context.Context, schemas []*row.Schema) error {
	var missing []*table
	for _, s := range schemas {
		if !l.mirror.Loaded(s.OID) {
			missing = append(missing, &table{schema: s, waits: backoff.New(l.cfg.Retry)})
		}
	}
	if len(missing) == 0 {
		return nil
	}
	l.mu.Lock()
	l.started, l.loading, l.tables = time.Now(), true, missing
	l.mu.Unlock()
	defer func() {
		l.mu.Lock()
		l.loading = false
		l.mu.Unlock()
	}()
	l.log.Info("load started", "tables", len(missing))
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return l.read(gctx, g) })
	if err := g.Wait(); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return err
	}
	p := l.Progress()
	l.log.Info("load finished", "tables", len(missing), "rows", p.Rows, "took", p.Elapsed.Round(time.Millisecond),
		"snapshots", p.Sessions, "longest_snapshot", p.Longest.Round(time.Millisecond))
	return nil
}

// read opens one session after the other until all tables are complete. A source that is away is waited for.
func (l *Loader) read(ctx context.Context, finishing *errgroup.Group) error {
	waits := backoff.New(backoff.Config{})
	for {
		due, err := l.await(ctx)
		if err != nil || !due {
			return err
		}
		s, err := cdc.OpenSession(ctx, l.source)
		switch {
		case err == nil:
			waits.Reset()
			if err := l.session(ctx, s, finishing); err != nil {
				return err
			}
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case !cdc.Retryable(err):
			return err
		default:
			l.log.Warn("load interrupted", "error", err)
			if err := waits.Wait(ctx); err != nil {
				return err
			}
		}
	}
}

// await waits until some table has something to read, and says whether there is one: else all tables are complete.
func (l *Loader) await(ctx context.Context) (due bool, err error) {
	for {
		l.mu.Lock()
		all, some, changed := true, false, l.changed
		var next time.Time
		for _, t := range l.tables {
			all = all && t.state == complete
			if t.state == reading && (!some || t.due.Before(next)) {
				some, next = true, t.due
			}
		}
		l.mu.Unlock()
		var clock <-chan time.Time
		switch wait := time.Until(next); {
		case all:
			return false, nil
		case some && wait <= 0:
			return true, nil
		case some:
			clock = time.After(wait)
		}
		select {
		case <-clock:
		case <-changed:
		case <-ctx.Done():
			return false, context.Cause(ctx)
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
