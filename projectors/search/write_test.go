package search

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lanternist/lanternist/event"
	"github.com/lanternist/lanternist/projectors"
	"github.com/lanternist/lanternist/views"
)

func TestWriteNamesOnlyWhatWasRefused(t *testing.T) {
	t.Parallel()
	c := client(t)
	fields := append(orderFields(), scalar("code", "code", 1, "text", "integer"))
	s := newStore(c, "orders", fields, nil)
	g := live(t, s, 1)
	put(t, g, 9, doc("newer", `{"lines":9}`))
	docs := []views.Document{
		doc("1", `{"id":1,"code":"12"}`),
		doc("2", `{"id":2,"code":"twelve"}`), // not an integer
		doc("", `{"id":3}`),
		doc("newer", `{"lines":5}`), // stale: success that changes nothing
		gone("never-there"),
		doc(strings.Repeat("x", 513), `{}`),
		doc("4", `{"placed_at":"infinity","total":"NaN","raw":[1,"x",{"a":null}],"meta":{"a":1}}`),
		doc("5", "{\"a\":\n1}"),
		doc(`odd "id" \ ø/%:`+"\x01", `{"id":6}`),
		doc("7", `not json`),
	}
	failures, err := g.Write(t.Context(), 5, docs)
	if err != nil {
		t.Fatal(err)
	}
	refused := map[int]string{}
	for _, f := range failures {
		if projectors.Class(f.Err) != projectors.Permanent {
			t.Errorf("document %d: %v is %s, want permanent", f.Index, f.Err, projectors.Class(f.Err))
		}
		refused[f.Index] = f.Err.Error()
	}
	for i, want := range map[int]string{1: "code", 2: "empty", 5: "513 bytes", 7: "one line", 9: "Unrecognized token"} {
		if !strings.Contains(refused[i], want) {
			t.Errorf("document %d: failure %q does not say %q", i, refused[i], want)
		}
		delete(refused, i)
	}
	if len(refused) > 0 {
		t.Errorf("also refused: %v", refused)
	}
	for id, want := range map[string]event.Offset{"1": 5, "4": 5, "newer": 9, docs[8].ID: 5} {
		hit, ok, err := s.Get(t.Context(), id)
		if err != nil || !ok || hit.Version != want {
			t.Errorf("get %q: %+v, %t, %v; want version %d", id, hit, ok, err, want)
		}
	}
	if hit, _, _ := s.Get(t.Context(), "newer"); string(hit.Source) != `{"lines":9}` {
		t.Errorf("stale write changed the document: %s", hit.Source)
	}
}

func TestDeletedDocumentDoesNotComeBack(t *testing.T) {
	t.Parallel()
	s, g := orders(t, client(t))
	put(t, g, 5, doc("1", `{"lines":1}`))
	put(t, g, 7, gone("1"))
	put(t, g, 6, doc("1", `{"lines":2}`)) // a paused writer wakes up
	if hit, ok, err := s.Get(t.Context(), "1"); err != nil || ok {
		t.Fatalf("the document is back: %+v, %v", hit, err)
	}
	put(t, g, 7, gone("1")) // repeated
	put(t, g, 8, doc("1", `{"lines":3}`))
	if hit, ok, err := s.Get(t.Context(), "1"); err != nil || !ok || hit.Version != 8 {
		t.Fatalf("newer write is not there: %+v, %t, %v", hit, ok, err)
	}
}

// A document that the index cannot have had needs no deleting: the row whose key was too long is gone, and nothing is left to park.
func TestDeletionOfAnImpossibleDocument(t *testing.T) {
	t.Parallel()
	_, g := orders(t, client(t))
	long := string(bytes.Repeat([]byte("k"), idBytesMax+1))
	put(t, g, 5, doc("1", `{"id":1}`), gone(long), gone(""))
	put(t, g, 6, gone(long))
	failures, err := g.Write(t.Context(), 7, []views.Document{doc(long, `{"id":2}`), doc("", `{"id":3}`)})
	if err != nil || len(failures) != 2 {
		t.Errorf("%v %v, want two failures", failures, err)
	}
}

func TestIndexDeletedUnderUsIsLostAndNotMadeAgain(t *testing.T) {
	t.Parallel()
	c := client(t)
	_, g := orders(t, c)
	raw(t, c, http.MethodDelete, "/"+c.cfg.Prefix+"orders-g1", nil, nil)
	_, err := g.Write(t.Context(), 5, []views.Document{doc("1", `{}`)})
	if !errors.Is(err, projectors.ErrLost) {
		t.Errorf("write: %v; want ErrLost", err)
	}
	err = g.SaveCheckpoint(t.Context(), projectors.Checkpoint{Offset: 5})
	if !errors.Is(err, projectors.ErrLost) {
		t.Errorf("save checkpoint: %v; want ErrLost", err)
	}
	if _, _, err = g.Checkpoint(t.Context()); !errors.Is(err, projectors.ErrLost) {
		t.Errorf("checkpoint: %v; want ErrLost", err)
	}
	if err = g.IDs(t.Context(), func(string) error { return nil }); !errors.Is(err, projectors.ErrLost) {
		t.Errorf("ids: %v; want ErrLost", err)
	}
	var indices map[string]any
	raw(t, c, http.MethodGet, "/"+c.cfg.Prefix+"*", nil, &indices)
	if len(indices) > 0 {
		t.Errorf("an index was made: %v", indices)
	}
}

func TestClosedIndexIsFatal(t *testing.T) {
	t.Parallel()
	c := client(t)
	_, g := orders(t, c)
	raw(t, c, http.MethodPost, "/"+c.cfg.Prefix+"orders-g1/_close", nil, nil)
	_, err := g.Write(t.Context(), 5, []views.Document{doc("1", `{}`), doc("2", `{}`)})
	if projectors.Class(err) != projectors.Fatal {
		t.Errorf("%v is %s, want fatal", err, projectors.Class(err))
	}
}

// TestBulkFaults puts faults between us and the real cluster; afterwards each document is there, or named.
func TestBulkFaults(t *testing.T) {
	t.Parallel()
	status := func(code int) func(w http.ResponseWriter, r *http.Request) {
		return func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(code) }
	}
	items := func(code int) func(w http.ResponseWriter, r *http.Request) {
		return func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			var list []any
			for range bytes.Count(body, []byte(`"external_gte"`)) {
				list = append(list, map[string]any{"index": map[string]any{"status": code, "error": map[string]any{"type": "es_rejected_execution_exception", "reason": "queue is full"}}})
			}
			answer(w, http.StatusOK, map[string]any{"errors": true, "items": list})
		}
	}
	cut := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Elastic-Product", "Elasticsearch")
		w.Header().Set("Content-Length", "1000")
		_, _ = io.WriteString(w, `{"errors":true,"items":[{"ind`)
		panic(http.ErrAbortHandler)
	}
	hangUp := func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }
	cases := []struct {
		name  string
		times int64 // how often the fault happens
		fault func(w http.ResponseWriter, r *http.Request)
		class projectors.ErrorClass
		err   bool // of the whole call
		named bool // each document
	}{
		{name: "busy once", times: 1, fault: status(429)},
		{name: "unavailable twice", times: 2, fault: status(503)},
		{name: "busy for long", times: 1000, fault: status(429), err: true},
		{name: "items busy once", times: 1, fault: items(429)},
		{name: "items unavailable", times: 2, fault: items(503)},
		{name: "items busy for long", times: 1000, fault: items(429), named: true},
		{name: "cut answer", times: 1, fault: cut, err: true},
		{name: "connection closed", times: 1, fault: hangUp, err: true},
		{name: "gateway error", times: 1, fault: status(502), err: true},
		{name: "wrong password", times: 1, fault: status(401), err: true, class: projectors.Fatal},
		{name: "no right to write", times: 1, fault: status(403), err: true, class: projectors.Fatal},
		{name: "no right to index", times: 1, fault: items(403), err: true, class: projectors.Fatal},
		{name: "another server", times: 1, fault: status(404), err: true, class: projectors.Fatal},
		{name: "another kind of server", times: 1, fault: status(200), err: true, class: projectors.Fatal},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			limit := &first{n: tc.times}
			c := proxy(t, func(w http.ResponseWriter, r *http.Request) bool {
				if !strings.HasSuffix(r.URL.Path, "/_bulk") || !limit.more() {
					return false
				}
				tc.fault(w, r)
				return true
			})
			s, g := orders(t, c)
			docs := many(20)
			failures, err := g.Write(t.Context(), 5, docs)
			if (err != nil) != tc.err || (err != nil && projectors.Class(err) != tc.class) {
				t.Fatalf("write: %v is %s, want error %t of class %s", err, projectors.Class(err), tc.err, tc.class)
			}
			if want := map[bool]int{true: len(docs), false: 0}[tc.named]; len(failures) != want {
				t.Fatalf("%d failures, want %d", len(failures), want)
			}
			for _, f := range failures {
				if projectors.Class(f.Err) != projectors.Transient {
					t.Fatalf("document %d: %v is %s, want transient", f.Index, f.Err, projectors.Class(f.Err))
				}
			}
			limit.calls.Store(tc.times) // the fault is over
			put(t, g, 5, docs...)       // what a caller does after an error
			if got := found(t, s, Query{After: 5}).Total; got != int64(len(docs)) {
				t.Errorf("%d documents, want %d", got, len(docs))
			}
		})
	}
}

func TestTooLargeRequestsAreSplit(t *testing.T) {
	t.Parallel()
	const limit = 2000
	c := proxy(t, func(w http.ResponseWriter, r *http.Request) bool {
		if strings.HasSuffix(r.URL.Path, "/_bulk") && r.ContentLength > limit {
			// Without reading the body: the client must not use its buffer again while it is being sent.
			answer(w, http.StatusRequestEntityTooLarge, map[string]any{})
			return true
		}
		return false
	})
	s, g := orders(t, c)
	docs := append(many(300), doc("huge", `{"note":"`+strings.Repeat("x", 2*limit)+`"}`))
	failures, err := g.Write(t.Context(), 5, docs)
	if err != nil {
		t.Fatal(err)
	}
	if len(failures) != 1 || failures[0].Index != 300 || projectors.Class(failures[0].Err) != projectors.Permanent {
		t.Fatalf("failures %v, want document 300 only, permanent", failures)
	}
	if got := found(t, s, Query{After: 5}).Total; got != 300 {
		t.Errorf("%d documents, want 300", got)
	}
}

func TestLargeWriteKeepsItsBounds(t *testing.T) {
	t.Parallel()
	const workers = 3
	var mu sync.Mutex
	inFlight, most, requests := 0, 0, 0
	together := make(chan struct{}) // closed when all workers have sent at the same time
	seen := map[string]int{}
	c := proxy(t, func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, "/_bulk") {
			return false
		}
		body, _ := io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(body))
		mu.Lock()
		inFlight++
		most, requests = max(most, inFlight), requests+1
		if requests == workers {
			close(together)
		}
		mu.Unlock()
		select {
		case <-together:
		case <-r.Context().Done():
		}
		mu.Lock()
		defer mu.Unlock()
		inFlight--
		for scan := bufio.NewScanner(bytes.NewReader(body)); scan.Scan(); {
			if id, ok := strings.CutPrefix(scan.Text(), `{"index":{"_id":"`); ok {
				seen[id]++
			}
		}
		return false
	})
	c.cfg.BulkWorkers = workers
	c.size = projectors.NewWriteSize(4<<10, 4<<10, 64<<10)
	s, g := orders(t, c)
	docs := many(20_000)
	put(t, g, 5, docs...)
	mu.Lock()
	if most > workers || requests < 10 {
		t.Errorf("%d requests, up to %d in flight; want at least 10, up to %d", requests, most, workers)
	}
	for id, n := range seen {
		if n != 1 {
			t.Errorf("%s was sent %d times", id, n)
		}
	}
	mu.Unlock()
	if got := found(t, s, Query{After: 5, ExactTotal: true}).Total; got != int64(len(docs)) {
		t.Errorf("%d documents, want %d", got, len(docs))
	}
	if got := c.size.Bytes(); got <= 4<<10 {
		t.Errorf("the size did not grow: %d", got)
	}
}

func TestCompressedBodiesAndADeadNode(t *testing.T) {
	t.Parallel()
	plain := client(t)
	var gzipped atomic.Int64
	c := proxy(t, func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Header.Get("Content-Encoding") == "gzip" {
			gzipped.Add(1)
		}
		return false
	})
	dead := httptest.NewServer(nil)
	dead.Close()
	cfg := c.cfg
	cfg.Prefix, cfg.Compress, cfg.URLs = plain.cfg.Prefix, true, []string{dead.URL, c.cfg.URLs[0]}
	s, g := orders(t, clientOf(t, cfg))
	for version := range event.Offset(4) {
		put(t, g, 5+version, many(100)...)
	}
	if r := found(t, s, Query{After: 8}); r.Total != 100 || r.Hits[0].Version != 8 {
		t.Errorf("%d documents", r.Total)
	}
	if gzipped.Load() == 0 {
		t.Error("nothing was compressed")
	}
}

func TestWriteEndsWithItsContext(t *testing.T) {
	t.Parallel()
	block := make(chan struct{})
	arrived := make(chan struct{}, 16)
	c := proxy(t, func(w http.ResponseWriter, r *http.Request) bool {
		if strings.HasSuffix(r.URL.Path, "/_bulk") {
			arrived <- struct{}{}
			<-block
			return true
		}
		return false
	})
	defer close(block)
	_, g := orders(t, c)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		_, err := g.Write(ctx, 5, many(10))
		done <- err
	}()
	<-arrived
	cancel()
	select {
	case err := <-done:
		if err == nil {
			t.Error("no error")
		}
	case <-time.After(10 * time.Second):
		t.Fatal("write did not end with its context")
	}
}

func TestReadReply(t *testing.T) {
	index := []int{4, 5}
	for _, reply := range []string{
		`{"errors":false,"items":[{"index":{"status":200}},{"delete":{"status":404}}]}`,
		`{"errors":false,"took":3,"items":[]}`, // filtered: nothing else is read
		`{"items":[{"index":{"status":200}},{"delete":{"status":404}}]}`,
		`{"errors":true,"items":[{"index":{"status":409,"error":{"type":"version_conflict_engine_exception","reason":"r"}}},{"index":{"status":200}}]}`,
	} {
		out, err := readReply([]byte(reply), index)
		if err != nil || len(out.failures)+len(out.again) > 0 {
			t.Errorf("%s: %+v, %v", reply, out, err)
		}
	}
	out, err := readReply([]byte(`{"errors":true,"items":[{"index":{"status":429,"error":{"type":"x","reason":"y"}}},{"index":{"status":400,"error":{"type":"z","reason":"outer","caused_by":{"type":"w","reason":"inner"}}}}]}`), index)
	if err != nil || fmt.Sprint(out.again) != "[4]" || len(out.failures) != 1 || out.failures[0].Index != 5 || !strings.Contains(out.failures[0].Err.Error(), "inner") {
		t.Errorf("%+v, %v", out, err)
	}
	for _, reply := range []string{``, `{`, `{"errors":true,"items":[]}`, `{"errors":true,"items":[{"index":{"status":200}}]}`} {
		if _, err := readReply([]byte(reply), index); err == nil {
			t.Errorf("%q was taken for an answer", reply)
		}
	}
}

func TestAppendDocument(t *testing.T) {
	tail := appendTail(nil, 812<<16|3)
	got := appendDocument(nil, &views.Document{ID: `a"b`, Body: []byte(`{"x":1}`)}, tail)
	got = appendDocument(got, &views.Document{ID: "ø"}, tail)
	want := `{"index":{"_id":"a\"b","version":53215235,"version_type":"external_gte"}}
{"x":1}
{"delete":{"_id":"ø","version":53215235,"version_type":"external_gte"}}
`
	if string(got) != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func BenchmarkBulkBody(b *testing.B) {
	docs := make([]views.Document, 5000)
	body := []byte(`{"id":1,"status":"paid","total":100.25,"customer":{"name":"Ada Lovelace","country":"GB"},"items":[{"sku":"A-1","qty":2}]}`)
	size := 0
	for i := range docs {
		docs[i] = views.Document{ID: fmt.Sprint(1_000_000 + i), Body: body}
		size += sizeOf(&docs[i])
	}
	tail := appendTail(nil, 1<<40)
	var buf []byte
	b.SetBytes(int64(size))
	b.ReportAllocs()
	for b.Loop() {
		buf = buf[:0]
		for i := range docs {
			buf = appendDocument(buf, &docs[i], tail)
		}
	}
}

// TestBulkBodyDoesNotAllocate keeps the hot path free of allocations per document.
func TestBulkBodyDoesNotAllocate(t *testing.T) {
	d := &views.Document{ID: "1234567", Body: []byte(`{"id":1234567}`)}
	tail := appendTail(nil, 77)
	buf := make([]byte, 0, 4096)
	if n := testing.AllocsPerRun(100, func() { buf = appendDocument(buf[:0], d, tail) }); n > 0 {
		t.Errorf("%.0f allocations per document", n)
	}
}
