package httpapi

import (
	"encoding/json"
	"net/url"
	"slices"
	"testing"
	"time"

	"github.com/lanternist/lanternist/event"
	"github.com/lanternist/lanternist/projectors/search"
)

func TestSearch(t *testing.T) {
	w := newWorld(t, nil)
	w.search.advance(0x20, 9)
	w.source.heard(0x20)
	score := 1.5
	var q search.Query
	w.index.search = func(query search.Query) (*search.Result, error) {
		q = query
		return &search.Result{
			Total: 3, Exact: true, Took: 4 * time.Millisecond, Cursor: "inner",
			Hits:   []search.Hit{{ID: "1", Version: 5, Score: &score, Source: json.RawMessage(`{"a":1.10}`), Highlight: map[string][]string{"a": {"<em>x</em>"}}}},
			Facets: []search.Facet{{Field: "status", Buckets: []search.Bucket{{Value: json.RawMessage(`"paid"`), Count: 2}}, Other: 1}},
		}, nil
	}
	query := url.Values{
		"q": {"tea"}, "filter": {"status:paid"}, "sort": {"-id,_score"}, "facets": {"status,id"}, "facet_size": {"3"}, "size": {"7"},
		"highlight": {"true"}, "exact_total": {"true"}, "after": {"0/20"},
	}
	r := w.get("/v1/views/orders/search?"+query.Encode()).want(t, 200).header(t, "Lanternist-Position", "0/20@"+epoch, "Lanternist-Offset", "9")
	if q.Text != "tea" || len(q.Filters) != 1 || q.Filters[0].Field != "status" || len(q.Sort) != 2 || !q.Sort[0].Descending ||
		!slices.Equal(q.Facets, []string{"status", "id"}) || q.FacetSize != 3 || q.Size != 7 || !q.Highlight || !q.ExactTotal || q.After != 9 {
		t.Errorf("searched for %+v", q)
	}
	want := `{"total":3,"exact":true,"documents":[{"id":"1","version":5,"document":{"a":1.10},"score":1.5,"highlight":{"a":["<em>x</em>"]}}],` +
		`"facets":[{"field":"status","values":[{"value":"paid","count":2}],"other":1}],`
	if got := string(r.body); got[:min(len(got), len(want))] != want {
		t.Errorf("got %s, want %s…", got, want)
	}

	// The next page is of the same point in time, however far the view has come since.
	cursor := into[searchBody](t, r).Cursor
	w.search.advance(0x30, 11)
	w.get("/v1/views/orders/search?size=7&cursor="+cursor).want(t, 200).header(t, "Lanternist-Position", "0/20@"+epoch, "Lanternist-Offset", "9")
	if q.Cursor != "inner" || q.After != 0 {
		t.Errorf("searched for %+v", q)
	}
	w.get("/v1/views/orders/search?after=0/20&cursor="+cursor).want(t, 200)
	w.get("/v1/views/orders/search?after=0/21&cursor="+cursor).want(t, 409)
	for _, bad := range []string{"filter=%22", "sort=,", "size=x", "size=-1", "cursor=!", "cursor=e30x", "highlight=maybe"} {
		w.get("/v1/views/orders/search?"+bad).want(t, 422)
	}
}

// TestSearchWithoutTokenSaysWhatItShows: the index lags behind the watermark until it is refreshed.
func TestSearchWithoutTokenSaysWhatItShows(t *testing.T) {
	w := newWorld(t, func(cfg *Config, _ *Parts) { cfg.SearchAge = time.Hour })
	var after []event.Offset
	w.index.search = func(q search.Query) (*search.Result, error) {
		after = append(after, q.After)
		return &search.Result{}, nil
	}
	w.source.heard(0x20)
	w.search.advance(0x20, 9)
	w.get("/v1/views/orders/search").want(t, 200).header(t, "Lanternist-Offset", "9")
	w.source.heard(0x30)
	w.search.advance(0x30, 11)
	w.get("/v1/views/orders/search").want(t, 200).header(t, "Lanternist-Offset", "9", "Lanternist-Position", "0/20@"+epoch)
	w.get("/v1/views/orders/search?after=0/30").want(t, 200).header(t, "Lanternist-Offset", "11")
	w.get("/v1/views/orders/search").want(t, 200).header(t, "Lanternist-Offset", "11", "Lanternist-Position", "0/30@"+epoch)
	if want := []event.Offset{9, 0, 11, 0}; !slices.Equal(after, want) {
		t.Errorf("refreshed up to %v, want %v", after, want)
	}
	// What is shown is too old: this search asks for a refresh.
	w.server.cfg.SearchAge = time.Nanosecond
	w.get("/v1/views/orders/search").want(t, 200)
	if last := after[len(after)-1]; last != 11 {
		t.Errorf("refreshed up to %v, want 11", last)
	}
}

// TestSearchWithUnknownOffset: after a start within a round the watermark knows its position but not its offset.
func TestSearchWithUnknownOffset(t *testing.T) {
	w := newWorld(t, nil)
	appendOrders(t, w, 2)
	var q search.Query
	w.index.search = func(query search.Query) (*search.Result, error) {
		q = query
		return &search.Result{}, nil
	}
	w.search.advance(0x20, 0)
	w.get("/v1/views/orders/search?after=0/20").want(t, 200)
	if head := w.journal.Head().Offset; q.After != head || head == 0 {
		t.Errorf("refreshed up to %v, want the journal's end %v", q.After, head)
	}
}

func TestSearchErrors(t *testing.T) {
	w := newWorld(t, nil)
	for want, err := range map[int]error{422: search.ErrBadQuery, 410: search.ErrCursorExpired, 503: search.ErrNotReady} {
		w.index.search = func(search.Query) (*search.Result, error) { return nil, err }
		w.get("/v1/views/orders/search").want(t, want)
	}
	if w.search.rechecks != 1 {
		t.Errorf("the projector was told %d times that its sink may have lost data, want once", w.search.rechecks)
	}
}
