package projectors

import (
	"fmt"

	"github.com/jackc/pglogrepl"
)

// stillLoaded is an error when a table of the generation is being loaded anew, or has been since the generation last kept a
// promise: that may have taken no time at all, and no event says what it changed. It is asked after the mirror's progress was
// read and before that is promised, so that a checkpoint never says more than the load before.
func (f *follower) stillLoaded() error {
	if f.live && len(f.runner.Paused()) > 0 {
		return errPaused
	}
	if err := f.runner.stillLoaded(f.def); err != nil {
		return err
	}
	for oid := range f.def.tables {
		state, _, err := f.runner.mirror.LoadState(oid)
		if err != nil {
			return err
		}
		if state.LoadedAt > f.mark.LSN {
			return fmt.Errorf("a table was loaded again, as of %s, after %s: %w", state.LoadedAt, f.mark.LSN, errCannotFollow)
		}
	}
	return nil
}

// loadedAt is where a snapshot that says lsn stands at least: a table is complete when the stream has reached the snapshot that it was loaded
// from, which the mirror does not know any more after a start when nothing has come since.
func (f *follower) loadedAt(lsn pglogrepl.LSN) (pglogrepl.LSN, error) {
	for oid := range f.def.tables {
		state, _, err := f.runner.mirror.LoadState(oid)
		if err != nil {
			return 0, err
		}
		lsn = max(lsn, state.LoadedAt)
	}
	return lsn, nil
}
