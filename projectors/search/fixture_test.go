package search

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lanternist/lanternist/event"
	"github.com/lanternist/lanternist/internal/devstack"
	"github.com/lanternist/lanternist/projectors"
	"github.com/lanternist/lanternist/row"
	"github.com/lanternist/lanternist/views"
)

func scalar(path, name string, class row.Class, typeName, as string) views.Field {
	return views.Field{Name: name, Path: path, Type: row.Type{Name: typeName, Class: class}, As: as}
}

// orderFields is a view of orders with a customer, a nested list of items and a list of tags.
func orderFields() []views.Field {
	return []views.Field{
		scalar("id", "id", row.Int, "bigint", ""),
		scalar("status", "status", row.Enum, "public.status", ""),
		scalar("note", "note", row.String, "text", ""),
		scalar("total", "total", row.Numeric, "numeric", ""),
		scalar("lines", "lines", row.Int, "integer", ""),
		scalar("paid", "paid", row.Bool, "boolean", ""),
		scalar("placed_at", "placed_at", row.TimestampTZ, "timestamp with time zone", ""),
		scalar("meta", "meta", row.JSON, "jsonb", "flattened"),
		scalar("raw", "raw", row.JSON, "jsonb", ""),
		scalar("plain", "plain", row.String, "text", "text"),
		{Name: "tags", Path: "tags", Type: row.Type{Name: "text[]", Class: row.Array, Elem: &row.Type{Name: "text", Class: row.String}}},
		{Name: "customer", Path: "customer", Children: []views.Field{
			scalar("customer.name", "name", row.String, "text", ""),
			scalar("customer.country", "country", row.String, "text", "keyword"),
		}},
		{Name: "items", Path: "items", Many: true, As: "nested", Children: []views.Field{
			scalar("items.sku", "sku", row.String, "text", "keyword"),
			scalar("items.title", "title", row.String, "text", ""),
			scalar("items.qty", "qty", row.Int, "integer", ""),
		}},
	}
}

// client makes a client of the shared cluster whose names are this test's own.
func client(t testing.TB, change ...func(*Config)) *Client {
	t.Helper()
	cluster := devstack.Elasticsearch(t)
	cfg := Config{URLs: []string{cluster.URL()}, Prefix: cluster.Prefix()}
	for _, f := range change {
		f(&cfg)
	}
	return clientOf(t, cfg)
}

func clientOf(t testing.TB, cfg Config) *Client {
	t.Helper()
	c, err := NewClient(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(context.Background()); err != nil {
			t.Errorf("close client: %v", err)
		}
	})
	return c
}

// orders is a store of orders with one live generation.
func orders(t testing.TB, c *Client) (*Store, projectors.Generation) {
	t.Helper()
	s := newStore(c, "orders", orderFields(), nil)
	return s, live(t, s, 1)
}

// live creates and promotes a generation.
func live(t testing.TB, s *Store, number int) projectors.Generation {
	t.Helper()
	g := created(t, s, number)
	if err := s.Promote(t.Context(), number); err != nil {
		t.Fatal(err)
	}
	return g
}

func created(t testing.TB, s *Store, number int) projectors.Generation {
	t.Helper()
	g, err := s.Create(t.Context(), projectors.Info{Number: number, Hash: fmt.Sprintf("hash-%d", number), Epoch: "7000-1"})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func doc(id, body string) views.Document { return views.Document{ID: id, Body: []byte(body)} }

func gone(id string) views.Document { return views.Document{ID: id} }

// put writes documents that all must be taken.
func put(t testing.TB, g projectors.Generation, version event.Offset, docs ...views.Document) {
	t.Helper()
	failures, err := g.Write(t.Context(), version, docs)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range failures {
		t.Fatalf("document %s: %v", docs[f.Index].ID, f.Err)
	}
}

// many makes n small documents.
func many(n int) []views.Document {
	docs := make([]views.Document, n)
	for i := range docs {
		docs[i] = doc(fmt.Sprintf("k%06d", i), fmt.Sprintf(`{"id":%d,"status":"s%d","lines":%d}`, i, i%7, i%100))
	}
	return docs
}

// found searches, expecting success.
func found(t testing.TB, s *Store, q Query) *Result {
	t.Helper()
	r, err := s.Search(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// ids is the ids of hits in their order.
func ids(hits []Hit) []string {
	list := make([]string, len(hits))
	for i, h := range hits {
		list[i] = h.ID
	}
	return list
}

// proxy stands in front of the cluster. intercept may answer a request itself, by returning true.
func proxy(t testing.TB, intercept func(w http.ResponseWriter, r *http.Request) bool) *Client {
	t.Helper()
	cluster := devstack.Elasticsearch(t)
	target, err := url.Parse(cluster.URL())
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{}
	forward := &httputil.ReverseProxy{
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(target) },
		Transport: transport,
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !intercept(w, r) {
			forward.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(func() {
		server.Close()
		transport.CloseIdleConnections()
	})
	return clientOf(t, Config{URLs: []string{server.URL}, Prefix: cluster.Prefix(), BulkTimeout: 20 * time.Second})
}

// answer writes what Elasticsearch would.
func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("X-Elastic-Product", "Elasticsearch")
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}

// first is true for the first n calls.
type first struct {
	n     int64
	calls atomic.Int64
}

func (f *first) more() bool { return f.calls.Add(1) <= f.n }

// raw asks the cluster directly.
func raw(t testing.TB, c *Client, method, path string, body, reply any) {
	t.Helper()
	if err := c.do(t.Context(), call{method: method, path: path, body: body}, reply); err != nil {
		t.Fatal(err)
	}
}
