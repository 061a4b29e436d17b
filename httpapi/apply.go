package httpapi

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/lanternist/lanternist/plan"
)

// Changes is what the API needs of a daemon whose configuration may change while it runs.
type Changes interface {
	// Deployed is what is captured and shown now.
	Deployed() *plan.Deployment
	// Prepare reads the configuration again and says what it asks for. Nothing is changed. What is wrong is said all at once, in a
	// RefusedError.
	Prepare(ctx context.Context, o plan.Options) (*Change, error)
}

// Change is what a configuration asks for, ready to be carried out.
type Change struct {
	Plan *plan.Plan
	// Run carries it out. One that ended early goes on where it was when what is left is prepared and run again.
	Run func(ctx context.Context, steps func([]Step)) error
}

// Step is one part of carrying a change out, and how far it is.
type Step struct {
	Action  plan.Action `json:"action" enum:"add,rebuild,remove"`
	Kind    string      `json:"kind" enum:"table,index,projector"`
	Subject string      `json:"subject" doc:"The table or projector."`
	State   StepState   `json:"state" enum:"waiting,running,done,failed"`
	Done    int64       `json:"done" doc:"Rows or documents."`
	Total   int64       `json:"total" doc:"About how many there are; 0 while it is not known."`
	Error   string      `json:"error,omitempty" doc:"Why it failed, or what is left to be done."`
}

// StepState is what has become of a step.
type StepState string

// The states of a step.
const (
	StepWaiting StepState = "waiting"
	StepRunning StepState = "running"
	StepDone    StepState = "done"
	StepFailed  StepState = "failed"
)

// RefusedError says everything that keeps a configuration from being carried out.
type RefusedError struct {
	Problems []string
}

func (e *RefusedError) Error() string { return strings.Join(e.Problems, "\n") }

// ErrApplying is returned by Apply when a change is being carried out.
var ErrApplying = errors.New("a change is being carried out; see /v1/apply")

type deploymentOutput struct {
	Body *plan.Deployment
}

type applyInput struct {
	DryRun   bool `query:"dry_run" doc:"Only say what would be done."`
	KeepData bool `query:"keep_data" doc:"Leave the documents of views that are removed in the sinks."`
}

type applyOutput struct {
	Status   int
	Location string `header:"Location" doc:"Where to ask how far it is."`
	Body     applyBody
}

// applyBody is what is done, and how far it is.
type applyBody struct {
	State    string     `json:"state" enum:"planned,running,done,failed"`
	Started  time.Time  `json:"started,omitzero"`
	Finished time.Time  `json:"finished,omitzero"`
	Plan     *plan.Plan `json:"plan"`
	Steps    []Step     `json:"steps"`
	Error    string     `json:"error,omitempty"`
}

func (s *Server) registerApply(api huma.API) {
	huma.Register(api, get("get-deployment", "/v1/deployment", "operation", "What is captured and shown now", 501), s.getDeployment)
	start := get("start-apply", "/v1/apply", "operation", "Read the configuration again and carry out what has changed: tables, views and their definitions", 409, 422, 501)
	start.Method, start.DefaultStatus = http.MethodPost, http.StatusAccepted
	huma.Register(api, start, s.startApply)
	huma.Register(api, get("get-apply", "/v1/apply", "operation", "How far the change that was started last is", 404), s.getApply)
}

func (s *Server) getDeployment(context.Context, *struct{}) (*deploymentOutput, error) {
	if s.changes == nil {
		return nil, problem(http.StatusNotImplemented, "this server's configuration does not change")
	}
	return &deploymentOutput{Body: s.changes.Deployed()}, nil
}

func (s *Server) startApply(ctx context.Context, in *applyInput) (*applyOutput, error) {
	if s.changes == nil {
		return nil, problem(http.StatusNotImplemented, "this server's configuration does not change")
	}
	body, err := s.apply(ctx, plan.Options{KeepData: in.KeepData}, in.DryRun)
	var refused *RefusedError
	switch {
	case errors.As(err, &refused):
		p := problem(http.StatusUnprocessableEntity, "nothing was changed: the configuration has %d problems", len(refused.Problems))
		for _, text := range refused.Problems {
			p.Errors = append(p.Errors, &huma.ErrorDetail{Location: "configuration", Message: text})
		}
		return nil, p
	case errors.Is(err, ErrApplying):
		return nil, problem(http.StatusConflict, "%v", err)
	case err != nil:
		s.log.Error("configuration not looked at", "error", err)
		return nil, problem(http.StatusServiceUnavailable, "nothing was changed: %v", err).retryAfter(time.Second)
	case in.DryRun:
		return &applyOutput{Status: http.StatusOK, Body: *body}, nil
	}
	return &applyOutput{Status: http.StatusAccepted, Location: "/v1/apply", Body: *body}, nil
}

func (s *Server) getApply(context.Context, *struct{}) (*applyOutput, error) {
	j := s.jobs.get(kindApply, applySubject)
	if j == nil {
		return nil, problem(http.StatusNotFound, "no change was carried out since the daemon was started")
	}
	return &applyOutput{Status: http.StatusOK, Body: applyState(j)}, nil
}

const (
	kindApply    = "apply"
	applySubject = "configuration"
)

// Apply has the configuration read again, and what has changed carried out. It returns when that has begun. The error is a
// RefusedError when something is wrong with the configuration, or ErrApplying; then nothing has begun.
func (s *Server) Apply(ctx context.Context, o plan.Options) error {
	if s.changes == nil {
		return errors.New("this server's configuration does not change")
	}
	_, err := s.apply(ctx, o, false)
	return err
}

func (s *Server) apply(ctx context.Context, o plan.Options, dryRun bool) (*applyBody, error) {
	change, err := s.changes.Prepare(ctx, o)
	if err != nil {
		return nil, err
	}
	if dryRun {
		return &applyBody{State: "planned", Plan: change.Plan, Steps: []Step{}}, nil
	}
	j, started := s.jobs.start(jobPlan{
		kind: kindApply, subject: applySubject, unit: "steps", detail: applyDetail{plan: change.Plan, steps: []Step{}},
		run: func(ctx context.Context, j *job) error {
			return change.Run(ctx, func(steps []Step) {
				j.change(func(any) any { return applyDetail{change.Plan, steps} })
				done := int64(0)
				for _, s := range steps {
					if s.State == StepDone {
						done++
					}
				}
				j.progress(done, int64(len(steps)))
			})
		},
	})
	if !started {
		return nil, ErrApplying
	}
	body := applyState(j)
	return &body, nil
}

// applyDetail is what the job tells beside how far it is. It is replaced as a whole.
type applyDetail struct {
	plan  *plan.Plan
	steps []Step
}

func applyState(j *job) applyBody {
	status, detail := j.look()
	d := detail.(applyDetail)
	return applyBody{
		State: string(status.State), Started: status.Started, Finished: status.Finished, Plan: d.plan, Steps: d.steps, Error: status.Error,
	}
}
