package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/lanternist/lanternist/cdc"
	"github.com/lanternist/lanternist/control"
	"github.com/lanternist/lanternist/deadletter"
	"github.com/lanternist/lanternist/event"
	"github.com/lanternist/lanternist/journal"
	"github.com/lanternist/lanternist/journal/segments"
	"github.com/lanternist/lanternist/mirror"
	"github.com/lanternist/lanternist/projectors"
	"github.com/lanternist/lanternist/projectors/cache"
	"github.com/lanternist/lanternist/projectors/search"
	"github.com/lanternist/lanternist/row"
	"github.com/lanternist/lanternist/schemas"
	"github.com/lanternist/lanternist/views"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const epoch = "7301234567890123456-1"

var quiet = slog.New(slog.DiscardHandler)

// ordersSchema is the table of the view orders.
var ordersSchema = &row.Schema{
	OID: 16400, Namespace: "public", Name: "orders", Key: []int{0}, Identity: 'd',
	Columns: []row.Column{
		{Name: "id", Type: row.Type{OID: 25, Mod: -1, Name: "text", Class: row.String}, NotNull: true},
		{Name: "customer_id", Type: row.Type{OID: 23, Mod: -1, Name: "integer", Class: row.Int}},
		{Name: "status", Type: row.Type{OID: 25, Mod: -1, Name: "text", Class: row.String}},
	},
}

const ordersYAML = `
view: orders
from: public.orders
fields: {id: , customer_id: , status: }
search: {}
cache: {lookups: [customer_id, [status, customer_id]]}
`

const searchedYAML = `
view: searched
from: public.orders
fields: {id: , status: }
search: {}
`

// projector is a projector whose watermark the test moves.
type projector struct {
	mu       sync.Mutex
	progress mirror.Progress
	changed  chan struct{}
	status   projectors.Status
	rechecks int
	rebuild  func(ctx context.Context, progress projectors.Progress) error
	replay   func(ctx context.Context, what projectors.ReplayRange, progress func(projectors.ReplayResult)) (projectors.ReplayResult, error)
	rollback func(ctx context.Context, progress projectors.Progress) error
	retire   func(ctx context.Context, progress projectors.Progress) error
	redrive  func(ctx context.Context, letters []deadletter.Letter) error
}

func (p *projector) Redrive(ctx context.Context, letters []deadletter.Letter) error {
	return p.redrive(ctx, letters)
}

func newProjector(name string) *projector {
	return &projector{changed: make(chan struct{}), status: projectors.Status{
		Projector: name, View: "orders", Sink: "cache", State: projectors.StateRunning, Generation: 1,
	}}
}

func (p *projector) Watermark() (mirror.Progress, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.progress, p.changed
}

func (p *projector) advance(lsn pglogrepl.LSN, offset event.Offset) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.progress = mirror.Progress{LSN: lsn, Offset: offset}
	close(p.changed)
	p.changed = make(chan struct{})
}

func (p *projector) Status() projectors.Status {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.status
}

func (p *projector) Recheck() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rechecks++
}

func (p *projector) Rebuild(ctx context.Context, progress projectors.Progress) error {
	return p.rebuild(ctx, progress)
}

func (p *projector) Replay(ctx context.Context, what projectors.ReplayRange, progress func(projectors.ReplayResult)) (projectors.ReplayResult, error) {
	return p.replay(ctx, what, progress)
}

func (p *projector) Rollback(ctx context.Context, progress projectors.Progress) error {
	return p.rollback(ctx, progress)
}

func (p *projector) Retire(ctx context.Context, progress projectors.Progress) error {
	return p.retire(ctx, progress)
}

// source is a source whose keepalives the test answers.
type source struct {
	mu       sync.Mutex
	stats    cdc.Stats
	requests int
	answer   func() // called for each request
}

func (s *source) RequestKeepalive() {
	s.mu.Lock()
	s.requests++
	answer := s.answer
	s.mu.Unlock()
	if answer != nil {
		answer()
	}
}

func (s *source) Stats() cdc.Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stats
}

func (s *source) heard(lsn pglogrepl.LSN) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stats.Keepalive = cdc.Keepalive{WALEnd: lsn, Time: time.Now()}
}

// documents stands for a cache.
type documents struct {
	get    func(id string) (cache.Document, error)
	lookup func(lookup, value, after string, limit int) (cache.Page, error)
}

func (d *documents) Get(_ context.Context, id string) (cache.Document, error) { return d.get(id) }

func (d *documents) Lookup(_ context.Context, lookup, value, after string, limit int) (cache.Page, error) {
	return d.lookup(lookup, value, after, limit)
}

// searcher stands for a search sink.
type searcher struct {
	get    func(id string) (search.Hit, bool, error)
	search func(q search.Query) (*search.Result, error)
}

func (s *searcher) Get(_ context.Context, id string) (search.Hit, bool, error) { return s.get(id) }

func (s *searcher) Search(_ context.Context, q search.Query) (*search.Result, error) {
	return s.search(q)
}

// world is a server and what it speaks for.
type world struct {
	t        *testing.T
	server   *Server
	http     *httptest.Server
	source   *source
	cache    *projector
	search   *projector
	docs     *documents
	index    *searcher
	journal  *journal.Journal
	registry *schemas.Registry
	letters  *deadletter.Store
}

func newWorld(t *testing.T, change func(*Config, *Parts)) *world {
	t.Helper()
	w := &world{
		t: t, source: &source{}, cache: newProjector("orders.cache"), search: newProjector("orders.search"),
		docs: &documents{}, index: &searcher{},
	}
	parts := w.parts()
	cfg := Config{Epoch: epoch, Version: "test"}
	if change != nil {
		change(&cfg, &parts)
	}
	var err error
	w.server, err = New(cfg, parts, quiet)
	must(t, err)
	w.http = httptest.NewServer(w.server.Handler())
	t.Cleanup(func() {
		w.http.Close()
		w.server.jobs.stop()
	})
	return w
}

// parts opens a journal, a mirror and a control store in a folder of the test's.
func (w *world) parts() Parts {
	t, dir := w.t, w.t.TempDir()
	store, err := control.OpenPebble(filepath.Join(dir, "control"), quiet)
	must(t, err)
	t.Cleanup(func() { must(t, store.Close()) })
	w.registry, err = schemas.Open(t.Context(), store)
	must(t, err)
	w.letters, err = deadletter.Open(t.Context(), store)
	must(t, err)
	engine, err := segments.Open(filepath.Join(dir, "journal"), segments.Config{}, quiet)
	must(t, err)
	w.journal, err = journal.Open(t.Context(), engine, w.registry, journal.Config{}, quiet)
	must(t, err)
	t.Cleanup(func() { must(t, w.journal.Close()) })
	m, err := mirror.Open(mirror.Config{Dir: filepath.Join(dir, "mirror")}, w.registry, quiet)
	must(t, err)
	t.Cleanup(func() { must(t, m.Close()) })
	return Parts{
		Views: []*View{
			{
				Definition: compile(t, ordersYAML), Cache: &CacheSink{Documents: w.docs, Projector: w.cache},
				Search: &SearchSink{Documents: w.index, Projector: w.search},
			},
			{Definition: compile(t, searchedYAML), Search: &SearchSink{Documents: w.index, Projector: w.search}},
		},
		Source: w.source, Journal: w.journal, Mirror: m, Letters: w.letters, Metrics: prometheus.NewRegistry(),
		Envelope: func(dst []byte, ev *event.Event) ([]byte, error) {
			return fmt.Appendf(dst, `{"offset":%d,"type":%q}`, ev.Offset, ev.Type()), nil
		},
	}
}

func compile(t *testing.T, yaml string) *views.View {
	t.Helper()
	defs, err := views.Parse("test.yaml", []byte(yaml))
	must(t, err)
	compiled, err := views.Compile(defs, []*row.Schema{ordersSchema})
	must(t, err)
	return compiled[0]
}

// reply is an answer.
type reply struct {
	*http.Response
	body []byte
}

// get asks for a path, with headers as pairs of name and value.
func (w *world) get(path string, headers ...string) reply {
	return w.do(http.MethodGet, path, headers...)
}

func (w *world) do(method, path string, headers ...string) reply {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.t.Context(), method, w.http.URL+path, nil)
	must(w.t, err)
	for pair := range slices.Chunk(headers, 2) {
		req.Header.Set(pair[0], pair[1])
	}
	resp, err := w.http.Client().Do(req)
	must(w.t, err)
	defer resp.Body.Close()
	var body bytes.Buffer
	_, err = body.ReadFrom(resp.Body)
	must(w.t, err)
	return reply{resp, body.Bytes()}
}

// want checks the status, and that errors are problem documents.
func (r reply) want(t *testing.T, status int) reply {
	t.Helper()
	if r.StatusCode != status {
		t.Fatalf("%s: got %d, want %d: %s", r.Request.URL, r.StatusCode, status, r.body)
	}
	if status >= 400 && r.Header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("%s: a problem of type %q", r.Request.URL, r.Header.Get("Content-Type"))
	}
	return r
}

// header checks headers, as pairs of name and value.
func (r reply) header(t *testing.T, pairs ...string) reply {
	t.Helper()
	for pair := range slices.Chunk(pairs, 2) {
		if got := r.Header.Get(pair[0]); got != pair[1] {
			t.Errorf("%s: %s is %q, want %q", r.Request.URL, pair[0], got, pair[1])
		}
	}
	return r
}

func (r reply) problem(t *testing.T) Problem {
	t.Helper()
	return into[Problem](t, r)
}

func into[T any](t *testing.T, r reply) T {
	t.Helper()
	var v T
	if err := json.Unmarshal(r.body, &v); err != nil {
		t.Fatalf("%s: %v: %s", r.Request.URL, err, r.body)
	}
	return v
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
