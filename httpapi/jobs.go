package httpapi

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/lanternist/lanternist/internal/meter"
)

// Job is a long piece of work, and how far it is.
type Job struct {
	Kind     string    `json:"kind" doc:"What is done: load, build, rebuild, rollback, replay, verify, …"`
	Subject  string    `json:"subject" doc:"What it is done to: a view, a projector, …"`
	State    JobState  `json:"state" enum:"running,done,failed"`
	Started  time.Time `json:"started"`
	Finished time.Time `json:"finished,omitzero"`
	Unit     string    `json:"unit" doc:"What is counted: documents, batches, rows, …"`
	meter.Reading
	Error string `json:"error,omitempty"`
}

// JobState is what has become of a job.
type JobState string

// The states of a job.
const (
	JobRunning JobState = "running"
	JobDone    JobState = "done"
	JobFailed  JobState = "failed"
)

// errServerStops is the cause of a job's context when the server stops.
var errServerStops = errors.New("the daemon is stopping")

// maxJobs is how many jobs that have ended are remembered at most.
const maxJobs = 256

// jobs are the long pieces of work that were started here: of each kind and subject the last one. They outlive the request
// that started them, and end when the server stops. Its methods are safe for concurrent use.
type jobs struct {
	log     *slog.Logger
	running sync.WaitGroup

	mu      sync.Mutex
	stopped bool
	last    map[jobName]*job
}

type jobName struct{ kind, subject string }

func newJobs(log *slog.Logger) *jobs { return &jobs{log: log, last: map[jobName]*job{}} }

// jobPlan is a job to be started.
type jobPlan struct {
	kind, subject string
	// besides are other kinds of which none may run on the same subject meanwhile. One of its own kind never may.
	besides []string
	unit    string
	// detail is what only this kind of job tells of itself, if anything. It is replaced as a whole, never changed.
	detail any
	// run does the work. The job is done when it returns, and failed when with an error.
	run func(ctx context.Context, j *job) error
}

// start begins a job. It is false when one that it excludes runs, or the server stops.
func (r *jobs) start(plan jobPlan) (*job, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stopped {
		return nil, false
	}
	for _, kind := range append(plan.besides, plan.kind) {
		if other := r.last[jobName{kind, plan.subject}]; other != nil && other.status().State == JobRunning {
			return nil, false
		}
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	j := &job{cancel: cancel, ended: make(chan struct{}), detail: plan.detail, state: Job{
		Kind: plan.kind, Subject: plan.subject, Unit: plan.unit, State: JobRunning, Started: time.Now().UTC(),
	}}
	r.last[jobName{plan.kind, plan.subject}] = j
	r.forget()
	r.running.Go(func() {
		defer cancel(nil)
		log := r.log.With("kind", plan.kind, "subject", plan.subject)
		log.Info("job started")
		err := plan.run(ctx, j)
		j.finish(err)
		if err != nil {
			log.Warn("job failed", "error", err)
			return
		}
		log.Info("job done", "done", j.status().Done, "unit", plan.unit)
	})
	return j, true
}

// forget drops those that ended first, when there are too many. The caller holds mu.
func (r *jobs) forget() {
	for len(r.last) > maxJobs {
		var oldest *jobName
		var when time.Time
		for name, j := range r.last {
			if s := j.status(); s.State != JobRunning && (oldest == nil || s.Finished.Before(when)) {
				oldest, when = &name, s.Finished
			}
		}
		if oldest == nil {
			return
		}
		delete(r.last, *oldest)
	}
}

// get is the job of a kind that was started last on a subject; nil when none was.
func (r *jobs) get(kind, subject string) *job {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.last[jobName{kind, subject}]
}

// changing says whether a rebuild, rollback or retirement of a view runs.
func (r *jobs) changing(view string) bool {
	for _, kind := range []change{changeRebuild, changeRollback, changeRetire} {
		if j := r.get(string(kind), view); j != nil && j.status().State == JobRunning {
			return true
		}
	}
	return false
}

// list is where all of them are, those that began first before the others.
func (r *jobs) list() []Job {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := make([]Job, 0, len(r.last))
	for _, j := range r.last {
		all = append(all, j.status())
	}
	sortJobs(all)
	return all
}

func sortJobs(all []Job) {
	slices.SortFunc(all, func(a, b Job) int {
		return cmp.Or(a.Started.Compare(b.Started), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Subject, b.Subject))
	})
}

// stop ends those that run and waits for their end. None is started any more.
func (r *jobs) stop() {
	r.mu.Lock()
	r.stopped = true
	for _, j := range r.last {
		j.cancel(errServerStops)
	}
	r.mu.Unlock()
	r.running.Wait()
}

// job is one of them. Its methods are safe for concurrent use.
type job struct {
	cancel context.CancelCauseFunc // ends it before its time
	ended  chan struct{}           // closed when it has ended

	mu     sync.Mutex
	meter  meter.Meter
	state  Job // but for its reading while it runs
	detail any
}

// progress tells how much is done of how much. It is no error when that is not known, or changes.
func (j *job) progress(done, total int64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.meter.Observe(done, total)
}

// count says that something else is counted from now on, as in another phase of the work.
func (j *job) count(unit string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.state.Unit != unit {
		j.state.Unit, j.meter = unit, meter.Meter{}
	}
}

// change replaces the detail with what edit makes of it.
func (j *job) change(edit func(detail any) any) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.detail = edit(j.detail)
}

func (j *job) finish(err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	defer close(j.ended)
	j.state.Reading, j.state.Finished, j.state.State = j.meter.Read(), time.Now().UTC(), JobDone
	j.state.Left = nil
	if seconds := j.state.Finished.Sub(j.state.Started).Seconds(); seconds > 0 {
		j.state.Rate = float64(j.state.Done) / seconds // of the whole
	}
	if err != nil {
		j.state.State, j.state.Error = JobFailed, err.Error()
	}
}

// status is how far it is.
func (j *job) status() Job {
	status, _ := j.look()
	return status
}

// look is how far it is, with its detail at the same moment.
func (j *job) look() (Job, any) {
	j.mu.Lock()
	defer j.mu.Unlock()
	status := j.state
	if status.State == JobRunning {
		status.Reading = j.meter.Read()
	}
	return status, j.detail
}
