package cache

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/lanternist/lanternist/event"
	"github.com/lanternist/lanternist/internal/devstack"
	"github.com/lanternist/lanternist/projectors"
	"github.com/lanternist/lanternist/views"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// ordersView is a view of orders, with two lookups.
type ordersView struct {
	hash    string
	options views.CacheOptions
}

func (v ordersView) Name() string               { return "order*summary" } // the star must not match other names
func (v ordersView) Hash() string               { return v.hash }
func (v ordersView) Cache() *views.CacheOptions { return &v.options }

var orders = ordersView{hash: "h1", options: views.CacheOptions{Lookups: []views.Lookup{
	{Fields: []string{"customer_id"}}, {Fields: []string{"status", "country"}},
}}}

const (
	byCustomer = "customer_id"
	byStatus   = "status+country"
)

// order makes a document; customer and status are its lookups, "" is null.
func order(id, customer, status, body string) views.Document {
	return views.Document{ID: id, Body: []byte(body), Lookups: []string{customer, status}}
}

// gone makes the deletion of a document.
func gone(id string) views.Document { return views.Document{ID: id} }

func testClient(t *testing.T, change func(*Config)) *Client {
	t.Helper()
	space := devstack.Redis(t)
	return clientOf(t, space.URL(), space.Prefix(), change)
}

func clientOf(t *testing.T, url, prefix string, change func(*Config)) *Client {
	t.Helper()
	cfg := Config{URL: url, Prefix: prefix}
	if change != nil {
		change(&cfg)
	}
	c, err := NewClient(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// liveStore makes a store with one live generation.
func liveStore(t *testing.T, c *Client, view View) (*Store, *generation) {
	t.Helper()
	s := c.Store(view)
	g, err := s.Create(t.Context(), projectors.Info{Number: 1, Hash: view.Hash(), Epoch: "7-1"})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Promote(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	return s, g.(*generation)
}

func mustWrite(t *testing.T, g projectors.Generation, version event.Offset, docs ...views.Document) {
	t.Helper()
	failures, err := g.Write(t.Context(), version, docs)
	if err != nil || len(failures) > 0 {
		t.Fatalf("write at %v: %v, %v", version, failures, err)
	}
}

// wantDocument checks what the store has of an id: a body with its version, "deleted" or "missing".
func wantDocument(t *testing.T, s *Store, id, want string) {
	t.Helper()
	doc, state, err := s.Get(t.Context(), id)
	if err != nil {
		t.Fatalf("get %s: %v", id, err)
	}
	got := state.String()
	if state == Found {
		got = string(doc.Body)
	}
	if state != Missing {
		got = fmt.Sprintf("%s @%d", got, uint64(doc.Version))
	}
	if got != want {
		t.Errorf("%s: got %s, want %s", id, got, want)
	}
}

// wantLookup checks the ids of all pages of a lookup, read in pages of two.
func wantLookup(t *testing.T, s *Store, lookup, value string, want ...string) {
	t.Helper()
	var got []string
	after := ""
	for {
		page, err := s.Lookup(t.Context(), lookup, value, after, 2)
		if err != nil {
			t.Fatalf("look up %s=%s: %v", lookup, value, err)
		}
		for _, d := range page.Documents {
			got = append(got, d.ID)
		}
		if after = page.Next; after == "" {
			break
		}
	}
	if strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("%s=%s: got %q, want %q", lookup, value, got, want)
	}
}

// dump copies all keys of the client's prefix, as they are at one moment, as a backup or a replica that has fallen behind
// has them.
func dump(t *testing.T, c *Client) map[string]string {
	t.Helper()
	pairs, err := c.redis.Eval(t.Context(), `
		local answer = {}
		for _, key in ipairs(redis.call('KEYS', ARGV[1])) do
			answer[#answer + 1] = key
			answer[#answer + 1] = redis.call('DUMP', key)
		end
		return answer`, nil, escapeGlob(c.cfg.Prefix)+"*").StringSlice()
	must(t, err)
	copied := map[string]string{}
	for i := 0; i < len(pairs); i += 2 {
		copied[pairs[i]] = pairs[i+1]
	}
	return copied
}

// restore makes Redis what it was when dump was called, in one step.
func restore(t *testing.T, c *Client, copied map[string]string) {
	t.Helper()
	keys := allKeys(t, c)
	_, err := c.redis.TxPipelined(t.Context(), func(p redis.Pipeliner) error {
		for _, key := range keys {
			p.Del(t.Context(), key)
		}
		for key, value := range copied {
			p.RestoreReplace(t.Context(), key, 0, value)
		}
		return nil
	})
	must(t, err)
}

func allKeys(t *testing.T, c *Client) []string {
	t.Helper()
	keys, err := c.redis.Keys(t.Context(), escapeGlob(c.cfg.Prefix)+"*").Result()
	must(t, err)
	return keys
}

// expire removes a document as its time to live would.
func expire(t *testing.T, g *generation, id string) {
	t.Helper()
	if n, err := g.store.client.redis.Del(t.Context(), g.keys.documents+id).Result(); n != 1 || err != nil {
		t.Fatalf("expire %s: %d, %v", id, n, err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func ping(c *Client) func() error {
	return func() error { return c.redis.(*redis.Client).Ping(context.Background()).Err() }
}
