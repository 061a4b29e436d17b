// Package alert tells somebody when dead letters pile up: a webhook, signed, when a projector has too many or too old ones, and once more
// when that is over.
//
// Invariants: what is to be told, and what was, is in the control store, so that a restart repeats no alarm and forgets none; a notice is
// sent until the other side takes it, in the order in which things happened; the path of changes never waits for it. A notice may come
// twice, with the same id, when the process ends between the answer and its record.
package alert

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/lanternist/lanternist/backoff"
	"github.com/lanternist/lanternist/control"
	"github.com/lanternist/lanternist/deadletter"
)

// Config says when somebody is told, and where.
type Config struct {
	// URL is posted to. Required.
	URL string
	// Secret is the key of the signature. Required.
	Secret string
	// Depth is how many letters of a projector are too many. 0: their number is not looked at. Depth or Age is required.
	Depth int
	// Age is how old a projector's oldest letter may be. 0: age is not looked at.
	Age time.Duration
	// Every is how often it is looked. Default 5s.
	Every time.Duration
	// Timeout bounds one attempt. Default 10s.
	Timeout time.Duration
	// Backoff spaces attempts that failed. Default 1s to 5m.
	Backoff backoff.Config
}

func (c Config) withDefaults() Config {
	if c.Every == 0 {
		c.Every = 5 * time.Second
	}
	if c.Timeout == 0 {
		c.Timeout = 10 * time.Second
	}
	if c.Backoff == (backoff.Config{}) {
		c.Backoff = backoff.Config{Min: time.Second, Max: 5 * time.Minute}
	}
	return c
}

// Letters is what an Alert needs of a *deadletter.Store.
type Letters interface {
	Depths(ctx context.Context) ([]deadletter.Depth, error)
}

// Alert watches the letters. Run does so; Status may be called at any time.
type Alert struct {
	cfg     Config
	letters Letters
	control control.Store
	client  *http.Client
	log     *slog.Logger

	records map[string]*record // by projector; of Run's goroutine
	waits   backoff.Backoff
	next    time.Time // when to try to send again

	mu     sync.Mutex
	status Status
}

// Status is what an Alert has told, and what it could not.
type Status struct {
	Raised  []string `json:"raised" doc:"Projectors with too many, or too old, dead letters."`
	Pending int      `json:"pending" doc:"Notices that nobody has taken yet."`
	Error   string   `json:"error,omitempty" doc:"Why not."`
}

// New makes an alert. It does no I/O.
func New(cfg Config, letters Letters, store control.Store, log *slog.Logger) (*Alert, error) {
	switch {
	case cfg.URL == "":
		return nil, errors.New("alert of dead letters: there is no url")
	case cfg.Secret == "":
		return nil, errors.New("alert of dead letters: there is no secret to sign with")
	case cfg.Depth <= 0 && cfg.Age <= 0:
		return nil, errors.New("alert of dead letters: neither depth nor age says when")
	}
	cfg = cfg.withDefaults()
	a := &Alert{
		cfg: cfg, letters: letters, control: store, log: log, records: map[string]*record{}, waits: backoff.New(cfg.Backoff),
		client: &http.Client{
			Timeout:       cfg.Timeout,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
	return a, nil
}

// Run watches until the context is done, whose cause it returns. What fails is tried again.
func (a *Alert) Run(ctx context.Context) error {
	defer a.client.CloseIdleConnections()
	tick := time.NewTicker(a.cfg.Every)
	defer tick.Stop()
	loaded := false
	for {
		err := error(nil)
		if !loaded {
			err = a.load(ctx)
			loaded = err == nil
		}
		if err == nil {
			err = a.look(ctx)
		}
		if err != nil && ctx.Err() == nil {
			a.log.Warn("dead letters not watched for the alert", "error", err)
		}
		if loaded {
			a.send(ctx)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}

// Status is what is so now. It does no I/O.
func (a *Alert) Status() Status {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := a.status
	s.Raised = append([]string{}, s.Raised...)
	return s
}

// tell updates the status.
func (a *Alert) tell(err error) {
	s := Status{}
	for _, name := range slices.Sorted(maps.Keys(a.records)) {
		r := a.records[name]
		if r.Raised {
			s.Raised = append(s.Raised, name)
		}
		s.Pending += len(r.Notices)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case err != nil:
		s.Error = err.Error()
	case s.Pending > 0:
		s.Error = a.status.Error
	}
	a.status = s
}

// record is what is known of a projector, in the control store.
type record struct {
	Projector string   `json:"projector"`
	Raised    bool     `json:"raised"`
	Notices   []Notice `json:"notices,omitempty"` // not taken yet, in order
	Tried     bool     `json:"tried,omitempty"`   // the first of them was sent at least once
}

const recordPrefix = "alerts/deadletters/"

func (a *Alert) load(ctx context.Context) error {
	return a.control.List(ctx, recordPrefix, func(key string, value []byte) error {
		var r record
		if err := json.Unmarshal(value, &r); err != nil {
			return fmt.Errorf("read %s: %w", key, err)
		}
		a.records[r.Projector] = &r
		return nil
	})
}

// save keeps a record; one that says nothing is removed.
func (a *Alert) save(ctx context.Context, r record) error {
	key := recordPrefix + r.Projector
	if !r.Raised && len(r.Notices) == 0 {
		if err := a.control.Delete(ctx, key); err != nil {
			return err
		}
		delete(a.records, r.Projector)
		return nil
	}
	value, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if err := a.control.Put(ctx, key, value); err != nil {
		return err
	}
	a.records[r.Projector] = &r
	return nil
}

// look compares what there is with the thresholds, and notes what is to be told.
func (a *Alert) look(ctx context.Context) error {
	depths, err := a.letters.Depths(ctx)
	if err != nil {
		return err
	}
	now := time.Now().UTC()
	notices := map[string]*Notice{}
	for name := range a.records {
		notices[name] = a.notice(name, now)
	}
	for _, d := range depths {
		n := notices[d.Projector]
		if n == nil {
			n = a.notice(d.Projector, now)
			notices[d.Projector] = n
		}
		n.add(d)
	}
	var errs []error
	for name, n := range notices {
		r := record{Projector: name}
		if known := a.records[name]; known != nil {
			r = *known
		}
		if over := a.over(n, now); over != r.Raised {
			errs = append(errs, a.save(ctx, r.with(over, *n)))
			a.log.Warn("alert of dead letters", "projector", name, "raised", over, "letters", n.Letters)
		}
	}
	a.tell(nil)
	return errors.Join(errs...)
}

func (a *Alert) notice(projector string, now time.Time) *Notice {
	return &Notice{
		ID: rand.Text(), Projector: projector, Time: now, Classes: map[string]int{},
		Thresholds: Thresholds{Letters: a.cfg.Depth, AgeSeconds: a.cfg.Age.Seconds()},
		Help:       "lanternist deadletters list --projector " + projector,
	}
}

// over says that there are too many letters, or too old ones.
func (a *Alert) over(n *Notice, now time.Time) bool {
	if a.cfg.Depth > 0 && n.Letters >= a.cfg.Depth {
		return true
	}
	return a.cfg.Age > 0 && n.Letters > 0 && now.Sub(n.Oldest) >= a.cfg.Age
}

// with is the record when the threshold was crossed. That an alarm is over, and is raised again before the first was told, is nothing
// to be told.
func (r record) with(raised bool, n Notice) record {
	r.Raised = raised
	n.Event = Cleared
	if raised {
		n.Event = Raised
	}
	r.Notices = slices.Clone(r.Notices)
	if last := len(r.Notices) - 1; raised && last >= 0 && r.Notices[last].Event == Cleared && (last > 0 || !r.Tried) {
		r.Notices = r.Notices[:last]
		return r
	}
	r.Notices = append(r.Notices, n)
	return r
}
