package projectors_test

import (
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/lanternist/lanternist/internal/devstack"
	"github.com/lanternist/lanternist/projectors"
	"github.com/lanternist/lanternist/projectors/cache"
	"github.com/lanternist/lanternist/projectors/search"
	"github.com/lanternist/lanternist/views"
)

// Each is done by hand to the new generation while it is being built, and the rebuild must say so.
var tamperings = map[string]struct {
	change func(change func(id, from, to string), remove, add func(id string))
	want   []string // in the error; none: the rebuild succeeds
}{
	"nothing":            {func(func(id, from, to string), func(string), func(string)) {}, nil},
	"a document changed": {func(change func(id, from, to string), _, _ func(string)) { change("7", `"new"`, `"old"`) }, []string{`document 7 has "old" at "status", it should have "new"`}},
	"a document deleted": {func(_ func(id, from, to string), remove, _ func(string)) { remove("8") }, []string{"document 8 is missing", "it holds 298 documents, it should hold 299"}},
	"a document added":   {func(_ func(id, from, to string), _, add func(string)) { add("999") }, []string{"it holds 300 documents, there are 299 rows"}},
}

func tampered(t *testing.T, section string, home func(*views.View) projectors.Store, change func(generation int, id, from, to string), remove, add func(generation int, id string)) {
	for name, c := range tamperings {
		t.Run(name, func(t *testing.T) {
			infos, err := projectors.RebuildTampered(t, section, home, func(g int) {
				c.change(func(id, from, to string) { change(g, id, from, to) }, func(id string) { remove(g, id) }, func(id string) { add(g, id) })
			})
			live := 0
			for _, info := range infos {
				if info.Live {
					live = info.Number
				}
			}
			if c.want == nil {
				if err != nil || live != 2 || len(infos) != 2 {
					t.Errorf("%v, generations %+v", err, infos)
				}
				return
			}
			if !errors.Is(err, projectors.ErrDifferent) || live != 1 || len(infos) != 1 {
				t.Errorf("%v, generations %+v", err, infos)
				return
			}
			for _, text := range c.want {
				if !strings.Contains(err.Error(), text) {
					t.Errorf("the error does not say %s: %v", text, err)
				}
			}
		})
	}
}

// another is a prefix that no subtest had before.
func another(prefix string) string {
	serial++
	return prefix + string(rune('a'+serial)) + "-"
}

var serial int

func TestVerificationInElasticsearch(t *testing.T) {
	cluster, prefix := devstack.Elasticsearch(t), ""
	do := func(method, path, body string) string {
		t.Helper()
		req, err := http.NewRequest(method, cluster.URL()+"/"+prefix+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		answer, err := io.ReadAll(res.Body)
		if err != nil || res.StatusCode >= 300 {
			t.Fatalf("%s %s: %s %s %v", method, path, res.Status, answer, err)
		}
		return string(answer)
	}
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	home := func(v *views.View) projectors.Store {
		prefix = another(cluster.Prefix())
		c, err := search.NewClient(search.Config{URLs: []string{cluster.URL()}, Prefix: prefix})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close(t.Context()) })
		return c.Store(v)
	}
	index := func(g int) string { return "order-g" + string(rune('0'+g)) }
	tampered(t, "search: {}", home,
		func(g int, id, from, to string) {
			source := do(http.MethodGet, index(g)+"/_source/"+id, "")
			do(http.MethodPut, index(g)+"/_doc/"+id, strings.Replace(source, from, to, 1))
		},
		func(g int, id string) { do(http.MethodDelete, index(g)+"/_doc/"+id, "") },
		func(g int, id string) { do(http.MethodPut, index(g)+"/_doc/"+id, `{"id":"`+id+`"}`) })
}

func TestVerificationInRedis(t *testing.T) {
	space, prefix := devstack.Redis(t), ""
	opts, err := redis.ParseURL(space.URL())
	if err != nil {
		t.Fatal(err)
	}
	opts.Protocol, opts.DisableIdentity = 2, true
	db := redis.NewClient(opts)
	t.Cleanup(func() { db.Close() })
	key := func(g int, id string) string {
		return prefix + "{order}:g" + string(rune('0'+g)) + ":d:" + id
	}
	home := func(v *views.View) projectors.Store {
		prefix = another(space.Prefix())
		c, err := cache.NewClient(cache.Config{URL: space.URL(), Prefix: prefix}, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c.Store(v)
	}
	value := func(g int, id string) string {
		t.Helper()
		text, err := db.Get(t.Context(), key(g, id)).Result()
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	tampered(t, "cache: {}", home,
		func(g int, id, from, to string) {
			db.Set(t.Context(), key(g, id), strings.Replace(value(g, id), from, to, 1), 0)
		},
		func(g int, id string) { db.Del(t.Context(), key(g, id)) },
		func(g int, id string) { db.Set(t.Context(), key(g, id), value(g, "1"), 0) })
}
