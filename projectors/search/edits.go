package search

import (
	"context"
	"fmt"

	"github.com/lanternist/lanternist/event"
	"github.com/lanternist/lanternist/projectors"
	"github.com/lanternist/lanternist/views"
)

var _ projectors.Overwriter = (*Generation)(nil)

// Overwrite implements projectors.Overwriter: Elasticsearch gives a write or a delete without a version the next one. It
// does not tell the version of what was deleted, so versions are tried in steps that double.
func (g *Generation) Overwrite(ctx context.Context, version, last event.Offset, docs []views.Document) ([]projectors.Failure, error) {
	var failures []projectors.Failure
	index := make([]int, len(docs)) // of those left, into docs
	for i := range index {
		index[i] = i
	}
	left := docs
	for step := event.Offset(1); ; step *= 2 {
		w := &write{client: g.store.client, path: "/" + g.names.writer + "/_bulk", docs: left, tail: appendTail(nil, version)}
		if err := w.run(ctx); err != nil {
			return nil, fmt.Errorf("write %d documents to %s: %w", len(left), g.names.index, err)
		}
		for _, f := range w.failures {
			failures = append(failures, projectors.Failure{Index: index[f.Index], Err: f.Err})
		}
		if len(w.newer) == 0 || version >= last {
			return failures, nil
		}
		version = min(version+step, last)
		again, rest := make([]int, len(w.newer)), make([]views.Document, len(w.newer))
		for i, doc := range w.newer {
			again[i], rest[i] = index[doc], left[doc]
		}
		index, left = again, rest
	}
}
