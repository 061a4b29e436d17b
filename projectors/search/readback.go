package search

import (
	"context"
	"fmt"
	"net/http"

	"github.com/lanternist/lanternist/projectors"
)

// Documents implements projectors.Readable. It reads what was written last, refreshed or not.
func (g *Generation) Documents(ctx context.Context, ids []string) ([]projectors.Held, error) {
	var answer struct {
		Docs []stored `json:"docs"`
	}
	body := map[string]any{"ids": ids}
	err := g.store.client.do(ctx, call{method: http.MethodPost, path: "/" + g.names.writer + "/_mget", body: body}, &answer)
	if err != nil {
		return nil, fmt.Errorf("read %d documents of %s: %w", len(ids), g.names.index, classify(err))
	}
	held := make([]projectors.Held, len(answer.Docs))
	for i, d := range answer.Docs {
		if d.Error != nil {
			return nil, fmt.Errorf("read document %s of %s: %s", d.ID, g.names.index, d.Error.text())
		}
		if d.Found {
			held[i].Body = d.Source
		}
	}
	return held, nil
}

// Count implements projectors.Readable. The index is refreshed first.
func (g *Generation) Count(ctx context.Context) (int64, bool, error) {
	if err := g.store.client.refresh(ctx, g.names.index); err != nil {
		return 0, false, fmt.Errorf("count documents of %s: refresh: %w", g.names.index, classify(err))
	}
	var answer struct {
		Count  int64  `json:"count"`
		Shards shards `json:"_shards"`
	}
	err := g.store.client.do(ctx, call{method: http.MethodPost, path: "/" + g.names.writer + "/_count"}, &answer)
	if err == nil {
		err = answer.Shards.complete(false)
	}
	if err != nil {
		return 0, false, fmt.Errorf("count documents of %s: %w", g.names.index, classify(err))
	}
	return answer.Count, true, nil
}
