package search

import (
	"context"
	"fmt"
	"net/http"

	"github.com/lanternist/lanternist/projectors"
)

var _ projectors.Dropper = (*Store)(nil)

// Drop implements projectors.Dropper. An index goes with its aliases, in one step.
func (s *Store) Drop(ctx context.Context) error {
	if s.nameFail != nil {
		return s.nameFail
	}
	states, err := s.states(ctx)
	if err != nil {
		return err
	}
	for index := range states {
		err := s.client.do(ctx, call{method: http.MethodDelete, path: "/" + index}, nil)
		if err != nil && !isKind(err, "index_not_found_exception") {
			return fmt.Errorf("drop %s: %w", index, classify(err))
		}
	}
	return nil
}
