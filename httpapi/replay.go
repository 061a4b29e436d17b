package httpapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
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
	State        JobState     `json:"state" enum:"running,done,failed"`
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
	j, started := s.jobs.start(replayPlan(in.Projector, p, what))
	if !started {
		return nil, problem(http.StatusConflict, "a replay through %s is under way; see %s", in.Projector, replayPath(in.Projector))
	}
	return &replayOutput{Location: replayPath(in.Projector), Body: replayState(j)}, nil
}

func replayPath(projector string) string { return "/v1/projectors/" + projector + "/replay" }

func (s *Server) getReplay(_ context.Context, in *ProjectorInput) (*replayOutput, error) {
	if _, err := s.projector(in.Projector); err != nil {
		return nil, err
	}
	j := s.jobs.get(kindReplay, in.Projector)
	if j == nil {
		return nil, problem(http.StatusNotFound, "no replay through %s was started since the daemon was", in.Projector)
	}
	return &replayOutput{Body: replayState(j)}, nil
}

// replayRange reads from= and to=. What the journal no longer holds is refused here, before anything is started.
func (s *Server) replayRange(ctx context.Context, in *replayInput) (what projectors.ReplayRange, err error) {
	what.DryRun, what.Since, what.Until = in.DryRun, asTime(in.From), asTime(in.To)
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

// asTime is a bound that is given as a time; zero when it is not.
func asTime(text string) time.Time {
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return time.Time{}
	}
	return t.Truncate(time.Microsecond)
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
	hole := ""
	if trimmed, ok := errors.AsType[*journal.TrimmedError](err); ok && trimmed.ArchiveLast != 0 {
		hole = fmt.Sprintf("; the archive has batches %d to %d, but not those from there to %d, where the journal begins",
			trimmed.ArchiveFirst, trimmed.ArchiveLast, trimmed.First)
	}
	oldest, found, err := s.journal.Oldest(ctx)
	switch {
	case err != nil:
		return s.journalProblem(ctx, value, err)
	case !found:
		return problem(http.StatusGone, "the events of %s are not retained any more; the journal holds none%s", value, hole)
	}
	return problem(http.StatusGone, "the events of %s are not retained any more; the oldest there is: %s%s", value, oldest, hole)
}

const kindReplay = "replay"

// replayDetail is what the job of a replay tells beside how far it is.
type replayDetail struct {
	dryRun bool
	result projectors.ReplayResult
	err    string
}

// replayState is how far a replay is.
func replayState(j *job) replayBody {
	status, detail := j.look()
	d := detail.(replayDetail)
	r := d.result
	return replayBody{
		Projector: status.Subject, State: status.State, DryRun: d.dryRun, Started: status.Started, Finished: status.Finished,
		From: r.From, To: r.To, Batches: r.Batches, BatchesTotal: r.BatchesTotal, Events: r.Events, Touching: r.Touching,
		Documents: r.Documents, Deleted: r.Deleted, Parked: r.Parked, Reconciled: r.Reconciled, Error: d.err,
	}
}

// replayPlan runs a range again through a projector.
func replayPlan(name string, p Replayer, what projectors.ReplayRange) jobPlan {
	asked := replayDetail{dryRun: what.DryRun, result: projectors.ReplayResult{From: what.From, To: what.To}}
	return jobPlan{
		kind: kindReplay, subject: name, unit: "batches", detail: asked,
		run: func(ctx context.Context, j *job) error {
			result, err := p.Replay(ctx, what, func(sofar projectors.ReplayResult) { j.replayed(sofar, nil) })
			j.replayed(result, err)
			return err
		},
	}
}

// replayed notes how far a replay has come, and why it did not come to its end.
func (j *job) replayed(result projectors.ReplayResult, err error) {
	j.change(func(detail any) any {
		d := detail.(replayDetail)
		result.From = d.result.From
		if result.To == 0 {
			result.To = d.result.To
		}
		d.result = result
		switch {
		case errors.Is(err, projectors.ErrNotRunning):
			d.err = "the projector is not running, or has no live generation yet; see: lanternist status"
		case err != nil:
			d.err = err.Error()
		}
		return d
	})
	j.progress(result.Batches, result.BatchesTotal)
}
