package httpapi

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/lanternist/lanternist/event"
	"github.com/lanternist/lanternist/journal"
	"github.com/lanternist/lanternist/projectors"
)

// ProjectorInput names a projector.
type ProjectorInput struct {
	Projector string `path:"projector" doc:"Name of the projector." example:"order_summary.search"`
}

type replayInput struct {
	ProjectorInput
	From   string `query:"from" required:"true" maxLength:"96" doc:"The first event: its offset, or the position (0/16B3748) or time (2026-01-31T12:00:00Z) of the commit from which on events are run again." example:"0"`
	To     string `query:"to" maxLength:"96" doc:"The last event: its offset, or the position or time of the commit up to which events are run again. Default: the journal's end."`
	DryRun bool   `query:"dry_run" doc:"Count events and documents, write nothing."`
}

type replayOutput struct {
	Location string `header:"Location" doc:"Where to ask how far it is."`
	Body     replayBody
}

// replayBody is how far a replay is.
type replayBody struct {
	Projector    string       `json:"projector"`
	State        replayState  `json:"state" enum:"running,done,failed"`
	DryRun       bool         `json:"dry_run"`
	From         event.Offset `json:"from" doc:"Offset from which on events are run again."`
	To           event.Offset `json:"to" doc:"Offset of the last one; 0 while it is not known."`
	Started      time.Time    `json:"started"`
	Finished     time.Time    `json:"finished,omitzero"`
	Batches      int64        `json:"batches" doc:"Of the journal that were read."`
	BatchesTotal int64        `json:"batches_total"`
	Events       int64        `json:"events" doc:"Read."`
	Touching     int64        `json:"touching" doc:"Events that affect a document."`
	Documents    int64        `json:"documents" doc:"Written; of a dry run: affected."`
	Deleted      int64        `json:"deleted" doc:"Documents that should not be there, and are not."`
	Parked       int64        `json:"parked" doc:"Documents that were refused: dead letters."`
	Reconciled   bool         `json:"reconciled" doc:"A TRUNCATE was met: all documents were composed, and the rest of the range was not read."`
	Error        string       `json:"error,omitempty"`
}

type replayState string

const (
	replayRunning replayState = "running"
	replayDone    replayState = "done"
	replayFailed  replayState = "failed"
)

func (s *Server) registerReplay(api huma.API) {
	const path = "/v1/projectors/{projector}/replay"
	start := get("start-replay", path, "projectors", "Run stored events of the journal again through one projector", 404, 409, 410)
	start.Method, start.DefaultStatus = http.MethodPost, http.StatusAccepted
	huma.Register(api, start, s.startReplay)
	huma.Register(api, get("get-replay", path, "projectors", "How far the replay that was started last is", 404), s.getReplay)
}

func (s *Server) startReplay(ctx context.Context, in *replayInput) (*replayOutput, error) {
	p, err := s.projector(in.Projector)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.ReadTimeout)
	defer cancel()
	what, err := s.replayRange(ctx, in)
	if err != nil {
		return nil, err
	}
	r, started := s.replays.start(in.Projector, p, what)
	if !started {
		return nil, problem(http.StatusConflict, "a replay through %s is under way; see %s", in.Projector, replayPath(in.Projector))
	}
	return &replayOutput{Location: replayPath(in.Projector), Body: r.body()}, nil
}

func replayPath(projector string) string { return "/v1/projectors/" + projector + "/replay" }

func (s *Server) getReplay(_ context.Context, in *ProjectorInput) (*replayOutput, error) {
	if _, err := s.projector(in.Projector); err != nil {
		return nil, err
	}
	r := s.replays.last(in.Projector)
	if r == nil {
		return nil, problem(http.StatusNotFound, "no replay through %s was started since the daemon was", in.Projector)
	}
	return &replayOutput{Body: r.body()}, nil
}

// projector finds a projector by name.
func (s *Server) projector(name string) (Projector, error) {
	var names []string
	for _, v := range s.served.Load().all() {
		for _, p := range v.projectors() {
			other := p.Status().Projector
			if other == name {
				return p, nil
			}
			names = append(names, other)
		}
	}
	return nil, problem(http.StatusNotFound, "there is no projector %q; there are %q", name, names)
}

// replayRange reads from= and to=. What the journal no longer holds is refused here, before anything is started.
func (s *Server) replayRange(ctx context.Context, in *replayInput) (what projectors.ReplayRange, err error) {
	what.DryRun = in.DryRun
	if what.From, err = s.replayFrom(ctx, in.From); err == nil {
		err = s.journal.Retains(what.From)
	}
	if err != nil {
		return what, s.replayProblem(ctx, "from", in.From, err)
	}
	if in.To == "" {
		return what, nil
	}
	if what.To, err = s.replayTo(ctx, in.To); err != nil {
		return what, s.replayProblem(ctx, "to", in.To, err)
	}
	if what.To == 0 || what.To+1 < what.From {
		return what, badQuery("to", in.To, "the range ends before it begins")
	}
	return what, nil
}

// replayFrom is the offset of the first event at an offset or position or time, or after.
func (s *Server) replayFrom(ctx context.Context, from string) (event.Offset, error) {
	if from == "" {
		return 0, badQuery("from", from, "want an offset, a position, or a time")
	}
	offset, err := s.seek(ctx, from)
	if err != nil || isDigits(from) {
		return offset, err
	}
	return offset + 1, nil
}

// replayTo is the offset of the last event at an offset or position or time, or before.
func (s *Server) replayTo(ctx context.Context, to string) (event.Offset, error) {
	if lsn, err := parseLSN(to); err == nil {
		return s.journal.SeekLSN(ctx, lsn+1)
	}
	if t, err := time.Parse(time.RFC3339Nano, to); err == nil {
		return s.journal.SeekTime(ctx, t.Add(time.Microsecond))
	}
	return s.seek(ctx, to)
}

// replayProblem is the problem of a range that cannot be had.
func (s *Server) replayProblem(ctx context.Context, name, value string, err error) error {
	if already, ok := errors.AsType[*Problem](err); ok {
		for _, detail := range already.Errors {
			detail.Location = "query." + name
		}
		return already
	}
	if !errors.Is(err, journal.ErrTrimmed) {
		return s.journalProblem(ctx, value, err)
	}
	oldest, found, err := s.journal.Oldest(ctx)
	switch {
	case err != nil:
		return s.journalProblem(ctx, value, err)
	case !found:
		return problem(http.StatusGone, "the events of %s are not retained any more; the journal holds none", value)
	}
	return problem(http.StatusGone, "the events of %s are not retained any more; the oldest there is: %s", value, oldest)
}

// replays are those that were started here, the last one of each projector.
type replays struct {
	log     *slog.Logger
	ctx     context.Context
	cancel  context.CancelFunc
	running sync.WaitGroup

	mu          sync.Mutex
	byProjector map[string]*replay
}

func newReplays(log *slog.Logger) *replays {
	ctx, cancel := context.WithCancel(context.Background())
	return &replays{log: log, ctx: ctx, cancel: cancel, byProjector: map[string]*replay{}}
}

// stop ends those that run and waits for their end. None is started any more.
func (r *replays) stop() {
	r.cancel()
	r.mu.Lock()   // whoever is in start has added its goroutine
	r.mu.Unlock() //nolint:staticcheck // empty on purpose, see above
	r.running.Wait()
}

func (r *replays) last(projector string) *replay {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.byProjector[projector]
}

// start begins a replay; false when one through the projector runs, or the server stops.
func (r *replays) start(name string, p Projector, what projectors.ReplayRange) (*replay, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if last := r.byProjector[name]; r.ctx.Err() != nil || (last != nil && last.body().State == replayRunning) {
		return nil, false
	}
	b := &replay{state: replayBody{
		Projector: name, State: replayRunning, DryRun: what.DryRun, From: what.From, To: what.To, Started: time.Now().UTC(),
	}}
	r.byProjector[name] = b
	r.running.Go(func() {
		r.log.Info("replay started", "projector", name, "from", what.From, "to", what.To, "dry_run", what.DryRun)
		result, err := p.Replay(r.ctx, what, b.progress)
		b.finish(result, err)
		if err != nil {
			r.log.Warn("replay ended", "projector", name, "error", err)
			return
		}
		r.log.Info("replay finished", "projector", name, "events", result.Events, "documents", result.Documents,
			"deleted", result.Deleted, "parked", result.Parked)
	})
	return b, true
}

// replay is one replay through a projector.
type replay struct {
	mu    sync.Mutex
	state replayBody
}

func (b *replay) body() replayBody {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.state
}

func (b *replay) progress(sofar projectors.ReplayResult) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fill(sofar)
}

func (b *replay) fill(r projectors.ReplayResult) {
	s := &b.state
	s.Batches, s.BatchesTotal, s.Events, s.Touching = r.Batches, r.BatchesTotal, r.Events, r.Touching
	s.Documents, s.Deleted, s.Parked, s.Reconciled = r.Documents, r.Deleted, r.Parked, r.Reconciled
	if r.To != 0 {
		s.To = r.To
	}
}

func (b *replay) finish(result projectors.ReplayResult, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fill(result)
	b.state.State, b.state.Finished = replayDone, time.Now().UTC()
	if err == nil {
		return
	}
	b.state.State, b.state.Error = replayFailed, err.Error()
	if errors.Is(err, projectors.ErrNotRunning) {
		b.state.Error = "the projector is not running, or has no live generation yet; see: lanternist status"
	}
}
