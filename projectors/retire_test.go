package projectors

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

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
