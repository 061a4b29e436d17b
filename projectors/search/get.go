package search

import (
	"context"
	"fmt"
)

// Get reads one document of the live generation by id, as it was written last, visible to searches or not. It is false when there is
// none. Hit has neither score nor highlight.
func (s *Store) Get(ctx context.Context, id string) (Hit, bool, error) {
	if id == "" || id == checkpointID || len(id) > idBytesMax {
		return Hit{}, false, nil
	}
	var doc stored
	err := s.client.cfg.Circuit.Read(ctx, func() (err error) {
		doc, err = s.client.get(ctx, s.names.alias, id)
		return err
	})
	if err != nil {
		return Hit{}, false, fmt.Errorf("get %s/%s: %w", s.view, id, readError(err))
	}
	if !doc.Found {
		return Hit{}, false, nil
	}
	return Hit{ID: doc.ID, Version: doc.Version, Source: doc.Source, Definition: s.definition(doc.Index)}, true, nil
}
