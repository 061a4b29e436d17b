package control_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/lanternist/lanternist/control"
	"github.com/lanternist/lanternist/internal/natsconn/natstest"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// The embedded nats-server keeps these for the life of a process.
		goleak.IgnoreAnyFunction("github.com/nats-io/nats-server/v2/server.(*Server).startGoRoutine"),
		goleak.IgnoreAnyFunction("github.com/nats-io/nats-server/v2/server.init.0.func1"))
}

// homes are the implementations; open may be called again after Close and finds the same state.
var homes = map[string]func(t *testing.T) (open func() control.Store){
	"pebble": func(t *testing.T) func() control.Store {
		dir := t.TempDir()
		return func() control.Store {
			s, err := control.OpenPebble(dir, slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { s.Close() })
			return s
		}
	},
	"jetstream": func(t *testing.T) func() control.Store {
		server := natstest.Start(t, 0)
		return func() control.Store {
			s, err := control.OpenJetStream(t.Context(), server.URL(), "control", 1, slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { s.Close() })
			return s
		}
	},
}

// each runs a conformance test on every home.
func each(t *testing.T, test func(t *testing.T, open func() control.Store)) {
	for name, home := range homes {
		t.Run(name, func(t *testing.T) { test(t, home(t)) })
	}
}

func TestPutGetDelete(t *testing.T) {
	each(t, func(t *testing.T, open func() control.Store) {
		s, ctx := open(), t.Context()
		if _, ok, err := s.Get(ctx, "a/b"); ok || err != nil {
			t.Fatalf("Get of nothing: %v %v", ok, err)
		}
		for _, value := range []string{"one", "two", ""} {
			if err := s.Put(ctx, "a/b", []byte(value)); err != nil {
				t.Fatal(err)
			}
			got, ok, err := s.Get(ctx, "a/b")
			if err != nil || !ok || string(got) != value {
				t.Fatalf("Get = %q %v %v, want %q", got, ok, err, value)
			}
		}
		for range 2 { // of what is there, and of what is not
			if err := s.Delete(ctx, "a/b"); err != nil {
				t.Fatal(err)
			}
			if _, ok, err := s.Get(ctx, "a/b"); ok || err != nil {
				t.Fatalf("Get after Delete: %v %v", ok, err)
			}
		}
	})
}

func TestReopened(t *testing.T) {
	each(t, func(t *testing.T, open func() control.Store) {
		s, ctx := open(), t.Context()
		for i := range 10 {
			if err := s.Put(ctx, fmt.Sprintf("k/%d", i), fmt.Appendf(nil, "v%d", i)); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.Delete(ctx, "k/3"); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if _, _, err := s.Get(ctx, "k/1"); !errors.Is(err, control.ErrClosed) {
			t.Fatalf("Get after Close: %v", err)
		}
		if err := s.Put(ctx, "k/1", nil); !errors.Is(err, control.ErrClosed) {
			t.Fatalf("Put after Close: %v", err)
		}
		if got, want := list(t, open(), "k/"), "k/0 k/1 k/2 k/4 k/5 k/6 k/7 k/8 k/9"; got != want {
			t.Fatalf("listed %q, want %q", got, want)
		}
	})
}

func TestListOrderAndPrefixes(t *testing.T) {
	each(t, func(t *testing.T, open func() control.Store) {
		s, ctx := open(), t.Context()
		keys := []string{"a", "a/", "a/1", "a/10", "a/2", "a//x", "ab/1", "b.c/=d", "b.c/é%:> *", "b.c/\x00\xff", "z"}
		for _, key := range keys {
			if err := s.Put(ctx, key, []byte("of "+key)); err != nil {
				t.Fatalf("Put %q: %v", key, err)
			}
		}
		for _, prefix := range []string{"", "a", "a/", "a/1", "a//", "b.c/", "b.", "nothing", "nothing/", "z", "zz"} {
			var want []string
			for _, key := range keys {
				if strings.HasPrefix(key, prefix) {
					want = append(want, key)
				}
			}
			slices.Sort(want)
			var got []string
			err := s.List(ctx, prefix, func(key string, value []byte) error {
				if string(value) != "of "+key {
					t.Errorf("%q has the value %q", key, value)
				}
				got = append(got, key)
				return nil
			})
			if err != nil || !slices.Equal(got, want) {
				t.Errorf("List(%q) = %q, %v; want %q", prefix, got, err, want)
			}
		}
	})
}

func TestListStopsAndMayWrite(t *testing.T) {
	each(t, func(t *testing.T, open func() control.Store) {
		s, ctx := open(), t.Context()
		for i := range 5 {
			if err := s.Put(ctx, fmt.Sprintf("k/%d", i), []byte("v")); err != nil {
				t.Fatal(err)
			}
		}
		stop := errors.New("enough")
		visited := 0
		err := s.List(ctx, "k/", func(key string, _ []byte) error {
			if visited++; visited == 3 {
				return stop
			}
			return s.Delete(ctx, key)
		})
		if !errors.Is(err, stop) || visited != 3 {
			t.Fatalf("List = %v after %d", err, visited)
		}
		if got := list(t, s, "k/"); got != "k/2 k/3 k/4" {
			t.Fatalf("left: %q", got)
		}
	})
}

func TestBounds(t *testing.T) {
	each(t, func(t *testing.T, open func() control.Store) {
		s, ctx := open(), t.Context()
		if err := s.Put(ctx, "", nil); err == nil {
			t.Error("an empty key was taken")
		}
		if err := s.Put(ctx, strings.Repeat("k", control.MaxKey+1), nil); !errors.Is(err, control.ErrTooLarge) {
			t.Errorf("a long key: %v", err)
		}
		if err := s.Put(ctx, "k", make([]byte, control.MaxValue+1)); !errors.Is(err, control.ErrTooLarge) {
			t.Errorf("a large value: %v", err)
		}
		long := strings.Repeat("é", control.MaxKey/2)
		if err := s.Put(ctx, long, []byte("v")); err != nil {
			t.Errorf("the longest key: %v", err)
		}
		if got := list(t, s, ""); got != long {
			t.Errorf("listed %q", got)
		}
		cancelled, cancel := context.WithCancel(ctx)
		cancel()
		if err := s.Put(cancelled, "c", nil); !errors.Is(err, context.Canceled) {
			t.Errorf("Put with an ended context: %v", err)
		}
	})
}

func TestConcurrentUse(t *testing.T) {
	each(t, func(t *testing.T, open func() control.Store) {
		s, ctx := open(), t.Context()
		var wg sync.WaitGroup
		for w := range 4 {
			wg.Go(func() {
				for i := range 25 {
					key := fmt.Sprintf("k/%d/%d", w, i)
					if err := s.Put(ctx, key, []byte(key)); err != nil {
						t.Errorf("Put: %v", err)
					}
					if got, ok, err := s.Get(ctx, key); err != nil || !ok || string(got) != key {
						t.Errorf("Get = %q %v %v", got, ok, err)
					}
				}
			})
		}
		wg.Wait()
		if got := len(strings.Fields(list(t, s, "k/"))); got != 100 {
			t.Errorf("%d keys, want 100", got)
		}
	})
}

func TestPebbleLocked(t *testing.T) {
	dir, log := t.TempDir(), slog.New(slog.DiscardHandler)
	first, err := control.OpenPebble(dir, log)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := control.OpenPebble(dir, log); !errors.Is(err, control.ErrLocked) {
		t.Fatalf("second open: %v", err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := control.OpenPebble(dir, log)
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestJetStreamValueOverMaxPayload(t *testing.T) {
	server := natstest.Start(t, 0)
	s, err := control.OpenJetStream(t.Context(), server.URL(), "control", 1, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.Put(t.Context(), "k", make([]byte, 2<<20)); !errors.Is(err, control.ErrTooLarge) {
		t.Fatalf("a value over max_payload: %v", err)
	}
}

// TestHomesAgree makes random changes to both homes and to a map.
func TestHomesAgree(t *testing.T) {
	each(t, func(t *testing.T, open func() control.Store) {
		s, ctx := open(), t.Context()
		model := map[string]string{}
		rapid.Check(t, func(r *rapid.T) {
			key := rapid.StringOfN(rapid.RuneFrom([]rune("a/=.*>é\x01")), 1, 6, -1).Draw(r, "key")
			if rapid.Bool().Draw(r, "put") {
				value := rapid.StringN(0, 20, -1).Draw(r, "value")
				if err := s.Put(ctx, key, []byte(value)); err != nil {
					r.Fatalf("Put(%q): %v", key, err)
				}
				model[key] = value
			} else {
				if err := s.Delete(ctx, key); err != nil {
					r.Fatalf("Delete(%q): %v", key, err)
				}
				delete(model, key)
			}
			got, ok, err := s.Get(ctx, key)
			want, there := model[key]
			if err != nil || ok != there || string(got) != want {
				r.Fatalf("Get(%q) = %q %v %v, want %q %v", key, got, ok, err, want, there)
			}
		})
		got := 0
		if err := s.List(ctx, "", func(key string, value []byte) error {
			got++
			if want, ok := model[key]; !ok || want != string(value) {
				t.Errorf("%q is %q, want %q %v", key, value, want, ok)
			}
			return nil
		}); err != nil || got != len(model) {
			t.Errorf("listed %d keys, %v; want %d", got, err, len(model))
		}
	})
}

// list returns the keys under a prefix, separated by spaces.
func list(t *testing.T, s control.Store, prefix string) string {
	t.Helper()
	var keys []string
	if err := s.List(t.Context(), prefix, func(key string, _ []byte) error {
		keys = append(keys, key)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return strings.Join(keys, " ")
}
