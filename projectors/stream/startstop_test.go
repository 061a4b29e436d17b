package stream

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/lanternist/lanternist/journal"
)

// A projector of events is started and stopped at random moments while events come: each is handed on, in order, and what comes
// again follows what came before.
func TestStartedAndStoppedAtRandomMoments(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	w, out := newWorld(t, journal.Config{}), newFile()
	p := w.projector(out)
	for range 60 {
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { _ = p.Run(ctx) })
		w.append(chunk{events: 1 + random.IntN(5)})
		<-time.After(time.Duration(random.IntN(3000)) * time.Microsecond)
		cancel()
		running.Wait()
	}
	stop := w.run(p)
	want := w.offsets(everything)
	for deadline := time.Now().Add(time.Minute); ; {
		out.mu.Lock()
		got := slices.Clone(out.live)
		out.mu.Unlock()
		if len(got) > 0 && got[len(got)-1] == want[len(want)-1] {
			slices.Sort(got)
			same(t, "handed on", slices.Compact(got), want)
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the last event was not handed on")
		}
		<-time.After(time.Millisecond)
	}
	_ = stop()
}
