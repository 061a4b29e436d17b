package httpapi

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/lanternist/lanternist/internal/faults"
)

// TestFaultAPIBadRequest sends requests that are wrong in every way a client can be: each is answered with a problem that names
// what is wrong, and leaves journal, letters and jobs as they were. It breaks I8, that a request's body has a bound, on purpose.
func TestFaultAPIBadRequest(t *testing.T) {
	result := faults.Cause(t, faults.Fault{
		ID: "invariant-8-requests-without-bound", Area: "API",
		Fault:   "I8 is broken by clients: bodies without end, headers without end, parameters, tokens, cursors and ids that are none, methods and paths that are not there",
		Promise: "each is answered with a problem (RFC 9457) that names the parameter, at a bounded cost; nothing is changed and other clients are served",
		Answer:  "nothing: the client has to be mended; `lanternist status` counts nothing of it",
	})
	w := newWorld(t, nil)
	w.docs.get = anything
	before := w.journal.Head()
	sent := 0
	for _, c := range []struct {
		method, path string
		body         io.Reader
		status       int
		want         string // in the answer
	}{
		{"GET", "/v1/views/nowhere/1", nil, 404, "nowhere"},
		{"GET", "/v1/views/ordres/1", nil, 404, "ordres"},
		{"GET", "/v2/views", nil, 404, ""},
		{"GET", "/v1/views/orders/1?after=yesterday", nil, 422, "query.after"},
		{"GET", "/v1/views/orders/1?after=0/1@x", nil, 422, "query.after"},
		{"GET", "/v1/views/orders/1?after=" + strings.Repeat("1", 5000), nil, 422, "after"},
		{"GET", "/v1/views/orders/1?after=0/1@7-1", nil, 410, "7-1"},
		{"GET", "/v1/views/orders/1?wait=soon", nil, 422, "wait"},
		{"GET", "/v1/views/orders/1?wait=-1s", nil, 422, "wait"},
		{"GET", "/v1/views/orders/1?min_version=x", nil, 422, "min_version"},
		{"GET", "/v1/views/orders/1?nothing=1", nil, 422, "nothing"},
		{"GET", "/v1/views/orders", nil, 422, "customer_id"},
		{"GET", "/v1/views/orders?colour=red", nil, 422, "colour"},
		{"GET", "/v1/views/orders?customer_id=1&customer_id=2", nil, 422, "customer_id"},
		{"GET", "/v1/views/orders?customer_id=1&cursor=%0d%0a", nil, 422, "cursor"},
		{"GET", "/v1/views/orders?customer_id=1&cursor=!", nil, 422, "cursor"},
		{"GET", "/v1/views/orders?customer_id=1&limit=1000000", nil, 422, "limit"},
		{"GET", "/v1/views/orders?customer_id=1&limit=many", nil, 422, "limit"},
		{"GET", "/v1/views/orders/search?cursor=e30x%0a", nil, 422, "cursor"},
		{"GET", "/v1/views/orders/search?filter=a:%22b", nil, 422, ""},
		{"GET", "/v1/views/orders/search?size=-1", nil, 422, "size"},
		{"GET", "/v1/events?since=whenever", nil, 422, "since"},
		{"GET", "/v1/events?limit=-5", nil, 422, "limit"},
		{"POST", "/v1/views/orders/1", nil, 405, "takes GET, and not POST"},
		{"DELETE", "/v1/views/orders", nil, 405, "takes GET, and not DELETE"},
		{"PATCH", "/v1/status", nil, 405, "takes GET, and not PATCH"},
		{"POST", "/v1/views/nowhere/rebuild", nil, 404, "nowhere"},
		{"POST", "/v1/views/orders/verify?sample=-1", nil, 422, "sample"},
		{"POST", "/v1/views/orders/verify?against=hearsay", nil, 422, "against"},
		{"POST", "/v1/views/orders/verify?sample=-1", bytes.NewReader(make([]byte, 4<<20)), 0, ""},
	} {
		req, err := http.NewRequestWithContext(t.Context(), c.method, w.http.URL+c.path, c.body)
		must(t, err)
		if c.body != nil {
			req.Header.Set("Content-Type", "application/x-nonsense")
		}
		resp, err := w.http.Client().Do(req)
		if err != nil && c.status == 0 {
			continue // the server does not read what is beyond the bound, and closes the connection
		}
		must(t, err)
		text, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		must(t, err)
		sent++
		if c.status != 0 && resp.StatusCode != c.status {
			t.Errorf("%s %.80s: %d, want %d: %s", c.method, c.path, resp.StatusCode, c.status, text)
		}
		if !strings.Contains(string(text), c.want) {
			t.Errorf("%s %.80s: the answer does not say %q: %s", c.method, c.path, c.want, text)
		}
		if resp.StatusCode >= 400 && resp.Header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s %.80s: an answer of type %q: %s", c.method, c.path, resp.Header.Get("Content-Type"), text)
		}
	}
	if w.journal.Head() != before {
		t.Error("the journal was changed")
	}
	w.get("/v1/views/orders/1").want(t, 200)
	result.Notef("%d requests answered", sent)
}
