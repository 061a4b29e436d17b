package projectors

import "fmt"

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
