package stream

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/lanternist/lanternist/deadletter"
	"github.com/lanternist/lanternist/event"
	"github.com/lanternist/lanternist/internal/faults"
	"github.com/lanternist/lanternist/journal"
	"github.com/lanternist/lanternist/projectors"
	"github.com/lanternist/lanternist/row"
)

// byIndex has three keys: an event's is its place in the transaction, by three.
func byIndex(ev *event.Event) string { return fmt.Sprint(ev.Ordinal % 3) }

// holding is a projector that holds what it cannot hand on.
func (w *world) holding(f Handler, adjust ...func(*Config)) *Projector {
	w.t.Helper()
	cfg := Config{Name: "file", BatchEvents: 4, CheckpointInterval: time.Millisecond, OnRefusal: Hold, MaxAttempts: 2, Key: byIndex}
	cfg.Backoff.Min, cfg.Backoff.Max = time.Microsecond, time.Millisecond
	for _, change := range adjust {
		change(&cfg)
	}
	p, err := New(cfg, f, Parts{Journal: w.journal, Control: w.control, Letters: w.letters, Schemas: tables{}}, quiet)
	must(w.t, err)
	return p
}

// receiver takes events but those that it refuses, and notes if one comes before an earlier one of its key was taken or given up.
type receiver struct {
	mu       sync.Mutex
	refusing map[string]bool // keys
	away     bool
	taken    map[event.Offset]bool
	givenUp  map[event.Offset]bool
	all      func() []event.Offset
	keyOf    map[event.Offset]string
	bad      string
}

func (r *receiver) Handle(_ context.Context, events []event.Event) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.away {
		return errors.New("away")
	}
	for i := range events {
		if r.refusing[byIndex(&events[i])] {
			return projectors.Permanentf("key %s is refused", byIndex(&events[i]))
		}
	}
	for i := range events {
		ev := &events[i]
		r.keyOf[ev.Offset] = byIndex(ev)
		for _, before := range r.all() {
			if before < ev.Offset && r.keyOf[before] == byIndex(ev) && !r.taken[before] && !r.givenUp[before] {
				r.bad = fmt.Sprintf("%s came before %s of the same key", ev.Offset, before)
			}
		}
		r.taken[ev.Offset] = true
	}
	return nil
}

func (r *receiver) do(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f()
}

func (w *world) lettersOf(t testing.TB) (all []deadletter.Letter) {
	t.Helper()
	must(t, w.letters.List(context.Background(), deadletter.Filter{Projector: "file"}, func(l deadletter.Letter) error {
		all = append(all, l)
		return nil
	}))
	return all
}

// Whatever is refused, redriven, discarded or cut off: of each key the events come in order, and none is missing.
func TestHeldKeysStayInOrder(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(t, journal.Config{})
		defer w.close()
		r := &receiver{refusing: map[string]bool{}, taken: map[event.Offset]bool{}, givenUp: map[event.Offset]bool{}, keyOf: map[event.Offset]string{}}
		var all []event.Offset
		r.all = func() []event.Offset { return all }
		more := func(n int) {
			r.mu.Lock()
			defer r.mu.Unlock()
			w.append(chunk{events: n})
			all = w.offsets(everything)
			for i, offset := range w.all[len(w.all)-1].events {
				r.keyOf[offset] = fmt.Sprint(i % 3)
			}
		}
		more(3)
		p := w.holding(r)
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		start := func() {
			p = w.holding(r, func(c *Config) { c.StopTimeout = time.Millisecond })
			ctx, cancel = context.WithCancel(context.Background())
			go func(ctx context.Context, p *Projector) { ended <- p.Run(ctx) }(ctx, p)
		}
		stop := func(crash bool) {
			if crash {
				w.control.fail(errors.New("the process is gone"))
			}
			cancel()
			if err := <-ended; !errors.Is(err, context.Canceled) {
				rt.Fatal(err)
			}
			w.control.fail(nil)
			var err error
			w.letters, err = deadletter.Open(t.Context(), w.control.Store)
			must(t, err)
		}
		start()
		for range rapid.IntRange(1, 12).Draw(rt, "steps") {
			switch rapid.IntRange(0, 6).Draw(rt, "what") {
			case 0, 1:
				more(rapid.IntRange(1, 7).Draw(rt, "events"))
			case 2:
				key := rapid.SampledFrom([]string{"0", "1", "2"}).Draw(rt, "key")
				r.do(func() { r.refusing[key] = !r.refusing[key] })
			case 3:
				stop(rapid.Bool().Draw(rt, "crash"))
				start()
			case 4:
				must(t, p.Redrive(t.Context(), w.lettersOf(t)))
			case 5:
				if letters := w.lettersOf(t); len(letters) > 0 {
					l := rapid.SampledFrom(letters).Draw(rt, "letter")
					err := p.Redrive(t.Context(), []deadletter.Letter{l})
					if err != nil && !strings.Contains(err.Error(), "waits behind") {
						rt.Fatal(err)
					}
				}
			case 6:
				if letters := w.lettersOf(t); len(letters) > 0 {
					l := rapid.SampledFrom(letters).Draw(rt, "letter")
					r.do(func() { r.givenUp[l.Offset] = true })
					_, err := w.letters.Discard(t.Context(), l.ID)
					must(t, err)
				}
			}
		}
		r.do(func() { clear(r.refusing) })
		eventually(t, func() error {
			if s := p.Status(); s.Offset < w.journal.Head().Offset {
				return fmt.Errorf("%+v", s)
			}
			return nil
		})
		must(t, p.Redrive(t.Context(), w.lettersOf(t)))
		if left := w.lettersOf(t); len(left) > 0 {
			rt.Fatalf("%d letters are left: %+v", len(left), left[0])
		}
		stop(false)
		p.Close()
		r.do(func() {
			if r.bad != "" {
				rt.Fatal(r.bad)
			}
			for _, offset := range all {
				if !r.taken[offset] && !r.givenUp[offset] {
					rt.Fatalf("%s was never taken", offset)
				}
			}
		})
	})
}

func TestFaultOrderedKeyBlocked(t *testing.T) {
	fault := faults.Cause(t, faults.Fault{
		ID: "ordered-key-blocked", Area: "Sinks", Fault: "the target of an ordered stream refuses an event for ever, and more of the same key come than may be held",
		Promise: "later events of the key wait behind it, durably and in order, those of other keys flow; at the bound the stream stops before the next one with an error that says so, and goes on by itself when some are redriven or discarded",
		Answer:  "`lanternist deadletters redrive --projector PROJECTOR`",
	})
	w := newWorld(t, journal.Config{})
	r := &receiver{refusing: map[string]bool{"1": true}, taken: map[event.Offset]bool{}, givenUp: map[event.Offset]bool{}, keyOf: map[event.Offset]string{}}
	r.all = func() []event.Offset { return w.offsets(everything) }
	for range 10 {
		w.append(chunk{events: 3})
	}
	all := w.offsets(everything)
	for i, offset := range all {
		r.keyOf[offset] = fmt.Sprint(i % 3)
	}
	p := w.holding(r, func(c *Config) { c.HoldEvents = 6 })
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- p.Serve(ctx) }()
	defer func() {
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	}()
	eventually(t, func() error {
		if s := p.Status(); s.State != projectors.StateStopped || !strings.Contains(s.Error, "6 events are held") || !strings.Contains(s.Hint, "lanternist deadletters redrive --projector file") {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
	letters := w.lettersOf(t)
	if len(letters) != 6 || letters[0].Class != "permanent" || letters[0].Attempts != 2 || letters[5].Class != deadletter.Waiting || letters[5].Attempts != 0 ||
		!slices.Equal(letters[5].Keys, []string{"key:1"}) || letters[5].Offset != all[16] {
		t.Fatalf("%d letters: %+v", len(letters), letters)
	}
	fault.Parked(6)
	r.do(func() {
		for i, offset := range all[:16] {
			if r.taken[offset] != (i%3 != 1) {
				t.Errorf("event %d: taken %t", i, r.taken[offset])
			}
		}
	})
	// Still refused: it stays, and what waits does not pass it.
	must(t, p.Redrive(t.Context(), letters))
	if letters := w.lettersOf(t); len(letters) != 6 || letters[0].Attempts != 4 {
		t.Fatalf("%d letters: %+v", len(letters), letters[0])
	}
	r.do(func() { clear(r.refusing) })
	began := time.Now()
	must(t, p.Redrive(t.Context(), letters[:1])) // takes those behind it along
	eventually(t, func() error {
		if s := p.Status(); s.State != projectors.StateRunning || s.Parked != 0 || s.Offset != all[len(all)-1] {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
	fault.Recovered(time.Since(began))
	r.do(func() {
		if len(r.taken) != len(all) || r.bad != "" {
			t.Errorf("%d of %d were taken; %s", len(r.taken), len(all), r.bad)
		}
	})
}

// An event that is given up lets those behind it go, also when the projector hears of it only when it begins.
func TestDiscardReleases(t *testing.T) {
	for _, running := range []bool{true, false} {
		t.Run(fmt.Sprint("running=", running), func(t *testing.T) {
			w := newWorld(t, journal.Config{})
			var refusing atomic.Bool
			refusing.Store(true)
			f := newFile()
			w.append(chunk{events: 9})
			all := w.offsets(everything)
			f.handle = func(events []event.Event) error {
				if slices.ContainsFunc(events, func(e event.Event) bool { return e.Offset == all[0] }) {
					return projectors.Permanentf("no")
				}
				return nil
			}
			p := w.holding(f)
			stop := w.run(p)
			f.reach(t, 6)
			eventually(t, func() error {
				if n := p.Status().Parked; n != 3 {
					return fmt.Errorf("%d parked", n)
				}
				return nil
			})
			if !running {
				_ = stop()
			}
			letters := w.lettersOf(t)
			if err := p.Redrive(t.Context(), letters[1:2]); err == nil || !strings.Contains(err.Error(), letters[0].ID) {
				t.Errorf("one that waits was redriven: %v", err)
			}
			_, err := w.letters.Discard(t.Context(), letters[0].ID)
			must(t, err)
			if !running {
				w.run(p)
			}
			live := f.reach(t, 8)
			same(t, "after those of other keys", live[6:], []event.Offset{all[3], all[6]})
			eventually(t, func() error {
				if n := p.Status().Parked; n != 0 {
					return fmt.Errorf("%d parked", n)
				}
				return nil
			})
		})
	}
}

func TestParkedEventIsRedriven(t *testing.T) {
	w := newWorld(t, journal.Config{})
	w.append(chunk{events: 5})
	all := w.offsets(everything)
	var refusing atomic.Bool
	refusing.Store(true)
	f := newFile()
	f.handle = func(events []event.Event) error {
		if refusing.Load() && events[0].Ordinal%2 == 1 {
			return projectors.Permanentf("no")
		}
		return nil
	}
	p := w.projector(f, func(c *Config) { c.OnRefusal, c.BatchEvents = Park, 1 })
	stop := w.run(p)
	f.reach(t, 3)
	eventually(t, func() error {
		if n := p.Status().Parked; n != 2 {
			return fmt.Errorf("%d parked", n)
		}
		return nil
	})
	refusing.Store(false)
	must(t, p.Redrive(t.Context(), w.lettersOf(t)))
	same(t, "redriven", f.reach(t, 5)[3:], []event.Offset{all[1], all[3]})
	_ = stop()
	if err := p.Redrive(t.Context(), []deadletter.Letter{{ID: "x", Projector: "other"}}); err == nil {
		t.Error("another projector's letter was tried")
	}
}

func TestKeysOfEvents(t *testing.T) {
	p := &Projector{cfg: Config{Name: "p"}}
	r := func(id string) row.Row { return row.New(row.Value{Kind: row.Text, Text: []byte(id)}) }
	keyless := table(3, 103, "public", "log")
	keyless.Key = nil
	for _, c := range []struct {
		ev   event.Event
		want []string
	}{
		{event.Event{Op: event.Insert, Schema: orders, After: r("1")}, []string{"public.orders/1"}},
		{event.Event{Op: event.Update, Schema: orders, Before: r("1"), After: r("1")}, []string{"public.orders/1"}},
		{event.Event{Op: event.Update, Schema: orders, Before: r("1"), After: r("2/*")}, []string{"public.orders/2%2F%2A", "public.orders/1"}},
		{event.Event{Op: event.Delete, Schema: orders, Before: r("1")}, []string{"public.orders/1"}},
		{event.Event{Op: event.Truncate, Schema: orders}, []string{"public.orders/*"}},
		{event.Event{Op: event.Insert, Schema: keyless, After: r("1")}, []string{"public.log/*"}},
		{event.Event{Op: event.Message, Prefix: "m"}, []string{"message:m"}},
	} {
		if got := p.keys(&c.ev); !slices.Equal(got, c.want) {
			t.Errorf("%+v: %q, want %q", c.ev, got, c.want)
		}
	}
	var h held
	h.add([]string{"public.orders/1"}, 1)
	for key, want := range map[string]bool{"public.orders/1": true, "public.orders/2": false, "public.orders/*": true, "public.items/*": false} {
		if got := h.blocks([]string{key}); got != want {
			t.Errorf("%s behind a row: %t", key, got)
		}
	}
	h.add([]string{"public.orders/*"}, 1)
	h.add([]string{"public.orders/1"}, -1)
	for key, want := range map[string]bool{"public.orders/1": true, "public.orders/2": true, "public.orders/*": true, "public.items/2": false} {
		if got := h.blocks([]string{key}); got != want {
			t.Errorf("%s behind a TRUNCATE: %t", key, got)
		}
	}
	h.add([]string{"public.orders/*"}, -1)
	if h.blocks([]string{"public.orders/1", "public.orders/*"}) {
		t.Error("something is held")
	}
}
