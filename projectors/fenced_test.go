package projectors

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/lanternist/lanternist/journal"
)

// replace has another process append to the journal: this one has been replaced.
func (s *source) replace() {
	s.t.Helper()
	check(s.t, s.engine.Append(context.Background(), s.journal.Head().Offset.Sequence()+1, []byte("someone else")))
}

// watched lists the operations that change what readers see, or which generations there are.
func watched(sink *memory) func() []string {
	var mu sync.Mutex
	var made []string
	sink.script(func(operation string) error {
		mu.Lock()
		defer mu.Unlock()
		if slices.Contains([]string{"create", "promote", "retire"}, operation) {
			made = append(made, operation)
		}
		return nil
	}, nil)
	return func() []string {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(made)
	}
}

// A process that has been replaced changes nothing of which generations there are, whatever it finds at the sink: what its
// successor has made looks to it like what somebody has spoiled.
func TestReplacedProcessChangesNoGeneration(t *testing.T) {
	for _, c := range []struct {
		name  string
		found func(t *testing.T, sink *memory)
	}{
		{"no live one", func(_ *testing.T, sink *memory) { sink.live = 0 }},
		{"nothing", func(_ *testing.T, sink *memory) { sink.live, sink.generations = 0, map[int]*memoryGeneration{} }},
		{"one that is being built", func(t *testing.T, sink *memory) {
			_, err := sink.Create(t.Context(), Info{Number: 2, Hash: "of the successor", Epoch: "1", Created: time.Now()})
			check(t, err)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			view := compile(t, orderView)
			s, sink := newSource(t, view), newMemory()
			r := s.runner(view, sink)
			stop := s.run(r)
			s.reach(r, s.commit(insert(orders, "1", "1", "new")))
			_ = stop()
			c.found(t, sink)
			made := watched(sink)
			s.replace()
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second) // of one that does not notice
			defer cancel()
			err := s.runner(view, sink).Run(ctx)
			if !errors.Is(err, journal.ErrFenced) || Class(err) != Fatal {
				t.Errorf("Run: %v", err)
			}
			if got := made(); len(got) > 0 {
				t.Errorf("it did: %v", got)
			}
		})
	}
}

// forgetfulMemory is a sink that remembers deletions for a while.
type forgetfulMemory struct{ *memory }

func (forgetfulMemory) Remembers() time.Duration { return time.Hour }

func TestFillOfAReplacedProcess(t *testing.T) {
	view := compile(t, orderView)
	for name, when := range map[string]string{"in time": "never", "before it begins": "create", "before it promotes": "promote"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, sink := newSource(t, view), newMemory()
			s.commit(insert(orders, "1", "1", "new"), insert(orders, "2", "1", "new"))
			snapshot, err := s.mirror.Snapshot(t.Context())
			check(t, err)
			defer func() { check(t, snapshot.Close()) }()
			made := watched(sink)
			if when == "create" {
				s.replace()
			}
			sink.mu.Lock()
			sink.after = func(operation string) error {
				if when == "promote" && operation == "save" {
					s.replace()
				}
				return nil
			}
			sink.mu.Unlock()
			filled, err := Fill(t.Context(), Config{Name: "order.memory", Sink: "memory", Epoch: "1"}, view, forgetfulMemory{sink}, snapshot,
				Checkpoint{JournalID: s.journal.Identity()}, s.journal, s.letters, slog.New(slog.DiscardHandler), nil)
			want := map[string][]string{"never": {"create", "promote"}, "create": nil, "promote": {"create"}}[when]
			if got := made(); !slices.Equal(got, want) {
				t.Errorf("it did %v, want %v", got, want)
			}
			if when == "never" {
				if err != nil || filled.Documents != 2 {
					t.Errorf("filled %+v, %v", filled, err)
				}
				wantDocuments(t, sink, s.documents(view))
				return
			}
			if !errors.Is(err, journal.ErrFenced) || Class(err) != Fatal || sink.live != 0 {
				t.Errorf("Fill: %v; live is %d", err, sink.live)
			}
		})
	}
}
