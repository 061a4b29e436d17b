package httpapi

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/lanternist/lanternist/asof"
	"github.com/lanternist/lanternist/cdc"
	"github.com/lanternist/lanternist/deadletter"
	"github.com/lanternist/lanternist/deadletter/alert"
	"github.com/lanternist/lanternist/event"
	"github.com/lanternist/lanternist/internal/disk"
	"github.com/lanternist/lanternist/journal"
	"github.com/lanternist/lanternist/mirror"
	"github.com/lanternist/lanternist/mirror/checkpoint"
	"github.com/lanternist/lanternist/projectors"
)

// Source is what the API needs of a *cdc.Reader.
type Source interface {
	// RequestKeepalive asks the source where its log ends now. It is cheap to call often.
	RequestKeepalive()
	Stats() cdc.Stats
}

// Parts is what the API speaks for. All are required but those that say otherwise.
type Parts struct {
	Views   []*View
	Source  Source
	Journal *journal.Journal
	Mirror  *mirror.Mirror
	Letters *deadletter.Store
	// Load is how far the first load is; nil when there is none.
	Load func() LoadStatus
	// Envelope appends an event as consumers see it, in JSON.
	Envelope func(dst []byte, ev *event.Event) ([]byte, error)
	// Metrics is what /metrics shows; the API adds its own.
	Metrics *prometheus.Registry
	// Archive is what archives the journal; nil when nothing does.
	Archive Archiver
	// Streams are projectors of events, which can be looked at and replayed. Optional.
	Streams []Replayer
	// Verify compares documents. Optional: without it, requests to compare are answered 501.
	Verify Verify
	// AsOf makes views as of moments. Optional, as Verify is.
	AsOf *asof.Service
	// Checkpoints makes copies of the mirror. Optional, as Verify is.
	Checkpoints *checkpoint.Keeper
	// Alert tells of dead letters; nil when nobody is told.
	Alert *alert.Alert
	// Changes takes over a changed configuration. Optional: without it, requests for that are answered 501.
	Changes Changes
	// Sinks are what the projectors of each sink share. Optional.
	Sinks func() []projectors.SinkStatus
	// Disks are the stores that wait for their disk. Optional.
	Disks func() []disk.Waiting
	// Slot is what the source keeps for the daemon's slot; nil while it is not known. Optional.
	Slot func() *SlotStatus
	// Schemas knows the captured tables' definitions. Optional: without it, requests for them are answered 501.
	Schemas Schemas
}

// Server is the API.
type Server struct {
	cfg      Config
	served   atomic.Pointer[viewSet] // changed under mu
	streams  []Replayer
	source   Source
	journal  *journal.Journal
	mirror   *mirror.Mirror
	letters  *deadletter.Store
	load     func() LoadStatus
	sinks    func() []projectors.SinkStatus
	envelope func(dst []byte, ev *event.Event) ([]byte, error)
	log      *slog.Logger

	transactions resolver
	follower     *transactions // the same, when it reads the journal
	waiters      chan struct{}
	ending       context.Context // ends when the server begins to stop: what is waited for will not come
	end          context.CancelCauseFunc
	metrics      *metrics
	jobs         *jobs
	watch        watch
	archiver     Archiver
	verify       Verify
	asof         *asof.Service
	keeper       *checkpoint.Keeper
	changes      Changes
	alert        *alert.Alert
	waitingDisks func() []disk.Waiting
	slotStatus   func() *SlotStatus
	schemas      Schemas
	handler      http.Handler
	started      time.Time

	mu      sync.Mutex
	address net.Addr
}

// New makes the API. It does no I/O.
func New(cfg Config, parts Parts, log *slog.Logger) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	s := &Server{
		cfg: cfg, streams: parts.Streams, source: parts.Source, journal: parts.Journal, mirror: parts.Mirror,
		letters: parts.Letters, load: parts.Load, sinks: parts.Sinks, envelope: parts.Envelope, log: log, archiver: parts.Archive,
		waiters: make(chan struct{}, cfg.MaxWaiters), jobs: newJobs(log), watch: watch{seen: map[jobName]*watched{}}, verify: parts.Verify,
		asof: parts.AsOf, keeper: parts.Checkpoints, changes: parts.Changes, alert: parts.Alert, schemas: parts.Schemas, started: time.Now(),
		waitingDisks: parts.Disks, slotStatus: parts.Slot,
	}
	s.ending, s.end = context.WithCancelCause(context.Background())
	s.change(func(*viewSet) {}) // none is a set, too
	for _, v := range parts.Views {
		if err := s.PutView(v); err != nil {
			return nil, err
		}
	}
	s.follower = newTransactions(parts.Journal, cfg.SourceURL, log)
	s.transactions = s.follower
	var err error
	if s.metrics, err = newMetrics(parts.Metrics, s); err != nil {
		return nil, err
	}
	s.handler = s.routes(parts.Metrics)
	return s, nil
}

// Handler answers requests, for a server of the caller's own. Run must be running all the same for jobs to stop, and for
// transactions to be known without asking the source.
func (s *Server) Handler() http.Handler { return s.handler }

// Address is where the server listens; nil before it does.
func (s *Server) Address() net.Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.address
}

// Run listens and answers until ctx is done, whose cause it returns, or until it cannot listen. Requests in flight may go on for
// Config.StopTimeout; jobs that were started here end: a rebuild leaves the live
// generation as it was.
func (s *Server) Run(ctx context.Context) error {
	listener, err := s.listen(ctx)
	if err != nil {
		return err
	}
	server := &http.Server{
		Handler:           s.handler,
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       readBodyTimeout,
		WriteTimeout:      s.cfg.MaxWait + s.cfg.ReadTimeout + 10*time.Second,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	background, stop := context.WithCancel(ctx)
	defer stop()
	var running sync.WaitGroup
	running.Go(func() { s.follower.run(background) })
	running.Go(func() { s.watch.run(background, s) })
	defer running.Wait()
	defer s.jobs.stop()
	defer stop()

	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	s.log.Info("listening", "url", s.URL())
	select {
	case err := <-failed:
		return fmt.Errorf("serve http on %s: %w", s.cfg.Listen, err)
	case <-ctx.Done():
	}
	if err := s.shutdown(server); err != nil {
		return fmt.Errorf("stop http server: %w", err)
	}
	if err := <-failed; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve http: %w", err)
	}
	return context.Cause(ctx)
}

// errEnding is the cause of the end of a request that waited when the server began to stop.
var errEnding = errors.New("the daemon is stopping")

// Drain has requests that wait, for a token or for events, answered at once: nothing comes any more. Others go on. It may be
// called before the context of Run ends.
func (s *Server) Drain() { s.end(errEnding) }

// untilDrained is a context that also ends when the server is drained.
func (s *Server) untilDrained(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(s.ending, func() { cancel(errEnding) })
	return ctx, func() {
		stop()
		cancel(nil)
	}
}

// shutdown lets requests in flight end, and then ends them.
func (s *Server) shutdown(server *http.Server) error {
	s.Drain()
	ctx, cancel := context.WithTimeout(context.Background(), s.cfg.StopTimeout)
	defer cancel()
	err := server.Shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		s.log.Warn("requests cut off", "after", s.cfg.StopTimeout)
		err = server.Close()
	}
	return err
}

func (s *Server) listen(ctx context.Context) (net.Listener, error) {
	var conf *tls.Config
	if s.cfg.TLSCert != "" {
		pair, err := tls.LoadX509KeyPair(s.cfg.TLSCert, s.cfg.TLSKey)
		if err != nil {
			return nil, fmt.Errorf("http: certificate: %w", err)
		}
		conf = &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}}
	}
	var lc net.ListenConfig
	listener, err := lc.Listen(ctx, "tcp", s.cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("http: %w", err)
	}
	s.mu.Lock()
	s.address = listener.Addr()
	s.mu.Unlock()
	if s.cfg.MaxConnections > 0 {
		listener = bound(listener, s.cfg.MaxConnections)
	}
	if conf != nil {
		listener = tls.NewListener(listener, conf)
	}
	return listener, nil
}

// URL is where the API can be found, once it listens.
func (s *Server) URL() string {
	scheme, host := "http", s.cfg.Listen
	if s.cfg.TLSCert != "" {
		scheme = "https"
	}
	if a := s.Address(); a != nil {
		host = a.String()
	}
	return scheme + "://" + host
}
