package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/lanternist/lanternist/config"
	"github.com/lanternist/lanternist/control"
	"github.com/lanternist/lanternist/ingest"
	"github.com/lanternist/lanternist/journal"
	"github.com/lanternist/lanternist/mirror"
)

// explainDamage adds to an error that says that stored files are damaged, gone or too old what a person can do about it.
func explainDamage(cfg *config.Config, err error) error {
	data := func(dirs ...string) string {
		for i := range dirs {
			dirs[i] = cfg.Path(dirs[i])
		}
		return strings.Join(dirs, " ")
	}
	var remove, before string
	switch {
	case errors.Is(err, mirror.ErrDamaged), errors.Is(err, ingest.ErrJournalBehind), errors.Is(err, ingest.ErrMirrorBehind):
		remove = data(cfg.Mirror.Dir)
		before = "Load the tables again from the source"
	case errors.Is(err, control.ErrDamaged), errors.Is(err, journal.ErrCorrupt):
		remove = data(cfg.Journal.Dir, cfg.Mirror.Dir, cfg.Control.Dir)
		before = "Put the folder back from a copy, or load everything again from the source; dead letters and positions of streams are then gone"
		if cfg.Archive != nil && errors.Is(err, journal.ErrCorrupt) {
			before = "Move the journal's folder away and have it back from the archive (lanternist journal restore), or load everything again from the source"
		}
	default:
		return err
	}
	return fmt.Errorf("%w\n%s (the sinks go on serving what they have until then):\n  rm -r %s\n  lanternist run --config %s", err, before, remove, cfg.File)
}
