package projectors

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lanternist/lanternist/views"
)

func TestRetireLeavesTheLiveGeneration(t *testing.T) {
	view := compile(t, orderView)
	s, sink := newSource(t, view), newMemory()
	r := s.runner(view, sink, func(c *Config) { c.KeepGenerations = 3 })
	if err := r.Retire(context.Background(), nil); !errors.Is(err, ErrNotRunning) {
		t.Errorf("Retire of a runner that does not run: %v", err)
	}
	s.run(r)
	sink.script(nil, func(d views.Document) error {
		if strings.Contains(string(d.Body), "poison") {
			return Permanentf("refused")
		}
		return nil
	})
	s.reach(r, s.commit(insert(orders, "1", "1", "poison"), insert(orders, "2", "1", "new")))
	following(t, r)
	for range 2 {
		check(t, r.Rebuild(context.Background(), nil))
	}
	if _, numbers := sink.held(); !slices.Equal(numbers, []int{1, 2, 3}) || s.letters.Count("order.memory-g1") != 1 {
		t.Fatalf("generations %v, %d letters of the first", numbers, s.letters.Count("order.memory-g1"))
	}
	var progress [][2]int64
	check(t, r.Retire(context.Background(), func(d, total int64) { progress = append(progress, [2]int64{d, total}) }))
	if _, numbers := sink.held(); !slices.Equal(numbers, []int{3}) || len(r.Status().Generations) != 1 {
		t.Errorf("generations %v, %+v", numbers, r.Status().Generations)
	}
	if n := s.letters.Count("order.memory-g1") + s.letters.Count("order.memory-g2"); n != 0 || s.letters.Count("order.memory") != 1 {
		t.Errorf("%d letters of what is gone, %d of the live one", n, s.letters.Count("order.memory"))
	}
	if !slices.Equal(progress, [][2]int64{{0, 2}, {1, 2}, {2, 2}}) {
		t.Errorf("progress %v", progress)
	}
	if err := r.Rollback(context.Background(), nil); !errors.Is(err, ErrNoRollback) {
		t.Errorf("Rollback: %v", err)
	}
	s.reach(r, s.commit(insert(orders, "3", "1", "new")))
}

// A crash has left a half-built generation, and the sink does not show it when the runner starts: it goes with the next promotion.
func TestHalfBuiltGenerationThatCouldNotBeLookedAt(t *testing.T) {
	view := compile(t, orderView)
	s, sink := newSource(t, view), newMemory()
	r := s.runner(view, sink)
	stop := s.run(r)
	s.reach(r, s.commit(insert(orders, "1", "1", "new")))
	_ = stop()
	_, err := sink.Create(t.Context(), Info{Number: 2, Hash: view.Hash(), Definition: view.Source(), Epoch: "1", Created: time.Now()})
	check(t, err)
	looks := 0
	sink.script(func(operation string) error {
		if operation == "open" {
			if looks++; looks == 1 || looks == 3 { // of the second; between the first is opened
				return errors.New("no shard of it is there yet")
			}
		}
		return nil
	}, nil)
	r = s.runner(view, sink)
	s.run(r)
	s.reach(r, s.commit(insert(orders, "2", "1", "new")))
	following(t, r)
	if _, numbers := sink.held(); !slices.Equal(numbers, []int{1, 2}) {
		t.Errorf("generations %v: of the second it is not known whether it was live", numbers)
	}
	check(t, r.Rebuild(context.Background(), nil))
	if live, numbers := sink.held(); !slices.Equal(numbers, []int{1, 3}) || live.info.Number != 3 {
		t.Errorf("generations %v, live is %d", numbers, live.info.Number)
	}
	wantDocuments(t, sink, s.documents(view))
}

// A sink makes a generation that a process has asked for when that is dead, and the next one has looked already.
func TestHalfBuiltGenerationThatComesUpLate(t *testing.T) {
	view := compile(t, orderView)
	s, sink := newSource(t, view), newMemory()
	r := s.runner(view, sink, func(c *Config) { c.Deployments = []string{"this"} })
	s.run(r)
	s.reach(r, s.commit(insert(orders, "1", "1", "new")))
	following(t, r)
	for _, deployment := range []string{"this", "another"} {
		_, numbers := sink.held()
		_, err := sink.Create(t.Context(), Info{Number: slices.Max(numbers) + 1, Hash: view.Hash(), Epoch: "1", Deployment: deployment, Created: time.Now()})
		check(t, err)
	}
	check(t, r.Rebuild(context.Background(), nil))
	if live, numbers := sink.held(); !slices.Equal(numbers, []int{1, 3, 4}) || live.info.Number != 4 {
		t.Errorf("generations %v, want that of the other deployment left alone; live is %d", numbers, live.info.Number)
	}
}
