package search

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/lanternist/lanternist/projectors"
)

// Search answers a query from the live generation. Errors wrap ErrBadQuery, ErrCursorExpired or ErrNotReady where these apply; others
// are classified like those of writes, or are a *projectors.OpenError.
func (s *Store) Search(ctx context.Context, q Query) (result *Result, err error) {
	err = s.client.cfg.Circuit.Read(ctx, func() error {
		result, err = s.find(ctx, q)
		return err
	})
	return result, err
}

func (s *Store) find(ctx context.Context, q Query) (*Result, error) {
	if q.Cursor != "" {
		owner, err := s.ofCursor(s, q.Cursor)
		if err != nil {
			return nil, err
		}
		p, err := owner.fields.plan(q)
		if err != nil {
			return nil, err
		}
		return owner.nextPage(ctx, p)
	}
	for {
		reader, moves, err := s.reader(ctx, s)
		if err != nil {
			return nil, fmt.Errorf("search %s: %w", s.view, readError(err))
		}
		p, err := reader.fields.plan(q)
		if err != nil {
			return nil, err
		}
		if err := s.Refresh(ctx, q.After); err != nil {
			return nil, err
		}
		result, err := reader.firstPage(ctx, p)
		if moves == s.visible.moves() || (q.After == 0 && reader.alone()) {
			return result, err
		}
		// A promotion came between: the index read may not be the one refreshed, nor the one that the query was worked out for. Then
		// what it answers, be it a refusal, is not the answer to the query.
		var undone error
		if result != nil && result.Cursor != "" {
			undone = s.giveUpCursor(ctx, result.Cursor)
		}
		if ctx.Err() != nil || undone != nil || errors.Is(err, projectors.ErrUnanswered) {
			return nil, errors.Join(err, undone, ctx.Err())
		}
	}
}

// firstPage searches the live generation, pinned by a point in time when there may be more pages.
func (s *Store) firstPage(ctx context.Context, p *plan) (*Result, error) {
	body := s.pageBody(p)
	if len(p.facets) > 0 {
		body["aggs"] = p.facetsBody()
	}
	if p.query.ExactTotal {
		body["track_total_hits"] = true
	}
	if p.query.SinglePage {
		answer, err := s.search(ctx, "/"+s.names.alias+"/_search", body)
		if err != nil {
			return nil, err
		}
		return answer.result(p)
	}
	pit, err := s.client.openPointInTime(ctx, s.names.alias, s.client.cfg.CursorTTL)
	if err != nil {
		return nil, fmt.Errorf("search %s: %w", s.view, readError(err))
	}
	return s.page(ctx, p, body, cursor{PIT: pit, Query: p.fingerprint(), Definition: s.hash})
}

// nextPage continues from the query's cursor.
func (s *Store) nextPage(ctx context.Context, p *plan) (*Result, error) {
	from, err := decodeCursor(p.query.Cursor, p)
	if err != nil {
		return nil, err
	}
	body := s.pageBody(p)
	if len(p.facets) > 0 {
		body["aggs"] = p.facetsBody()
	}
	body["search_after"] = from.After
	body["track_total_hits"] = false
	return s.page(ctx, p, body, from)
}

// pageBody is what all pages of a query have in common.
func (s *Store) pageBody(p *plan) object {
	body := object{
		"size":    p.query.Size,
		"query":   p.queryBody(s.fields),
		"version": true,
		"timeout": duration(s.client.cfg.Timeout),
	}
	if keys := p.sortBody(!p.query.SinglePage); len(keys) > 0 {
		body["sort"] = keys
		body["track_scores"] = p.scored()
	}
	if p.query.Highlight && p.query.Text != "" {
		body["highlight"] = p.highlightBody(s.fields)
	}
	return body
}

// scored says whether relevance is a sort key.
func (p *plan) scored() bool {
	for _, s := range p.sorts {
		if s.field == nil {
			return true
		}
	}
	return len(p.sorts) == 0 && p.query.Text != ""
}

// page searches in the point in time of at, and closes it after the last page.
func (s *Store) page(ctx context.Context, p *plan, body object, at cursor) (*Result, error) {
	c := s.client
	body["pit"] = object{"id": at.PIT, "keep_alive": duration(c.cfg.CursorTTL)}
	answer, err := s.search(ctx, "/_search", body)
	if err != nil {
		s.client.release(ctx, at.PIT)
		return nil, err
	}
	before := at.PIT
	if answer.PIT != "" {
		at.PIT = answer.PIT
	}
	hits := answer.Hits.Hits
	for _, hit := range hits {
		if !s.names.owns(hit.Index) {
			return nil, fmt.Errorf("%w: cursor is not one of this view", ErrBadQuery)
		}
	}
	if answer.Hits.Total != nil {
		at.Total, at.Relation = answer.Hits.Total.Value, answer.Hits.Total.Relation
	} else {
		answer.Hits.Total = &total{Value: at.Total, Relation: at.Relation}
	}
	result, err := answer.result(p)
	last := len(hits) < p.query.Size || (p.query.Cursor == "" && result.Exact && result.Total == int64(len(hits)))
	if err != nil || last {
		c.release(ctx, at.PIT)
		return result, err
	}
	at.After = hits[len(hits)-1].Sort
	for _, evicted := range c.cursors.use(before, at.PIT) {
		c.release(ctx, evicted)
	}
	result.Cursor, err = at.encode()
	return result, err
}

// giveUpCursor frees what a cursor holds.
func (s *Store) giveUpCursor(ctx context.Context, text string) error {
	var c cursor
	raw, err := base64Cursor(text)
	if err == nil {
		err = json.Unmarshal(raw, &c)
	}
	if err != nil {
		return fmt.Errorf("decode own cursor: %w", err)
	}
	s.client.release(ctx, c.PIT)
	return nil
}

// search sends a search and refuses an answer that is not whole.
func (s *Store) search(ctx context.Context, path string, body object) (*searchAnswer, error) {
	var answer searchAnswer
	whole := params("allow_partial_search_results", "false")
	err := s.client.do(ctx, call{method: http.MethodPost, path: path, body: body, query: whole}, &answer)
	if err == nil {
		err = answer.Shards.complete(answer.TimedOut)
	}
	if err != nil {
		return nil, fmt.Errorf("search %s: %w", s.view, readError(err))
	}
	return &answer, nil
}

// readError says whose fault a failed read is.
func readError(err error) error {
	var status *statusError
	if !errors.As(err, &status) {
		return classify(err)
	}
	switch {
	case status.kind == "search_context_missing_exception":
		return fmt.Errorf("%w: %w", ErrCursorExpired, err)
	case status.kind == "index_not_found_exception":
		return fmt.Errorf("%w: %w", ErrNotReady, err)
	case status.status == http.StatusBadRequest:
		return fmt.Errorf("%w: %w", ErrBadQuery, err)
	}
	return classify(err)
}
