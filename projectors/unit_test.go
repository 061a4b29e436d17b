package projectors

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/lanternist/lanternist/mirror"
	"github.com/lanternist/lanternist/views"
)

func TestClass(t *testing.T) {
	for _, c := range []struct {
		err  error
		want ErrorClass
	}{
		{errors.New("connection refused"), Transient},
		{context.DeadlineExceeded, Transient},
		{Permanentf("bad"), Permanent},
		{fmt.Errorf("write: %w", Permanentf("bad: %w", context.Canceled)), Permanent},
		{fmt.Errorf("write: %w", Fatalf("", "denied")), Fatal},
		{Fatalf("", "all refused: %w", Permanentf("one")), Fatal},
		{fmt.Errorf("view: %w", views.ErrEvaluate), Permanent},
		{fmt.Errorf("view: %w", views.ErrTooLarge), Permanent},
		{ErrLost, Transient},
	} {
		if got := Class(c.err); got != c.want {
			t.Errorf("%v is %s, want %s", c.err, got, c.want)
		}
	}
	if got := worse(worse(nil, Permanentf("a")), Fatalf("hint", "b")); Class(got) != Fatal || Hint(got) != "hint" {
		t.Errorf("worse: %v", got)
	}
	if got := worse(ErrLost, errors.New("x")); !errors.Is(got, ErrLost) {
		t.Errorf("worse: %v", got)
	}
}

func TestWatermark(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w Watermark
		reached := make(chan mirror.Progress, 1)
		go func() {
			p, err := w.Wait(context.Background(), 100)
			check(t, err)
			reached <- p
		}()
		synctest.Wait()
		w.advance(mirror.Progress{Offset: 1, LSN: 99})
		synctest.Wait()
		if len(reached) > 0 {
			t.Fatal("Wait returned early")
		}
		w.advance(mirror.Progress{Offset: 2, LSN: 100})
		if got := <-reached; got.LSN != 100 {
			t.Errorf("Wait: %v", got)
		}
		w.advance(mirror.Progress{Offset: 1, LSN: 50})
		if got, _ := w.Progress(); got != (mirror.Progress{Offset: 2, LSN: 100}) {
			t.Errorf("moved back to %v", got)
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if got, err := w.Wait(ctx, 101); !errors.Is(err, context.DeadlineExceeded) || got.LSN != 100 {
			t.Errorf("Wait: %v, %v", got, err)
		}
		_, moved := w.Progress()
		w.reset(mirror.Progress{})
		<-moved
	})
}

func TestKeySetForgetsTheOldest(t *testing.T) {
	s := newKeySet(10)
	for i := range 100 {
		if !s.add([]byte(fmt.Sprint(i))) {
			t.Fatalf("%d was not new", i)
		}
		if s.add([]byte(fmt.Sprint(i))) {
			t.Fatalf("%d was new again", i)
		}
		if held := len(s.current) + len(s.older); held > 10 {
			t.Fatalf("%d keys held", held)
		}
	}
	if !s.add([]byte("1")) {
		t.Error("1 is still remembered")
	}
}

// After a crash within a round, and with a mirror that is still before that round's end, nothing is promised before that
// end is reached: documents may show a state between.
func TestNoPromiseBeforeTheEndOfACutOffRound(t *testing.T) {
	view := compile(t, customerView)
	s, sink := newSource(t, view), newMemory()
	s.commit(insert(customers, "1", "Ada"))
	before, _ := s.mirror.Progress()
	r := s.runner(view, sink)
	g, err := sink.Create(t.Context(), Info{Number: 1})
	check(t, err)
	e1 := s.commit(insert(orders, "10", "1", "new"))
	at, _ := s.mirror.Progress()
	f := r.newFollower(r.wanted.Load(), g, Info{Number: 1, Live: true},
		Checkpoint{Offset: at.Offset, Round: at.Offset + 1<<16, LSN: before.LSN, JournalID: s.journal.Identity()})
	defer f.stop(t.Context(), false)
	if f.behind(at) {
		t.Fatal("behind, with no event to read")
	}
	s.mirror.Advance(e1 + 100)
	now, _ := s.mirror.Progress()
	_ = f.behind(now)
	if mark, _ := r.Watermark(); mark.LSN != 0 {
		t.Errorf("watermark %v before the round's end", mark)
	}
	if cp := f.saver.wanted; cp.LSN != before.LSN || cp.Round != at.Offset+1<<16 {
		t.Errorf("checkpoint would be %+v", cp)
	}
	s.commit(insert(orders, "11", "1", "new"))
	if now, _ = s.mirror.Progress(); now.Offset != at.Offset+1<<16 {
		t.Fatalf("mirror is at %s", now.Offset)
	}
	check(t, f.step(t.Context()))
	if mark, _ := r.Watermark(); mark != now {
		t.Errorf("watermark %v, want %v", mark, now)
	}
}

func TestConfigNamesEveryProblem(t *testing.T) {
	_, err := NewRunner(Config{Workers: -1, MaxAttempts: -1}, nil, nil, nil, nil, nil, nil)
	for _, want := range []string{"no name", "no sink", "workers", "max attempts"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v does not name %q", err, want)
		}
	}
}

func TestMetrics(t *testing.T) {
	view := compile(t, orderView)
	s, sink := newSource(t, view), newMemory()
	r := s.runner(view, sink)
	registry := prometheus.NewPedanticRegistry()
	check(t, Register(registry, func() []*Runner { return []*Runner{r} }))
	s.run(r)
	s.reach(r, s.commit(insert(orders, "1", "1", "new"), insert(orders, "2", "1", "draft")))
	// The promise of a first build is made before the following begins.
	eventually(t, "running", func() bool { return r.Status().State == StateRunning && r.Status().LagEvents == 0 })
	families, err := registry.Gather()
	check(t, err)
	values := map[string]float64{}
	for _, family := range families {
		for _, m := range family.Metric {
			name := family.GetName()
			for _, l := range m.Label {
				if l.GetName() == "state" {
					name += "/" + l.GetValue()
				}
			}
			values[name] = m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	for name, want := range map[string]float64{
		"documents_total": 1, "state/running": 1, "state/stopped": 0, "generation": 1, "lag_events": 0, "dead_letters": 0,
	} {
		if got := values["lanternist_projector_"+name]; got != want {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
	if values["lanternist_projector_write_seconds"] == 0 || values["lanternist_projector_watermark_lsn"] != float64(s.lsn.Load()) {
		t.Errorf("metrics: %v", values)
	}
}

func TestMeter(t *testing.T) {
	var m meter
	at := time.Unix(1000, 0)
	for i := range 30 {
		m.add(5, at.Add(time.Duration(i)*time.Second))
	}
	if got := m.perSecond(at.Add(30 * time.Second)); got != 5 {
		t.Errorf("rate is %v, want 5", got)
	}
	if got := m.perSecond(at.Add(time.Hour)); got != 0 {
		t.Errorf("rate an hour later is %v", got)
	}
}
