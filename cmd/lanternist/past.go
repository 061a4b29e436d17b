package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/lanternist/lanternist/asof"
	"github.com/lanternist/lanternist/backoff"
	"github.com/lanternist/lanternist/httpapi"
	"github.com/lanternist/lanternist/ingest"
	"github.com/lanternist/lanternist/mirror/checkpoint"
	"github.com/lanternist/lanternist/projectors"
	"github.com/lanternist/lanternist/views"
)

// past is what a deployment has of former moments.
type past struct {
	service *asof.Service
	keeper  *checkpoint.Keeper // nil without an archive
	source  *sourceClock
}

// openPast opens the store of mirror checkpoints, and the views as of moments.
func (d *deployment) openPast(ctx context.Context) error {
	d.past.source = &sourceClock{url: d.cfg.Source.URL.Reveal()}
	parts := asof.Parts{
		Control: d.control, Schemas: d.registry, Letters: d.letters, Stores: d.frozenStores,
		Journal: d.journal, Mirror: d.mirror, Source: d.past.source, Taken: d.configured,
		Since: func(ctx context.Context) (map[uint32]pglogrepl.LSN, error) {
			return ingest.CapturedSince(ctx, d.control)
		},
	}
	if a := d.cfg.Archive; a != nil {
		parts.Checkpoints = checkpoint.New(d.archiving.store.Bucket, d.journal.Identity(), checkpoint.Config{}, d.log)
		d.past.keeper = checkpoint.NewKeeper(checkpoint.KeeperConfig{
			Dir: besideMirror(d, "checkpoint"), Every: a.Checkpoints.Every.D(), Keep: *a.Checkpoints.Keep, Epoch: d.epoch(),
		}, parts.Checkpoints, d.mirror, d.journal, d.registry, d.log)
	}
	d.past.service = asof.New(d.asofConfig(), parts, d.log)
	_, err := d.past.service.Open(ctx)
	return err
}

func (d *deployment) asofConfig() asof.Config {
	waits := backoff.Config{Min: d.cfg.Projectors.BackoffFirst.D(), Max: d.cfg.Projectors.BackoffMax.D()}
	c := asof.Config{
		Dir: besideMirror(d, "asof"), CacheSize: int64(d.cfg.Mirror.Cache), Backoff: waits,
		Projector: func(sink string) projectors.Config {
			return d.withPolicy(projectors.Config{}, "", sink)
		},
	}
	if d.source != nil {
		c.Epoch = d.epoch()
	}
	return c
}

// besideMirror is a folder on the mirror's disk.
func besideMirror(d *deployment, what string) string {
	return filepath.Clean(d.cfg.Path(d.cfg.Mirror.Dir)) + "-" + what
}

// configured says whether a view of the configuration has a name.
func (d *deployment) configured(name string) bool {
	if len(d.runners.list()) > 0 {
		return len(d.runners.of(name)) > 0
	}
	return slices.ContainsFunc(d.views, func(v *views.View) bool { return v.Name() == name }) // they are not made yet
}

// frozenStores are the homes of a view as of a moment.
func (d *deployment) frozenStores(v *views.View) (map[string]projectors.Store, error) {
	stores := map[string]projectors.Store{}
	if v.Search() != nil {
		if d.search == nil {
			return nil, fmt.Errorf("view %s is in Elasticsearch, but the configuration has no elasticsearch section any more", v.Name())
		}
		stores["search"] = d.search.Store(v)
	}
	if v.Cache() != nil {
		if d.cache == nil {
			return nil, fmt.Errorf("view %s is in Redis, but the configuration has no redis section any more", v.Name())
		}
		stores["cache"] = d.cache.Store(v)
	}
	return stores, nil
}

// checkFrozen refuses views of the configuration with the name of one as of a moment.
func (d *deployment) checkFrozen(ctx context.Context) error {
	records, err := asof.Records(ctx, d.control)
	if err != nil {
		return err
	}
	var errs []error
	for _, r := range records {
		if d.configured(r.Name) {
			errs = append(errs, d.takenName(&r))
		}
	}
	if len(errs) > 0 {
		return badInput(errors.Join(errs...))
	}
	return nil
}

// takenName says that a view is declared that has the name of one as of a moment.
func (d *deployment) takenName(r *asof.Record) error {
	return fmt.Errorf("view %s is declared, but %s is the name of a view that was made of %s as of %s; rename the one that is declared, or remove the other: "+
		"lanternist rebuild --drop %s --config %s", r.Name, r.Name, r.View, r.At, r.Name, d.cfg.File)
}

// frozenViews are the views as of moments, as the API serves them.
func (n *daemon) frozenViews() ([]*httpapi.View, error) {
	var all []*httpapi.View
	for _, v := range n.past.service.All() {
		served, err := httpapi.NewFrozen(v)
		if err != nil {
			return nil, err
		}
		all = append(all, served)
	}
	return all, nil
}

// runPast makes mirror checkpoints, and removes what a crash left of views as of moments.
func (n *daemon) runPast(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return n.past.service.Run(ctx) })
	if n.past.keeper != nil {
		g.Go(func() error { return n.past.keeper.Run(ctx, n.loaded()) })
	}
	return g.Wait()
}

// loaded is a question: has every table been loaded that was captured at the start? Once it was so it stays so.
func (n *daemon) loaded() func() bool {
	left := n.catalog.all()
	return func() bool {
		for len(left) > 0 && n.mirror.Loaded(left[0].OID) {
			left = left[1:]
		}
		return len(left) == 0
	}
}

// sourceClock implements asof.Source.
type sourceClock struct {
	url       string
	keepalive func() // asks for one; nil before the daemon moves
}

// Now implements asof.Source.
func (c *sourceClock) Now(ctx context.Context) (now time.Time, end pglogrepl.LSN, err error) {
	conn, err := pgx.Connect(ctx, c.url)
	if err != nil {
		return now, 0, fmt.Errorf("connect to the source: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var text string
	if err := conn.QueryRow(ctx, "SELECT clock_timestamp(), pg_current_wal_flush_lsn()::text").Scan(&now, &text); err != nil {
		return now, 0, fmt.Errorf("ask the source for its time: %w", err)
	}
	end, err = pglogrepl.ParseLSN(text)
	return now, end, err
}

// RequestKeepalive implements asof.Source.
func (c *sourceClock) RequestKeepalive() {
	if c.keepalive != nil {
		c.keepalive()
	}
}
