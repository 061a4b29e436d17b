package alert

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/lanternist/lanternist/backoff"
	"github.com/lanternist/lanternist/control"
	"github.com/lanternist/lanternist/deadletter"
	"github.com/lanternist/lanternist/event"
	"github.com/lanternist/lanternist/internal/faults"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const secret = "a key of the test's"

// hook is somebody who is told.
type hook struct {
	*httptest.Server
	mu      sync.Mutex
	taken   []Notice
	calls   int
	answer  int // status; 0 is 204
	problem string
}

func newHook(t *testing.T) *hook {
	h := &hook{}
	h.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		h.mu.Lock()
		defer h.mu.Unlock()
		h.calls++
		var n Notice
		switch {
		case err != nil || json.Unmarshal(body, &n) != nil:
			h.problem = fmt.Sprintf("body %q: %v", body, err)
		case r.Header.Get(HeaderSignature) != Sign(secret, r.Header.Get(HeaderTimestamp), body):
			h.problem = "the signature is wrong"
		case r.Method != http.MethodPost:
			h.problem = r.Method
		}
		if h.answer != 0 {
			w.WriteHeader(h.answer)
			return
		}
		h.taken = append(h.taken, n)
		w.WriteHeader(http.StatusNoContent)
	}))
	t.Cleanup(h.Close)
	return h
}

func (h *hook) become(answer int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.answer = answer
}

// heard is "event projector" of each notice that was taken. One that was on its way when its sender was stopped comes again, with the
// same id.
func (h *hook) heard(t *testing.T) (all []string, calls int) {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.problem != "" {
		t.Error(h.problem)
	}
	seen := map[string]bool{}
	for _, n := range h.taken {
		if !seen[n.ID] {
			seen[n.ID] = true
			all = append(all, n.Event+" "+n.Projector)
		}
	}
	return all, h.calls
}

func (h *hook) hears(t *testing.T, want ...string) {
	t.Helper()
	eventually(t, func() error {
		if got, _ := h.heard(t); strings.Join(got, ", ") != strings.Join(want, ", ") {
			return fmt.Errorf("heard %q, want %q", got, want)
		}
		return nil
	})
}

type world struct {
	t       *testing.T
	control control.Store
	letters *deadletter.Store
	hook    *hook
}

func newWorld(t *testing.T) *world {
	store, err := control.OpenPebble(t.TempDir(), slog.New(slog.DiscardHandler))
	must(t, err)
	t.Cleanup(func() { must(t, store.Close()) })
	letters, err := deadletter.Open(t.Context(), store)
	must(t, err)
	return &world{t: t, control: store, letters: letters, hook: newHook(t)}
}

func (w *world) park(projector string, n int, at time.Time) {
	w.t.Helper()
	must(w.t, w.letters.Park(w.t.Context(), deadletter.Letter{Projector: projector, DocumentID: fmt.Sprint(n), Offset: event.Offset(n), Class: "permanent", Time: at}))
}

// run runs an alert until stop is called.
func (w *world) run(change func(*Config)) (a *Alert, stop func()) {
	w.t.Helper()
	cfg := Config{URL: w.hook.URL, Secret: secret, Depth: 2, Every: time.Millisecond, Backoff: backoff.Config{Min: time.Microsecond, Max: time.Millisecond}}
	if change != nil {
		change(&cfg)
	}
	a, err := New(cfg, w.letters, w.control, slog.New(slog.DiscardHandler))
	must(w.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			if err := <-ended; !errors.Is(err, context.Canceled) {
				w.t.Error(err)
			}
		})
	}
	w.t.Cleanup(stop)
	return a, stop
}

func TestRaisedAndCleared(t *testing.T) {
	w := newWorld(t)
	a, stop := w.run(nil)
	w.park("orders.search", 1, time.Now())
	w.park("orders.cache", 1, time.Now())
	w.park("orders.search", 2, time.Now())
	w.hook.hears(t, "raised orders.search")
	w.park("orders.search", 3, time.Now()) // it is known
	w.park("orders.cache", 2, time.Now())
	w.hook.hears(t, "raised orders.search", "raised orders.cache")
	w.hook.mu.Lock()
	n := w.hook.taken[0]
	w.hook.mu.Unlock()
	if n.Letters != 2 || n.Classes["permanent"] != 2 || n.Oldest.IsZero() || n.Thresholds.Letters != 2 || n.ID == "" || !strings.Contains(n.Help, "lanternist deadletters list --projector orders.search") {
		t.Errorf("%+v", n)
	}
	eventually(t, func() error {
		if s := a.Status(); len(s.Raised) != 2 || s.Pending != 0 || s.Error != "" {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
	// A restart repeats nothing.
	stop()
	a, stop = w.run(nil)
	for i := range 3 {
		must(t, w.letters.Resolve(t.Context(), "orders.search", fmt.Sprint(i+1), 9))
	}
	w.hook.hears(t, "raised orders.search", "raised orders.cache", "cleared orders.search")
	eventually(t, func() error { // a stop before it is noted that the notice was taken has it sent again, with the same id
		if s := a.Status(); s.Pending != 0 {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
	stop()
	must(t, w.letters.Resolve(t.Context(), "orders.cache", "1", 9))
	w.run(nil) // it was cleared while nothing ran
	w.hook.hears(t, "raised orders.search", "raised orders.cache", "cleared orders.search", "cleared orders.cache")
}

func TestAge(t *testing.T) {
	w := newWorld(t)
	w.park("orders.search", 1, time.Now())
	w.run(func(c *Config) { c.Depth, c.Age = 0, time.Hour })
	w.park("orders.search", 2, time.Now().Add(-2*time.Hour))
	w.hook.hears(t, "raised orders.search")
	must(t, w.letters.Resolve(t.Context(), "orders.search", "2", 2))
	w.hook.hears(t, "raised orders.search", "cleared orders.search")
}

func TestFaultAlertTargetDead(t *testing.T) {
	fault := faults.Cause(t, faults.Fault{
		ID: "alert-target-dead", Area: "Sinks", Fault: "the webhook of the alert of dead letters is dead, and the daemon is started again meanwhile",
		Promise: "documents go on being parked and written; the alarm, and its end, are delivered when the webhook is back, in their order, each with an id that tells a repetition",
		Answer:  "`lanternist status` says that notices are pending and why; bring the webhook back",
	})
	w := newWorld(t)
	w.hook.become(http.StatusInternalServerError)
	a, stop := w.run(nil)
	for i := range 100 {
		w.park("orders.search", i, time.Now()) // nobody waits for the webhook
	}
	eventually(t, func() error {
		if _, calls := w.hook.heard(t); calls < 5 {
			return fmt.Errorf("%d attempts", calls)
		}
		if s := a.Status(); s.Pending != 1 || !strings.Contains(s.Error, "500") || strings.Contains(s.Error, w.hook.URL) {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
	stop()
	a, stop = w.run(nil)
	if _, err := w.letters.DiscardAll(t.Context(), deadletter.Filter{}, nil, nil); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() error {
		if s := a.Status(); s.Pending != 2 {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
	w.park("orders.search", 1, time.Now()) // raised again before anybody was told that it was over
	w.park("orders.search", 2, time.Now())
	eventually(t, func() error {
		if s := a.Status(); s.Pending != 1 {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
	stop()
	_, calls := w.hook.heard(t)
	fault.Repeated(calls)
	w.hook.become(0)
	began := time.Now()
	w.run(nil)
	w.hook.hears(t, "raised orders.search")
	fault.Recovered(time.Since(began))
	if _, err := w.letters.DiscardAll(t.Context(), deadletter.Filter{}, nil, nil); err != nil {
		t.Fatal(err)
	}
	w.hook.hears(t, "raised orders.search", "cleared orders.search")
	must(t, w.control.List(t.Context(), recordPrefix, func(key string, value []byte) error {
		t.Logf("%s: %s", key, value) // may still be removed
		return nil
	}))
}

// A redirect is no delivery, and the key is not handed on to where it leads.
func TestRedirectIsRefused(t *testing.T) {
	w := newWorld(t)
	w.hook.become(http.StatusTemporaryRedirect)
	a, _ := w.run(func(c *Config) { c.Depth = 1 })
	w.park("orders.search", 1, time.Now())
	eventually(t, func() error {
		if s := a.Status(); !strings.Contains(s.Error, "307") {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
}

func TestSignature(t *testing.T) {
	// As documented: printf '1795241207.{"id":"1"}' | openssl dgst -sha256 -hmac "$SECRET"
	if got := Sign("key", "1795241207", []byte(`{"id":"1"}`)); got != "sha256="+want || Sign("other", "1795241207", []byte(`{"id":"1"}`)) == got || Sign("key", "1795241208", []byte(`{"id":"1"}`)) == got {
		t.Errorf("got %s", got)
	}
}

func TestConfigIsChecked(t *testing.T) {
	for _, c := range []Config{{Secret: "s", Depth: 1}, {URL: "http://localhost", Depth: 1}, {URL: "http://localhost", Secret: "s"}} {
		if _, err := New(c, nil, nil, nil); err == nil {
			t.Errorf("%+v is fine", c)
		}
	}
}

func eventually(t *testing.T, try func() error) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		err := try()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("not within 20s: %v", err)
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

const want = "1d593ff4d6066cbd4ff2259efc46e35cd33927db6f1c068655d287404d476c01"
