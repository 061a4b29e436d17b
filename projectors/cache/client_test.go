package cache

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lanternist/lanternist/internal/devstack"
	"github.com/lanternist/lanternist/projectors"
	"github.com/lanternist/lanternist/views"
)

func TestNewClient(t *testing.T) {
	notPEM := filepath.Join(t.TempDir(), "ca.pem")
	must(t, os.WriteFile(notPEM, []byte("no certificate"), 0o600))
	for want, cfg := range map[string]Config{
		"":                      {URL: "redis://user:secret@localhost:6379/3"},
		" ":                     {URL: "rediss://localhost:6379", TLS: TLS{ServerName: "redis.example"}},
		"  ":                    {URL: "redis+cluster://localhost:6379?addr=localhost:6380"},
		"   ":                   {URL: "redis+sentinel://localhost:26379?master_name=main"},
		"    ":                  {URL: "unix:///run/redis.sock"},
		"scheme \"http\"":       {URL: "http://user:secret@localhost:6379"},
		"scheme \"\"":           {URL: ""},
		"unknown kind":          {URL: "redis+ring://user:secret@localhost:6379"},
		"needs ?master_name":    {URL: "redis+sentinel://user:secret@localhost:6379"},
		"must begin with redis": {URL: "redis://localhost:6379", TLS: TLS{ServerName: "x"}},
		"invalid port":          {URL: "redis://user:secret@localhost:port"},
		"redis url":             {URL: "redis://user:secret@localhost:6379/x"},
		"braces":                {URL: "redis://localhost:6379", Prefix: "{a}"},
		"no such file":          {URL: "rediss://localhost:6379", TLS: TLS{CAFile: "/nowhere"}},
		"no certificate in":     {URL: "rediss://localhost:6379", TLS: TLS{CAFile: notPEM}},
		"tls: certificate":      {URL: "rediss://localhost:6379", TLS: TLS{CertFile: notPEM, KeyFile: notPEM}},
	} {
		c, err := NewClient(cfg, nil)
		if strings.TrimSpace(want) == "" {
			if err != nil {
				t.Errorf("%s: %v", cfg.URL, err)
				continue
			}
			must(t, c.Close())
			continue
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", cfg.URL, err, want)
		}
		if strings.Contains(fmt.Sprint(err), "secret") {
			t.Errorf("the password is in the error: %v", err)
		}
	}
}

// TestErrorsThatAPersonMustHeal are fatal and say what to do.
func TestErrorsThatAPersonMustHeal(t *testing.T) {
	stack := devstack.PrivateStack(t, devstack.Options{Redis: &devstack.RedisOptions{}})
	c := clientOf(t, stack.Redis(), "", nil)
	s, g := liveStore(t, c, orders)
	fatal := func(what string, err error) {
		t.Helper()
		if projectors.Class(err) != projectors.Fatal || projectors.Hint(err) == "" {
			t.Errorf("%s: %v is %v, hint %q", what, err, projectors.Class(err), projectors.Hint(err))
		}
	}
	must(t, c.redis.SAdd(t.Context(), g.keys.documents+"1", "x").Err())
	_, err := g.Write(t.Context(), 1, []views.Document{order("1", "", "", "1")})
	fatal("a key of another type", err)
	must(t, c.redis.HSet(t.Context(), s.generationsKey(), "9", "no JSON").Err())
	_, err = s.Generations(t.Context())
	fatal("a record that is none", err)
	must(t, c.redis.HSet(t.Context(), s.generationsKey(), "9", `{"format":99}`).Err())
	_, err = s.Generations(t.Context())
	fatal("a record of a later version", err)

	must(t, c.redis.ConfigSet(t.Context(), "requirepass", "secret").Err())
	stranger := clientOf(t, stack.Redis(), "", nil)
	fatal("no password", stranger.Check(t.Context()))
	_, err = stranger.Store(orders).Generations(t.Context())
	fatal("no password", err)
	wrong := clientOf(t, strings.Replace(stack.Redis(), "redis://", "redis://:wrong@", 1), "", nil)
	fatal("wrong password", wrong.Check(t.Context()))
	right := clientOf(t, strings.Replace(stack.Redis(), "redis://", "redis://:secret@", 1), "", nil)
	must(t, right.Check(t.Context()))
	must(t, right.redis.Do(t.Context(), "ACL", "SETUSER", "reader", "on", ">reader", "~*", "+@read", "+@connection").Err())
	reader := clientOf(t, strings.Replace(stack.Redis(), "redis://", "redis://reader:reader@", 1), "", nil)
	must(t, reader.Check(t.Context())) // may not ask for the eviction policy, and is believed
	_, err = reader.Store(orders).Create(t.Context(), projectors.Info{Number: 3})
	fatal("no right to write", err)

	gone := clientOf(t, "redis://127.0.0.1:1", "", nil)
	if err := gone.Check(t.Context()); err == nil || projectors.Class(err) != projectors.Transient || errors.Is(err, projectors.ErrLost) {
		t.Errorf("no server: %v", err)
	}
}

// TestOutOfMemory: what does not fit is tried again until somebody makes room; what is there stays readable.
func TestOutOfMemory(t *testing.T) {
	stack := devstack.PrivateStack(t, devstack.Options{Redis: &devstack.RedisOptions{}})
	c := clientOf(t, stack.Redis(), "", nil)
	s, g := liveStore(t, c, orders)
	mustWrite(t, g, 1, order("1", "7", "", "1"))
	must(t, c.redis.ConfigSet(t.Context(), "maxmemory", "1").Err())
	if _, err := g.Write(t.Context(), 2, []views.Document{order("1", "7", "", "2")}); err == nil || projectors.Class(err) != projectors.Transient {
		t.Errorf("write without memory: %v", err)
	}
	wantDocument(t, s, "1", "1 @1")
	must(t, c.redis.ConfigSet(t.Context(), "maxmemory", "0").Err())
	mustWrite(t, g, 2, order("1", "7", "", "2"))
	wantDocument(t, s, "1", "2 @2")
}
