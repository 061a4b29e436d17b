package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/lanternist/lanternist/config"
	"github.com/lanternist/lanternist/httpapi"
	"github.com/lanternist/lanternist/internal/bucket"
	"github.com/lanternist/lanternist/journal"
	"github.com/lanternist/lanternist/journal/archive"
)

// archiveParts are what keeps a journal's past; empty when the configuration has no archive.
type archiveParts struct {
	store    *bucket.Lazy
	archive  *archive.Archive
	archiver *archive.Archiver
}

// archiveListing is how long the daemon's start waits for the archive's files at most. Later it goes on without them, until
// they can be had.
const archiveListing = 10 * time.Second

// openArchive gives the journal its past, and sees to it that nothing leaves the journal before it is archived. A blob store
// that is away does not stop the daemon.
func openArchive(ctx context.Context, cfg *config.Config, j *journal.Journal, schemas journal.Schemas, log *slog.Logger) (archiveParts, error) {
	if cfg.Archive == nil {
		return archiveParts{}, nil
	}
	id, err := journal.ParseID(j.Identity())
	if err != nil {
		return archiveParts{}, err
	}
	p := archiveParts{store: archiveStore(cfg)}
	p.archive = archive.New(p.store.Bucket, id, log)
	p.archiver = archive.NewArchiver(archive.Config{
		FileSize: int64(cfg.Archive.FileSize), Every: cfg.Archive.Every.D(), Program: "lanternist " + version,
	}, p.archive, j, schemas, log)
	j.Attach(p.archive)
	ctx, cancel := context.WithTimeout(ctx, archiveListing)
	defer cancel()
	if err := p.archive.Load(ctx); err != nil {
		log.Warn("archive not there; trying again, and nothing leaves the journal until then", "error", err)
	}
	return p, nil
}

// archiveStore is the archive's blob store, not opened yet.
func archiveStore(cfg *config.Config) *bucket.Lazy {
	return bucket.NewLazy(cfg.Archive.URL.Reveal(), cfg.Dir)
}

// runArchive archives until ctx ends.
func (n *daemon) runArchive(ctx context.Context) error {
	if n.archiving.archiver == nil {
		<-ctx.Done()
		return context.Cause(ctx)
	}
	return n.archiving.archiver.Run(ctx)
}

// apiArchiver is the archiver as the API has it; nil when there is none.
func (n *daemon) apiArchiver() httpapi.Archiver {
	if n.archiving.archiver == nil {
		return nil
	}
	return n.archiving.archiver
}

// errNoArchive: what was asked for needs an archive.
var errNoArchive = badInput(errors.New("the configuration has no archive; see docs/configuration.md"))

// storedArchive opens the archive of a journal for commands, and lists its files. Closing the store is the caller's.
func storedArchive(ctx context.Context, cfg *config.Config, id journal.ID) (*archive.Archive, *bucket.Lazy, error) {
	store := archiveStore(cfg)
	a := archive.New(store.Bucket, id, quiet)
	if err := a.Load(ctx); err != nil {
		return nil, nil, errors.Join(err, store.Close())
	}
	return a, store, nil
}

// journalID is the identity of the journal that an engine holds; false when it is empty.
func journalID(ctx context.Context, engine journal.Log) (journal.ID, bool, error) {
	_, last, err := engine.Bounds(ctx)
	if err != nil || last == 0 {
		return journal.ID{}, false, err
	}
	entry, err := engine.Read(ctx, last)
	if err != nil {
		return journal.ID{}, false, fmt.Errorf("read batch %d: %w", last, err)
	}
	e, err := journal.ReadEntry(entry)
	if err != nil {
		return journal.ID{}, false, fmt.Errorf("read batch %d: %w", last, err)
	}
	return e.Journal(), true, nil
}

// archivedID is the identity of the journal that is meant: the one named, else the only one that the archive has.
func archivedID(ctx context.Context, cfg *config.Config, named string) (id journal.ID, err error) {
	if named != "" {
		if id, err = journal.ParseID(named); err != nil {
			return id, badInput(fmt.Errorf("--journal: %w", err))
		}
		return id, nil
	}
	store := archiveStore(cfg)
	defer func() { err = errors.Join(err, store.Close()) }()
	b, err := store.Bucket(ctx)
	if err != nil {
		return id, err
	}
	ids, err := archive.Journals(ctx, b)
	switch {
	case err != nil:
		return id, err
	case len(ids) == 0:
		return id, badInput(errors.New("the archive has no journal"))
	case len(ids) > 1:
		return id, badInput(fmt.Errorf("the archive has several journals; name one with --journal: %v", ids))
	}
	return ids[0], nil
}
