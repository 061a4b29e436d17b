package httpapi

import (
	"context"
	"errors"
	"net/http"
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
	State    JobState        `json:"state" enum:"running,done,failed"`
	Started  time.Time       `json:"started"`
	Finished time.Time       `json:"finished,omitzero"`
	Progress verify.Progress `json:"progress"`
	Result   *verify.Result  `json:"result,omitempty"`
	Error    string          `json:"error,omitempty"`
}

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
	v, err := s.following(in.View, "compared with what the source has now")
	if err != nil {
		return nil, err
	}
	if s.verify == nil {
		return nil, problem(http.StatusNotImplemented, "this server cannot compare documents")
	}
	o := verify.Options{Against: verify.Against(in.Against), Sample: in.Sample, Seed: in.Seed, Repair: in.Repair, Rate: in.Rate}
	j, started := s.jobs.start(s.verifyPlan(v.name(), o))
	if !started {
		return nil, problem(http.StatusConflict, "view %s is being verified; see /v1/views/%s/verify", v.name(), v.name())
	}
	return &verifyOutput{Location: "/v1/views/" + v.name() + "/verify", Body: verifyState(j)}, nil
}

func (s *Server) getVerify(_ context.Context, in *ViewInput) (*verifyOutput, error) {
	j, err := s.verification(in)
	if err != nil {
		return nil, err
	}
	return &verifyOutput{Body: verifyState(j)}, nil
}

func (s *Server) stopVerify(ctx context.Context, in *ViewInput) (*verifyOutput, error) {
	j, err := s.verification(in)
	if err != nil {
		return nil, err
	}
	j.cancel(errVerifyStopped)
	select {
	case <-j.ended:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	return &verifyOutput{Body: verifyState(j)}, nil
}

func (s *Server) verification(in *ViewInput) (*job, error) {
	v, err := s.view(in.View)
	if err != nil {
		return nil, err
	}
	j := s.jobs.get(kindVerify, v.name())
	if j == nil {
		return nil, problem(http.StatusNotFound, "view %s was not verified since the daemon was started", v.name())
	}
	return j, nil
}

const kindVerify = "verify"

var errVerifyStopped = errors.New("stopped by request")

// verifyDetail is what the job of a comparison tells beside how far it is. The result does not change any more.
type verifyDetail struct {
	progress verify.Progress
	result   *verify.Result
}

// verifyState is how far a comparison is.
func verifyState(j *job) verifyBody {
	status, detail := j.look()
	d := detail.(verifyDetail)
	return verifyBody{
		View: status.Subject, State: status.State, Started: status.Started, Finished: status.Finished,
		Progress: d.progress, Result: d.result, Error: status.Error,
	}
}

// verifyPlan compares the documents of a view.
func (s *Server) verifyPlan(view string, o verify.Options) jobPlan {
	return jobPlan{
		kind: kindVerify, subject: view, unit: "documents", detail: verifyDetail{},
		run: func(ctx context.Context, j *job) error {
			result, err := s.verify(ctx, view, o, func(p verify.Progress) {
				j.change(func(any) any { return verifyDetail{progress: p} })
				j.count(verifyUnit(p.Phase))
				j.progress(p.Done, p.Total)
			})
			j.change(func(detail any) any { return verifyDetail{detail.(verifyDetail).progress, result} })
			return err
		},
	}
}

// verifyUnit is what is counted in a phase.
func verifyUnit(p verify.Phase) string {
	if p == verify.Copying {
		return "rows"
	}
	return "documents"
}
