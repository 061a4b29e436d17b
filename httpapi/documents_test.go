package httpapi

import (
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/lanternist/lanternist/deadletter"
	"github.com/lanternist/lanternist/event"
	"github.com/lanternist/lanternist/projectors"
	"github.com/lanternist/lanternist/projectors/cache"
	"github.com/lanternist/lanternist/projectors/search"
)

// While the API does not know yet that a view has another definition, the sinks answer documents of that one.
func TestETagIsOfTheDefinitionThatComposedTheDocument(t *testing.T) {
	w := newWorld(t, nil)
	definition := ""
	w.docs.get = func(id string) (cache.Document, error) {
		return cache.Document{ID: id, Version: 77, Body: []byte(`{}`), Definition: definition}, nil
	}
	own := w.get("/v1/views/orders/42").want(t, 200).Header.Get("ETag")
	definition = "0123456789abcdef"
	other := w.get("/v1/views/orders/42", "If-None-Match", own).want(t, 200).Header.Get("ETag")
	if other != `"77-01234567"` || own == other {
		t.Errorf("ETags %s and %s", own, other)
	}
}

func TestGetDocument(t *testing.T) {
	w := newWorld(t, nil)
	asked := ""
	w.docs.get = func(id string) (cache.Document, error) {
		asked = id
		if id == "none" {
			return cache.Document{}, cache.ErrNotFound
		}
		return cache.Document{ID: id, Version: 77, Body: []byte(`{"id": "42",  "total": 1.10}`)}, nil
	}
	w.cache.advance(0x16B3748, 99)
	r := w.get("/v1/views/orders/42").want(t, 200).header(t,
		"Content-Type", "application/json", "Lanternist-Position", "0/16B3748@"+epoch, "Lanternist-Offset", "99", "Lanternist-Version", "77")
	if string(r.body) != `{"id": "42",  "total": 1.10}` {
		t.Errorf("the document was changed on the way: %s", r.body)
	}
	if r.Header.Get("Lanternist-Staleness-Ms") == "" {
		t.Error("the answer does not say how stale it is")
	}
	etag := r.Header.Get("ETag")
	if !strings.HasPrefix(etag, `"77-`) {
		t.Errorf("ETag is %s", etag)
	}
	for _, header := range []string{etag, "W/" + etag, `"1-a", ` + etag, "*"} {
		if r := w.get("/v1/views/orders/42", "If-None-Match", header).want(t, 304); len(r.body) > 0 || r.Header.Get("ETag") != etag {
			t.Errorf("304 with ETag %s and body %q", r.Header.Get("ETag"), r.body)
		}
	}
	w.get("/v1/views/orders/42", "If-None-Match", `"78-x"`).want(t, 200)
	w.get("/v1/views/orders/none").want(t, 404).header(t, "Lanternist-Position", "0/16B3748@"+epoch)
	p := w.get("/v1/views/nothing/42").want(t, 404).problem(t)
	if !strings.Contains(p.Detail, "orders") {
		t.Errorf("the problem does not say which views there are: %s", p.Detail)
	}
	for _, id := range []string{"a/b", "a//b", "..", ".", "a b", "é", "a%3Ab:c", "100%", "a?b#c", "a+b"} {
		w.get("/v1/views/orders/"+strings.ReplaceAll(url.PathEscape(id), ".", "%2E")).want(t, 200)
		if asked != id {
			t.Errorf("asked for %q, want %q", asked, id)
		}
	}
}

func TestGetFromSearchOnlyView(t *testing.T) {
	w := newWorld(t, nil)
	w.search.advance(5, 3)
	w.index.get = func(id string) (search.Hit, bool, error) {
		return search.Hit{ID: id, Version: 3, Source: []byte(`{}`)}, id == "1", nil
	}
	w.get("/v1/views/searched/1").want(t, 200).header(t, "Lanternist-Position", "0/5@"+epoch, "Lanternist-Version", "3")
	w.get("/v1/views/searched/2").want(t, 404)
	w.get("/v1/views/searched?status=a").want(t, 404)
}

func TestSinkErrors(t *testing.T) {
	w := newWorld(t, nil)
	var fail error
	w.docs.get = func(string) (cache.Document, error) { return cache.Document{}, fail }
	for name, c := range map[string]struct {
		err    error
		status int
	}{
		"lost":      {cache.ErrUnavailable, 503},
		"transient": {errors.New("dial tcp 10.1.2.3:6379: connection refused"), 503},
		"fatal":     {projectors.Fatalf("check the password", "WRONGPASS for user secret"), 500},
		"timeout":   {errTimeout{}, 504},
	} {
		fail = c.err
		r := w.get("/v1/views/orders/1").want(t, c.status)
		if c.status != 500 && r.Header.Get("Retry-After") == "" {
			t.Errorf("%s: no Retry-After", name)
		}
		if strings.Contains(string(r.body), "10.1.2.3") || strings.Contains(string(r.body), "secret") {
			t.Errorf("%s: the sink's own words are for the log: %s", name, r.body)
		}
	}
	if w.cache.rechecks != 1 {
		t.Errorf("the projector was told %d times that its sink may have lost data, want once", w.cache.rechecks)
	}
}

// errTimeout is what a client of a sink returns when its deadline has passed.
type errTimeout struct{}

func (errTimeout) Error() string        { return "i/o timeout" }
func (errTimeout) Is(target error) bool { return target.Error() == "context deadline exceeded" }

func TestLookupDocuments(t *testing.T) {
	w := newWorld(t, nil)
	w.cache.advance(7, 9)
	type asked struct {
		lookup, value, after string
		limit                int
	}
	var got asked
	w.docs.lookup = func(lookup, value, after string, limit int) (cache.Page, error) {
		got = asked{lookup, value, after, limit}
		page := cache.Page{Documents: []cache.Document{{ID: "a/1", Version: 5, Body: []byte(`{"n":12345678901234567890.10}`)}}}
		if after == "" {
			page.Next = "a/1"
		}
		return page, nil
	}
	first := w.get("/v1/views/orders?customer_id=7&limit=1").want(t, 200).header(t, "Lanternist-Position", "0/7@"+epoch, "Lanternist-Offset", "9")
	if got != (asked{"customer_id", "7", "", 1}) {
		t.Errorf("asked for %+v", got)
	}
	body := into[lookupBody](t, first)
	if len(body.Documents) != 1 || body.Documents[0].ID != "a/1" || body.Documents[0].Version != 5 || body.Cursor == "" {
		t.Fatalf("got %s", first.body)
	}
	if string(body.Documents[0].Document) != `{"n":12345678901234567890.10}` {
		t.Errorf("the document was changed on the way: %s", body.Documents[0].Document)
	}
	second := into[lookupBody](t, w.get("/v1/views/orders?customer_id=7&cursor="+body.Cursor).want(t, 200))
	if got.after != "a/1" || got.limit != 100 || second.Cursor != "" {
		t.Errorf("asked for %+v, got cursor %q", got, second.Cursor)
	}
	w.get("/v1/views/orders?customer_id=a%3Ab&status=open").want(t, 200)
	if got.lookup != "status+customer_id" || got.value != "open:a%3Ab" {
		t.Errorf("asked for %+v", got)
	}
	for _, query := range []string{
		"", "status=open", "customer_id=", "customer_id=1&customer_id=2", "customer_id=1&nothing=2", "customer_id=1&limit=-1",
		"customer_id=1&limit=1001", "customer_id=1&cursor=!", "customer_id=1&limit=x",
	} {
		w.get("/v1/views/orders?"+query).want(t, 422)
	}
	p := w.get("/v1/views/orders?total=1").want(t, 422).problem(t)
	if !strings.Contains(p.Detail, "?customer_id=") || !strings.Contains(p.Detail, "?status=…&customer_id=…") {
		t.Errorf("the problem does not say which lookups there are: %s", p.Detail)
	}
	w.docs.lookup = func(string, string, string, int) (cache.Page, error) { return cache.Page{}, cache.ErrNoLookup }
	w.get("/v1/views/orders?customer_id=7").want(t, 503)
}

func TestUnknownParametersAreRefused(t *testing.T) {
	w := newWorld(t, nil)
	// A token that is silently ignored would be an answer from the past.
	for _, path := range []string{"/v1/views/orders/1?aftr=0/1", "/v1/views/orders/search?aftr=0/1", "/v1/views/orders?customer_id=1&aftr=0/1", "/v1/events?form=1"} {
		w.get(path).want(t, 422)
	}
	w.get("/v1/nothing").want(t, 404)
	if r := w.do(http.MethodDelete, "/v1/views/orders/1"); r.StatusCode != http.StatusMethodNotAllowed && r.StatusCode != http.StatusNotFound {
		t.Errorf("DELETE: %d", r.StatusCode)
	}
}

func TestMinVersion(t *testing.T) {
	w := newWorld(t, nil)
	w.docs.get = func(id string) (cache.Document, error) {
		return cache.Document{ID: id, Version: 3, Body: []byte(`{}`)}, nil
	}
	w.cache.advance(7, 9)
	w.get("/v1/views/orders/1?min_version=9").want(t, 200)
	w.source.answer = func() { w.cache.advance(8, event.NewOffset(2, 0)) }
	w.get("/v1/views/orders/1?min_version=131072").want(t, 200).header(t, "Lanternist-Offset", "131072")
	w.source.answer = nil
	p := w.get("/v1/views/orders/1?min_version=131073&wait=1ms").want(t, 504).problem(t)
	if !strings.Contains(p.Detail, "131073") {
		t.Errorf("the problem does not name the version: %s", p.Detail)
	}
	w.get("/v1/views/orders/1?min_version=-1").want(t, 422)
}

// A read with a token is never answered with a document that the view has not been able to renew.
func TestParkedDocumentIsNotServedAsNew(t *testing.T) {
	w := newWorld(t, nil)
	w.docs.get = func(id string) (cache.Document, error) {
		return cache.Document{ID: id, Version: 77, Body: []byte(`{}`)}, nil
	}
	w.cache.advance(0x100, 99)
	name := w.cache.Status().Projector
	if err := w.letters.Park(t.Context(), deadletter.Letter{Projector: name, View: "orders", DocumentID: "42", Offset: 90, Reason: "refused"}); err != nil {
		t.Fatal(err)
	}
	w.get("/v1/views/orders/42").want(t, 200)
	w.get("/v1/views/orders/43?after=0/100").want(t, 200)
	for _, query := range []string{"after=0/100", "min_version=77"} {
		p := w.get("/v1/views/orders/42?"+query).want(t, 503).problem(t)
		if !strings.Contains(p.Detail, "lanternist deadletters list") {
			t.Errorf("%s: the problem does not say what to do: %s", query, p.Detail)
		}
	}
	if err := w.letters.Resolve(t.Context(), name, "42", 95); err != nil {
		t.Fatal(err)
	}
	w.get("/v1/views/orders/42?after=0/100").want(t, 200)
}
