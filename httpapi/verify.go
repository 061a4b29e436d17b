package httpapi

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/lanternist/lanternist/verify"
)

// Verify compares a view's documents in all its sinks with what they should be. See verify.Run.
type Verify func(ctx context.Context, view string, o verify.Options, progress func(verify.Progress)) (*verify.Result, error)

type verifyInput struct {
	ViewInput
	Against string `query:"against" enum:"mirror,source" default:"mirror" doc:"What documents are compared with: what the mirror yields, or a copy of the view's tables taken from the source."`
	Sample  int    `query:"sample" minimum:"0" maximum:"1000000" doc:"How many rows of the root table, chosen at random. Default: all, and documents that should not be there."`
	Seed    uint64 `query:"seed" doc:"Chooses the sample. Default: at random."`
	Repair  bool   `query:"repair" doc:"Write or delete the documents that are not as they should be."`
	Rate    int    `query:"rate" minimum:"0" maximum:"10000000" doc:"Documents per second, at most. Default 5,000."`
}

type verifyOutput struct {
	Location string `header:"Location" doc:"Where to ask how far it is."`
	Body     verifyBody
}

// verifyBody is how far a comparison is, and what it found.
type verifyBody struct {
	View     string          `json:"view"`
	State    verifyState     `json:"state" enum:"running,done,failed"`
	Started  time.Time       `json:"started"`
	Finished time.Time       `json:"finished,omitzero"`
	Progress verify.Progress `json:"progress"`
	Result   *verify.Result  `json:"result,omitempty"`
	Error    string          `json:"error,omitempty"`
}

type verifyState string

const (
	verifyRunning verifyState = "running"
	verifyDone    verifyState = "done"
	verifyFailed  verifyState = "failed"
)

func (s *Server) registerVerify(api huma.API) {
	start := get("start-verify", "/v1/views/{view}/verify", "views", "Compare the documents in all sinks with what they should be", 404, 409, 501)
	start.Method, start.DefaultStatus = http.MethodPost, http.StatusAccepted
	huma.Register(api, start, s.startVerify)
	stop := get("stop-verify", "/v1/views/{view}/verify", "views", "End the comparison that runs", 404)
	stop.Method = http.MethodDelete
	huma.Register(api, stop, s.stopVerify)
	huma.Register(api, get("get-verify", "/v1/views/{view}/verify", "views", "How far the comparison that was started last is, and what it found", 404), s.getVerify)
}

func (s *Server) startVerify(_ context.Context, in *verifyInput) (*verifyOutput, error) {
	v, err := s.view(in.View)
	if err != nil {
		return nil, err
	}
	if s.verify == nil {
		return nil, problem(http.StatusNotImplemented, "this server cannot compare documents")
	}
	o := verify.Options{Against: verify.Against(in.Against), Sample: in.Sample, Seed: in.Seed, Repair: in.Repair, Rate: in.Rate}
	r, started := s.verifies.start(v.name(), func(ctx context.Context, progress func(verify.Progress)) (*verify.Result, error) {
		return s.verify(ctx, v.name(), o, progress)
	})
	if !started {
		return nil, problem(http.StatusConflict, "view %s is being verified; see /v1/views/%s/verify", v.name(), v.name())
	}
	return &verifyOutput{Location: "/v1/views/" + v.name() + "/verify", Body: r.body()}, nil
}

func (s *Server) getVerify(_ context.Context, in *ViewInput) (*verifyOutput, error) {
	r, err := s.verification(in)
	if err != nil {
		return nil, err
	}
	return &verifyOutput{Body: r.body()}, nil
}

func (s *Server) stopVerify(ctx context.Context, in *ViewInput) (*verifyOutput, error) {
	r, err := s.verification(in)
	if err != nil {
		return nil, err
	}
	r.cancel(errVerifyStopped)
	select {
	case <-r.ended:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	return &verifyOutput{Body: r.body()}, nil
}

func (s *Server) verification(in *ViewInput) (*verification, error) {
	v, err := s.view(in.View)
	if err != nil {
		return nil, err
	}
	r := s.verifies.last(v.name())
	if r == nil {
		return nil, problem(http.StatusNotFound, "view %s was not verified since the daemon was started", v.name())
	}
	return r, nil
}

var (
	errVerifyStopped = errors.New("stopped by request")
	errServerStops   = errors.New("the daemon is stopping")
)

// verifications are the comparisons that were started here, the last one of each view.
type verifications struct {
	log     *slog.Logger
	running sync.WaitGroup

	mu      sync.Mutex
	stopped bool
	byView  map[string]*verification
}

func newVerifications(log *slog.Logger) *verifications {
	return &verifications{log: log, byView: map[string]*verification{}}
}

// stop ends those that run and waits for their end. None is started any more.
func (r *verifications) stop() {
	r.mu.Lock()
	r.stopped = true
	for _, b := range r.byView {
		b.cancel(errServerStops)
	}
	r.mu.Unlock()
	r.running.Wait()
}

func (r *verifications) last(view string) *verification {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.byView[view]
}

type compareFunc func(ctx context.Context, progress func(verify.Progress)) (*verify.Result, error)

// start begins a comparison; false when one of the view runs, or the server stops.
func (r *verifications) start(view string, compare compareFunc) (*verification, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if last := r.byView[view]; r.stopped || (last != nil && last.body().State == verifyRunning) {
		return nil, false
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	b := &verification{cancel: cancel, ended: make(chan struct{}), state: verifyBody{View: view, State: verifyRunning, Started: time.Now().UTC()}}
	r.byView[view] = b
	r.running.Go(func() {
		defer close(b.ended)
		defer cancel(nil)
		result, err := compare(ctx, b.progress)
		b.finish(result, err)
		if err != nil {
			r.log.Warn("verification ended", "view", view, "error", err)
		}
	})
	return b, true
}

// verification is one comparison of a view.
type verification struct {
	cancel context.CancelCauseFunc
	ended  chan struct{}

	mu    sync.Mutex
	state verifyBody
}

// body is a copy of the state. Its result does not change any more.
func (b *verification) body() verifyBody {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.state
}

func (b *verification) progress(p verify.Progress) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.state.Progress = p
}

func (b *verification) finish(result *verify.Result, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.state.State, b.state.Result, b.state.Finished = verifyDone, result, time.Now().UTC()
	if err != nil {
		b.state.State, b.state.Error = verifyFailed, err.Error()
	}
}
