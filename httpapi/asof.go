package httpapi

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/lanternist/lanternist/asof"
)

type asofInput struct {
	ViewInput
	At   string `query:"at" required:"true" maxLength:"96" doc:"The moment: a time with its zone, by the source's clock, or a position, as tokens have it. Of a time: what committed at or before it; of a position: what committed before it." example:"2026-01-31T12:00:00Z"`
	Into string `query:"into" required:"true" maxLength:"63" doc:"Name of the view that is made." example:"orders_last_tuesday"`
}

type asofOutput struct {
	Location string `header:"Location" doc:"Where to ask how far it is."`
	Body     asofBody
}

// asofBody is how far the making of a view as of a moment is.
type asofBody struct {
	View       string        `json:"view" doc:"That it is made of."`
	Name       string        `json:"name" doc:"That it is given."`
	At         string        `json:"at"`
	Checkpoint string        `json:"checkpoint" doc:"The copy of the mirror that is begun with."`
	State      JobState      `json:"state" enum:"running,done,failed"`
	Started    time.Time     `json:"started"`
	Finished   time.Time     `json:"finished,omitzero"`
	Unit       string        `json:"unit" doc:"What is counted: bytes of the checkpoint, batches of the journal, documents."`
	Done       int64         `json:"done"`
	Total      int64         `json:"total"`
	Result     *FrozenStatus `json:"result,omitempty" doc:"When it is done."`
	Error      string        `json:"error,omitempty"`
}

type dropOutput struct {
	Body struct {
		Dropped string `json:"dropped"`
	}
}

func (s *Server) registerAsOf(api huma.API) {
	const path = "/v1/views/{view}/asof"
	start := get("start-asof", path, "views", "Make a view of this one as it was at a moment, under a name of its own", 404, 409, 410, 422, 501)
	start.Method, start.DefaultStatus = http.MethodPost, http.StatusAccepted
	huma.Register(api, start, s.startAsOf)
	huma.Register(api, get("get-asof", path, "views", "How far the view as of a moment is that was begun last", 404), s.getAsOf)
	drop := get("drop-asof", path, "views", "Remove a view that was made as of a moment, named by its own name", 404, 409, 501)
	drop.Method = http.MethodDelete
	huma.Register(api, drop, s.dropAsOf)
}

const kindAsOf = "as-of"

// asofDetail is what the job tells beside how far it is. It is replaced, never changed.
type asofDetail struct {
	name, at, checkpoint string
	result               *FrozenStatus
}

func (s *Server) startAsOf(ctx context.Context, in *asofInput) (*asofOutput, error) {
	v, err := s.following(in.View, "asked for another moment")
	if err != nil {
		return nil, err
	}
	if s.asof == nil {
		return nil, problem(http.StatusNotImplemented, "this server cannot make views as of moments")
	}
	moment, err := asof.ParseMoment(in.At)
	if err != nil {
		return nil, badQuery("at", in.At, "%v", err)
	}
	if _, served := s.served.Load().byName[in.Into]; served {
		return nil, problem(http.StatusConflict, "there is a view %s already", in.Into)
	}
	plan, err := s.asof.Plan(ctx, v.Definition, moment, in.Into)
	if err != nil {
		return nil, s.asofProblem(ctx, in, err)
	}
	j, started := s.jobs.start(s.asofPlan(plan))
	if !started {
		return nil, problem(http.StatusConflict, "another view as of a moment is being made of view %s; see /v1/views/%s/asof", v.name(), v.name())
	}
	return &asofOutput{Location: "/v1/views/" + v.name() + "/asof", Body: asofState(j)}, nil
}

// asofPlan makes a view, and serves it when it is whole.
func (s *Server) asofPlan(plan *asof.Plan) jobPlan {
	detail := asofDetail{name: plan.Name, at: plan.Moment.String(), checkpoint: plan.Checkpoint().Name()}
	return jobPlan{
		kind: kindAsOf, subject: plan.View.Name(), unit: string(asof.Restoring), detail: detail,
		run: func(ctx context.Context, j *job) error {
			made, err := s.asof.Make(ctx, plan, func(p asof.Progress) {
				j.count(string(p.Phase))
				j.progress(p.Done, p.Total)
			})
			if err != nil {
				return err
			}
			v, err := NewFrozen(made)
			if err != nil {
				return err
			}
			if err := s.PutView(v); err != nil {
				return err
			}
			status := frozenStatus(&made.Record)
			detail.result, detail.checkpoint = &status, made.Checkpoint
			j.change(func(any) any { return detail })
			return nil
		},
	}
}

func asofState(j *job) asofBody {
	status, detail := j.look()
	d := detail.(asofDetail)
	return asofBody{
		View: status.Subject, Name: d.name, At: d.at, Checkpoint: d.checkpoint, State: status.State, Started: status.Started,
		Finished: status.Finished, Unit: status.Unit, Done: status.Done, Total: status.Total, Result: d.result, Error: status.Error,
	}
}

func (s *Server) getAsOf(_ context.Context, in *ViewInput) (*asofOutput, error) {
	v, err := s.view(in.View)
	if err != nil {
		return nil, err
	}
	j := s.jobs.get(kindAsOf, v.name())
	if j == nil {
		return nil, problem(http.StatusNotFound, "no view as of a moment was made of view %s since the daemon was started", v.name())
	}
	return &asofOutput{Body: asofState(j)}, nil
}

func (s *Server) dropAsOf(ctx context.Context, in *ViewInput) (*dropOutput, error) {
	if s.asof == nil {
		return nil, problem(http.StatusNotImplemented, "this server has no views as of moments")
	}
	if v, ok := s.served.Load().byName[in.View]; ok && v.frozen() == nil {
		return nil, problem(http.StatusConflict, "view %s is one of the configuration: it follows the source; only views as of a moment can be dropped", in.View)
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.MaxWait)
	defer cancel()
	err := s.asof.Drop(ctx, in.View, func() { s.DropView(in.View) })
	switch {
	case errors.Is(err, asof.ErrUnknown):
		return nil, problem(http.StatusNotFound, "%v", err)
	case errors.Is(err, asof.ErrBusy):
		return nil, problem(http.StatusConflict, "%v; try again when that has ended", err).retryAfter(time.Second)
	case err != nil:
		s.log.Warn("view as of a moment not removed", "view", in.View, "error", err)
		return nil, problem(http.StatusServiceUnavailable, "view %s is not shown any more, but what the sinks hold of it could not be removed; "+
			"try again, or it is removed at the next start", in.View).retryAfter(time.Second)
	}
	out := &dropOutput{}
	out.Body.Dropped = in.View
	return out, nil
}

// asofProblem is the problem of a moment that cannot be had.
func (s *Server) asofProblem(ctx context.Context, in *asofInput, err error) error {
	switch {
	case ctx.Err() != nil:
		return problem(statusClientGone, "the client has gone")
	case errors.Is(err, asof.ErrUnavailable):
		return problem(http.StatusGone, "%v", err)
	case errors.Is(err, asof.ErrFuture):
		return badQuery("at", in.At, "%v", err)
	case errors.Is(err, asof.ErrName):
		return problem(http.StatusConflict, "%v", err)
	}
	s.log.Warn("moment not looked up", "view", in.View, "at", in.At, "error", err)
	return problem(http.StatusServiceUnavailable, "journal or archive cannot be read now; see the log").retryAfter(time.Second)
}
