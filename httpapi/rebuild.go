package httpapi

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/lanternist/lanternist/projectors"
)

// ViewInput names a view.
type ViewInput struct {
	View string `path:"view" doc:"Name of the view."`
}

type rebuildInput struct {
	ViewInput
	Sink string `query:"sink" enum:"cache,search" doc:"Only in this sink. Default: in each sink that the view is in."`
}

type rebuildOutput struct {
	Location string `header:"Location" doc:"Where to ask how far it is."`
	Body     rebuildBody
}

// rebuildBody is how far a rebuild or rollback is.
type rebuildBody struct {
	View     string                 `json:"view"`
	State    rebuildState           `json:"state" enum:"running,done,failed"`
	Started  time.Time              `json:"started"`
	Finished time.Time              `json:"finished,omitzero"`
	Sinks    map[string]sinkRebuild `json:"sinks"`
}

type sinkRebuild struct {
	State rebuildState `json:"state" enum:"running,done,failed"`
	Done  int64        `json:"done" doc:"Documents composed; in a rollback batches of the journal read."`
	Total int64        `json:"total" doc:"About how many there are."`
	Error string       `json:"error,omitempty"`
}

type rebuildState string

const (
	rebuildRunning rebuildState = "running"
	rebuildDone    rebuildState = "done"
	rebuildFailed  rebuildState = "failed"
)

func (s *Server) registerRebuild(api huma.API) {
	start := get("start-rebuild", "/v1/views/{view}/rebuild", "views", "Build the view anew and promote it, while the live generation goes on serving", 404, 409)
	start.Method, start.DefaultStatus = http.MethodPost, http.StatusAccepted
	huma.Register(api, start, s.startRebuild)
	huma.Register(api, get("get-rebuild", "/v1/views/{view}/rebuild", "views", "How far the rebuild that was started last is", 404), s.getRebuild)
}

func (s *Server) startRebuild(_ context.Context, in *rebuildInput) (*rebuildOutput, error) {
	return s.startChange(in, changeRebuild)
}

func (s *Server) getRebuild(_ context.Context, in *ViewInput) (*rebuildOutput, error) {
	return s.getChange(in, changeRebuild)
}

// change is a way to send readers to another generation. Its name is in the path.
type change string

const (
	changeRebuild  change = "rebuild"
	changeRollback change = "rollback"
)

// run has a projector make the change.
func (c change) run(ctx context.Context, p Projector, progress projectors.Progress) error {
	if c == changeRollback {
		return p.Rollback(ctx, progress)
	}
	return p.Rebuild(ctx, progress)
}

func (s *Server) startChange(in *rebuildInput, kind change) (*rebuildOutput, error) {
	v, err := s.view(in.View)
	if err != nil {
		return nil, err
	}
	targets := v.projectors()
	if in.Sink != "" {
		p, ok := targets[in.Sink]
		if !ok {
			return nil, badQuery("sink", in.Sink, "the view is not in this sink")
		}
		targets = map[string]Projector{in.Sink: p}
	}
	r, started := s.rebuilds.start(v.name(), kind, targets)
	if !started {
		return nil, problem(http.StatusConflict, "view %s is being rebuilt or rolled back; see /v1/views/%s/rebuild and /rollback", v.name(), v.name())
	}
	return &rebuildOutput{Location: "/v1/views/" + v.name() + "/" + string(kind), Body: r.body()}, nil
}

func (s *Server) getChange(in *ViewInput, kind change) (*rebuildOutput, error) {
	v, err := s.view(in.View)
	if err != nil {
		return nil, err
	}
	r := s.rebuilds.last(v.name(), kind)
	if r == nil {
		return nil, problem(http.StatusNotFound, "no %s of view %s was started since the daemon was", kind, v.name())
	}
	return &rebuildOutput{Body: r.body()}, nil
}

// rebuilds are those that were started here, the last one of each view and kind.
type rebuilds struct {
	log     *slog.Logger
	ctx     context.Context
	cancel  context.CancelFunc
	running sync.WaitGroup

	mu     sync.Mutex
	byView map[string]map[change]*rebuild
}

func newRebuilds(log *slog.Logger) *rebuilds {
	ctx, cancel := context.WithCancel(context.Background())
	return &rebuilds{log: log, ctx: ctx, cancel: cancel, byView: map[string]map[change]*rebuild{}}
}

// stop ends those that run and waits for their end. None is started any more.
func (r *rebuilds) stop() {
	r.cancel()
	r.mu.Lock()   // whoever is in start has added its goroutines
	r.mu.Unlock() //nolint:staticcheck // empty on purpose, see above
	r.running.Wait()
}

func (r *rebuilds) last(view string, kind change) *rebuild {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.byView[view][kind]
}

// start begins a rebuild or rollback; false when one of the view runs, or the server stops.
func (r *rebuilds) start(view string, kind change, targets map[string]Projector) (*rebuild, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ctx.Err() != nil {
		return nil, false
	}
	for _, last := range r.byView[view] {
		if last.body().State == rebuildRunning {
			return nil, false
		}
	}
	b := &rebuild{state: rebuildBody{View: view, State: rebuildRunning, Started: time.Now().UTC(), Sinks: map[string]sinkRebuild{}}}
	for sink := range targets {
		b.state.Sinks[sink] = sinkRebuild{State: rebuildRunning}
	}
	if r.byView[view] == nil {
		r.byView[view] = map[change]*rebuild{}
	}
	r.byView[view][kind] = b
	for sink, p := range targets {
		r.running.Go(func() {
			err := kind.run(r.ctx, p, func(done, total int64) { b.progress(sink, done, total) })
			b.finish(sink, err)
			if err != nil {
				r.log.Warn(string(kind)+" ended", "view", view, "sink", sink, "error", err)
			}
		})
	}
	return b, true
}

// rebuild is one rebuild or rollback of a view.
type rebuild struct {
	mu    sync.Mutex
	state rebuildBody
}

// body is a copy of the state.
func (b *rebuild) body() rebuildBody {
	b.mu.Lock()
	defer b.mu.Unlock()
	copied := b.state
	copied.Sinks = map[string]sinkRebuild{}
	for sink, state := range b.state.Sinks {
		copied.Sinks[sink] = state
	}
	return copied
}

func (b *rebuild) progress(sink string, done, total int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	state := b.state.Sinks[sink]
	state.Done, state.Total = done, total
	b.state.Sinks[sink] = state
}

// finish notes the end in one sink, and that of the whole when it was the last.
func (b *rebuild) finish(sink string, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	state := b.state.Sinks[sink]
	state.State = rebuildDone
	if err != nil {
		state.State, state.Error = rebuildFailed, err.Error()
		if errors.Is(err, projectors.ErrNotRunning) {
			state.Error = "the projector is not running, or has no live generation yet"
		}
	}
	b.state.Sinks[sink] = state
	whole := rebuildDone
	for _, s := range b.state.Sinks {
		switch s.State {
		case rebuildRunning:
			return
		case rebuildFailed:
			whole = rebuildFailed
		}
	}
	b.state.State, b.state.Finished = whole, time.Now().UTC()
}
