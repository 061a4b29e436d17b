package segments

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"testing"
	"time"
)

// An engine is opened and closed at random moments, while it is appended to, read and trimmed: what was acknowledged is there,
// and nothing between is missing.
func TestClosedAtRandomMoments(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	dir, acknowledged := t.TempDir(), uint64(0)
	entry := func(sequence uint64) []byte { return bytes.Repeat(fmt.Appendf(nil, "%d ", sequence), 100) }
	for range 40 {
		log, err := Open(dir, Config{SegmentSize: 64 << 10}, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		first, last, err := log.Bounds(t.Context())
		if err != nil || last < acknowledged || last > acknowledged+1 {
			t.Fatalf("entries %d to %d, acknowledged %d: %v", first, last, acknowledged, err)
		}
		acknowledged = last
		for sequence := max(1, first); sequence <= last; sequence++ {
			got, err := log.Read(t.Context(), sequence)
			if err != nil || !bytes.Equal(got, entry(sequence)) {
				t.Fatalf("entry %d: %q %v", sequence, got, err)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		var users sync.WaitGroup
		users.Go(func() {
			for sequence := last + 1; ctx.Err() == nil; sequence++ {
				if log.Append(context.WithoutCancel(ctx), sequence, entry(sequence)) != nil {
					return
				}
				acknowledged = sequence
			}
		})
		users.Go(func() {
			for ctx.Err() == nil {
				if _, err := log.Read(ctx, last); err != nil {
					return
				}
			}
		})
		if last > 50 {
			users.Go(func() { _ = log.Trim(ctx, last-50) })
		}
		<-time.After(time.Duration(random.IntN(5000)) * time.Microsecond)
		if random.IntN(2) == 0 { // a user's end comes before the engine's, or is caused by it
			cancel()
			users.Wait()
		}
		if err := log.Close(); err != nil {
			t.Fatal(err)
		}
		cancel()
		users.Wait()
	}
	if acknowledged < 40 {
		t.Errorf("only %d entries were appended", acknowledged)
	}
}
