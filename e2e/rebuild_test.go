package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/lanternist/lanternist/examples/shop"
	"github.com/lanternist/lanternist/internal/devstack"
)

const (
	// articlesDefault is how many documents each view has; LANTERNIST_E2E_REBUILD_DOCUMENTS is another number.
	articlesDefault = 10_000
	// articleRate is how many transactions per second the writers make: 200, fewer with the race detector.
	articleRate = busyRate * 4 / 3
	// articleWriters are the writers' connections.
	articleWriters = 8
	// articleReaders are the clients that read documents at random.
	articleReaders = 2
)

// Each view is in one sink, so that a read by id is answered by that sink.
var articleViews = map[string]string{
	"article":        "search: {settings: {number_of_shards: 1}}\n",
	"article_cached": "cache: {}\n",
}

const (
	articleFields = `from: public.articles
fields:
  id:
  title:
  body:
  price:
  serial:
  maker: {one: public.makers, on: {id: maker_id}, fields: {name: }}
`
	articleTruth = `SELECT a.id::text, jsonb_build_object('id', a.id, 'title', a.title, 'body', a.body, 'price', a.price, 'serial', a.serial,
		'maker', jsonb_build_object('name', m.name)) FROM articles a JOIN makers m ON m.id = a.maker_id`
)

// TestRebuildAndRollbackWhileReadersWatch rebuilds views, and goes back at once, while 200 transactions per second change them and clients read
// every document at random: none is missing, none is older than a token says, and nothing fails. It prints how fast the
// rebuild was beside bulk requests with the same documents.
func TestRebuildAndRollbackWhileReadersWatch(t *testing.T) {
	t.Parallel()
	articles := articlesDefault
	if text := os.Getenv("LANTERNIST_E2E_REBUILD_DOCUMENTS"); text != "" {
		var err error
		if articles, err = strconv.Atoi(text); err != nil {
			t.Fatalf("LANTERNIST_E2E_REBUILD_DOCUMENTS: %v", err)
		}
	}
	o := options{tables: []string{"public.articles", "public.makers"}, views: map[string][]byte{}}
	for name, section := range articleViews {
		o.views[name] = []byte("view: " + name + "\n" + articleFields + section)
	}
	in := install(t, o)
	in.database.Exec(fmt.Sprintf(`
		CREATE TABLE makers (id int PRIMARY KEY, name text);
		CREATE TABLE articles (id bigint PRIMARY KEY, maker_id int NOT NULL, title text, body text, price numeric, serial bigint NOT NULL DEFAULT 0);
		INSERT INTO makers SELECT i, 'maker ' || i FROM generate_series(0, %[1]d / 10) i;
		INSERT INTO articles SELECT i, i / 10, 'article ' || i, repeat(md5(i::text), 8), i * 0.25 FROM generate_series(1, %[1]d) i`, articles))
	d := in.start()
	devstack.Eventually(t, 20*time.Minute, func() error {
		d.alive()
		return in.get("/readyz", nil)
	})
	first := in.status().generations()

	busy := in.startArticles(articles)
	before := in.rawBulk(articles)
	speed := d.change("rebuild", "article")
	d.change("rollback", "article")
	d.change("rebuild", "article_cached")
	d.change("rollback", "article_cached")
	after := in.rawBulk(articles)
	busy.stop()
	raw := (before + after) / 2
	t.Logf("the rebuild in Elasticsearch wrote %.0f documents/s, its filling %.0f/s; bulk requests with the same documents, beside the same traffic, %.0f/s before and %.0f/s after: ratio %.2f, of the filling %.2f",
		speed.whole, speed.filling, before, after, speed.whole/raw, speed.filling/raw)

	if now := in.status().generations(); !maps.Equal(now, first) {
		t.Errorf("generations %v after going back, want %v", now, first)
	}
	token := in.position()
	for view := range articleViews {
		d.reachIn("/v1/views/"+view+"/none", token)
	}
	in.compareArticles()
	d.nothingParked()
	d.stop()
}

// speed is of a rebuild, in documents per second.
type speed struct{ whole, filling float64 }

// changed is what the API says of a rebuild or rollback.
type changed struct {
	State    string    `json:"state"`
	Started  time.Time `json:"started"`
	Finished time.Time `json:"finished"`
	Sinks    map[string]struct {
		Done  int64  `json:"done"`
		Step  string `json:"step"`
		Error string `json:"error"`
	} `json:"sinks"`
}

var filled = regexp.MustCompile(`msg="generation filled" projector=(\S+) generation=\d+ offset=\S+ rows=(\d+) took=(\S+)`)

// change makes a rebuild or rollback and waits for its end.
func (d *daemon) change(kind, view string) (s speed) {
	in, t := d.in, d.in.t
	t.Helper()
	path := "/v1/views/" + view + "/" + kind
	if a, err := in.ask(http.MethodPost, path, nil); err != nil || a.status != http.StatusAccepted {
		t.Fatalf("%s of %s: status %d %s %v", kind, view, a.status, a.body, err)
	}
	var c changed
	steps, held := map[string]bool{}, ""
	devstack.Eventually(t, 20*time.Minute, func() error {
		d.alive()
		if err := in.get(path, &c); err != nil {
			return err
		}
		for _, p := range in.status().Projectors {
			if p.Build != nil && p.Build.HeldBack != "" {
				held = p.Build.HeldBack
			}
		}
		for _, sink := range c.Sinks {
			steps[sink.Step] = true
		}
		if c.State == "running" {
			return errors.New("it runs")
		}
		return nil
	})
	if c.State != "done" {
		t.Fatalf("%s of %s: %+v", kind, view, c)
	}
	done := int64(0)
	for _, sink := range c.Sinks {
		done += sink.Done
	}
	took := c.Finished.Sub(c.Started)
	s.whole = float64(done) / took.Seconds()
	for _, m := range filled.FindAllStringSubmatch(d.log.text(), -1) {
		rows, _ := strconv.ParseFloat(m[2], 64)                   // the pattern holds digits
		if filling, err := time.ParseDuration(m[3]); err == nil { // the last one counts
			s.filling = rows / filling.Seconds()
		}
	}
	t.Logf("%s of %s: %s to %s, %d in %v; steps seen %q; held back %q", kind, view, c.Started.Local().Format(time.TimeOnly), c.Finished.Local().Format(time.TimeOnly), done, took.Round(time.Millisecond),
		slices.Sorted(maps.Keys(steps)), held)
	return s
}

// busyArticles are writers and readers at work.
type busyArticles struct {
	in       *installation
	articles int
	started  time.Time
	cancel   context.CancelFunc
	group    *errgroup.Group

	committed, added atomic.Int64
	reads, tokens    atomic.Int64

	mu      sync.Mutex
	writes  [256]articleWrite // the last ones, of which readers know
	wrote   int
	waits   []time.Duration
	slow    string // where and when the longest wait was
	longest time.Duration
}

// articleWrite is what a writer knows of an article: no answer that reflects the token may be older than the serial.
type articleWrite struct {
	id, serial int64
	token      string
}

func (in *installation) startArticles(articles int) *busyArticles {
	in.t.Helper()
	random := randomSource(in.t)
	ctx, cancel := context.WithCancel(context.Background())
	b := &busyArticles{in: in, articles: articles, started: time.Now(), cancel: cancel}
	b.group, ctx = errgroup.WithContext(ctx)
	var due atomic.Int64
	for range articleWriters {
		conn, r := in.database.Conn(in.t.Context()), rand.New(rand.NewPCG(random.Uint64(), 0))
		b.group.Go(func() error {
			defer conn.Close(context.Background())
			return b.write(ctx, conn, r, &due)
		})
	}
	views := slices.Sorted(maps.Keys(articleViews))
	for i := range articleReaders {
		r := rand.New(rand.NewPCG(random.Uint64(), 1))
		b.group.Go(func() error { return b.read(ctx, r, views[i%len(views)]) })
	}
	for _, view := range views {
		r := rand.New(rand.NewPCG(random.Uint64(), 2))
		b.group.Go(func() error { return b.readAfterWrites(ctx, r, view) })
	}
	in.t.Cleanup(cancel)
	return b
}

// stop ends them, and says what they have done.
func (b *busyArticles) stop() {
	b.in.t.Helper()
	took := time.Since(b.started)
	b.cancel()
	if err := b.group.Wait(); err != nil {
		b.in.t.Error(err)
	}
	b.in.t.Logf("%d transactions, %.0f/s; %d documents read at random, %d after a token, none missing, none stale; waits p50 %v, p99 %v, longest %v (%s)",
		b.committed.Load(), float64(b.committed.Load())/took.Seconds(), b.reads.Load(), b.tokens.Load(),
		percentile(b.waits, 0.5), percentile(b.waits, 0.99), b.longest, b.slow)
	if b.reads.Load() == 0 || b.tokens.Load() == 0 || b.committed.Load() == 0 {
		b.in.t.Error("there was no traffic, or nothing was read")
	}
}

// write makes its share of the transactions, each at its time, however long the ones before took.
func (b *busyArticles) write(ctx context.Context, conn *pgx.Conn, r *rand.Rand, due *atomic.Int64) error {
	for {
		at := b.started.Add(time.Duration(due.Add(1)) * time.Second / articleRate)
		timer := time.NewTimer(time.Until(at))
		select {
		case <-timer.C: // its time: nothing is waited for
		case <-ctx.Done():
			timer.Stop()
			return nil
		}
		if err := b.writeOne(ctx, conn, r); err != nil {
			if ctx.Err() != nil {
				return nil //nolint:nilerr // it was cut off by the end
			}
			return fmt.Errorf("write: %w", err)
		}
		b.committed.Add(1)
	}
}

func (b *busyArticles) writeOne(ctx context.Context, conn *pgx.Conn, r *rand.Rand) error {
	switch n := r.IntN(20); {
	case n < 2:
		id := int64(b.articles) + b.added.Add(1)
		_, err := conn.Exec(ctx, "INSERT INTO articles VALUES ($1, $2, 'added', 'for a while', 1)", id, r.IntN(b.articles/10))
		return err
	case n < 4:
		_, err := conn.Exec(ctx, "DELETE FROM articles WHERE id = $1", int64(b.articles)+1+r.Int64N(b.added.Load()+1))
		return err
	case n < 5:
		_, err := conn.Exec(ctx, "UPDATE makers SET name = 'maker ' || $2 WHERE id = $1", r.IntN(b.articles/10), strconv.Itoa(r.Int()))
		return err
	}
	w := articleWrite{id: 1 + r.Int64N(int64(b.articles))}
	err := conn.QueryRow(ctx, "UPDATE articles SET serial = serial + 1, price = price + 1 WHERE id = $1 RETURNING serial", w.id).Scan(&w.serial)
	if err == nil {
		err = conn.QueryRow(ctx, "SELECT pg_current_wal_flush_lsn()::text").Scan(&w.token)
	}
	if err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.writes[b.wrote%len(b.writes)] = w
	b.wrote++
	return nil
}

// read reads documents at random. Those up to articles are never deleted.
func (b *busyArticles) read(ctx context.Context, r *rand.Rand, view string) error {
	for ctx.Err() == nil {
		if _, err := b.article(view, 1+r.Int64N(int64(b.articles)), ""); err != nil {
			return err
		}
		b.reads.Add(1)
	}
	return nil
}

// readAfterWrites reads what was written last, with the token of the write.
func (b *busyArticles) readAfterWrites(ctx context.Context, r *rand.Rand, view string) error {
	for ctx.Err() == nil {
		b.mu.Lock()
		w := b.writes[r.IntN(len(b.writes))]
		if n := b.wrote; n > 0 && r.IntN(2) == 0 {
			w = b.writes[(n-1)%len(b.writes)]
		}
		b.mu.Unlock()
		if w.id == 0 {
			continue // nobody has written so much yet
		}
		began := time.Now()
		serial, err := b.article(view, w.id, w.token)
		if err != nil {
			return err
		}
		if serial < w.serial {
			return fmt.Errorf("stale answer: article %d of %s has serial %d after %s, written was %d", w.id, view, serial, w.token, w.serial)
		}
		b.tokens.Add(1)
		b.mu.Lock()
		took := time.Since(began)
		if took > b.longest {
			b.longest, b.slow = took, fmt.Sprintf("%s at %s", view, began.Format(time.TimeOnly))
		}
		b.waits = append(b.waits, took)
		b.mu.Unlock()
	}
	return nil
}

// article reads one document and returns its serial.
func (b *busyArticles) article(view string, id int64, token string) (int64, error) {
	path := fmt.Sprintf("/v1/views/%s/%d", view, id)
	a, err := b.in.readMaybeAfter(path, token)
	if err != nil {
		return 0, err
	}
	var found struct{ ID, Serial int64 }
	if a.status != http.StatusOK || json.Unmarshal(a.body, &found) != nil || found.ID != id {
		return 0, fmt.Errorf("%s after %q: status %d: %s", path, token, a.status, a.body)
	}
	return found.Serial, nil
}

// rawBulk writes the documents of the view in Elasticsearch into an index of the same mapping, by bulk requests of several writers
// with nothing in between. It returns how many were written per second.
func (in *installation) rawBulk(documents int) float64 {
	in.t.Helper()
	alias := in.searchPrefix + "article"
	var indices map[string]struct {
		Mappings json.RawMessage `json:"mappings"`
	}
	in.elasticsearch(http.MethodGet, in.search+"/"+alias, nil, &indices)
	var mappings json.RawMessage
	for _, index := range indices {
		mappings = index.Mappings
	}
	raw := in.search + "/" + in.searchPrefix + "raw"
	in.elasticsearch(http.MethodPut, raw, map[string]any{
		"mappings": mappings,
		"settings": map[string]any{"number_of_shards": 1, "auto_expand_replicas": "0-1", "refresh_interval": "-1"},
	}, nil)
	var bodies [][]byte
	var body []byte
	n := 0
	for id, source := range in.searchDocuments("article") {
		n++
		body = fmt.Appendf(body, `{"index":{"_id":%q,"version":%d,"version_type":"external_gte"}}`+"\n%s\n", id, n, source)
		if len(body) >= 2<<20 {
			bodies, body = append(bodies, body), nil
		}
	}
	bodies = append(bodies, body)
	if n < documents {
		in.t.Errorf("%d documents, want at least %d", n, documents)
	}
	began := time.Now()
	var next atomic.Int64
	var g errgroup.Group
	for range 4 {
		g.Go(func() error {
			for i := int(next.Add(1)) - 1; i < len(bodies); i = int(next.Add(1)) - 1 {
				if err := postBulk(raw, bodies[i]); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		in.t.Fatal(err)
	}
	rate := float64(n) / time.Since(began).Seconds()
	in.elasticsearch(http.MethodDelete, raw, nil, nil)
	return rate
}

func postBulk(index string, body []byte) error {
	res, err := client.Post(index+"/_bulk?filter_path=errors", "application/x-ndjson", bytes.NewReader(body))
	if err != nil {
		return err
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	if err != nil || string(answer) != `{"errors":false}` {
		return fmt.Errorf("bulk: %s %s %w", res.Status, answer, err)
	}
	return nil
}

// compareArticles compares every document with the source. Nothing may write meanwhile.
func (in *installation) compareArticles() {
	in.t.Helper()
	conn := in.database.Conn(in.t.Context())
	defer conn.Close(in.t.Context())
	sinks := map[string]map[string]shop.Documents{
		"article":        {"Elasticsearch": in.searchDocuments("article")},
		"article_cached": {"Redis": in.cacheDocuments("article_cached")},
	}
	var result shop.Comparison
	err := pgx.BeginTxFunc(in.t.Context(), conn, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) (err error) {
		result, err = shop.CompareWith(in.t.Context(), tx, func(string) string { return articleTruth }, sinks)
		return err
	})
	if err != nil {
		in.t.Fatal(err)
	}
	if !result.Equal() || result.Compared == 0 {
		in.t.Errorf("%d documents compared: %d different, %d missing, %d extra; such as %v", result.Compared, result.Different, result.Missing, result.Extra, result.Differences)
	}
	in.t.Logf("%d documents compared", result.Compared)
}
