package deadletter

import (
	"fmt"
	"log/slog"
	"runtime"
	"testing"
	"time"

	"github.com/lanternist/lanternist/control"
	"github.com/lanternist/lanternist/event"
	"github.com/lanternist/lanternist/internal/faults"
)

// Two hundred thousand letters are neither read when the daemon starts nor held in memory, and what is asked after every write is
// answered without reading any.
func TestFaultManyLetters(t *testing.T) {
	fault := faults.Cause(t, faults.Fault{
		ID: "dead-letters-200000", Area: "Sinks", Fault: "a sink refuses 200,000 documents, and the daemon is started again",
		Promise: "all letters are there after the start, in a few MiB of memory; writing other documents costs what it did",
		Answer:  "`lanternist deadletters redrive --projector PROJECTOR` once the sink takes them",
	})
	const letters, batch, some = 200_000, 4000, 10_000
	dir := t.TempDir()
	payload := []byte(fmt.Sprintf("%0400d", 7))
	home, err := control.OpenPebble(dir, slog.New(slog.DiscardHandler))
	must(t, err)
	s := open(t, home)
	parking := time.Now()
	for from := 0; from < letters; from += batch {
		put := make([]Letter, batch)
		for i := range put {
			n := from + i
			l := Letter{
				Projector: "orders.search", View: "orders", Generation: 1, DocumentID: fmt.Sprint("order-", n), Offset: event.Offset(n + 1), Payload: payload,
				PayloadSize: len(payload), Reason: "mapper_parsing_exception: failed to parse field [total] of type [long]", Class: "permanent", Attempts: 3,
				Time: time.UnixMicro(int64(n + 1)), Last: time.UnixMicro(int64(n + 1)),
			}
			l.ID = letterID(&l)
			put[i] = l
		}
		must(t, s.write(t.Context(), nil, put))
	}
	t.Logf("parked in %v", time.Since(parking).Round(time.Millisecond))
	must(t, home.Close())
	s = nil //nolint:wastedassign // so that its memory is free

	home = openControl(t, dir)
	before, allocated := heap()
	began := time.Now()
	s = open(t, home)
	took := time.Since(began)
	after, allocatedAfter := heap()
	grown := (int64(after) - int64(before)) >> 20
	t.Logf("%d letters: opened in %v, %d MiB more in use, %d MiB allocated meanwhile", letters, took.Round(time.Millisecond), grown, (allocatedAfter-allocated)>>20)
	fault.Notef("opened in %v, %d MiB", took.Round(time.Millisecond), grown)
	fault.Parked(letters)
	if grown > 16 {
		t.Errorf("%d MiB are in use for %d letters", grown, letters)
	}
	if n := s.Count("orders.search"); n != letters {
		t.Fatalf("%d letters, want %d", n, letters)
	}

	// What has no letters is hardly ever looked for.
	maybe := 0
	for i := range letters {
		if s.may("orders.search", fmt.Sprint("other-", i)) {
			maybe++
		}
	}
	t.Logf("%d of %d documents without a letter are looked for", maybe, letters)
	if maybe > letters/50 {
		t.Errorf("%d of %d documents without a letter are looked for", maybe, letters)
	}
	for _, n := range []int{0, 4711, letters - 1} {
		id := fmt.Sprint("order-", n)
		if at, ok, err := s.Parked(t.Context(), "orders.search", id); !ok || err != nil || at != event.Offset(n+1) {
			t.Errorf("%s: %v %t %v", id, at, ok, err)
		}
		must(t, s.Resolve(t.Context(), "orders.search", id, event.Offset(n+1)))
		if _, ok, err := s.Parked(t.Context(), "orders.search", id); ok || err != nil {
			t.Errorf("%s is still parked: %v", id, err)
		}
	}
	depths, err := s.Depths(t.Context())
	if err != nil || len(depths) != 1 || depths[0].Letters != letters-3 || depths[0].Oldest.UnixMicro() != 2 {
		t.Errorf("%+v, %v", depths, err)
	}
	discarding := time.Now()
	n, err := s.DiscardAll(t.Context(), Filter{Projector: "orders.search", Until: time.UnixMicro(some)}, nil, nil)
	if err != nil || n != some-2 || s.Count("orders.search") != letters-some-1 {
		t.Errorf("%d discarded, %d left: %v", n, s.Count("orders.search"), err)
	}
	t.Logf("10,000 discarded in %v", time.Since(discarding).Round(time.Millisecond))
}

// heap is what is in use, and what was ever allocated.
func heap() (inUse, allocated uint64) {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc, m.TotalAlloc
}
