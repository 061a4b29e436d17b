package mirror

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/lanternist/lanternist/event"
)

// A mirror is opened and closed at random moments of an index's building and of reading: what was committed is there, and the
// index is, in the end, complete.
func TestClosedAtRandomMoments(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	r, dir := &registry{}, t.TempDir()
	s := r.define(1, "t", "id", "group")
	index := Index{OID: 1, Columns: []string{"group"}}
	rows := 0
	reopen := func() *Mirror {
		m, err := Open(Config{Dir: dir}, r, slog.New(slog.DiscardHandler))
		must(t, err)
		return m
	}
	m := reopen()
	loadAll(t, m, s)
	for i := range 15 {
		ctx, cancel := context.WithCancel(t.Context())
		var users sync.WaitGroup
		for range 20 {
			rows++
			commit(t, m, event.NewOffset(uint64(rows), 0), insert(s, lsn(rows), fmt.Sprint(rows), fmt.Sprint(rows%3)))
		}
		users.Go(func() { _ = m.EnsureIndexes(ctx, []Index{index}) })
		users.Go(func() {
			for ctx.Err() == nil {
				snapshot, err := m.Snapshot(ctx)
				if err != nil {
					return
				}
				_ = snapshot.Scan(1, nil, func([]byte, Record) error { return ctx.Err() })
				must(t, snapshot.Close())
			}
		})
		<-time.After(time.Duration(random.IntN(3000)) * time.Microsecond)
		cancel()
		users.Wait()
		must(t, m.Close())
		m = reopen()
		if got := len(dump(t, m, 1)); got != rows {
			t.Fatalf("after %d closings there are %d rows, want %d", i+1, got, rows)
		}
	}
	must(t, m.EnsureIndexes(t.Context(), []Index{index}))
	found := 0
	for group := range 3 {
		found += len(lookup(t, m, index, fmt.Sprint(group)))
	}
	if found != rows {
		t.Errorf("the index has %d rows, want %d", found, rows)
	}
	must(t, m.Close())
}
