package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/lanternist/lanternist/config"
	"github.com/lanternist/lanternist/httpapi"
	"github.com/lanternist/lanternist/journal"
	"github.com/lanternist/lanternist/journal/archive"
	"github.com/lanternist/lanternist/schemas"
)

type journalArchiveCmd struct {
	configFlag
	JSON bool `help:"Print the outcome as JSON."`
}

// Run archives everything up to the journal's end: in the daemon when it runs, else here.
func (c *journalArchiveCmd) Run(a *app) error {
	cfg, err := c.load()
	if err != nil {
		return err
	}
	if cfg.Archive == nil {
		return errNoArchive
	}
	client, err := newClient(cfg)
	if err != nil {
		return badInput(err)
	}
	bar := a.newProgress("archive journal", "batches")
	status, err := c.ask(a.ctx, client, bar)
	if errors.Is(err, errNoDaemon) {
		status, err = c.alone(a.ctx, cfg, bar)
	}
	bar.finish()
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(a.stdout, status)
	}
	_, err = fmt.Fprintf(a.stdout, "archived up to batch %s: %s files, %s\n", thousands(status.LastBatch), thousands(status.Files), bytesText(status.Bytes))
	return err
}

// archiveFailures is after how many failures in a row the command gives up waiting.
const archiveFailures = 5

// ask has the daemon archive.
func (c *journalArchiveCmd) ask(ctx context.Context, client *client, bar *progress) (status httpapi.ArchiveStatus, err error) {
	const path = "/v1/journal/archive"
	if err := client.post(ctx, path, &status); err != nil {
		return status, err
	}
	wanted, from := status.Wanted, status.LastBatch
	for status.LastBatch < wanted {
		bar.set(int64(status.LastBatch-from), int64(wanted-from))
		if status.Failures >= archiveFailures {
			return status, fmt.Errorf("not archived: %s; the daemon goes on trying", status.Error)
		}
		select {
		case <-ctx.Done():
			return status, fmt.Errorf("%w; the daemon goes on", context.Cause(ctx))
		case <-time.After(pollEvery):
		}
		status = httpapi.ArchiveStatus{}
		if err := client.get(ctx, path, nil, &status); err != nil {
			return status, err
		}
	}
	return status, nil
}

// alone archives while no daemon has the journal open.
func (c *journalArchiveCmd) alone(ctx context.Context, cfg *config.Config, bar *progress) (status httpapi.ArchiveStatus, err error) {
	closing := func(close func() error) { err = errors.Join(err, close()) }
	kv, err := openStoredControl(ctx, cfg)
	if err != nil {
		return status, err
	}
	defer closing(kv.Close)
	registry, err := schemas.Open(ctx, kv)
	if err != nil {
		return status, err
	}
	engine, err := openEngine(ctx, cfg, quiet)
	if err != nil {
		return status, err
	}
	if _, found, err := journalID(ctx, engine); err != nil || !found {
		return status, errors.Join(err, engine.Close(), badInput(errors.New("there is no journal yet")))
	}
	j, err := journal.Open(ctx, engine, registry, journal.Config{}, quiet)
	if err != nil {
		return status, errors.Join(err, engine.Close())
	}
	defer closing(j.Close)
	past, err := openArchive(ctx, cfg, j, registry, quiet)
	if err != nil {
		return status, err
	}
	defer closing(past.store.Close)
	return c.drain(ctx, past.archiver, bar)
}

// drain runs an archiver until everything is archived.
func (c *journalArchiveCmd) drain(ctx context.Context, r *archive.Archiver, bar *progress) (httpapi.ArchiveStatus, error) {
	wanted := r.Request()
	from := r.Status().Last
	running, stop := context.WithCancelCause(ctx)
	done := make(chan error, 1)
	go func() { done <- r.Run(running) }()
	var failed error
	for failed == nil {
		s := r.Status()
		bar.set(int64(s.Last-min(from, s.Last)), int64(wanted-min(from, wanted)))
		if s.Last >= wanted {
			break
		}
		if s.Failures >= archiveFailures {
			failed = fmt.Errorf("not archived: %s", s.Error)
			break
		}
		select {
		case <-ctx.Done():
			failed = context.Cause(ctx)
		case <-time.After(20 * time.Millisecond):
		}
	}
	stop(errStop)
	if err := <-done; !errors.Is(err, errStop) && failed == nil {
		failed = err
	}
	return httpapi.ArchiveStatusOf(r.Status()), failed
}
