package projectors_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lanternist/lanternist/event"
	"github.com/lanternist/lanternist/internal/devstack"
	"github.com/lanternist/lanternist/projectors"
	"github.com/lanternist/lanternist/projectors/cache"
	"github.com/lanternist/lanternist/projectors/search"
	"github.com/lanternist/lanternist/views"
)

// death is the moment in which a process is killed: nothing that it asks of a sink from then on is done, or, of the first, answered.
type death struct {
	at    int64 // the operation on the sink; 0 is never
	after bool  // it is done, and not answered
	calls atomic.Int64
}

func (d *death) do(operation func() error) error {
	n := d.calls.Add(1)
	if d.at != 0 && (n > d.at || n == d.at && !d.after) {
		return projectors.Fatalf("", "the process was killed")
	}
	err := operation()
	if d.at != 0 && n >= d.at {
		return projectors.Fatalf("", "the process was killed")
	}
	return err
}

// mortal is a store of a process that will be killed.
type mortal struct {
	projectors.Store
	death *atomic.Pointer[death]
}

type mortalGeneration struct {
	projectors.Generation
	death *atomic.Pointer[death]
}

func (m mortal) do(operation func() error) error { return m.death.Load().do(operation) }

func (m mortal) generation(open func() (projectors.Generation, error)) (g projectors.Generation, err error) {
	err = m.do(func() (err error) {
		g, err = open()
		return err
	})
	return mortalGeneration{g, m.death}, err
}

func (m mortal) Generations(ctx context.Context) (infos []projectors.Info, err error) {
	err = m.do(func() (err error) {
		infos, err = m.Store.Generations(ctx)
		return err
	})
	return infos, err
}

func (m mortal) Create(ctx context.Context, info projectors.Info) (projectors.Generation, error) {
	return m.generation(func() (projectors.Generation, error) { return m.Store.Create(ctx, info) })
}

func (m mortal) Open(ctx context.Context, number int) (projectors.Generation, error) {
	return m.generation(func() (projectors.Generation, error) { return m.Store.Open(ctx, number) })
}

func (m mortal) Promote(ctx context.Context, number int) error {
	return m.do(func() error { return m.Store.Promote(ctx, number) })
}

func (m mortal) Retire(ctx context.Context, number int) error {
	return m.do(func() error { return m.Store.Retire(ctx, number) })
}

func (g mortalGeneration) do(operation func() error) error { return g.death.Load().do(operation) }

func (g mortalGeneration) Write(ctx context.Context, version event.Offset, docs []views.Document) (failures []projectors.Failure, err error) {
	err = g.do(func() (err error) {
		failures, err = g.Generation.Write(ctx, version, docs)
		return err
	})
	return failures, err
}

func (g mortalGeneration) Checkpoint(ctx context.Context) (cp projectors.Checkpoint, found bool, err error) {
	err = g.do(func() (err error) {
		cp, found, err = g.Generation.Checkpoint(ctx)
		return err
	})
	return cp, found, err
}

func (g mortalGeneration) SaveCheckpoint(ctx context.Context, cp projectors.Checkpoint) error {
	return g.do(func() error { return g.Generation.SaveCheckpoint(ctx, cp) })
}

// redefined is a store's view by another definition.
func redefined(s projectors.Store, v *views.View) projectors.Store {
	switch s := s.(type) {
	case *search.Store:
		return s.Redefined(v)
	case *cache.Store:
		return s.Redefined(v)
	}
	panic("unknown store")
}

// killed is a view in one sink whose process is killed while the view is redefined, again and again.
type killed struct {
	*swap
	sink string
	home func(*views.View) projectors.Store // as a new process makes it
	get  func(ctx context.Context, s projectors.Store, id string) (string, error)
	left map[bool]int // how often the generation that was left live was of the new definition
}

// TestKilledWhileAViewIsRedefined kills at each operation on Redis, and at some on Elasticsearch.
func TestKilledWhileAViewIsRedefined(t *testing.T) {
	if testing.Short() {
		t.Skip("needs real services; run without -short")
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	for _, sink := range []string{"cache", "search"} {
		t.Run(sink, func(t *testing.T) {
			k := &killed{swap: newSwap(t), sink: sink, left: map[bool]int{}}
			step := func() int64 { return 1 }
			if sink == "cache" {
				client := k.cacheClient
				k.home = func(v *views.View) projectors.Store { return client.Store(v) }
				k.get = func(ctx context.Context, s projectors.Store, id string) (string, error) {
					doc, _, err := s.(*cache.Store).Get(ctx, id)
					return string(doc.Body), err
				}
			} else {
				client := k.searchClient
				k.home = func(v *views.View) projectors.Store { return client.Store(v) }
				k.get = func(ctx context.Context, s projectors.Store, id string) (string, error) {
					hit, _, err := s.(*search.Store).Get(ctx, id)
					return string(hit.Source), err
				}
				step = func() int64 { return 2 + random.Int64N(4) }
			}
			for i := range 5 {
				k.source.AddOrder(fmt.Sprint(i), "1", "s-0")
			}
			now, at := 0, int64(1)
			for over := false; !over; at += step() {
				if at > 100 {
					t.Fatal("no redefinition without a crash")
				}
				over = k.kill(t, now, &death{at: at, after: random.IntN(2) == 0})
				now = 1 - now
			}
			t.Logf("killed at up to %d operations; of the new definition was what was left live: %v", at, k.left)
			if len(k.left) < 2 {
				t.Errorf("all crashes left generations of the same definition live: %v", k.left)
			}
		})
	}
}

// runner is that of a new process.
func (k *killed) runner(v *views.View, store projectors.Store, wrap func(projectors.Store) projectors.Store) *projectors.Runner {
	return k.source.Runner(v, wrap(store), func(c *projectors.Config) {
		c.Name, c.Workers, c.PieceDocuments = "order."+k.sink, 1, 3
		c.Compile = func(_ context.Context, text string) (projectors.Definition, error) {
			old := projectors.Compile(k.t, text)
			return projectors.Definition{View: old, Store: wrap(redefined(store, old))}, nil
		}
	})
}

// kill has a process redefine the view and be killed, and another one go on. It says whether the redefinition was over before.
func (k *killed) kill(t *testing.T, now int, d *death) (over bool) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	old, next := k.views[now], k.views[1-now]
	dies := &atomic.Pointer[death]{}
	dies.Store(&death{})
	wrap := func(s projectors.Store) projectors.Store { return mortal{s, dies} }
	store := k.home(old)
	r := k.runner(old, store, wrap)
	stop := k.source.Run(r)
	promised := fmt.Sprintf("s-%d-%t-%d", d.at, d.after, now)
	token := k.source.PutOrder("3", "1", promised)
	_, err := r.Wait(ctx, token)
	k.must(err)
	devstack.Eventually(t, time.Minute, func() error {
		if !projectors.Following(r) {
			return fmt.Errorf("not following: %+v", r.Status())
		}
		return nil
	})
	dies.Store(d)
	k.source.PutOrder("4", "1", promised)
	err = r.Redefine(ctx, projectors.Definition{View: next, Store: wrap(redefined(store, next))}, nil, nil)
	over = err == nil && d.calls.Load() < d.at
	_ = stop()

	// What readers see now is whole.
	body, err := k.get(ctx, k.home(old), "3")
	if err != nil || !strings.Contains(body, promised) {
		t.Errorf("killed at operation %d (after %t): readers see %s, promised was %s: %v", d.at, d.after, body, promised, err)
	}
	k.left[k.live(ctx, t, next, 3).Hash == next.Hash()]++
	again := k.runner(next, k.home(next), func(s projectors.Store) projectors.Store { return s })
	stop = k.source.Run(again)
	_, err = again.Wait(ctx, k.source.PutOrder("2", "1", promised))
	k.must(err)
	devstack.Eventually(t, time.Minute, func() error {
		if s := again.Status(); s.Pending != "" || again.Definition().View.Hash() != next.Hash() {
			return fmt.Errorf("pending: %q; %+v", s.Pending, s)
		}
		return nil
	})
	_, err = again.Wait(ctx, k.source.PutOrder("1", "1", promised))
	k.must(err)
	live := k.live(ctx, t, next, 4)                    // what the dead process had asked for may have come up after the next one looked
	devstack.Eventually(t, time.Minute, func() error { // the retirement comes after the promotion
		infos, err := k.home(next).Generations(ctx)
		if err == nil && len(infos) > 2 {
			err = fmt.Errorf("killed at operation %d: generations %+v, want the live one and the one before", d.at, infos)
		}
		return err
	})
	if live.Hash != next.Hash() {
		t.Errorf("killed at operation %d: %+v is live", d.at, live)
	}
	for id, want := range map[string]string{"0": "s-0", "1": promised, "2": promised, "3": promised, "4": promised} {
		body, err := k.get(ctx, k.home(next), id)
		if err != nil || !strings.Contains(body, fmt.Sprintf(`"status":%q`, want)) || strings.Contains(body, `"customer"`) != (now == 0) {
			t.Errorf("killed at operation %d: order %s is %s, want %s: %v", d.at, id, body, want, err)
		}
	}
	devstack.Eventually(t, time.Minute, func() error {
		if claims := k.source.Claims(); !slices.Equal(claims, []string{fmt.Sprintf("order.%s-g%d", k.sink, live.Number)}) {
			return fmt.Errorf("killed at operation %d: claims on the journal %v, live is %d", d.at, claims, live.Number)
		}
		return nil
	})
	_ = stop()
	return over
}

// live is the only live generation, of so many at most.
func (k *killed) live(ctx context.Context, t *testing.T, v *views.View, most int) projectors.Info {
	t.Helper()
	infos, err := k.home(v).Generations(ctx)
	k.must(err)
	var live []projectors.Info
	for _, info := range infos {
		if info.Live {
			live = append(live, info)
		}
		if info.Definition == "" && info.Hash != "" {
			t.Errorf("generation %d has no definition", info.Number)
		}
	}
	if len(live) != 1 || len(infos) > most {
		t.Fatalf("generations: %+v", infos)
	}
	return live[0]
}
