package cache

import (
	"context"

	"github.com/lanternist/lanternist/projectors"
)

var _ projectors.Dropper = (*Store)(nil)

// Drop implements projectors.Dropper. The pointer goes first: from then on nobody reads the view.
func (s *Store) Drop(ctx context.Context) error {
	if err := s.client.redis.Del(ctx, s.liveKey()).Err(); err != nil {
		return s.classify("drop", err)
	}
	s.live.Store(nil)
	infos, err := s.Generations(ctx)
	if err != nil {
		return err
	}
	for _, info := range infos {
		if err := s.Retire(ctx, info.Number); err != nil {
			return err
		}
	}
	return s.classify("drop", s.client.redis.Del(ctx, s.generationsKey()).Err())
}
