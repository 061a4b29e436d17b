package projectors

import (
	"context"
	"fmt"
	"slices"
	"testing"
)

// What Steps says is what is done, in that order: whoever kills a process at each of them misses none.
func TestStepsAreTakenInOrder(t *testing.T) {
	view := compile(t, orderView)
	s, sink := newSource(t, view), newMemory()
	for i := range 10 {
		s.commit(insert(orders, fmt.Sprint(i), "1", "new"))
	}
	r := s.runner(view, sink)
	s.run(r)
	s.reach(r, pglsn(s.lsn.Load()))
	following(t, r)
	var seen []Step
	watch := func(int64, int64) {
		if b := r.Status().Build; b != nil {
			seen = append(seen, b.Step)
		}
	}
	check(t, r.Rebuild(context.Background(), watch))
	if got := r.status.course.taken; !slices.Equal(got, KindRebuild.Steps()) {
		t.Errorf("rebuild took %q", got)
	}
	if !slices.Contains(seen, StepFilling) {
		t.Errorf("status showed %q", seen)
	}
	seen = nil
	check(t, r.Rollback(context.Background(), watch))
	if got := r.status.course.taken; !slices.Equal(got, KindRollback.Steps()) {
		t.Errorf("rollback took %q", got)
	}
	if !slices.Contains(seen, StepCatchingUp) {
		t.Errorf("status showed %q", seen)
	}
	if b := r.Status().Build; b != nil {
		t.Errorf("after the end status shows %+v", b)
	}
}
