package search

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/lanternist/lanternist/event"
	"github.com/lanternist/lanternist/views"
)

// shop has five orders that differ in every kind of field.
func shop(t *testing.T) (*Store, *Client) {
	c := client(t)
	s, g := orders(t, c)
	put(t, g, 5,
		doc("1", `{"id":1,"status":"paid","note":"Red lantern, gift wrapped","total":100.50,"lines":2,"paid":true,"placed_at":"2026-01-01T10:00:00+00:00","tags":["new","vip"],"plain":"brown fox","meta":{"color":"red","depth":{"cm":7}},"customer":{"name":"Ada Lovelace","country":"GB"},"items":[{"sku":"A-1","title":"Paper lantern","qty":1},{"sku":"B-2","title":"Candle","qty":9}]}`),
		doc("2", `{"id":2,"status":"paid","note":"Blue lantern <script>","total":20,"lines":1,"paid":true,"placed_at":"2026-01-01T23:59:59.999+00:00","tags":["vip"],"meta":{"color":"blue"},"customer":{"name":"Grace Hopper","country":"US"},"items":[{"sku":"A-1","title":"Paper lantern","qty":5}]}`),
		doc("3", `{"id":3,"status":"shipped","note":"Green candle","total":250,"lines":3,"paid":false,"placed_at":"2026-02-01T00:00:00+00:00","tags":[],"customer":{"name":"Ada Yonath","country":"IL"},"items":[{"sku":"B-2","title":"Candle","qty":3},{"sku":"B-2","title":"Candle","qty":1}]}`),
		doc("4", `{"id":4,"status":"draft","note":null,"total":"NaN","lines":0,"paid":false,"placed_at":"infinity","customer":null,"items":[]}`),
		doc("5", `{"id":5,"status":"shipped","note":"","total":-1,"lines":1,"placed_at":"2025-12-31T23:59:59+00:00","customer":{"name":"Ada, Countess","country":"GB"},"items":[{"sku":"C \"3\"","title":"Wick","qty":1}]}`),
	)
	return s, c
}

func TestFilters(t *testing.T) {
	t.Parallel()
	s, _ := shop(t)
	for _, tc := range []struct{ filter, want string }{
		{"", "1 2 3 4 5"},
		{"status:paid", "1 2"},
		{"status=paid,draft", "1 2 4"},
		{"-status:paid", "3 4 5"},
		{"status:paid total>=100", "1"},
		{"total>20 total<250", "1"},
		{"total>=20 total<=250.0", "1 2 3"},
		{"total<0", "5"},
		{"lines:1,3", "2 3 5"},
		{"lines>1.5", "1 3"},
		{"paid:true", "1 2"},
		{"paid:*", "1 2 3 4"},
		{"-paid:*", "5"},
		{"placed_at:2026-01-01", "1 2"},
		{"placed_at<2026-01-01", "5"},
		{"placed_at<=2026-01-01", "1 2 5"},
		{"placed_at>2026-01-01", "3"},
		{"placed_at:2026-01", "1 2"},
		{"placed_at>=2026-01-01T23:59:59.999Z", "2 3"},
		{"placed_at>=2026-01-02T01:59:59.999+02:00", "2 3"},
		{"placed_at<now+100y", "1 2 3 5"},
		{"customer.country:GB", "1 5"},
		{"customer.name:Ada*", "1 3 5"},
		{`customer.name:"Ada Lovelace"`, "1"},
		{`customer.name:"Ada, Countess","Grace Hopper"`, "2 5"},
		{`customer.name:"Ada "*`, "1 3"},
		{"customer.name>=B", "2"},
		{"tags:vip", "1 2"},
		{"tags:*", "1 2"},
		{"meta.color:red", "1"},
		{"meta.depth.cm:7", "1"},
		{"items.sku:A-1 items.qty>=5", "2"}, // one and the same item
		{"items.qty>=9", "1"},
		{"-items.sku:A-1", "3 4 5"},
		{"items.sku:B-2 -items.sku:A-1", "3"},
		{`items.sku:"C \"3\""`, "5"},
		{"items.sku:*", "1 2 3 5"},
		{`note:""`, "5"},
		{"note.keyword:\"Green candle\"", "3"},
		{"plain:*", "1"},
	} {
		filters, err := ParseFilters(tc.filter)
		if err != nil {
			t.Errorf("%s: %v", tc.filter, err)
			continue
		}
		r, err := s.Search(t.Context(), Query{Filters: filters, Sort: []Sort{{Field: "id"}}, After: 5})
		if err != nil {
			t.Errorf("%s: %v", tc.filter, err)
			continue
		}
		if got := strings.Join(ids(r.Hits), " "); got != tc.want || r.Total != int64(len(r.Hits)) || !r.Exact || r.Cursor != "" {
			t.Errorf("%s: found %q (total %d, cursor %t), want %q", tc.filter, got, r.Total, r.Cursor != "", tc.want)
		}
	}
}

func TestTextSortAndHighlight(t *testing.T) {
	t.Parallel()
	s, _ := shop(t)
	for _, tc := range []struct{ text, sort, want string }{
		{"lantern", "id", "1 2"},
		{"LANTERN gift", "id", "1"},
		{"ada", "id", "1 3 5"},
		{"ada lantern", "id", "1"},     // words in different fields
		{"A-1", "id", "1 2"},           // a keyword in a nested list
		{"ada candle", "id", "1 3"},    // one word in a nested list, one outside
		{"wick", "", "5"},              // a text in a nested list
		{`"green candle"`, "", "3"},    // phrase
		{"gre*", "", "3"},              // prefix
		{"lantern -gift", "id", "2"},   // not
		{"wick | countess", "id", "5"}, // or
		{`"unclosed (and ~odd`, "id", ""},
		{"paid", "-total", "1 2"},
		{"", "-total", "3 1 2 5 4"}, // without a value: last
		{"", "total", "5 2 1 3 4"},
		{"", "status,-id", "4 2 1 5 3"},
		{"", "customer.name,id", "1 3 5 2 4"},
		{"", "-placed_at", "3 2 1 5 4"},
		{"", "-items.qty,id", "1 2 3 5 4"},
		{"", "items.qty,-id", "5 3 1 2 4"},
		{"", "-_score,id", "1 2 3 4 5"},
	} {
		sort, err := ParseSort(tc.sort)
		if err != nil {
			t.Fatal(err)
		}
		r, err := s.Search(t.Context(), Query{Text: tc.text, Sort: sort, After: 5})
		if err != nil {
			t.Errorf("q=%s sort=%s: %v", tc.text, tc.sort, err)
			continue
		}
		if got := strings.Join(ids(r.Hits), " "); got != tc.want {
			t.Errorf("q=%s sort=%s: found %q, want %q", tc.text, tc.sort, got, tc.want)
		}
	}
	r := found(t, s, Query{Text: "lantern", Highlight: true})
	if len(r.Hits) != 2 || r.Hits[0].Score == nil || *r.Hits[0].Score < *r.Hits[1].Score {
		t.Fatalf("not by relevance: %+v", r.Hits)
	}
	for _, h := range r.Hits {
		note := strings.Join(h.Highlight["note"], "")
		if !strings.Contains(note, "<em>lantern</em>") || strings.Contains(note, "<script>") {
			t.Errorf("highlight of %s: %q", h.ID, note)
		}
		if h.Version != 5 || !json.Valid(h.Source) {
			t.Errorf("hit %+v", h)
		}
	}
	if r = found(t, s, Query{Sort: []Sort{{Field: "id"}}}); r.Hits[0].Score != nil {
		t.Error("a score without relevance")
	}
}

func TestFacets(t *testing.T) {
	t.Parallel()
	s, _ := shop(t)
	r := found(t, s, Query{After: 5, Size: 1, SinglePage: true, FacetSize: 2, Facets: []string{"status", "paid", "customer.name", "lines", "items.sku", "tags", "placed_at", "meta.color"}})
	var got []string
	for _, f := range r.Facets {
		line := f.Field
		for _, b := range f.Buckets {
			line += fmt.Sprintf(" %s=%d", b.Value, b.Count)
		}
		got = append(got, fmt.Sprintf("%s other=%d", line, f.Other))
	}
	want := []string{
		`status "paid"=2 "shipped"=2 other=1`,
		`paid false=2 true=2 other=0`,
		`customer.name "Ada Lovelace"=1 "Ada Yonath"=1 other=2`,
		`lines 1=2 0=1 other=2`,
		`items.sku "A-1"=2 "B-2"=2 other=1`, // orders, not items
		`tags "vip"=2 "new"=1 other=0`,
		`placed_at "2025-12-31T23:59:59.000Z"=1 "2026-01-01T10:00:00.000Z"=1 other=2`,
		`meta.color "blue"=1 "red"=1 other=0`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if len(r.Hits) != 1 || r.Total != 5 || r.Cursor != "" {
		t.Errorf("%d hits of %d, cursor %q", len(r.Hits), r.Total, r.Cursor)
	}
	r = found(t, s, Query{Text: "lantern", Facets: []string{"customer.country"}})
	if b := r.Facets[0].Buckets; len(b) != 2 || string(b[0].Value) != `"GB"` {
		t.Errorf("facet of what matches: %+v", b)
	}
}

func TestPagesAreOfOnePointInTime(t *testing.T) {
	t.Parallel()
	s, g := orders(t, client(t))
	const n = 95
	docs := many(n)
	put(t, g, 5, docs...)
	for _, sort := range []string{"", "-lines", "status,-id", "note"} {
		keys, _ := ParseSort(sort)
		q := Query{Sort: keys, Size: 10, After: 5}
		all := found(t, s, Query{Sort: keys, Size: 1000, After: 5, SinglePage: true})
		seen := map[string]bool{}
		pages := 0
		for version := event.Offset(100); ; version++ {
			r := found(t, s, q)
			pages++
			if r.Total != n || !r.Exact {
				t.Fatalf("sort %q: page %d says %d documents", sort, pages, r.Total)
			}
			for _, h := range r.Hits {
				if h.Version != 5 && sort == "" {
					t.Fatalf("page %d shows a later write: %+v", pages, h)
				}
				if seen[h.ID] {
					t.Fatalf("sort %q: %s is on two pages", sort, h.ID)
				}
				seen[h.ID] = true
			}
			if q.Cursor = r.Cursor; q.Cursor == "" {
				break
			}
			// Meanwhile documents come, go and change places.
			id := fmt.Sprintf("new-%s-%d", strings.Trim(sort, "-,"), pages)
			put(t, g, version, doc(id, `{"id":0,"lines":50}`), gone(id))
			put(t, g, version+1000, doc(docs[pages*9].ID, string(docs[pages*9].Body)))
			if err := s.Refresh(t.Context(), version+1000); err != nil {
				t.Fatal(err)
			}
		}
		if len(seen) != n || pages != 10 {
			t.Errorf("sort %q: %d documents on %d pages, want %d on 10", sort, len(seen), pages, n)
		}
		if all.Total != n {
			t.Errorf("sort %q: %d in all", sort, all.Total)
		}
	}
	if n := openContexts(t, s); n != 0 {
		t.Errorf("%d points in time are open after the last pages", n)
	}
}

func TestCursors(t *testing.T) {
	t.Parallel()
	c := client(t, func(cfg *Config) { cfg.MaxCursors = 2 })
	s, g := orders(t, c)
	put(t, g, 5, many(50)...)
	q := Query{Size: 10, After: 5, Filters: []Filter{{Field: "lines", Op: Gte, Values: []string{"0"}}}, Facets: []string{"status"}}
	page := func(q Query) string {
		t.Helper()
		r := found(t, s, q)
		if r.Cursor == "" {
			t.Fatal("no cursor")
		}
		return r.Cursor
	}
	cursor := page(q)

	second := q
	second.Cursor, second.Size, second.Facets = cursor, 5, nil // may differ
	if r := found(t, s, second); len(r.Hits) != 5 || len(r.Facets) != 0 {
		t.Errorf("second page: %d hits", len(r.Hits))
	}
	second.Facets = []string{"status"} // the same page again, counted over everything
	if r := found(t, s, second); len(r.Facets) != 1 || len(r.Facets[0].Buckets) != 7 {
		t.Errorf("facets of a later page: %+v", r.Facets)
	}
	other := second
	other.Text = "other"
	for name, bad := range map[string]Query{
		"of another query": other,
		"made up":          {Cursor: "bm90IGEgY3Vyc29y"},
		"not base64":       {Cursor: "***"},
		"empty object":     {Cursor: "e30"},
	} {
		if _, err := s.Search(t.Context(), bad); !errors.Is(err, ErrBadQuery) {
			t.Errorf("cursor %s: %v", name, err)
		}
	}
	others := newStore(c, "others", orderFields(), nil)
	live(t, others, 1)
	if r, err := others.Search(t.Context(), second); !errors.Is(err, ErrBadQuery) {
		t.Errorf("cursor of another view: %+v, %v", r, err)
	}
	page(q)
	page(q) // two newer ones: the first is closed
	if _, err := s.Search(t.Context(), second); !errors.Is(err, ErrCursorExpired) {
		t.Errorf("evicted cursor: %v", err)
	}
	if n := openContexts(t, s); n != 2 {
		t.Errorf("%d points in time are open, want 2", n)
	}
	if err := c.Close(t.Context()); err != nil {
		t.Error(err)
	}
	again := newStore(clientOf(t, c.cfg), "orders", orderFields(), nil)
	if n := openContexts(t, again); n != 0 {
		t.Errorf("%d points in time are open after close", n)
	}
}

func TestBadQueriesNameEveryProblem(t *testing.T) {
	t.Parallel()
	s, _ := shop(t)
	_, err := s.Search(t.Context(), Query{
		Size:    5000,
		Filters: []Filter{{Field: "statsu", Values: []string{"paid"}}, {Field: "lines", Values: []string{"two"}}, {Field: "customer", Values: []string{"x"}}, {Field: "raw", Values: []string{"x"}}},
		Sort:    []Sort{{Field: "plain"}},
		Facets:  []string{"country"},
	})
	if !errors.Is(err, ErrBadQuery) {
		t.Fatal(err)
	}
	for _, part := range []string{"5000", `"statsu"; did you mean "status"?`, `"two" is not a whole number`, `"customer" is an object`, `"raw" is not indexed`, `"plain" cannot be sorted by`, `did you mean "customer.country"?`} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q is not in: %v", part, err)
		}
	}
	for _, f := range []Filter{
		{Field: "placed_at", Values: []string{"yesterday"}},
		{Field: "placed_at", Values: []string{"2026-13-45"}},
		{Field: "placed_at", Values: []string{"2026-02-30T10:00:00Z"}},
		{Field: "placed_at", Op: Lt, Values: []string{"2026-02-03T25:00"}},
		{Field: "paid", Values: []string{"yes"}},
		{Field: "paid", Op: Gt, Values: []string{"true"}},
		{Field: "total", Op: Lt, Values: []string{"1,5"}},
		{Field: "lines", Values: []string{"99999999999"}, Op: Gt}, // more than an integer holds
		{Field: "lines", Values: []string{"-1e10"}, Op: Gt},
		{Field: "lines", Values: []string{"99999999999999999999"}},
		{Field: "lines", Op: Prefix, Values: []string{"1"}},
		{Field: "lines"},
		{Field: "lines", Op: Gt, Values: []string{"1", "2"}},
		{Field: "lines", Op: Exists, Values: []string{"1"}},
		{Field: "lines", Op: 99, Values: []string{"1"}},
		{Field: "", Values: []string{"1"}},
		{Field: checkpointField, Values: []string{"1"}},
		{Field: "_id", Values: []string{"1"}},
	} {
		r, err := s.Search(t.Context(), Query{Filters: []Filter{f}})
		if !errors.Is(err, ErrBadQuery) {
			t.Errorf("%+v: %+v, %v; want a bad query", f, r, err)
		}
	}
	if n := openContexts(t, s); n != 0 {
		t.Errorf("%d points in time are open after refused queries", n)
	}
}

func TestGetReadsWhatWasJustWritten(t *testing.T) {
	t.Parallel()
	s, g := orders(t, client(t))
	for _, id := range []string{"1", "a/b", "100%:x", `"q"`, "ø æ"} {
		put(t, g, 5, doc(id, `{"id":1}`))
		hit, ok, err := s.Get(t.Context(), id)
		if err != nil || !ok || hit.ID != id || hit.Version != 5 || string(hit.Source) != `{"id":1}` {
			t.Errorf("get %q: %+v, %t, %v", id, hit, ok, err)
		}
	}
	for _, id := range []string{"", "none", strings.Repeat("x", 600)} {
		if _, ok, err := s.Get(t.Context(), id); ok || err != nil {
			t.Errorf("get %.20q: %t, %v", id, ok, err)
		}
	}
}

func TestNestedInNested(t *testing.T) {
	t.Parallel()
	c := client(t)
	fields := []views.Field{{Name: "a", Path: "a", Many: true, As: "nested", Children: []views.Field{
		scalar("a.n", "n", 3, "integer", ""),
		{Name: "b", Path: "a.b", Many: true, As: "nested", Children: []views.Field{scalar("a.b.k", "k", 1, "text", ""), scalar("a.b.v", "v", 3, "integer", "")}},
	}}}
	s := newStore(c, "deep", fields, nil)
	g := live(t, s, 1)
	put(t, g, 5,
		doc("1", `{"a":[{"n":1,"b":[{"k":"x","v":1},{"k":"y","v":9}]}]}`),
		doc("2", `{"a":[{"n":2,"b":[{"k":"x","v":9}]},{"n":3,"b":[]}]}`))
	if r := found(t, s, Query{After: 5, Filters: []Filter{{Field: "a.b.k", Values: []string{"x"}}, {Field: "a.b.v", Op: Gt, Values: []string{"5"}}}}); strings.Join(ids(r.Hits), " ") != "2" {
		t.Errorf("same element: %v", ids(r.Hits))
	}
	if r := found(t, s, Query{Sort: []Sort{{Field: "a.b.v", Descending: false}, {Field: "a.n", Descending: true}}, Facets: []string{"a.b.k"}}); strings.Join(ids(r.Hits), " ") != "1 2" || fmt.Sprintf("%s=%d", r.Facets[0].Buckets[0].Value, r.Facets[0].Buckets[0].Count) != `"x"=2` {
		t.Errorf("sorted %v, facets %+v", ids(r.Hits), r.Facets)
	}
	if r := found(t, s, Query{Text: "y", Highlight: true}); strings.Join(ids(r.Hits), " ") != "1" {
		t.Errorf("text: %v", ids(r.Hits))
	}
}
