package deadletter

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/lanternist/lanternist/control"
	"github.com/lanternist/lanternist/event"
)

// Store and control store are opened and closed at random moments of parking and resolving: what was parked is there.
func TestClosedAtRandomMoments(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	dir, parked := t.TempDir(), 0
	for range 25 {
		home, err := control.OpenPebble(dir, slog.New(slog.DiscardHandler))
		must(t, err)
		s := open(t, home)
		if got := s.Count("p"); got != parked {
			t.Fatalf("%d letters, want %d", got, parked)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var users sync.WaitGroup
		users.Go(func() {
			for ctx.Err() == nil {
				letter := Letter{Projector: "p", View: "v", DocumentID: fmt.Sprint(parked), Offset: event.Offset(parked + 1), Reason: "refused", Class: "permanent"}
				must(t, s.Park(context.WithoutCancel(ctx), letter))
				parked++
			}
		})
		users.Go(func() {
			for ctx.Err() == nil {
				_ = s.List(ctx, Filter{Projector: "p"}, func(Letter) error { return ctx.Err() })
			}
		})
		<-time.After(time.Duration(random.IntN(3000)) * time.Microsecond)
		cancel()
		users.Wait()
		must(t, home.Close())
	}
	if parked == 0 {
		t.Error("nothing was parked")
	}
}
