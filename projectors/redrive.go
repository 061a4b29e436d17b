package projectors

import (
	"context"
	"fmt"

	"github.com/lanternist/lanternist/deadletter"
)

// Redrive tries the documents of letters of this projector again: each is composed as it is now and written, by the live generation's
// follower, as if an event had touched it. Those that the sink takes are no dead letters any more; those that it refuses are parked
// again, with all attempts counted. When it returns an error some may not have been tried; nothing is lost.
func (r *Runner) Redrive(ctx context.Context, letters []deadletter.Letter) error {
	ids := make([]string, 0, len(letters))
	seen := map[string]bool{}
	for i := range letters {
		l := &letters[i]
		if l.Projector != r.cfg.Name {
			return fmt.Errorf("redrive dead letter %s: it is of %s, not of %s", l.ID, l.Projector, r.cfg.Name)
		}
		if !seen[l.DocumentID] {
			seen[l.DocumentID] = true
			ids = append(ids, l.DocumentID)
		}
	}
	return r.Refresh(ctx, ids)
}
