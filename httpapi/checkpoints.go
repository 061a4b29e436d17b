package httpapi

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/lanternist/lanternist/event"
	"github.com/lanternist/lanternist/mirror/checkpoint"
)

// CheckpointStatus tells of a stored copy of the mirror.
type CheckpointStatus struct {
	Name      string       `json:"name"`
	Offset    event.Offset `json:"offset" doc:"Of the last event that it has."`
	LSN       string       `json:"lsn" doc:"It has everything that committed before this position."`
	Committed time.Time    `json:"committed,omitzero" doc:"When the last transaction that it has committed, by the source's clock."`
	Made      time.Time    `json:"made"`
	Tables    int          `json:"tables" doc:"That it has all rows of."`
	Rows      int64        `json:"rows" doc:"About how many."`
	Bytes     int64        `json:"bytes" doc:"Of its files, those included that other checkpoints share."`
}

// CheckpointStatusOf tells of a copy.
func CheckpointStatusOf(m *checkpoint.Manifest) CheckpointStatus {
	s := CheckpointStatus{Name: m.Name(), Offset: m.Offset, LSN: m.LSN.String(), Made: m.Made, Bytes: m.Size()}
	if m.Last != nil {
		s.Committed = m.Last.CommitTime
	}
	for _, t := range m.Tables {
		if t.Complete {
			s.Tables++
			s.Rows += t.Rows
		}
	}
	return s
}

// CheckpointsStatus tells of the copies of the mirror without asking their store.
type CheckpointsStatus struct {
	Last  *CheckpointStatus `json:"last,omitempty" doc:"The newest, as far as is known."`
	Error string            `json:"error,omitempty" doc:"Why the last attempt made none."`
}

type checkpointsOutput struct {
	Body checkpointsBody
}

type checkpointsBody struct {
	Checkpoints []CheckpointStatus `json:"checkpoints" doc:"Ordered by offset."`
	Damaged     []string           `json:"damaged,omitempty" doc:"What is wrong with those that cannot be read."`
}

type checkpointOutput struct {
	Body checkpointBody
}

type checkpointBody struct {
	Job
	Result *CheckpointStatus `json:"result,omitempty" doc:"When it is done."`
}

const (
	kindCheckpoint = "checkpoint"
	mirrorSubject  = "mirror"
)

func (s *Server) registerCheckpoints(api huma.API) {
	const path = "/v1/mirror/checkpoints"
	huma.Register(api, get("list-checkpoints", path, "operation", "The stored copies of the mirror", 501, 503), s.listCheckpoints)
	start := get("make-checkpoint", path, "operation", "Make a copy of the mirror now, and store it", 409, 501)
	start.Method, start.DefaultStatus = http.MethodPost, http.StatusAccepted
	huma.Register(api, start, s.makeCheckpoint)
	huma.Register(api, get("get-checkpoint", path+"/making", "operation", "How far the copy is that was asked for last", 404),
		func(context.Context, *struct{}) (*checkpointOutput, error) {
			j := s.jobs.get(kindCheckpoint, mirrorSubject)
			if j == nil {
				return nil, problem(http.StatusNotFound, "no checkpoint was asked for since the daemon was started")
			}
			return &checkpointOutput{Body: checkpointState(j)}, nil
		})
}

func checkpointState(j *job) checkpointBody {
	status, detail := j.look()
	result, _ := detail.(*CheckpointStatus)
	return checkpointBody{Job: status, Result: result}
}

func noArchive() *Problem {
	return problem(http.StatusNotImplemented, "no archive is configured, so mirror checkpoints have no place; add: archive: {url: file://data/archive}")
}

func (s *Server) listCheckpoints(ctx context.Context, _ *struct{}) (*checkpointsOutput, error) {
	if s.keeper == nil {
		return nil, noArchive()
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.MaxWait)
	defer cancel()
	list, err := s.keeper.List(ctx)
	if err != nil {
		s.log.Warn("mirror checkpoints not listed", "error", err)
		return nil, problem(http.StatusServiceUnavailable, "the archive cannot be read now; see the log").retryAfter(time.Second)
	}
	out := &checkpointsOutput{Body: checkpointsBody{Checkpoints: []CheckpointStatus{}}}
	for _, m := range list.Manifests {
		out.Body.Checkpoints = append(out.Body.Checkpoints, CheckpointStatusOf(m))
	}
	for _, d := range list.Damaged {
		out.Body.Damaged = append(out.Body.Damaged, d.Error())
	}
	return out, nil
}

func (s *Server) makeCheckpoint(context.Context, *struct{}) (*checkpointOutput, error) {
	if s.keeper == nil {
		return nil, noArchive()
	}
	j, started := s.jobs.start(jobPlan{
		kind: kindCheckpoint, subject: mirrorSubject, unit: "bytes",
		run: func(ctx context.Context, j *job) error {
			stored, err := s.keeper.Make(ctx, j.progress)
			if err == nil {
				status := CheckpointStatusOf(stored.Manifest)
				j.change(func(any) any { return &status })
			}
			return err
		},
	})
	if !started {
		return nil, problem(http.StatusConflict, "a checkpoint is being made; see /v1/mirror/checkpoints/making")
	}
	return &checkpointOutput{Body: checkpointState(j)}, nil
}

// checkpoints is what is known of the copies; nil when there is no place for them.
func (s *Server) checkpoints() *CheckpointsStatus {
	if s.keeper == nil {
		return nil
	}
	k := s.keeper.Status()
	status := &CheckpointsStatus{Error: k.Error}
	if k.Last != nil {
		last := CheckpointStatusOf(k.Last)
		status.Last = &last
	}
	return status
}
