package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/lanternist/lanternist/config"
	"github.com/lanternist/lanternist/journal"
	"github.com/lanternist/lanternist/journal/archive"
	"github.com/lanternist/lanternist/journal/segments"
	"github.com/lanternist/lanternist/schemas"
)

type journalRestoreCmd struct {
	configFlag
	Journal string `help:"Identity of the journal. Default: the only one that the archive has." placeholder:"ID"`
	All     bool   `help:"Restore every batch. Default: the newest, as many as journal.retention.size keeps; older ones are read from the archive."`
	JSON    bool   `help:"Print the outcome as JSON."`
}

// restoredJournal is the outcome as --json prints it.
type restoredJournal struct {
	Journal string `json:"journal"`
	First   uint64 `json:"first_batch"`
	Last    uint64 `json:"last_batch"`
	Bytes   uint64 `json:"bytes"`
	Schemas int    `json:"schemas"` // that were missing
}

// Run fills an empty journal from the archive, once that has been verified.
func (c *journalRestoreCmd) Run(a *app) error {
	cfg, err := c.load()
	if err != nil {
		return err
	}
	if cfg.Archive == nil {
		return errNoArchive
	}
	outcome, err := c.restore(a, cfg)
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(a.stdout, outcome)
	}
	_, err = fmt.Fprintf(a.stdout, "journal %s restored: batches %s to %s (%s); %s table definitions were missing\n",
		outcome.Journal, thousands(outcome.First), thousands(outcome.Last), bytesText(int64(outcome.Bytes)), thousands(outcome.Schemas))
	return err
}

func (c *journalRestoreCmd) restore(a *app, cfg *config.Config) (out restoredJournal, err error) {
	if err := c.mustBeEmpty(a.ctx, cfg); err != nil {
		return out, err
	}
	id, err := archivedID(a.ctx, cfg, c.Journal)
	if err != nil {
		return out, err
	}
	out.Journal = id.String()
	stored, store, err := storedArchive(a.ctx, cfg, id)
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	if err := c.verify(a, stored); err != nil {
		return out, err
	}
	if out.Schemas, err = restoreSchemas(a.ctx, cfg, stored); err != nil {
		return out, err
	}
	bar := a.newProgress("restore journal", "bytes")
	defer bar.finish()
	restored, err := c.fill(a.ctx, cfg, stored, bar)
	out.First, out.Last, out.Bytes = restored.First, restored.Last, restored.Bytes
	return out, err
}

// mustBeEmpty refuses a journal that has batches.
func (c *journalRestoreCmd) mustBeEmpty(ctx context.Context, cfg *config.Config) error {
	engine, err := viewEngine(ctx, cfg)
	if err != nil || engine == nil {
		return err
	}
	id, found, err := journalID(ctx, engine)
	err = errors.Join(err, engine.Close())
	if err != nil || !found {
		return err
	}
	where := cfg.Path(cfg.Journal.Dir)
	if !cfg.Journal.URL.IsZero() {
		where = "stream " + cfg.Journal.Stream
	}
	return badInput(fmt.Errorf("%s is not empty: it has journal %s; move it away first", where, id))
}

// verify refuses an archive that is damaged.
func (c *journalRestoreCmd) verify(a *app, stored *archive.Archive) error {
	bar := a.newProgress("verify archive", "bytes")
	v, err := stored.Verify(a.ctx, nil, bar.set)
	bar.finish()
	if err != nil {
		return err
	}
	for _, d := range v.Damage {
		fmt.Fprintln(a.stderr, d.Error())
	}
	if len(v.Damage) > 0 {
		return &exitError{exitDifferent, errors.New("the archive is damaged, see above; nothing was restored")}
	}
	return nil
}

// restoreSchemas puts the table definitions back that the control store does not have.
func restoreSchemas(ctx context.Context, cfg *config.Config, stored *archive.Archive) (missing int, err error) {
	list, err := stored.Schemas(ctx)
	if err != nil {
		return 0, err
	}
	kv, err := openControl(ctx, cfg, quiet)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, kv.Close()) }()
	registry, err := schemas.Open(ctx, kv)
	if err != nil {
		return 0, err
	}
	return registry.Restore(ctx, list)
}

// fill writes the journal. A folder appears when it is complete.
func (c *journalRestoreCmd) fill(ctx context.Context, cfg *config.Config, stored *archive.Archive, bar *progress) (r archive.Restored, err error) {
	bytes := uint64(cfg.Journal.Retention.Size)
	if c.All {
		bytes = 0
	}
	if !cfg.Journal.URL.IsZero() {
		engine, err := openEngine(ctx, cfg, quiet)
		if err != nil {
			return r, err
		}
		return closing(engine)(stored.Restore(ctx, engine, bytes, bar.set))
	}
	dir := cfg.Path(cfg.Journal.Dir)
	half := dir + ".restoring"
	if err := os.RemoveAll(half); err != nil { // of an earlier attempt
		return r, fmt.Errorf("restore journal: %w", err)
	}
	engine, err := segments.Open(half, segments.Config{}, quiet)
	if err != nil {
		return r, err
	}
	if r, err = closing(engine)(stored.Restore(ctx, engine, bytes, bar.set)); err != nil {
		return r, err
	}
	// An empty folder may be there; one with a journal in it cannot be replaced.
	if err := os.Remove(dir); err != nil && !errors.Is(err, os.ErrNotExist) {
		return r, fmt.Errorf("restore journal: %w; what was restored is in %s", err, half)
	}
	if err := os.Rename(half, dir); err != nil {
		return r, fmt.Errorf("restore journal: %w", err)
	}
	return r, nil
}

// closing closes an engine that was restored into.
func closing(engine journal.Log) func(archive.Restored, error) (archive.Restored, error) {
	return func(r archive.Restored, err error) (archive.Restored, error) {
		return r, errors.Join(err, engine.Close())
	}
}
