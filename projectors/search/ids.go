package search

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"
)

const (
	idsPage      = 5000
	idsKeepAlive = 5 * time.Minute // between two pages, the caller's work on one of them included
)

// IDs implements projectors.Generation. It visits what is there when it begins, from one point in time.
func (g *Generation) IDs(ctx context.Context, visit func(id string) error) error {
	c := g.store.client
	if err := c.refresh(ctx, g.names.index); err != nil {
		return fmt.Errorf("list ids of %s: refresh: %w", g.names.index, classify(err))
	}
	pit, err := c.openPointInTime(ctx, g.names.writer, idsKeepAlive)
	if err != nil {
		return fmt.Errorf("list ids of %s: %w", g.names.index, classify(err))
	}
	defer func() { c.release(ctx, pit) }()
	return g.visitIDs(ctx, &pit, visit)
}

// visitIDs goes through the pages of a point in time, whose id may change from page to page.
func (g *Generation) visitIDs(ctx context.Context, pit *string, visit func(id string) error) error {
	var after json.RawMessage
	for {
		body := map[string]any{
			"pit":              map[string]any{"id": *pit, "keep_alive": duration(idsKeepAlive)},
			"size":             idsPage,
			"_source":          false,
			"track_total_hits": false,
			"sort":             []string{"_shard_doc"},
		}
		if after != nil {
			body["search_after"] = after
		}
		var page struct {
			PIT      string `json:"pit_id"`
			TimedOut bool   `json:"timed_out"`
			Shards   shards `json:"_shards"`
			Hits     struct {
				Hits []struct {
					ID   string          `json:"_id"`
					Sort json.RawMessage `json:"sort"`
				} `json:"hits"`
			} `json:"hits"`
		}
		err := g.store.client.do(ctx, call{method: http.MethodPost, path: "/_search", body: body, query: params(
			"filter_path", "pit_id,timed_out,_shards,hits.hits._id,hits.hits.sort",
			"allow_partial_search_results", "false",
		)}, &page)
		if err == nil {
			err = page.Shards.complete(page.TimedOut)
		}
		if err != nil {
			return fmt.Errorf("list ids of %s: %w", g.names.index, classifyPage(err))
		}
		if page.PIT != "" {
			*pit = page.PIT
		}
		for _, hit := range page.Hits.Hits {
			if err := visit(hit.ID); err != nil {
				return err
			}
		}
		if len(page.Hits.Hits) < idsPage {
			return nil
		}
		after = page.Hits.Hits[idsPage-1].Sort
	}
}

// classifyPage is classify for a page of a point in time: one that is gone was not wrong, it was slow.
func classifyPage(err error) error {
	if isKind(err, "search_context_missing_exception") {
		return err
	}
	return classify(err)
}

// shards is how many copies of the index took part in an answer.
type shards struct {
	Total  int `json:"total"`
	Failed int `json:"failed"`
}

// complete refuses an answer from which some documents may be missing.
func (s shards) complete(timedOut bool) error {
	if timedOut || s.Failed > 0 {
		return fmt.Errorf("answer is not complete: %d of %d shards failed, timed out %t", s.Failed, s.Total, timedOut)
	}
	return nil
}
