package projectors

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/lanternist/lanternist/views"
)

func TestWriteSize(t *testing.T) {
	s := NewWriteSize(16<<10, 1<<20, 8<<20)
	for range 100 {
		s.Accepted(s.Bytes(), time.Millisecond)
	}
	if got := s.Bytes(); got != 8<<20 {
		t.Errorf("grew to %d", got)
	}
	s.Accepted(100, time.Millisecond)
	s.Refused(s.Bytes())
	if got := s.Bytes(); got != 4<<20 {
		t.Errorf("refused: %d", got)
	}
	s.Accepted(s.Bytes(), time.Minute)
	if got := s.Bytes(); got != 2<<20 {
		t.Errorf("slow: %d", got)
	}
	for range 100 {
		s.Refused(s.Bytes())
	}
	if got := s.Bytes(); got != 16<<10 {
		t.Errorf("least: %d", got)
	}
	s.Accepted(10, time.Millisecond) // a request that was not full says nothing
	if got := s.Bytes(); got != 16<<10 {
		t.Errorf("not full: %d", got)
	}
}

// What is reserved is never more than there is, and all of it comes back.
func TestMemoryAccount(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.Int64Range(1, 1000).Draw(t, "size")
		a := newAccount(size)
		var held []reservation
		total := func() (sum int64) {
			for _, r := range held {
				sum += r.bytes
			}
			return sum
		}
		canceled, cancel := context.WithCancel(context.Background())
		cancel()
		t.Repeat(map[string]func(*rapid.T){
			"reserve": func(t *rapid.T) {
				r, err := a.reserve(canceled, rapid.Int64Range(0, 2000).Draw(t, "bytes"))
				if err == nil {
					held = append(held, r)
				} else if total() == 0 {
					t.Fatal("no room in an empty account")
				}
			},
			"grow": func(t *rapid.T) {
				if len(held) == 0 {
					t.Skip()
				}
				i, wanted := rapid.IntRange(0, len(held)-1).Draw(t, "which"), rapid.Int64Range(0, 2000).Draw(t, "bytes")
				if held[i].grow(wanted, 500) && held[i].bytes < min(wanted, size) {
					t.Fatalf("grown to %d, not to %d", held[i].bytes, wanted)
				}
			},
			"release": func(t *rapid.T) {
				if len(held) > 0 {
					held[0].release()
					held = held[1:]
				}
			},
			"": func(t *rapid.T) {
				if total() > size || a.held.Load() != total() || a.waiting.Load() != 0 {
					t.Fatalf("%d of %d reserved, %d counted", total(), size, a.held.Load())
				}
			},
		})
		for i := range held {
			held[i].release()
		}
		if r, err := a.reserve(context.Background(), size); err != nil || r.bytes != size {
			t.Fatalf("%d of %d came back: %v", r.bytes, size, err)
		}
	})
}

// Twelve runners write to a sink that takes nothing for a while. What they hold stays within the bound, and nothing is lost or
// locked up.
func TestManyRunnersShareMemory(t *testing.T) {
	view := compile(t, orderView)
	s := newSource(t, view)
	const limit = 1 << 20
	budget := NewMemory(limit)
	var inSink, most atomic.Int64
	open := make(chan struct{})
	var sinks []*memory
	var runners []*Runner
	for i := range 12 {
		sink := newMemory()
		sink.refuse = func(d views.Document) error { // called for each document of a write
			most.Store(max(most.Load(), inSink.Add(int64(len(d.Body)))))
			defer inSink.Add(-int64(len(d.Body)))
			<-open
			return nil
		}
		r := s.runner(view, sink, func(c *Config) {
			c.Name, c.Memory, c.Workers, c.PieceDocuments, c.StallMax = fmt.Sprintf("order%d.memory", i), budget, 4, 1000, time.Hour
		})
		sinks, runners = append(sinks, sink), append(runners, r)
	}
	wide := strings.Repeat("x", 20_000)
	for i := range 400 {
		s.commit(insert(orders, fmt.Sprint(i), "1", wide))
	}
	for _, r := range runners {
		s.run(r)
	}
	eventually(t, "runners that wait for memory", func() bool { return budget.Status().Waiting > 0 })
	for range 50 {
		st := budget.Status()
		if st.Documents+st.Batches > st.Limit || st.Limit != limit {
			t.Fatalf("%+v", st)
		}
	}
	close(open)
	end := s.commit(insert(orders, "last", "1", "new"))
	for i, r := range runners {
		s.reach(r, end)
		wantDocuments(t, sinks[i], s.documents(view))
	}
	eventually(t, "all of it back", func() bool { st := budget.Status(); return st.Documents+st.Batches+st.Waiting == 0 })
}

// A worker that waits for memory gives up with its round, and with its context.
func TestMemoryIsNotWaitedForForEver(t *testing.T) {
	a := newAccount(10)
	all, err := a.reserve(t.Context(), 10)
	check(t, err)
	ctx, cancel := context.WithTimeoutCause(t.Context(), time.Millisecond, errStalled)
	defer cancel()
	if _, err := a.reserve(ctx, 1); !errors.Is(err, errStalled) {
		t.Errorf("reserved: %v", err)
	}
	all.release()
	if _, err := a.reserve(t.Context(), 1); err != nil {
		t.Error(err)
	}
}
