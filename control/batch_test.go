package control_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/lanternist/lanternist/control"
)

func TestApplyAndListings(t *testing.T) {
	each(t, func(t *testing.T, open func() control.Store) {
		s, ctx := open(), t.Context()
		must := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		must(control.Apply(ctx, s))
		must(s.Put(ctx, "a/0", []byte("gone soon")))
		must(control.Apply(ctx, s, control.Op{Key: "a/1", Value: []byte("1")}, control.Op{Key: "a/0", Delete: true},
			control.Op{Key: "a/2", Value: []byte("2")}, control.Op{Key: "a/3", Value: []byte("3")}, control.Op{Key: "b/1", Value: []byte("4")}))
		if err := control.Apply(ctx, s, control.Op{Key: ""}); err == nil {
			t.Error("a change of no key was made")
		}
		for after, want := range map[string][]string{
			"": {"a/1", "a/2", "a/3"}, "a/1": {"a/2", "a/3"}, "a/15": {"a/2", "a/3"}, "a/3": nil, "b": nil, "A": {"a/1", "a/2", "a/3"},
		} {
			var got []string
			must(control.ListAfter(ctx, s, "a/", after, func(key string, value []byte) error {
				if "a/"+string(value) != key {
					t.Errorf("%s is %q", key, value)
				}
				got = append(got, key)
				return nil
			}))
			if !slices.Equal(got, want) {
				t.Errorf("after %q: got %q, want %q", after, got, want)
			}
		}
		var got []string
		must(control.ListKeys(ctx, s, "a/", func(key string) error { got = append(got, key); return nil }))
		if want := []string{"a/1", "a/2", "a/3"}; !slices.Equal(got, want) {
			t.Errorf("keys: got %q, want %q", got, want)
		}
		stop := errors.New("stop")
		if err := control.ListKeys(ctx, s, "", func(string) error { return stop }); !errors.Is(err, stop) {
			t.Errorf("error of visit: %v", err)
		}
		must(s.Close())
		if err := control.Apply(ctx, s, control.Op{Key: "a/4"}); !errors.Is(err, control.ErrClosed) {
			t.Errorf("apply when closed: %v", err)
		}
		if err := control.ListKeys(ctx, s, "", nil); !errors.Is(err, control.ErrClosed) {
			t.Errorf("list when closed: %v", err)
		}
	})
}
