package httpapi

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/lanternist/lanternist/internal/meter"
)

// Kinds of work that nobody starts here: the server sees that it is done.
const (
	kindLoad  = "load"  // of tables, into the mirror
	kindBuild = "build" // of a projector's generation
)

// loadSubject is what a load is of: all tables that are loaded now.
const loadSubject = "tables"

type jobsOutput struct {
	Body jobsBody
}

type jobsBody struct {
	Jobs []Job `json:"jobs" doc:"In the order in which they began."`
}

func (s *Server) registerJobs(api huma.API) {
	huma.Register(api, get("list-jobs", "/v1/jobs", "operation", "Long work that is under way, and of each kind and subject what ended last", http.StatusUnauthorized),
		func(context.Context, *struct{}) (*jobsOutput, error) {
			return &jobsOutput{Body: jobsBody{Jobs: s.Jobs()}}, nil
		})
}

// Jobs are all long pieces of work: those started here, the first load, and generations that are built without having been
// asked for here. It does no I/O.
func (s *Server) Jobs() []Job {
	s.watch.look(s)
	all := append(s.jobs.list(), s.watch.list()...)
	sortJobs(all)
	return all
}

// watch keeps an account of work that others do, from what they tell of themselves. It is safe for concurrent use.
type watch struct {
	mu   sync.Mutex
	seen map[jobName]*watched
}

type watched struct {
	job   Job
	meter meter.Meter
}

// watchEvery is how often others are looked at. A rate is made of what was seen.
const watchEvery = time.Second

// run looks at what others do until the context is done.
func (w *watch) run(ctx context.Context, s *Server) {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			w.look(s)
		case <-ctx.Done():
			return
		}
	}
}

// look looks at all others now.
func (w *watch) look(s *Server) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := map[jobName]bool{}
	if s.load != nil {
		if l := s.load(); l.Loading {
			now[w.see(kindLoad, loadSubject, "rows", l.Rows, l.Total)] = true
		}
	}
	for _, p := range s.projectors() {
		status := p.Status()
		if b := status.Build; b != nil && !s.jobs.changing(status.View) {
			now[w.see(kindBuild, status.Projector, "documents", b.Done, b.Total)] = true
		}
	}
	for name, other := range w.seen {
		if !now[name] && other.job.State == JobRunning {
			other.end()
		}
	}
}

// see notes how far one piece of work is.
func (w *watch) see(kind, subject, unit string, done, total int64) jobName {
	name := jobName{kind, subject}
	one := w.seen[name]
	if one == nil || one.job.State != JobRunning {
		one = &watched{job: Job{Kind: kind, Subject: subject, Unit: unit, State: JobRunning, Started: time.Now().UTC()}}
		w.seen[name] = one
	}
	one.meter.Observe(done, total)
	one.job.Reading = one.meter.Read()
	return name
}

// end notes that it is not done any more. Whether it succeeded, its projector and the load say themselves.
func (o *watched) end() {
	o.job.State, o.job.Finished, o.job.Left = JobDone, time.Now().UTC(), nil
}

func (w *watch) list() []Job {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := make([]Job, 0, len(w.seen))
	for _, one := range w.seen {
		all = append(all, one.job)
	}
	return all
}

// reading is how far the load is.
func (w *watch) reading(kind, subject string) meter.Reading {
	w.mu.Lock()
	defer w.mu.Unlock()
	if one := w.seen[jobName{kind, subject}]; one != nil && one.job.State == JobRunning {
		return one.job.Reading
	}
	return meter.Reading{}
}
