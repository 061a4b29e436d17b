package httpapi

import (
	"context"
	"errors"
	"fmt"
	"maps"
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
	State    JobState               `json:"state" enum:"running,done,failed"`
	Started  time.Time              `json:"started"`
	Finished time.Time              `json:"finished,omitzero"`
	Sinks    map[string]sinkRebuild `json:"sinks"`
}

type sinkRebuild struct {
	State JobState `json:"state" enum:"running,done,failed"`
	Done  int64    `json:"done" doc:"Documents composed; in a rollback batches of the journal read."`
	Total int64    `json:"total" doc:"About how many there are."`
	Step  string   `json:"step,omitempty" doc:"What it is doing, while it runs: creating, filling, saving the checkpoint, opening, catching up, verifying, preparing the promotion, handing over, saving the live checkpoint, promoting, adopting letters, releasing the journal, retiring."`
	Error string   `json:"error,omitempty"`
}

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

// change is a way to send readers to another generation, or to see to it that there is no other. Its name is in the path, and that of the kind of job.
type change string

const (
	changeRebuild  change = "rebuild"
	changeRollback change = "rollback"
	changeRetire   change = "retire"
)

// unit is what is counted meanwhile.
func (c change) unit() string {
	switch c {
	case changeRollback:
		return "batches"
	case changeRetire:
		return "generations"
	}
	return "documents"
}

// run has a projector make the change.
func (c change) run(ctx context.Context, p Projector, progress projectors.Progress) error {
	switch c {
	case changeRollback:
		return p.Rollback(ctx, progress)
	case changeRetire:
		return p.Retire(ctx, progress)
	}
	return p.Rebuild(ctx, progress)
}

func (s *Server) startChange(in *rebuildInput, kind change) (*rebuildOutput, error) {
	v, err := s.following(in.View, "rebuilt or rolled back")
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
	j, started := s.jobs.start(kind.plan(v.name(), targets))
	if !started {
		return nil, problem(http.StatusConflict, "view %s is being rebuilt or rolled back; see /v1/views/%s/rebuild and /rollback", v.name(), v.name())
	}
	return &rebuildOutput{Location: "/v1/views/" + v.name() + "/" + string(kind), Body: rebuildState(j, targets)}, nil
}

func (s *Server) getChange(in *ViewInput, kind change) (*rebuildOutput, error) {
	v, err := s.view(in.View)
	if err != nil {
		return nil, err
	}
	j := s.jobs.get(string(kind), v.name())
	if j == nil {
		return nil, problem(http.StatusNotFound, "no %s of view %s was started since the daemon was", kind, v.name())
	}
	return &rebuildOutput{Body: rebuildState(j, v.projectors())}, nil
}

// sinkStates are how far a rebuild or rollback is in each sink: the detail of its job.
type sinkStates map[string]sinkRebuild

// rebuildState is how far a rebuild or rollback is.
func rebuildState(j *job, targets map[string]Projector) rebuildBody {
	status, detail := j.look()
	sinks := maps.Clone(detail.(sinkStates))
	for sink, state := range sinks {
		p := targets[sink]
		if state.State != JobRunning || p == nil {
			continue
		}
		if build := p.Status().Build; build != nil {
			state.Step = string(build.Step)
			sinks[sink] = state
		}
	}
	return rebuildBody{View: status.Subject, State: status.State, Started: status.Started, Finished: status.Finished, Sinks: sinks}
}

// plan makes the change in all the given sinks at once.
func (c change) plan(view string, targets map[string]Projector) jobPlan {
	sinks := sinkStates{}
	for sink := range targets {
		sinks[sink] = sinkRebuild{State: JobRunning}
	}
	return jobPlan{
		kind: string(c), subject: view, besides: []string{string(changeRebuild), string(changeRollback), string(changeRetire)}, unit: c.unit(), detail: sinks,
		run: func(ctx context.Context, j *job) error {
			errs := make(chan error, len(targets))
			var running sync.WaitGroup
			for sink, p := range targets {
				running.Go(func() {
					err := c.run(ctx, p, func(done, total int64) { j.progressIn(sink, done, total) })
					j.finishIn(sink, err)
					if err != nil {
						errs <- fmt.Errorf("in %s: %w", sink, err)
					}
				})
			}
			running.Wait()
			close(errs)
			var all error
			for err := range errs {
				all = errors.Join(all, err)
			}
			return all
		},
	}
}

// progressIn notes how far the change is in one sink, and with that in all of them.
func (j *job) progressIn(sink string, done, total int64) {
	j.changeIn(sink, func(state *sinkRebuild) { state.Done, state.Total = done, total })
}

// finishIn notes the end in one sink.
func (j *job) finishIn(sink string, err error) {
	j.changeIn(sink, func(state *sinkRebuild) {
		state.State = JobDone
		if err != nil {
			state.State, state.Error = JobFailed, err.Error()
			if errors.Is(err, projectors.ErrNotRunning) {
				state.Error = "the projector is not running, or has no live generation yet"
			}
		}
	})
}

func (j *job) changeIn(sink string, edit func(*sinkRebuild)) {
	var done, total int64
	j.change(func(detail any) any {
		sinks := maps.Clone(detail.(sinkStates))
		state := sinks[sink]
		edit(&state)
		sinks[sink] = state
		for _, s := range sinks {
			done, total = done+s.Done, total+s.Total
		}
		return sinks
	})
	j.progress(done, total)
}
