package httpapi

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/jackc/pglogrepl"

	"github.com/lanternist/lanternist/event"
	"github.com/lanternist/lanternist/projectors/search"
)

type searchInput struct {
	View       string   `path:"view" doc:"Name of the view."`
	Text       string   `query:"q" doc:"Words to search for: all must occur; \"…\" is a phrase, word* a prefix, -word must not occur, | is or."`
	Filter     string   `query:"filter" doc:"Conditions, separated by white space: status:paid,shipped total>=100 -customer.country:NO note:* sku:AB*" example:"status:paid total>=100"`
	Sort       string   `query:"sort" doc:"Fields, separated by commas, - before one for descending order; _score is relevance." example:"-placed_at,id"`
	Facets     []string `query:"facets" doc:"Fields whose most frequent values are counted, separated by commas." example:"status,customer.country"`
	FacetSize  int      `query:"facet_size" minimum:"0" doc:"How many values of each."`
	Size       int      `query:"size" minimum:"0" doc:"How many documents a page has."`
	Cursor     string   `query:"cursor" maxLength:"131072" doc:"From the page before. All else must be as it was then, but size and facets."`
	SinglePage bool     `query:"single_page" doc:"No other page will be asked for: cheaper, and the answer has no cursor."`
	Highlight  bool     `query:"highlight" doc:"Answer the fragments in which q was found."`
	ExactTotal bool     `query:"exact_total" doc:"Count all matches, however many."`
	Freshness
}

type searchOutput struct {
	PositionHeaders
	Body searchBody
}

type searchBody struct {
	Total     int64       `json:"total" doc:"How many documents match."`
	Exact     bool        `json:"exact" doc:"Whether total is exact; else it is at least so many."`
	Documents []searchHit `json:"documents"`
	Facets    []facet     `json:"facets,omitempty"`
	Cursor    string      `json:"cursor,omitempty" doc:"For the next page; absent when there is none."`
	TookMs    int64       `json:"took_ms" doc:"Time in the search sink, in milliseconds."`
}

type searchHit struct {
	DocumentEntry
	Score      *float64            `json:"score,omitempty" doc:"Relevance, when documents are ordered by it."`
	Highlight  map[string][]string `json:"highlight,omitempty" doc:"Fragments by field, what matched in <em>, all else escaped for HTML."`
	NotIndexed []string            `json:"not_indexed,omitempty" doc:"Fields of which a value is in the document and not in the index: too long, or outside of what the field's type holds."`
}

type facet struct {
	Field  string   `json:"field"`
	Values []bucket `json:"values"`
	Other  int64    `json:"other" doc:"How many occurrences of values are not counted here."`
}

type bucket struct {
	Value json.RawMessage `json:"value"`
	Count int64           `json:"count"`
}

func (s *Server) registerSearch(api huma.API) {
	huma.Register(api, get("search-documents", "/v1/views/{view}/search", "documents", "Search a view", 404, 409, 410, 503, 504), s.search)
}

func (s *Server) search(ctx context.Context, in *searchInput) (*searchOutput, error) {
	v, err := s.view(in.View)
	if err != nil {
		return nil, err
	}
	if v.Search == nil {
		return nil, problem(http.StatusNotFound, "view %s has no search section", v.name())
	}
	q, err := in.query()
	if err != nil {
		return nil, s.sinkProblem(ctx, v, v.Search.Projector, err)
	}
	pos, err := s.searchPosition(ctx, v.Search, in, &q)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.ReadTimeout)
	defer cancel()
	result, err := v.Search.Documents.Search(ctx, q)
	if err != nil {
		return nil, s.sinkProblem(ctx, v, v.Search.Projector, err)
	}
	if q.After != 0 {
		v.Search.showed(pos)
	}
	out := &searchOutput{PositionHeaders: pos.headers(s.cfg.Epoch), Body: searchAnswer(result)}
	if result.Cursor != "" {
		out.Body.Cursor = encodeSearchCursor(pos, result.Cursor)
	}
	return out, nil
}

// query reads the parameters that package search knows.
func (in *searchInput) query() (search.Query, error) {
	q := search.Query{
		Text: in.Text, Facets: in.Facets, FacetSize: in.FacetSize, Size: in.Size, SinglePage: in.SinglePage,
		Highlight: in.Highlight, ExactTotal: in.ExactTotal,
	}
	var err error
	if q.Filters, err = search.ParseFilters(in.Filter); err != nil {
		return q, err
	}
	q.Sort, err = search.ParseSort(in.Sort)
	return q, err
}

// searchPosition decides what the search has to reflect, and waits for it. A page after the first reflects what the first
// did. A search without a token sees the index as it is, unless that is older than Config.SearchAge.
func (s *Server) searchPosition(ctx context.Context, sink *SearchSink, in *searchInput, q *search.Query) (position, error) {
	if in.Cursor != "" {
		return s.cursorPosition(ctx, sink, in, q)
	}
	pos, err := s.reach(ctx, sink.Projector, in.Freshness, 0)
	if err != nil {
		return pos, err
	}
	if in.After == "" {
		if shown := sink.shown.Load(); shown != nil && time.Since(shown.at) < s.cfg.SearchAge && shown.offset <= pos.offset {
			return *shown, nil
		}
	}
	q.After = pos.offset
	if q.After == 0 { // the watermark does not know its offset: show all that was written
		q.After = s.journal.Head().Offset
	}
	return pos, nil
}

func (s *Server) cursorPosition(ctx context.Context, sink *SearchSink, in *searchInput, q *search.Query) (position, error) {
	pos, inner, err := decodeSearchCursor(in.Cursor)
	if err != nil {
		return pos, badQuery("cursor", in.Cursor, "not a cursor of a search")
	}
	q.Cursor = inner
	if f, ok := sink.Projector.(*Frozen); ok {
		pos.asOf = f.record.At
	}
	if in.After == "" {
		return pos, nil
	}
	token, err := s.token(in.After)
	if err != nil {
		return pos, err
	}
	lsn, err := s.resolve(ctx, sink.Projector, token)
	if err != nil {
		return pos, err
	}
	if lsn > pos.lsn {
		return pos, problem(http.StatusConflict, "the pages of this cursor reflect %s: begin with the first page to see %s", pos.lsn, in.After)
	}
	return pos, nil
}

// showed remembers the newest position that the index has shown.
func (k *SearchSink) showed(pos position) {
	for {
		old := k.shown.Load()
		if old != nil && old.at.After(pos.at) {
			return
		}
		if k.shown.CompareAndSwap(old, &pos) {
			return
		}
	}
}

// searchCursor is the search sink's cursor with the position that its pages reflect.
type searchCursor struct {
	LSN    pglogrepl.LSN `json:"l"`
	Offset event.Offset  `json:"o"`
	At     int64         `json:"t"` // milliseconds since 1970
	Inner  string        `json:"c"`
}

func encodeSearchCursor(pos position, inner string) string {
	text, _ := json.Marshal(searchCursor{LSN: pos.lsn, Offset: pos.offset, At: pos.at.UnixMilli(), Inner: inner}) // numbers and a string
	return base64.RawURLEncoding.EncodeToString(text)
}

func decodeSearchCursor(text string) (position, string, error) {
	raw, err := decodeBase64(text)
	if err != nil {
		return position{}, "", err
	}
	var c searchCursor
	if err := json.Unmarshal(raw, &c); err != nil {
		return position{}, "", err
	}
	return position{lsn: c.LSN, offset: c.Offset, at: time.UnixMilli(c.At)}, c.Inner, nil
}

func searchAnswer(r *search.Result) searchBody {
	body := searchBody{Total: r.Total, Exact: r.Exact, TookMs: r.Took.Milliseconds(), Documents: make([]searchHit, len(r.Hits))}
	for i, h := range r.Hits {
		body.Documents[i] = searchHit{
			DocumentEntry: DocumentEntry{ID: h.ID, Version: h.Version, Document: h.Source}, Score: h.Score, Highlight: h.Highlight, NotIndexed: h.Ignored,
		}
	}
	for _, f := range r.Facets {
		values := make([]bucket, len(f.Buckets))
		for i, b := range f.Buckets {
			values[i] = bucket{Value: b.Value, Count: b.Count}
		}
		body.Facets = append(body.Facets, facet{Field: f.Field, Values: values, Other: f.Other})
	}
	return body
}
