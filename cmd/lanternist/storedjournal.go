package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/lanternist/lanternist/config"
	"github.com/lanternist/lanternist/control"
	"github.com/lanternist/lanternist/event"
	"github.com/lanternist/lanternist/journal"
	"github.com/lanternist/lanternist/schemas"
)

// storedJournal is a journal that no daemon has open, with its archive, and what its events are of.
type storedJournal struct {
	journal *journal.Journal
	source  event.Source
}

// withStoredJournal opens the journal of a configuration for reading. Only one process can have it open.
func withStoredJournal(ctx context.Context, cfg *config.Config, use func(storedJournal) error) (err error) {
	closing := func(close func() error) { err = errors.Join(err, close()) }
	kv, err := openStoredControl(ctx, cfg)
	if err != nil {
		return err
	}
	defer closing(kv.Close)
	source, err := storedSource(ctx, kv)
	if err != nil {
		return err
	}
	registry, err := schemas.Open(ctx, kv)
	if err != nil {
		return err
	}
	engine, err := openEngine(ctx, cfg, quiet)
	if err != nil {
		return err
	}
	if _, last, err := engine.Bounds(ctx); err != nil || last == 0 {
		return errors.Join(err, badInput(errors.New("there is no journal yet")), engine.Close())
	}
	j, err := journal.Open(ctx, engine, registry, journal.Config{}, quiet)
	if err != nil {
		return errors.Join(err, engine.Close())
	}
	defer closing(j.Close)
	if cfg.Archive != nil {
		id, err := journal.ParseID(j.Identity())
		if err != nil {
			return err
		}
		past, store, err := storedArchive(ctx, cfg, id)
		if err != nil {
			return err
		}
		defer closing(store.Close)
		j.Attach(past)
	}
	return use(storedJournal{j, source})
}

// storedSource is the database that the stored state came from.
func storedSource(ctx context.Context, kv control.Store) (event.Source, error) {
	value, found, err := kv.Get(ctx, keyIdentity)
	if err != nil {
		return event.Source{}, fmt.Errorf("read identity: %w", err)
	}
	system, database, ok := strings.Cut(string(value), "/")
	if !found || !ok {
		return event.Source{}, badInput(errors.New("nothing is stored yet"))
	}
	return event.Source{SystemID: system, Database: database}, nil
}
