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
	"time"

	"github.com/lanternist/lanternist/deadletter"
	"github.com/lanternist/lanternist/internal/faults"
	"github.com/lanternist/lanternist/views"
)

// letters are those of a runner.
func lettersOf(t *testing.T, s *source, r *Runner) (all []deadletter.Letter) {
	t.Helper()
	check(t, s.letters.List(context.Background(), deadletter.Filter{Projector: r.Name()}, func(l deadletter.Letter) error {
		all = append(all, l)
		return nil
	}))
	return all
}

// poisonous has the sink refuse documents with poison in them, for as long as it is told to.
func poisonous(sink *memory) (refusing *atomic.Bool, offers func() int) {
	refusing = &atomic.Bool{}
	refusing.Store(true)
	var mu sync.Mutex
	n := 0
	sink.script(nil, func(d views.Document) error {
		if !strings.Contains(string(d.Body), "poison") {
			return nil
		}
		mu.Lock()
		defer mu.Unlock()
		n++
		if refusing.Load() {
			return Permanentf("mapper_parsing_exception")
		}
		return nil
	})
	return refusing, func() int {
		mu.Lock()
		defer mu.Unlock()
		return n
	}
}

func TestFaultRefusedForEver(t *testing.T) {
	fault := faults.Cause(t, faults.Fault{
		ID: "document-refused-for-ever", Area: "Sinks", Fault: "the sink refuses some documents for ever",
		Promise: "they are parked after the configured attempts, each once; all others are written, and positions move on",
		Answer:  "`lanternist deadletters list`; correct the rows or the view, then `lanternist deadletters redrive --all`",
	})
	view := compile(t, orderView)
	s, sink := newSource(t, view), newMemory()
	poisonous(sink)
	r := s.runner(view, sink)
	s.run(r)
	token := s.commit(insert(customers, "1", "Ada"))
	for i := range 100 {
		status := "fine"
		if i%10 == 3 {
			status = "poison"
		}
		token = s.commit(insert(orders, fmt.Sprint(i), "1", status))
	}
	s.reach(r, token)
	want := s.documents(view)
	for id, body := range want {
		if strings.Contains(body, "poison") {
			delete(want, id)
		}
	}
	wantDocuments(t, sink, want)
	all := lettersOf(t, s, r)
	if len(want) != 90 || len(all) != 10 || r.Status().Parked != 10 {
		t.Fatalf("%d documents, %d letters, %d parked", len(want), len(all), r.Status().Parked)
	}
	if !slices.IsSortedFunc(all, func(a, b deadletter.Letter) int { return int(a.Offset) - int(b.Offset) }) {
		t.Error("letters are not in the order of offsets")
	}
	fault.Parked(len(all))
}

func TestFaultPoisonBecomesGood(t *testing.T) {
	fault := faults.Cause(t, faults.Fault{
		ID: "poison-becomes-good", Area: "Sinks", Fault: "a document that was parked is changed so that the sink takes it",
		Promise: "its letter is gone by itself as soon as the newer document is written; an older letter never outlives a newer document",
		Answer:  "nothing: the letter resolves itself",
	})
	view := compile(t, orderView)
	s, sink := newSource(t, view), newMemory()
	poisonous(sink)
	r := s.runner(view, sink)
	s.run(r)
	s.reach(r, s.commit(insert(orders, "1", "1", "poison"), insert(orders, "2", "1", "poison"), insert(orders, "3", "1", "poison")))
	if n := len(lettersOf(t, s, r)); n != 3 {
		t.Fatalf("%d letters", n)
	}
	fault.Parked(3)
	began := time.Now()
	s.reach(r, s.commit(update(orders, "1", "1", "healthy"), remove(orders, "2")))
	fault.Recovered(time.Since(began))
	if all := lettersOf(t, s, r); len(all) != 1 || all[0].DocumentID != "3" {
		t.Errorf("%+v", all)
	}
	s.reach(r, s.commit(update(orders, "3", "1", "healthy")))
	if n := len(lettersOf(t, s, r)); n != 0 {
		t.Errorf("%d letters are left", n)
	}
	wantDocuments(t, sink, s.documents(view))
}

// The process is killed when the document has been parked and the checkpoint has not been saved.
func TestFaultCrashBetweenParkAndCheckpoint(t *testing.T) {
	fault := faults.Cause(t, faults.Fault{
		ID: "crash-between-park-and-checkpoint", Area: "Process", Fault: "the process is killed after a document was parked and before the checkpoint is saved",
		Promise: "the document is tried again after the start, and there is one letter of it, with all attempts",
		Answer:  "nothing: the start goes on from the checkpoint before",
	})
	view := compile(t, orderView)
	s, sink := newSource(t, view), newMemory()
	poisonous(sink)
	r := s.runner(view, sink)
	stop := s.run(r)
	s.reach(r, s.commit(insert(orders, "1", "1", "new"), insert(orders, "2", "1", "new")))
	eventually(t, "a checkpoint", func() bool { return lastCheckpoint(sink).Offset == s.mirror.Position() })
	dead := make(chan struct{})
	sink.mu.Lock()
	sink.before = func(operation string) error {
		if operation == "save" { // under way when the process is killed, or not yet begun
			<-dead
		}
		select {
		case <-dead:
			return errCrashed
		default:
			return nil
		}
	}
	sink.mu.Unlock()
	s.commit(update(orders, "1", "1", "poison"))
	eventually(t, "a letter", func() bool { return r.Status().Parked == 1 })
	close(dead)
	if err := stop(); err == nil {
		t.Error("it did not end")
	}
	first := lettersOf(t, s, r)
	sink.mu.Lock()
	sink.before = nil
	sink.mu.Unlock()
	token := s.commit(update(orders, "2", "1", "paid"))
	r = s.runner(view, sink)
	began := time.Now()
	s.run(r)
	s.reach(r, token)
	fault.Recovered(time.Since(began))
	all := lettersOf(t, s, r)
	if len(first) != 1 || len(all) != 1 || all[0].DocumentID != "1" || all[0].Attempts != 6 || !all[0].Time.Equal(first[0].Time) {
		t.Errorf("before the crash %+v, after it %+v", first, all)
	}
	fault.Parked(len(all))
	if got := sink.document("2"); !strings.Contains(got, "paid") {
		t.Errorf("the other document is %s", got)
	}
}

func lastCheckpoint(sink *memory) (cp Checkpoint) {
	sink.mu.Lock()
	g := sink.generations[sink.live]
	sink.mu.Unlock()
	if g == nil {
		return cp
	}
	cp, _, _ = g.Checkpoint(context.Background())
	return cp
}

func TestFaultRedriveWhileRefused(t *testing.T) {
	fault := faults.Cause(t, faults.Fault{
		ID: "redrive-while-refused", Area: "Sinks", Fault: "dead letters are redriven while the sink still refuses the documents",
		Promise: "they stay, each once, with the attempts counted; traffic goes on; a later redrive writes the documents as they are then",
		Answer:  "correct the sink or the view, then `lanternist deadletters redrive --projector PROJECTOR`",
	})
	view := compile(t, orderView)
	s, sink := newSource(t, view), newMemory()
	refusing, offers := poisonous(sink)
	r := s.runner(view, sink)
	if err := r.Redrive(t.Context(), nil); !errors.Is(err, ErrNotRunning) {
		t.Errorf("of one that does not run: %v", err)
	}
	s.run(r)
	s.reach(r, s.commit(insert(orders, "1", "1", "poison"), insert(orders, "2", "1", "poison"), insert(orders, "3", "1", "fine")))
	before := lettersOf(t, s, r)
	for round := 1; round <= 2; round++ {
		check(t, r.Redrive(t.Context(), lettersOf(t, s, r)))
		all := lettersOf(t, s, r)
		if len(all) != 2 {
			t.Fatalf("%d letters", len(all))
		}
		for i, l := range all {
			if l.Attempts != 3*(round+1) || !l.Time.Equal(before[i].Time) || l.Last.Before(before[i].Last) {
				t.Errorf("round %d: %+v", round, l)
			}
		}
		s.reach(r, s.commit(update(orders, "3", "1", fmt.Sprint("fine ", round))))
	}
	fault.Parked(2)
	if n := offers(); n != 18 {
		t.Errorf("%d offers, want 18", n)
	}
	if err := r.Redrive(t.Context(), []deadletter.Letter{{ID: "x", Projector: "other"}}); err == nil {
		t.Error("another projector's letter was tried")
	}
	refusing.Store(false)
	check(t, r.Redrive(t.Context(), lettersOf(t, s, r)))
	if n := len(lettersOf(t, s, r)); n != 0 {
		t.Errorf("%d letters are left", n)
	}
	wantDocuments(t, sink, s.documents(view))
}
