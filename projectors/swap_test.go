package projectors_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/redis/go-redis/v9"

	"github.com/lanternist/lanternist/event"
	"github.com/lanternist/lanternist/internal/devstack"
	"github.com/lanternist/lanternist/mirror"
	"github.com/lanternist/lanternist/projectors"
	"github.com/lanternist/lanternist/projectors/cache"
	"github.com/lanternist/lanternist/projectors/search"
	"github.com/lanternist/lanternist/views"
)

// Two definitions of a view that differ in what a reader must know: how status is indexed, and in which order lookups are kept.
var swapped = []string{`
view: order
from: public.orders
fields: {id: , status: , customer_id: }
search: {}
cache: {ttl: 1h, lookups: [customer_id, status]}
`, `
view: order
from: public.orders
fields: {id: , status: {as: keyword}, customer_id: {as: keyword}, customer: {one: public.customers, on: {id: customer_id}, fields: {name: }}}
search: {}
cache: {ttl: 1h, lookups: [status, id, customer_id]}
`}

// swap is a view in both sinks, and what its readers have at hand.
type swap struct {
	t      *testing.T
	source *projectors.Source
	views  []*views.View
	redis  *redis.Client
	prefix string

	searchClient       *search.Client
	cacheClient        *cache.Client
	searching, caching *projectors.Runner
	searches           []*search.Store // by definition
	readers            []*cache.Reader
	caches             []*cache.Store
	search             atomic.Int64 // the definition that readers go by
	cache              atomic.Int64
	reads              atomic.Int64
}

func newSwap(t *testing.T) *swap {
	t.Helper()
	w := &swap{t: t}
	for _, text := range swapped {
		w.views = append(w.views, projectors.Compile(t, text))
	}
	cluster, space := devstack.Elasticsearch(t), devstack.Redis(t)
	w.prefix = space.Prefix()
	w.source = projectors.NewSource(t, w.views...)
	log := slog.New(slog.DiscardHandler)
	searchClient, err := search.NewClient(search.Config{URLs: []string{cluster.URL()}, Prefix: cluster.Prefix()})
	w.must(err)
	t.Cleanup(func() { w.must(searchClient.Close(context.Background())) })
	cacheClient, err := cache.NewClient(cache.Config{URL: space.URL(), Prefix: space.Prefix()}, log)
	w.must(err)
	t.Cleanup(func() { w.must(cacheClient.Close()) })
	options, err := redis.ParseURL(space.URL())
	w.must(err)
	w.redis = redis.NewClient(options)
	t.Cleanup(func() { w.must(w.redis.Close()) })

	w.searchClient, w.cacheClient = searchClient, cacheClient
	w.searches = []*search.Store{searchClient.Store(w.views[0])}
	w.caches = []*cache.Store{cacheClient.Store(w.views[0])}
	w.searches = append(w.searches, w.searches[0].Redefined(w.views[1]))
	w.caches = append(w.caches, w.caches[0].Redefined(w.views[1]))
	for i, v := range w.views {
		w.readers = append(w.readers, cache.NewReader(w.caches[i], composing(w.source.Mirror(), v)))
	}
	w.searching = w.source.Runner(w.views[0], w.searches[0], func(c *projectors.Config) { c.Name = "order.search" })
	w.caching = w.source.Runner(w.views[0], w.caches[0], func(c *projectors.Config) { c.Name = "order.cache" })
	return w
}

func (w *swap) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// composing composes what the cache misses by one definition.
func composing(m *mirror.Mirror, v *views.View) cache.Compose {
	return func(ctx context.Context, ids []string) (docs []views.Document, version event.Offset, err error) {
		s, err := m.Snapshot(ctx)
		if err != nil {
			return nil, 0, err
		}
		defer func() { err = errors.Join(err, s.Close()) }()
		composer := v.Composer()
		for _, id := range ids {
			key, err := v.Key(id)
			if err != nil {
				return nil, 0, err
			}
			doc, err := composer.Compose(s, key)
			if err != nil {
				return nil, 0, err
			}
			docs = append(docs, doc)
		}
		return docs, s.Progress().Offset, nil
	}
}

// read reads one order in each way there is. Each must find it, with its status, whichever definition the reader goes by.
func (w *swap) read(ctx context.Context, id, customer, status string, shown event.Offset) error {
	reader, store := w.readers[w.cache.Load()], w.searches[w.search.Load()]
	has := func(body []byte) bool { return strings.Contains(string(body), fmt.Sprintf(`"status":%q`, status)) }
	doc, err := reader.Get(ctx, id)
	if err != nil || !has(doc.Body) {
		return fmt.Errorf("get %s: %s %w", id, doc.Body, err)
	}
	for lookup, value := range map[string]string{"customer_id": customer, "status": status} {
		page, err := reader.Lookup(ctx, lookup, value, "", 10)
		if err != nil || len(page.Documents) != 1 || page.Documents[0].ID != id || !has(page.Documents[0].Body) {
			return fmt.Errorf("look up %s by %s=%s: %+v %w", id, lookup, value, page, err)
		}
	}
	hit, found, err := store.Get(ctx, id)
	if err != nil || !found || !has(hit.Source) {
		return fmt.Errorf("get %s from the index: %t %s %w", id, found, hit.Source, err)
	}
	q := search.Query{SinglePage: true, After: shown}
	if q.Filters, err = search.ParseFilters("status:" + status + " customer_id:" + customer); err != nil {
		return err
	}
	q.Sort = []search.Sort{{Field: "status"}}
	result, err := store.Search(ctx, q)
	if err != nil || len(result.Hits) != 1 || result.Hits[0].ID != id || !has(result.Hits[0].Source) {
		return fmt.Errorf("search for %s: %+v %w", status, result, err)
	}
	w.reads.Add(1)
	return nil
}

// page reads all orders of a customer in pages, which are of one point in time, whatever becomes of the view meanwhile.
func (w *swap) pages(ctx context.Context, customer string, want int) error {
	q := search.Query{Size: 2, Sort: []search.Sort{{Field: "id"}}}
	var err error
	if q.Filters, err = search.ParseFilters("customer_id:" + customer); err != nil {
		return err
	}
	found := 0
	for {
		result, err := w.searches[w.search.Load()].Search(ctx, q)
		if err != nil {
			return fmt.Errorf("page after %d: %w", found, err)
		}
		found += len(result.Hits)
		if q.Cursor = result.Cursor; q.Cursor == "" {
			break
		}
	}
	if found != want {
		return fmt.Errorf("%d orders in all pages, want %d", found, want)
	}
	return nil
}

// A view is redefined again and again, back and forth, while it is read in every way, with tokens and without. What readers have
// at hand is swapped long after the promotion. No read fails, misses a document or is older than its token.
func TestReadersWhileAViewIsRedefined(t *testing.T) {
	if testing.Short() {
		t.Skip("needs real services; run without -short")
	}
	w := newSwap(t)
	stopSearch, stopCache := w.source.Run(w.searching), w.source.Run(w.caching)
	defer func() {
		_ = stopSearch()
		_ = stopCache()
	}()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	token := w.source.AddOrder("steady", "c-steady", "s-steady")
	for i := range 7 {
		token = w.source.AddOrder(fmt.Sprint("p", i), "c-pages", fmt.Sprint("s-p", i))
	}
	token = max(token, w.source.AddOrder("busy", "c-busy", "s-0"))
	shown := w.wait(ctx, token)
	w.must(w.searches[0].Refresh(ctx, shown))

	done := make(chan struct{})
	var reading sync.WaitGroup
	loop := func(what func() error) {
		reading.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				if err := what(); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	loop(func() error { return w.read(ctx, "steady", "c-steady", "s-steady", 0) })
	loop(func() error { return w.pages(ctx, "c-pages", 7) })
	loop(func() error { // a document expires now and then
		for n := range 12 {
			w.redis.Del(ctx, fmt.Sprintf("%s{order}:g%d:d:steady", w.prefix, n))
		}
		return w.read(ctx, "steady", "c-steady", "s-steady", 0)
	})

	redefining := make(chan error, 1)
	go func() { redefining <- w.redefineInTurn(ctx, 4) }()
	writes := 0
	for over := false; !over && !t.Failed(); {
		select {
		case err := <-redefining:
			w.must(err)
			over = true
		default:
		}
		writes++
		status := fmt.Sprint("s-", writes)
		shown := w.wait(ctx, w.source.PutOrder("busy", "c-busy", status))
		if err := w.read(ctx, "busy", "c-busy", status, shown); err != nil {
			t.Errorf("after the write: %v", err)
		}
	}
	close(done)
	reading.Wait()
	t.Logf("%d writes, %d reads", writes, w.reads.Load())
}

// wait waits until both sinks show a token, and returns which version they show for sure.
func (w *swap) wait(ctx context.Context, token pglogrepl.LSN) event.Offset {
	w.t.Helper()
	a, err := w.searching.Wait(ctx, token)
	if err == nil {
		_, err = w.caching.Wait(ctx, token)
	}
	if err != nil {
		w.t.Fatalf("%v: %+v, %+v", err, w.searching.Status(), w.caching.Status())
	}
	return a.Offset
}

// redefineInTurn redefines the view in both sinks, several times.
func (w *swap) redefineInTurn(ctx context.Context, times int) error {
	for i := range times {
		next := (i + 1) % 2
		more := func() error { // reads by the definition of before
			for from := w.reads.Load(); w.reads.Load() < from+30; {
				select {
				case <-ctx.Done():
					return ctx.Err()
				case <-time.After(time.Millisecond):
				}
			}
			return nil
		}
		err := w.caching.Redefine(ctx, projectors.Definition{View: w.views[next], Store: w.caches[next]}, nil, nil)
		if err == nil {
			err = more()
		}
		w.cache.Store(int64(next))
		if err == nil {
			err = w.searching.Redefine(ctx, projectors.Definition{View: w.views[next], Store: w.searches[next]}, nil, nil)
		}
		if err == nil {
			err = more()
		}
		w.search.Store(int64(next))
		if err != nil {
			return err
		}
	}
	return nil
}
