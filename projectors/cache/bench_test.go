package cache

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/lanternist/lanternist/event"
	"github.com/lanternist/lanternist/internal/devstack"
	"github.com/lanternist/lanternist/projectors"
	"github.com/lanternist/lanternist/views"
)

// BenchmarkWrite compares writing documents with a pipeline of plain SETs of the same documents.
func BenchmarkWrite(b *testing.B) {
	const batch = 1000
	body := `{"a":"` + strings.Repeat("x", 500) + `"}`
	space := devstack.Redis(b)
	c, err := NewClient(Config{URL: space.URL(), Prefix: space.Prefix()}, nil)
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	perDocument := func(b *testing.B) {
		b.ReportMetric(float64(b.N*batch)/b.Elapsed().Seconds(), "documents/s")
	}
	documents := func(n int, lookups ...string) []views.Document {
		docs := make([]views.Document, batch)
		for i := range docs {
			docs[i] = views.Document{ID: fmt.Sprint(n*batch%50_000 + i), Body: []byte(body), Lookups: lookups}
		}
		return docs
	}
	b.Run("set", func(b *testing.B) {
		for n := range b.N {
			p := c.redis.Pipeline()
			for _, d := range documents(n) {
				p.Set(b.Context(), space.Prefix()+d.ID, d.Body, 0)
			}
			if _, err := p.Exec(b.Context()); err != nil {
				b.Fatal(err)
			}
		}
		perDocument(b)
	})
	for name, lookups := range map[string][]string{"documents": nil, "lookups": {"7", "paid:DE"}} {
		b.Run(name, func(b *testing.B) {
			view := orders
			view.options.Lookups = view.options.Lookups[:len(lookups)]
			s := c.Store(view)
			must := func(err error) {
				if err != nil {
					b.Fatal(err)
				}
			}
			must(c.redis.Del(b.Context(), s.liveKey()).Err())
			g, err := s.Create(b.Context(), projectors.Info{Number: 1})
			must(err)
			b.ResetTimer()
			b.RunParallel(func(p *testing.PB) {
				for n := 0; p.Next(); n++ {
					if _, err := g.Write(b.Context(), event.Offset(n+1), documents(n, lookups...)); err != nil {
						b.Error(err)
					}
				}
			})
			perDocument(b)
		})
	}
}

// BenchmarkGet reads documents one at a time.
func BenchmarkGet(b *testing.B) {
	space := devstack.Redis(b)
	c, err := NewClient(Config{URL: space.URL(), Prefix: space.Prefix()}, nil)
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	s := c.Store(orders)
	g, err := s.Create(b.Context(), projectors.Info{Number: 1})
	if err != nil {
		b.Fatal(err)
	}
	if _, err := g.Write(b.Context(), 1, []views.Document{order("1", "7", "", `"x"`)}); err != nil {
		b.Fatal(err)
	}
	if err := s.Promote(b.Context(), 1); err != nil {
		b.Fatal(err)
	}
	b.Run("plain", func(b *testing.B) {
		for b.Loop() {
			if err := c.redis.Get(b.Context(), s.liveKey()).Err(); err != nil && !errors.Is(err, redis.Nil) {
				b.Fatal(err)
			}
		}
	})
	b.Run("document", func(b *testing.B) {
		for b.Loop() {
			if _, state, err := s.Get(b.Context(), "1"); err != nil || state != Found {
				b.Fatal(state, err)
			}
		}
	})
	b.Run("lookup", func(b *testing.B) {
		for b.Loop() {
			if page, err := s.Lookup(b.Context(), byCustomer, "7", "", 10); err != nil || len(page.Documents) != 1 {
				b.Fatal(page, err)
			}
		}
	})
}
