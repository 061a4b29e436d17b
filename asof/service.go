package asof

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pglogrepl"

	"github.com/lanternist/lanternist/backoff"
	"github.com/lanternist/lanternist/control"
	"github.com/lanternist/lanternist/deadletter"
	"github.com/lanternist/lanternist/journal"
	"github.com/lanternist/lanternist/mirror"
	"github.com/lanternist/lanternist/mirror/checkpoint"
	"github.com/lanternist/lanternist/projectors"
	"github.com/lanternist/lanternist/views"
)

var (
	// ErrUnavailable means that the documents of a moment cannot be had: the error says what is missing, and what there is.
	ErrUnavailable = errors.New("that moment is not available")
	// ErrFuture means that a moment has not come, or that what was committed up to it has not been received yet.
	ErrFuture = errors.New("that moment has not been reached")
	// ErrName means that a name cannot be given to a view.
	ErrName = errors.New("that name cannot be used")
	// ErrUnknown means that there is no view of that name that was made as of a moment.
	ErrUnknown = errors.New("no view of that name was made as of a moment")
	// ErrBusy means that one is being made: they are made one at a time.
	ErrBusy = errors.New("a view as of a moment is being made or removed")
)

// Config is how a Service works. Zero fields have their defaults.
type Config struct {
	// Dir is where tables are restored to while a view is made. Nobody else's: what is in it is removed. Required.
	Dir string
	// Epoch is the source's.
	Epoch string
	// CacheSize is the memory for the restored tables, in bytes. Default that of mirror.Config.
	CacheSize int64
	// Projector is how documents are written to a sink: all but Name, Sink and Epoch. Optional.
	Projector func(sink string) projectors.Config
	// Backoff spaces attempts to remove what a crash left. Default as in package backoff.
	Backoff backoff.Config
	// Patience is how long a moment that has just been is waited for to be received. Default 10s.
	Patience time.Duration
}

// Source is what is asked when a moment is at the end of what was received.
type Source interface {
	// Now is the source's time, and the end of its log then.
	Now(ctx context.Context) (time.Time, pglogrepl.LSN, error)
	// RequestKeepalive has the source say where its log ends, for the mirror to get there.
	RequestKeepalive()
}

// Parts is what a Service works with.
type Parts struct {
	Control control.Store
	Schemas mirror.Schemas
	Letters *deadletter.Store
	// Stores are the homes of a view, by sink: "search", "cache". It is asked once for each view and process.
	Stores func(v *views.View) (map[string]projectors.Store, error)

	// The following are needed for making views.

	Journal *journal.Journal
	Mirror  *mirror.Mirror
	// Checkpoints is nil when nowhere is configured for them.
	Checkpoints *checkpoint.Store
	Source      Source
	// Since reads from which position on each table, by OID, has been captured without a gap. Optional: of a table that was loaded
	// again it is then not known.
	Since func(ctx context.Context) (map[uint32]pglogrepl.LSN, error)
	// Taken says whether a view of the configuration has a name. Optional.
	Taken func(name string) bool
}

// Service makes views as of moments, and looks after them. Its methods may be called from any goroutine.
type Service struct {
	Parts
	cfg Config
	log *slog.Logger

	making chan struct{} // holds one while a view is made or removed: one at a time

	mu      sync.Mutex
	views   map[string]*View // that are whole, by name
	unclean []Record         // that a crash left
}

// New makes a service. It does no I/O.
func New(cfg Config, parts Parts, log *slog.Logger) *Service {
	if cfg.Patience == 0 {
		cfg.Patience = 10 * time.Second
	}
	if cfg.Projector == nil {
		cfg.Projector = func(string) projectors.Config { return projectors.Config{} }
	}
	return &Service{cfg: cfg, Parts: parts, log: log, making: make(chan struct{}, 1), views: map[string]*View{}}
}

// begin waits until nothing is made or removed. over must follow.
func (s *Service) begin(ctx context.Context) error {
	select {
	case s.making <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (s *Service) over() { <-s.making }

// View is a view as of a moment, whole and in its sinks.
type View struct {
	Record
	Definition *views.View
	Stores     map[string]projectors.Store // by sink
}

// All are the views that are whole, by name.
func (s *Service) All() []*View {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.SortedFunc(maps.Values(s.views), func(a, b *View) int { return strings.Compare(a.Name, b.Name) })
}

// View finds a view by its name.
func (s *Service) View(name string) (*View, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v, ok := s.views[name]
	return v, ok
}
