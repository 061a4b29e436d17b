package config

import (
	"slices"
	"strings"
	"testing"
)

func TestSettings(t *testing.T) {
	settings := func(text string) map[string]string {
		env := func(string) (string, bool) { return "postgres://app:hunter2@db/shop", true }
		c, err := Parse("lanternist.yaml", []byte(text), env)
		if err != nil {
			t.Fatal(err)
		}
		list, err := c.Settings()
		if err != nil {
			t.Fatal(err)
		}
		all := map[string]string{}
		for _, s := range list {
			if strings.Contains(s.Value, "hunter2") {
				t.Errorf("%s shows a secret: %s", s.Name, s.Value)
			}
			all[s.Name] = s.Value
		}
		return all
	}
	const base = "source: {url: \"${DATABASE_URL}\", tables: [public.orders]}\nviews: [views/*.yaml]\nredis: {url: redis://localhost}\n"
	was := settings(base)
	for name, want := range map[string]string{"http.listen": "127.0.0.1:8080", "redis.url": "redis://localhost", "source.slot": "lanternist", "views.auto_rebuild": "true"} {
		if was[name] != want {
			t.Errorf("%s is %q, want %q", name, was[name], want)
		}
	}
	differ := func(text string) (names []string) {
		is := settings(text)
		for name, value := range is {
			if was[name] != value {
				names = append(names, name)
			}
		}
		slices.Sort(names)
		return names
	}
	if names := differ(strings.NewReplacer("public.orders", "public.orders, public.items", "views/*.yaml", "others/*.yaml").Replace(base)); len(names) > 0 {
		t.Errorf("tables and view files need a restart: %v", names)
	}
	if names := differ(base + "http: {listen: \"127.0.0.1:9090\"}\n"); !slices.Equal(names, []string{"http.listen"}) {
		t.Errorf("changed are %v, want http.listen", names)
	}
}
