package cache

import (
	"time"

	"github.com/lanternist/lanternist/projectors"
)

var _ projectors.Forgetful = (*Store)(nil)

// Remembers implements projectors.Forgetful: how long a tombstone lives.
func (s *Store) Remembers() time.Duration { return s.client.cfg.TombstoneTTL }
