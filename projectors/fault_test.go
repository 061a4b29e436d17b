package projectors

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/lanternist/lanternist/deadletter"
	"github.com/lanternist/lanternist/event"
	"github.com/lanternist/lanternist/views"
)

var errCrashed = Fatalf("", "the process was killed")

// crash ends the world for a runner at its i-th operation on the sink: before it, or, when the outcome is to be
// unknown, after it.
type crash struct {
	at    int64
	after bool
	calls atomic.Int64
}

func (c *crash) script(m *memory) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.before = func(string) error {
		n := c.calls.Add(1)
		if n > c.at || n == c.at && !c.after {
			return errCrashed
		}
		return nil
	}
	m.after = func(string) error {
		if c.calls.Load() >= c.at {
			return errCrashed
		}
		return nil
	}
}

// A runner is killed at every operation on its sink in turn, from the first build on, until a run needs no more
// operations than that. What it leaves behind, the next one completes.
func TestCrashAtEveryOperation(t *testing.T) {
	for _, after := range []bool{false, true} {
		t.Run(fmt.Sprintf("after=%v", after), func(t *testing.T) {
			view := compile(t, customerView)
			s, sink := newSource(t, view), newMemory()
			s.commit(insert(customers, "1", "Ada"), insert(customers, "2", "Bob"), insert(orders, "10", "1", "new"), insert(items, "10", "1", "pen"))
			small := func(c *Config) { c.PieceDocuments, c.Workers, c.CheckpointEvents = 1, 1, 2 }
			following := false
			for i := int64(1); ; i++ {
				c := &crash{at: i, after: after}
				c.script(sink)
				at := s.commit(
					update(orders, "10", fmt.Sprint(1+i%2), "moved"), update(customers, "1", fmt.Sprint("Ada ", i)),
					update(items, "10", "1", fmt.Sprint("pen ", i)))
				if i <= 5 && !following {
					s.commit(insert(customers, fmt.Sprint(100+i), "x"))
				}
				r := s.runner(view, sink, small)
				ctx, cancel := context.WithCancel(t.Context())
				ended := make(chan struct{})
				go func() {
					defer close(ended)
					_ = r.Run(ctx)
				}()
				eventually(t, "a crash, or the token", func() bool {
					mark, _ := r.Watermark()
					select {
					case <-ended:
						return true
					default:
						return mark.LSN >= at
					}
				})
				cancel()
				<-ended
				if c.calls.Load() < i {
					t.Logf("operation %d was not needed", i)
					if following {
						break
					}
					following, i = true, 0 // once more, now that there is a generation to go on with
				}
				if i > 500 {
					t.Fatal("no run without a crash")
				}
			}
			sink.mu.Lock()
			sink.before, sink.after = nil, nil
			sink.mu.Unlock()
			r := s.runner(view, sink, small)
			s.run(r)
			s.reach(r, s.commit(insert(unrelated, "1")))
			wantDocuments(t, sink, s.documents(view))
			if _, numbers := sink.held(); len(numbers) > 2 {
				t.Errorf("generations %v: half-built ones were left", numbers)
			}
		})
	}
}

func TestTransientErrorsAreRepeatedForEver(t *testing.T) {
	view := compile(t, orderView)
	s, sink := newSource(t, view), newMemory()
	r := s.runner(view, sink)
	s.run(r)
	s.reach(r, s.commit(insert(orders, "1", "1", "new")))
	var down atomic.Bool
	down.Store(true)
	sink.script(func(string) error {
		if down.Load() {
			return errors.New("connection refused")
		}
		return nil
	}, nil)
	token := s.commit(update(orders, "1", "1", "paid"))
	eventually(t, "20 retries", func() bool { return r.Status().Retries >= 20 })
	status := r.Status()
	if status.State != StateRetrying || status.RetryingSince.IsZero() || !strings.Contains(status.Error, "connection refused") {
		t.Errorf("status: %+v", status)
	}
	if status.LagEvents != 1 || status.LSN >= token {
		t.Errorf("lag %d, watermark %s", status.LagEvents, status.LSN)
	}
	down.Store(false)
	s.reach(r, token)
	wantDocuments(t, sink, s.documents(view))
	eventually(t, "running again", func() bool { return r.Status().State == StateRunning })
}

// An outage longer than StallMax does not pin a snapshot: the round begins again, from a newer one.
func TestStalledRoundBeginsAgain(t *testing.T) {
	view := compile(t, orderView)
	s, sink := newSource(t, view), newMemory()
	r := s.runner(view, sink, func(c *Config) { c.StallMax = 1 })
	s.run(r)
	s.reach(r, s.commit(insert(orders, "1", "1", "new")))
	var down atomic.Bool
	down.Store(true)
	sink.script(func(string) error {
		if down.Load() {
			return errors.New("too busy")
		}
		return nil
	}, func(d views.Document) error {
		if strings.Contains(string(d.Body), "second") {
			return errors.New("composed from the snapshot that should be gone")
		}
		return nil
	})
	s.commit(update(orders, "1", "1", "second"))
	eventually(t, "retries", func() bool { return r.Status().Retries >= 3 })
	token := s.commit(update(orders, "1", "1", "third"))
	down.Store(false)
	s.reach(r, token)
	wantDocuments(t, sink, s.documents(view))
}

func TestRefusedDocumentIsParkedAndLaterResolved(t *testing.T) {
	view := compile(t, orderView)
	s, sink := newSource(t, view), newMemory()
	r := s.runner(view, sink)
	s.run(r)
	s.reach(r, s.commit(insert(orders, "1", "1", "new"), insert(orders, "2", "1", "new")))
	var mu sync.Mutex
	offers := 0
	sink.script(nil, func(d views.Document) error {
		if d.ID != "1" || !strings.Contains(string(d.Body), "poison") {
			return nil
		}
		mu.Lock()
		defer mu.Unlock()
		offers++
		return Permanentf("mapping conflict")
	})
	s.reach(r, s.commit(update(orders, "1", "1", "poison"), update(orders, "2", "1", "fine")))
	if offers != 3 {
		t.Errorf("offered %d times, want 3", offers)
	}
	if got := sink.document("2"); !strings.Contains(got, "fine") {
		t.Errorf("the other document is %s", got)
	}
	letter := onlyLetter(t, s, r)
	if letter.DocumentID != "1" || letter.Attempts != 3 || letter.Generation != 1 || letter.View != "order" || letter.Class != "permanent" ||
		letter.Offset != s.mirror.Position() || !strings.Contains(string(letter.Payload), "poison") || !strings.Contains(letter.Reason, "mapping conflict") {
		t.Errorf("letter: %+v", letter)
	}
	// A newer refused version replaces the letter; an accepted one resolves it.
	s.reach(r, s.commit(update(orders, "1", "2", "poison")))
	if letter := onlyLetter(t, s, r); letter.Offset != s.mirror.Position() || letter.Attempts != 6 {
		t.Errorf("letter is of %s", letter.Offset)
	}
	s.reach(r, s.commit(update(orders, "1", "1", "healthy")))
	if got := r.Status().Parked; got != 0 {
		t.Errorf("%d letters, want none", got)
	}
	wantDocuments(t, sink, s.documents(view))
}

func onlyLetter(t *testing.T, s *source, r *Runner) (letter deadletter.Letter) {
	t.Helper()
	n := 0
	check(t, s.letters.List(context.Background(), deadletter.Filter{Projector: r.Name()}, func(l deadletter.Letter) error {
		letter = l
		n++
		return nil
	}))
	if n != 1 || r.Status().Parked != 1 {
		t.Fatalf("%d letters, want 1", n)
	}
	letter, _, err := s.letters.Get(context.Background(), letter.ID)
	check(t, err)
	return letter
}

// A sink that refuses a whole call for good is asked for halves, until the one document is found.
func TestRefusedCallIsDivided(t *testing.T) {
	view := compile(t, orderView)
	s, sink := newSource(t, view), newMemory()
	store := &refusingStore{memory: sink}
	r := s.runner(view, store, func(c *Config) { c.PieceDocuments = 16 })
	s.run(r)
	var changes []change
	for i := range 10 {
		changes = append(changes, insert(orders, fmt.Sprint(i), "1", "new"))
	}
	s.reach(r, s.commit(append(changes, insert(orders, "bad", "1", "poison"))...))
	want := s.documents(view)
	delete(want, "bad")
	wantDocuments(t, sink, want)
	if letter := onlyLetter(t, s, r); letter.DocumentID != "bad" {
		t.Errorf("letter: %+v", letter)
	}
}

// refusingStore refuses whole calls that contain poison.
type refusingStore struct{ *memory }

type refusingGeneration struct{ Generation }

func (s *refusingStore) Create(ctx context.Context, info Info) (Generation, error) {
	g, err := s.memory.Create(ctx, info)
	return refusingGeneration{g}, err
}

func (g refusingGeneration) Write(ctx context.Context, version event.Offset, documents []views.Document) ([]Failure, error) {
	for _, d := range documents {
		if strings.Contains(string(d.Body), "poison") {
			return nil, Permanentf("request refused")
		}
	}
	return g.Generation.Write(ctx, version, documents)
}

func TestFatalErrorStopsOnlyItsRunner(t *testing.T) {
	view, other := compile(t, orderView), compile(t, customerView)
	s, sink, otherSink := newSource(t, view, other), newMemory(), newMemory()
	r, o := s.runner(view, sink), s.runner(other, otherSink)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	s.run(o)
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	s.reach(r, s.commit(insert(orders, "1", "1", "new")))
	sink.script(func(operation string) error {
		if operation == "write" {
			return Fatalf("check the password", "status 401")
		}
		return nil
	}, nil)
	token := s.commit(insert(orders, "2", "1", "new"), insert(customers, "1", "Ada"))
	err := <-ended
	if Class(err) != Fatal || Hint(err) != "check the password" {
		t.Errorf("Run: %v", err)
	}
	status := r.Status()
	if status.State != StateStopped || status.Hint != "check the password" || !strings.Contains(status.Error, "401") {
		t.Errorf("status: %+v", status)
	}
	s.reach(o, token)
	wantDocuments(t, otherSink, s.documents(other))
	// The cause removed, it may be run again.
	sink.script(nil, nil)
	s.run(r)
	s.reach(r, token)
	wantDocuments(t, sink, s.documents(view))
}

// A runner that Serve keeps is revived by a rebuild, with a generation that owes nothing to the damaged one.
func TestRebuildRevivesAStoppedRunner(t *testing.T) {
	view := compile(t, orderView)
	s, sink := newSource(t, view), newMemory()
	r := s.runner(view, sink)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- r.Serve(ctx) }()
	defer func() {
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("Serve: %v", err)
		}
	}()
	s.reach(r, s.commit(insert(orders, "1", "1", "new")))
	broken := func(what ...string) {
		sink.script(func(operation string) error {
			if slices.Contains(what, operation) {
				return Fatalf("rebuild the view", "index is gone")
			}
			return nil
		}, nil)
	}
	broken("write")
	token := s.commit(insert(orders, "2", "1", "new"))
	eventually(t, "stopped", func() bool { return r.Status().State == StateStopped })
	eventually(t, "a rebuild that is refused", func() bool {
		err := r.Rebuild(context.Background(), nil)
		return Class(err) == Fatal
	})
	eventually(t, "stopped again", func() bool { return r.Status().State == StateStopped })
	broken("open") // of the old generation
	rows := int64(0)
	eventually(t, "a rebuild", func() bool {
		return r.Rebuild(context.Background(), func(done, _ int64) { rows = done }) == nil
	})
	s.reach(r, token)
	wantDocuments(t, sink, s.documents(view))
	if rows != 2 || r.Status().Generation != 2 {
		t.Errorf("%d rows, status %+v", rows, r.Status())
	}
}

// A sink that is emptied under a runner is filled again.
func TestLostDocumentsAreBuiltAgain(t *testing.T) {
	view := compile(t, orderView)
	s, sink := newSource(t, view), newMemory()
	r := s.runner(view, sink)
	s.run(r)
	s.reach(r, s.commit(insert(orders, "1", "1", "new")))
	empty := func() {
		sink.mu.Lock()
		sink.generations, sink.live = map[int]*memoryGeneration{}, 0
		sink.before = func(operation string) error {
			if operation == "write" || operation == "checkpoint" || operation == "save" {
				sink.mu.Lock()
				defer sink.mu.Unlock()
				if len(sink.generations) == 0 {
					return fmt.Errorf("run id changed: %w", ErrLost)
				}
			}
			return nil
		}
		sink.mu.Unlock()
	}
	empty()
	s.reach(r, s.commit(insert(orders, "2", "1", "new")))
	eventually(t, "built again", func() bool { return len(sink.documents()) == 2 })
	wantDocuments(t, sink, s.documents(view))
	empty()
	r.Recheck()
	eventually(t, "built again, without a change", func() bool { return len(sink.documents()) == 2 })
}
