package projectors

import (
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pglogrepl"

	"github.com/lanternist/lanternist/event"
)

// State is what a runner is doing.
type State string

// The states of a runner.
const (
	StateStopped  State = "stopped"  // not running; Status.Error says why when it stopped by itself
	StateStarting State = "starting" // asking the sink what it holds
	StateWaiting  State = "waiting"  // for the initial load of the view's tables
	StateBuilding State = "building" // a generation, because there is none to go on with
	StateRunning  State = "running"  // following the journal
	StatePaused   State = "paused"   // serving, and following nothing, until Resume is called or another generation is live; Status.Paused says why
	StatePending  State = "pending"  // serving, and following nothing, until Rebuild is called; Status.Pending says why
	StateRetrying State = "retrying" // repeating something that failed, in any of the states before
	StateFrozen   State = "frozen"   // no runner's: the documents are as of a moment, see Fill
)

// Status is a runner's state at one moment.
type Status struct {
	Projector  string `json:"projector"`
	View       string `json:"view"`
	Sink       string `json:"sink"`
	Generation int    `json:"generation"` // that readers see; 0 when there is none
	State      State  `json:"state"`

	// Offset and LSN are the watermark.
	Offset event.Offset  `json:"offset"`
	LSN    pglogrepl.LSN `json:"lsn"`
	// LagEvents is how many events the journal has after the last one applied. Across batches it is an estimate, from how many
	// events the batches had that this runner has read.
	LagEvents int64 `json:"lag_events"`
	// LagBytes is how much WAL is between the watermark and the journal's end.
	LagBytes int64 `json:"lag_bytes"`
	// LagSeconds is the age of the oldest batch in the journal that is not applied; 0 when all are.
	LagSeconds float64 `json:"lag_seconds"`

	// Since this process started:
	Events    uint64  `json:"events,omitempty"` // handled by a stream
	Documents uint64  `json:"documents"`        // written
	Deletes   uint64  `json:"deletes"`          // documents removed
	Batches   uint64  `json:"batches"`          // calls of Write that the sink answered
	Rounds    uint64  `json:"rounds"`           // whole rounds
	Retries   uint64  `json:"retries"`          // attempts that failed and were, or will be, repeated
	Rate      float64 `json:"rate"`             // documents written and removed per second, over the last ten seconds

	Parked int            `json:"parked"`          // dead letters there are now
	Build  *BuildProgress `json:"build,omitempty"` // of the generation being built or gone back to, if one is

	// Generations are those that the sink holds, in ascending order of number. Empty until the sink was asked.
	Generations []GenerationStatus `json:"generations,omitempty"`

	RetryingSince time.Time `json:"retrying_since,omitzero"`
	// Pending says what is to be done because the live generation is of another definition than the view; "" when it is not.
	Pending string `json:"pending,omitempty"`
	// Paused says why the projector is paused, each reason with file and line of the view; empty when it is not.
	Paused []string `json:"paused,omitempty"`
	Error  string   `json:"error,omitempty"` // what is being retried, or what stopped the runner
	Hint   string   `json:"hint,omitempty"`  // what a person can do about it
}

// BuildProgress is how far a rebuild or a rollback is.
type BuildProgress struct {
	Kind  Kind  `json:"kind"`  // rebuild, or rollback
	Step  Step  `json:"step"`  // what it is doing
	Done  int64 `json:"done"`  // root rows composed, or batches of the journal read
	Total int64 `json:"total"` // about how many there are
	// HeldBack says why it does not go faster: live generations come first. "" when nothing holds it back.
	HeldBack string `json:"held_back,omitempty"`
}

// Status is the runner's state now. It does no I/O.
func (r *Runner) Status() Status {
	mark, _ := r.watermark.Progress()
	s := Status{
		Projector: r.cfg.Name, View: r.wanted.Load().View.Name(), Sink: r.cfg.Sink, Generation: int(r.status.live.Load()),
		Offset: mark.Offset, LSN: mark.LSN, Parked: r.letters.Count(r.cfg.Name), Build: r.status.course.progress(),
		Generations: r.generationStatuses(),
	}
	s.Pending = r.pending()
	r.lag(&s)
	r.counters.fill(&s)
	state, err := r.status.get()
	s.State = state
	if since, reason := r.trouble.state(); reason != nil && state != StateStopped {
		s.State, s.RetryingSince, err = StateRetrying, since, reason
	}
	if err != nil {
		s.Error, s.Hint = err.Error(), Hint(err)
	}
	if s.Paused = r.Paused(); len(s.Paused) > 0 && s.State != StateStopped {
		s.Error, s.Hint = strings.Join(s.Paused, "; "), pausedHint
		if s.State == StateRunning || s.State == StateWaiting {
			s.State = StatePaused
		}
	}
	return s
}

// lag fills in how far the runner is behind the journal's end.
func (r *Runner) lag(s *Status) {
	head, at := r.journal.Head(), event.Offset(r.status.position.Load())
	s.LagBytes = max(0, int64(head.EndLSN)-int64(s.LSN))
	if at >= head.Offset {
		return
	}
	if between := head.Offset.Sequence() - at.Sequence(); between == 0 {
		s.LagEvents = int64(head.Offset - at)
	} else {
		perBatch := float64(r.counters.events.Load()+1) / float64(r.counters.journalBatches.Load()+1)
		s.LagEvents = int64(head.Offset.Index()) + 1 + int64(float64(between-1)*perBatch)
	}
	since := head.Time
	if oldest := r.oldest.Load(); oldest != 0 {
		since = time.UnixMicro(oldest)
	}
	s.LagSeconds = max(0, time.Since(since).Seconds())
}

// state is what Status tells that is not counted.
type state struct {
	running  atomic.Bool
	live     atomic.Int64  // generation that readers see
	position atomic.Uint64 // of the live follower
	course   course        // of the change under way

	mu      sync.Mutex
	current State
	cause   error // why the runner stopped
}

func (s *state) enter(state State) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.current, s.cause = state, nil
}

func (s *state) stop(cause error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.current, s.cause = StateStopped, cause
}

func (s *state) get() (State, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current == "" {
		return StateStopped, nil
	}
	return s.current, s.cause
}
