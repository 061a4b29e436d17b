package stream

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/lanternist/lanternist/event"
	"github.com/lanternist/lanternist/journal"
	"github.com/lanternist/lanternist/mirror"
	"github.com/lanternist/lanternist/projectors"
)

// Wherever the handler fails and the projector is cut off, each event is handled, in order: what comes again comes with all
// that follows it, and is no more than what came after the last checkpoint.
func TestEachEventAtLeastOnceInOrder(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(t, journal.Config{CacheBytes: 1})
		defer w.close()
		randomJournal(rt, w)
		f := newFile()
		var handled []event.Offset
		for range rapid.IntRange(1, 4).Draw(rt, "lives") {
			left := rapid.IntRange(1, 6).Draw(rt, "calls")
			failing := rapid.Bool().Draw(rt, "failing")
			crash := rapid.Bool().Draw(rt, "crash")
			ctx, cancel := context.WithCancel(context.Background())
			f.handle = func([]event.Event) error {
				if failing = !failing; failing {
					return errors.New("away")
				}
				if left--; left == 0 {
					if crash {
						w.control.fail(errors.New("the process is gone"))
					}
					cancel()
				}
				return nil
			}
			p := w.projector(f, func(c *Config) {
				c.BatchEvents, c.StopTimeout = rapid.IntRange(1, 8).Draw(rt, "slice"), 5*time.Millisecond
				c.CheckpointInterval = rapid.SampledFrom([]time.Duration{time.Nanosecond, time.Hour}).Draw(rt, "interval")
			})
			ended := make(chan error, 1)
			go func() { ended <- p.Run(ctx) }()
			err := caughtUp(p, w, ended, cancel)
			w.control.fail(nil)
			if !errors.Is(err, context.Canceled) {
				rt.Fatal(err)
			}
			live, _ := f.has(t)
			cp, _, err := LoadCheckpoint(t.Context(), w.control, "file")
			if err != nil || (!crash && len(live) > 0 && cp.Offset < live[len(live)-1]) {
				rt.Fatalf("stopped at %+v after %v: %v", cp, live, err)
			}
			handled, f.live = append(append(handled, live...), 0), nil
		}
		f.handle = nil
		p := w.projector(f)
		stop := w.run(p)
		all := w.offsets(everything)
		eventually(t, func() error {
			if s := p.Status(); s.State != projectors.StateRunning || s.Offset < w.journal.Head().Offset {
				return fmt.Errorf("%+v", s)
			}
			return nil
		})
		_ = stop()
		live, _ := f.has(t)
		checkOrder(rt, append(handled, live...), all)
	})
}

// caughtUp waits until a projector has ended, or has nothing more to do, and then ends it.
func caughtUp(p *Projector, w *world, ended chan error, cancel func()) error {
	defer cancel()
	tick, deadline := time.NewTicker(time.Millisecond), time.After(20*time.Second)
	defer tick.Stop()
	for {
		select {
		case err := <-ended:
			return err
		case <-deadline:
			return errors.New("it does not end")
		case <-tick.C:
			if s := p.Status(); s.State == projectors.StateRunning && s.Offset >= w.journal.Head().Offset {
				cancel()
			}
		}
	}
}

// checkOrder checks that lives, divided by 0, together have all events; that each has what follows each other; and that each
// begins at most one after where one before it ended.
func checkOrder(rt *rapid.T, lives, all []event.Offset) {
	next := 0
	for i, offset := range lives {
		if offset == 0 {
			continue
		}
		at := slices.Index(all, offset)
		switch {
		case at < 0:
			rt.Fatalf("%s was never appended", offset)
		case i > 0 && lives[i-1] != 0 && lives[i-1] != all[max(at-1, 0)]:
			rt.Fatalf("%s came after %s", offset, lives[i-1])
		case at > next:
			rt.Fatalf("%s came, %s did not", offset, all[next])
		}
		next = max(next, at+1)
	}
	if next != len(all) {
		rt.Fatalf("%d of %d events were handled", next, len(all))
	}
}

func TestStartInThePast(t *testing.T) {
	w := newWorld(t, journal.Config{})
	for range 6 {
		w.append(chunk{events: 2}, chunk{events: 1})
	}
	all := w.offsets(everything)
	fourth := w.all[3]
	for _, c := range []struct {
		start Position
		first int // of all
	}{
		{Position{}, 0}, {At(0), 0}, {At(all[4]), 3}, {AtLSN(fourth.lsn), 5}, {AtLSN(fourth.lsn - 1), 5}, {AtTime(fourth.at), 5}, {End(), len(all)},
	} {
		f := newFile()
		name := "at " + c.start.String()
		p := w.projector(f, func(cfg *Config) { cfg.Name, cfg.Start = name, c.start })
		stop := w.run(p)
		live := f.reach(t, len(all)-c.first)
		same(t, name, live, all[c.first:])
		eventually(t, func() error {
			if s := p.Status(); s.State != projectors.StateRunning || s.LagEvents != 0 || s.Offset != all[len(all)-1] {
				return fmt.Errorf("%+v", s)
			}
			return nil
		})
		_ = stop()
		if c.start == End() {
			continue
		}
		// The start counts only once.
		p.Close()
		again := newFile()
		p = w.projector(again, func(cfg *Config) { cfg.Name, cfg.Start = name, At(0) })
		if err := cut(p, time.Millisecond); err != nil {
			t.Error(err)
		}
		if live, _ := again.has(t); len(live) != 0 {
			t.Errorf("%s: %v came again", name, live)
		}
		must(t, Forget(t.Context(), w.control, name))
		stop = w.run(p)
		same(t, name+" when it was forgotten", again.reach(t, len(all)), all)
		_ = stop()
		p.Close()
	}
}

// cut runs a projector until it waits for events.
func cut(p *Projector, d time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	if err := p.Run(ctx); !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return nil
}

// What is gone is said before anything is handed on.
func TestStartInWhatIsGone(t *testing.T) {
	w := trimmed(t)
	oldest, _, err := w.journal.Oldest(t.Context())
	must(t, err)
	for _, start := range []Position{At(0), At(oldest.Offset - 1), AtLSN(0x100), AtTime(began)} {
		f := newFile()
		p := w.projector(f, func(c *Config) { c.Start = start })
		err := p.Run(t.Context())
		var gone *projectors.NotRetainedError
		if !errors.As(err, &gone) || !strings.Contains(err.Error(), oldest.String()) || projectors.Hint(err) == "" {
			t.Errorf("%s: %v", start, err)
		}
		if s := p.Status(); s.State != projectors.StateStopped || s.Error == "" {
			t.Errorf("%s: %+v", start, s)
		}
		if live, _ := f.has(t); len(live) != 0 {
			t.Errorf("%s: handled %v", start, live)
		}
		p.Close()
	}
	f := newFile()
	p := w.projector(f, func(c *Config) { c.Start = Beginning() })
	stop := w.run(p)
	want := w.offsets(func(x *transaction) bool { return x.events[0] >= oldest.Offset })
	same(t, "from the beginning of what there is", f.reach(t, len(want)), want)
	_ = stop()
}

// A transaction whose beginning is gone is not part of what there is.
func TestBeginningIsAWholeTransaction(t *testing.T) {
	w := newWorld(t, journal.Config{CacheBytes: 1, Retention: journal.Retention{Size: 1 << 20}})
	w.append(chunk{events: 1, size: 1 << 10})
	for w.journal.First() < 3 {
		w.append(chunk{events: 2, size: 32 << 10, part: true})
	}
	w.append(chunk{events: 1, size: 10})
	w.append(chunk{events: 1, size: 10})
	f := newFile()
	p := w.projector(f)
	stop := w.run(p)
	same(t, "handled", f.reach(t, 1), w.all[len(w.all)-1].events)
	_ = stop()
	_, err := p.Replay(t.Context(), projectors.ReplayRange{From: w.all[1].events[len(w.all[1].events)-1]}, nil)
	if _, gone := errors.AsType[*projectors.NotRetainedError](err); !gone {
		t.Errorf("half a transaction was replayed: %v", err)
	}
}

// The journal keeps what the projector needs, running or not, until it is closed.
func TestClaim(t *testing.T) {
	w := newWorld(t, journal.Config{})
	w.append(chunk{events: 5})
	f := newFile()
	p := w.projector(f)
	claim := func() (event.Offset, bool) {
		offset, held := w.journal.Stats(t.Context()).Readers["file"]
		return offset, held
	}
	if at, held := claim(); !held || at != 0 {
		t.Errorf("before it runs: %s %t", at, held)
	}
	stop := w.run(p)
	head := w.journal.Head().Offset
	f.reach(t, 5)
	eventually(t, func() error { // saved while it waits, without any further event
		if at, _ := claim(); at != head {
			return fmt.Errorf("at %s", at)
		}
		return nil
	})
	_ = stop()
	if at, held := claim(); !held || at != head {
		t.Errorf("stopped: %s %t", at, held)
	}
	p.Close()
	if _, held := claim(); held {
		t.Error("closed, and it is still held")
	}
}

func TestRefusedEventStops(t *testing.T) {
	w := newWorld(t, journal.Config{})
	w.append(chunk{events: 5})
	all := w.offsets(everything)
	var refusing atomic.Bool
	refusing.Store(true)
	f := newFile()
	f.handle = func(events []event.Event) error {
		if refusing.Load() && slices.ContainsFunc(events, func(e event.Event) bool { return e.Offset == all[3] }) {
			return projectors.Permanentf("no")
		}
		return nil
	}
	p := w.projector(f)
	err := p.Run(t.Context())
	if projectors.Class(err) != projectors.Fatal || projectors.Hint(err) == "" || !strings.Contains(err.Error(), all[3].String()) {
		t.Errorf("got %v", err)
	}
	live, _ := f.has(t)
	same(t, "before it", live, all[:3])
	refusing.Store(false)
	stop := w.run(p)
	same(t, "after it was corrected", f.reach(t, 5), all)
	_ = stop()
}

func TestRefusedEventIsParked(t *testing.T) {
	w := newWorld(t, journal.Config{})
	w.append(chunk{events: 5}, chunk{events: 4})
	all := w.offsets(everything)
	refused := []event.Offset{all[1], all[6], all[8]}
	var refusing atomic.Bool
	refusing.Store(true)
	f := newFile()
	f.handle = func(events []event.Event) error {
		for i := range events {
			if refusing.Load() && slices.Contains(refused, events[i].Offset) {
				return projectors.Permanentf("no %s", events[i].Offset)
			}
		}
		return nil
	}
	p := w.projector(f, func(c *Config) { c.OnRefusal, c.BatchEvents = Park, 8 })
	stop := w.run(p)
	f.reach(t, 6)
	eventually(t, func() error {
		if s := p.Status(); s.Parked != 3 || s.LagEvents != 0 {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
	live, _ := f.has(t)
	same(t, "the others", live, slices.DeleteFunc(slices.Clone(all), func(o event.Offset) bool { return slices.Contains(refused, o) }))
	// Run again when the handler takes it, it is no dead letter any more; the others are.
	refusing.Store(false)
	result, err := p.Replay(t.Context(), projectors.ReplayRange{From: all[5]}, nil)
	if err != nil || p.Status().Parked != 1 || result.Touching != 4 {
		t.Errorf("%+v, %d parked: %v", result, p.Status().Parked, err)
	}
	_ = stop()
}

func TestTransientErrorIsRepeated(t *testing.T) {
	w := newWorld(t, journal.Config{})
	w.append(chunk{events: 2})
	f, left := newFile(), 20
	shown := make(chan projectors.Status, 1)
	var p *Projector
	f.handle = func([]event.Event) error {
		if left--; left < 0 {
			return nil
		}
		if s := p.Status(); left == 3 {
			shown <- s
		}
		return errors.New("away")
	}
	p = w.projector(f)
	stop := w.run(p)
	same(t, "handled", f.reach(t, 2), w.offsets(everything))
	if s := <-shown; s.State != projectors.StateRetrying || s.Error != "away" || s.RetryingSince.IsZero() || s.LagEvents == 0 || s.LagSeconds <= 0 {
		t.Errorf("meanwhile: %+v", s)
	}
	eventually(t, func() error {
		if s := p.Status(); s.State != projectors.StateRunning || s.Error != "" || s.Retries != 20 || s.Events != 2 {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
	_ = stop()
}

// A checkpoint is of one journal, and not of the future.
func TestForeignCheckpoint(t *testing.T) {
	for _, cp := range []Checkpoint{{Offset: 1, JournalID: "other"}, {Offset: 1 << 40}} {
		w := newWorld(t, journal.Config{})
		w.append(chunk{events: 1})
		f := newFile()
		p := w.projector(f)
		if cp.JournalID == "" {
			cp.JournalID = w.journal.Identity()
		}
		must(t, p.put(t.Context(), cp))
		if err := p.Run(t.Context()); projectors.Class(err) != projectors.Fatal || projectors.Hint(err) == "" {
			t.Errorf("%+v: %v", cp, err)
		}
	}
}

func TestFilter(t *testing.T) {
	w := newWorld(t, journal.Config{})
	w.append(chunk{events: 2}, chunk{events: 3, table: items}, chunk{events: 1})
	of := func(n ...int) (all []event.Offset) {
		for _, i := range n {
			all = append(all, w.all[i].events...)
		}
		return all
	}
	for _, c := range []struct {
		filter Filter
		want   []event.Offset
	}{
		{Filter{}, of(0, 1, 2)}, {Filter{Tables: []string{"public.orders"}}, of(0, 2)}, {Filter{Tables: []string{"sales.*"}}, of(1)},
		{Filter{Types: []string{"sales.items.created"}}, of(1)}, {Filter{Types: []string{"orders.*"}}, of(0, 2)},
		{Filter{Tables: []string{"sales.items"}, Types: []string{"sales.items.deleted"}}, nil}, {Filter{Tables: []string{"public.order"}}, nil},
	} {
		f := newFile()
		p := w.projector(f, func(cfg *Config) { cfg.Filter = c.filter })
		result, err := p.Replay(t.Context(), projectors.ReplayRange{}, nil)
		must(t, err)
		_, again := f.has(t)
		same(t, fmt.Sprint(c.filter), again, c.want)
		if result.Events != 6 || result.Touching != int64(len(c.want)) {
			t.Errorf("%v: %+v", c.filter, result)
		}
		// What is not wanted is passed by, too.
		stop := w.run(p)
		eventually(t, func() error {
			if s := p.Status(); s.Offset != w.journal.Head().Offset {
				return fmt.Errorf("%+v", s)
			}
			return nil
		})
		_ = stop()
		must(t, Forget(t.Context(), w.control, "file"))
	}
	for _, bad := range []Filter{{Tables: []string{"orders"}}, {Tables: []string{"."}}, {Types: []string{"*"}}, {Types: []string{""}}} {
		if bad.Validate() == nil {
			t.Errorf("%v is no filter", bad)
		}
	}
}

type idleSource struct{ progress mirror.Progress }

func (s *idleSource) Progress() (mirror.Progress, <-chan struct{}) { return s.progress, nil }

// The watermark of an idle source moves on.
func TestWatermark(t *testing.T) {
	w := newWorld(t, journal.Config{})
	w.append(chunk{events: 1})
	p := w.projector(newFile())
	p.parts.Mirror = &idleSource{mirror.Progress{Offset: w.journal.Head().Offset, LSN: 0x9000}}
	if mark := p.Watermark(); mark != (mirror.Progress{}) {
		t.Errorf("before it runs: %+v", mark)
	}
	stop := w.run(p)
	eventually(t, func() error {
		if mark := p.Watermark(); mark.LSN != 0x9000 || mark.Offset != w.journal.Head().Offset {
			return fmt.Errorf("%+v", mark)
		}
		return nil
	})
	_ = stop()
}

func TestPositions(t *testing.T) {
	for _, text := range []string{"0", "53215233", "0/16B3748", "2026-01-31T12:00:00.123456Z", "beginning", "end"} {
		p, err := ParsePosition(text)
		if err != nil || p.String() != text {
			t.Errorf("%s: %s, %v", text, p, err)
		}
	}
	for _, text := range []string{"", "-1", "yesterday", "0/", "0/16B3748x", "99999999999999999999"} {
		if p, err := ParsePosition(text); err == nil {
			t.Errorf("%q is %s", text, p)
		}
	}
}

func TestConfigIsChecked(t *testing.T) {
	w := newWorld(t, journal.Config{})
	_, err := New(Config{BatchBytes: -1, OnRefusal: 9, Filter: Filter{Tables: []string{"orders"}}}, newFile(), Parts{Journal: w.journal, Control: w.control}, quiet)
	for _, want := range []string{"no name", "batch bytes", "no way 9", "orders"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in %v", want, err)
		}
	}
	if _, err = New(Config{Name: "a", OnRefusal: Park}, newFile(), Parts{Journal: w.journal, Control: w.control}, quiet); err == nil {
		t.Error("parked nowhere")
	}
}

// eventually polls until there is no error, for which there are 20 seconds.
func eventually(t testing.TB, try func() error) {
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
