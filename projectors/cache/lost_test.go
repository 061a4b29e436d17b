package cache

import (
	"errors"
	"testing"
	"time"

	"github.com/lanternist/lanternist/internal/devstack"
	"github.com/lanternist/lanternist/projectors"
	"github.com/lanternist/lanternist/views"
)

// wantLost checks that reads and writes notice that Redis has lost data. Writes come last: each of the
// operations has to notice on its own.
func wantLost(t *testing.T, s *Store, g *generation) {
	t.Helper()
	lost := map[string]func() error{
		"get":             func() error { _, _, err := s.Get(t.Context(), "1"); return err },
		"look up":         func() error { _, err := s.Lookup(t.Context(), byCustomer, "7", "", 10); return err },
		"checkpoint":      func() error { _, _, err := g.Checkpoint(t.Context()); return err },
		"save checkpoint": func() error { return g.SaveCheckpoint(t.Context(), projectors.Checkpoint{Offset: 99}) },
		"ids":             func() error { return g.IDs(t.Context(), func(string) error { return nil }) },
		"write": func() error {
			_, err := g.Write(t.Context(), 2, []views.Document{order("1", "7", "", "2")})
			return err
		},
	}
	for _, name := range []string{"get", "look up", "checkpoint", "save checkpoint", "ids", "write"} {
		g.lost.Store(false)
		want := projectors.ErrLost
		if name == "get" || name == "look up" {
			want = ErrUnavailable
		}
		if err := lost[name](); !errors.Is(err, want) || projectors.Class(err) != projectors.Transient {
			t.Errorf("%s: %v", name, err)
		}
	}
	if !g.lost.Load() {
		t.Error("the generation does not remember that it lost data")
	}
}

func TestEmptied(t *testing.T) {
	c := testClient(t, nil)
	s, g := liveStore(t, c, orders)
	mustWrite(t, g, 2, order("1", "7", "", "2"))
	wantDocument(t, s, "1", "2 @2")
	restore(t, c, nil)
	wantLost(t, s, g)
	if infos, err := s.Generations(t.Context()); err != nil || len(infos) != 0 {
		t.Fatalf("generations of an empty Redis: %v, %v", infos, err)
	}
	// The same number again, since nothing tells that it was used.
	_, again := liveStore(t, c, orders)
	mustWrite(t, again, 2, order("1", "7", "", "2"))
	wantDocument(t, s, "1", "2 @2")
	if _, err := g.Write(t.Context(), 9, []views.Document{gone("1")}); !errors.Is(err, projectors.ErrLost) {
		t.Errorf("the old generation may write into the new one: %v", err)
	}
	wantDocument(t, s, "1", "2 @2")
}

// TestOlderCopy is a fail-over to a replica that had fallen behind, or a restart from an older file.
func TestOlderCopy(t *testing.T) {
	c := testClient(t, nil)
	s, g := liveStore(t, c, orders)
	mustWrite(t, g, 1, order("1", "7", "", "1"))
	must(t, g.SaveCheckpoint(t.Context(), projectors.Checkpoint{Offset: 1}))
	older := dump(t, c)
	mustWrite(t, g, 2, order("1", "7", "", "2"), order("2", "7", "", "2"))
	must(t, g.SaveCheckpoint(t.Context(), projectors.Checkpoint{Offset: 2}))
	wantDocument(t, s, "2", "2 @2")
	restore(t, c, older)
	wantLost(t, s, g)

	reopened, err := s.Open(t.Context(), 1)
	must(t, err)
	cp, ok, err := reopened.Checkpoint(t.Context())
	if err != nil || !ok || cp.Offset != 1 {
		t.Fatalf("checkpoint of the older copy: %+v, %v, %v", cp, ok, err)
	}
	// What was lost must be there again before a read is answered.
	if _, _, err := s.Get(t.Context(), "2"); !errors.Is(err, ErrUnavailable) {
		t.Fatalf("get while catching up: %v", err)
	}
	mustWrite(t, reopened, 2, order("1", "7", "", "2"), order("2", "7", "", "2"))
	if _, _, err := s.Get(t.Context(), "2"); !errors.Is(err, ErrUnavailable) {
		t.Fatalf("get before the checkpoint is back: %v", err)
	}
	must(t, reopened.SaveCheckpoint(t.Context(), projectors.Checkpoint{Offset: 2}))
	wantDocument(t, s, "2", "2 @2")
	wantLookup(t, s, byCustomer, "7", "1", "2")
}

// TestOlderCopyTwice loses data again while it is still catching up.
func TestOlderCopyTwice(t *testing.T) {
	c := testClient(t, nil)
	s, g := liveStore(t, c, orders)
	older := dump(t, c)
	mustWrite(t, g, 5, order("1", "7", "", "5"))
	restore(t, c, older)
	for range 2 {
		reopened, err := s.Open(t.Context(), 1)
		must(t, err)
		must(t, reopened.SaveCheckpoint(t.Context(), projectors.Checkpoint{Offset: 4}))
		if _, _, err := s.Get(t.Context(), "1"); !errors.Is(err, ErrUnavailable) {
			t.Fatalf("get while catching up: %v", err)
		}
	}
}

func TestOpenAgainWithoutLoss(t *testing.T) {
	s, g := liveStore(t, testClient(t, nil), orders)
	mustWrite(t, g, 5, order("1", "7", "", "5"))
	_, err := s.Open(t.Context(), 1)
	must(t, err)
	wantDocument(t, s, "1", "5 @5")
}

// TestRestart stops a server that keeps nothing, and starts it again.
func TestRestart(t *testing.T) {
	stack := devstack.PrivateStack(t, devstack.Options{Redis: &devstack.RedisOptions{}})
	c := clientOf(t, stack.Redis(), "", nil)
	s, g := liveStore(t, c, orders)
	mustWrite(t, g, 2, order("1", "7", "", "2"))
	must(t, c.Check(t.Context()))

	must(t, c.redis.FlushAll(t.Context()).Err())
	wantLost(t, s, g)
	s, g = liveStore(t, c, orders)
	mustWrite(t, g, 2, order("1", "7", "", "2"))

	must(t, stack.KillRedis())
	if _, _, err := s.Get(t.Context(), "1"); err == nil || projectors.Class(err) != projectors.Transient {
		t.Errorf("get without a server: %v", err)
	}
	if _, err := g.Write(t.Context(), 3, []views.Document{order("1", "7", "", "3")}); err == nil || errors.Is(err, projectors.ErrLost) {
		t.Errorf("write without a server: %v", err)
	}
	must(t, stack.StartRedis(t.Context()))
	devstack.Eventually(t, time.Minute, ping(c))
	wantLost(t, s, g)
}

func TestEvictionIsRefused(t *testing.T) {
	stack := devstack.PrivateStack(t, devstack.Options{Redis: &devstack.RedisOptions{}})
	c := clientOf(t, stack.Redis(), "", nil)
	for policy, want := range map[string]bool{"noeviction": true, "volatile-lru": true, "allkeys-lru": false, "allkeys-random": false} {
		must(t, c.redis.ConfigSet(t.Context(), "maxmemory", "100mb").Err())
		must(t, c.redis.ConfigSet(t.Context(), "maxmemory-policy", policy).Err())
		err := c.Check(t.Context())
		if (err == nil) != want || (err != nil && projectors.Class(err) != projectors.Fatal) {
			t.Errorf("%s: %v", policy, err)
		}
		_, err = c.Store(orders).Create(t.Context(), projectors.Info{Number: 1})
		if (err == nil) != want {
			t.Errorf("create with %s: %v", policy, err)
		}
	}
	must(t, c.redis.ConfigSet(t.Context(), "maxmemory", "0").Err())
	must(t, c.Check(t.Context()))
}
