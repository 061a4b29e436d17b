package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/lanternist/lanternist/cdc"
	"github.com/lanternist/lanternist/config"
	"github.com/lanternist/lanternist/control"
	"github.com/lanternist/lanternist/deadletter"
	"github.com/lanternist/lanternist/event"
	"github.com/lanternist/lanternist/identity"
	"github.com/lanternist/lanternist/ingest"
	"github.com/lanternist/lanternist/journal"
	"github.com/lanternist/lanternist/mirror"
	"github.com/lanternist/lanternist/projectors"
	"github.com/lanternist/lanternist/projectors/cache"
	"github.com/lanternist/lanternist/projectors/search"
	"github.com/lanternist/lanternist/schemas"
	"github.com/lanternist/lanternist/views"
)

// deployment is everything that one configuration names, open: what the daemon runs and what commands look into.
type deployment struct {
	cfg *config.Config
	log *slog.Logger

	source  *cdc.Source
	catalog catalog // of the captured tables, registered
	// evolution is which definitions of its tables each view goes by.
	evolution evolution
	views     []*views.View // as of the start
	// earlier is what was deployed before the start and is not configured any more.
	earlier leftovers

	identity   *identity.Record
	identityMu sync.Mutex // held while the record is changed or written
	findings   identity.Findings
	accept     bool        // a gap is accepted
	gap        *pendingGap // that was accepted; nil when there is none

	control   control.Store
	engine    journal.Log // nil once the journal has it
	registry  *schemas.Registry
	journal   *journal.Journal
	archiving archiveParts
	mirror    *mirror.Mirror
	letters   *deadletter.Store

	search  *search.Client // nil when the configuration has none
	cache   *cache.Client  // nil when the configuration has none
	runners fleet
	// serving is told when readers of a view see documents of another definition; nil when there is no API.
	serving func(view string)
	indexes indexes
	stored  []*views.View // definitions that generations are of, other than the configured ones

	disks  disks
	shared *sharedSinks
	past   past

	closers []func() error // in order of opening
}

// openDeployment opens the parts in the order of the path. On error nothing stays open.
func openDeployment(ctx context.Context, cfg *config.Config, log *slog.Logger) (*deployment, error) {
	return openDeploymentWith(ctx, cfg, log, false)
}

// openDeploymentWith is openDeployment that may accept that changes are missing in the journal.
func openDeploymentWith(ctx context.Context, cfg *config.Config, log *slog.Logger, acceptGap bool) (*deployment, error) {
	return openDeploymentOn(ctx, cfg, log, newDisks(cfg, log), acceptGap)
}

// openDeploymentOn is openDeploymentWith on disks that somebody watches meanwhile.
func openDeploymentOn(ctx context.Context, cfg *config.Config, log *slog.Logger, on disks, acceptGap bool) (d *deployment, err error) {
	d = &deployment{cfg: cfg, log: log, accept: acceptGap, disks: on, shared: newSharedSinks(cfg)}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.close())
			d = nil
		}
	}()
	defs, err := parseViews(cfg)
	if err != nil {
		return d, badInput(err)
	}
	if err := d.openControl(ctx); err != nil {
		return d, err
	}
	if err := d.openStores(ctx); err != nil {
		return d, err
	}
	if err := d.resolveTables(ctx); err != nil {
		return d, err
	}
	if err := d.openSource(ctx); err != nil {
		return d, err
	}
	if err := d.loadCatalog(ctx); err != nil {
		return d, err
	}
	if d.views, err = d.compileAccepted(ctx, defs); err != nil {
		return d, badInput(err)
	}
	if err := checkOverrides(cfg, d.views); err != nil {
		return d, badInput(err)
	}
	if err := d.checkFrozen(ctx); err != nil {
		return d, err
	}
	if err := d.openSinks(); err != nil {
		return d, badInput(err)
	}
	if err := d.openJournal(ctx); err != nil {
		return d, err
	}
	if err := d.openMirror(ctx); err != nil {
		return d, err
	}
	if err := d.openPast(ctx); err != nil {
		return d, err
	}
	if err := d.makeRunners(ctx); err != nil {
		return d, err
	}
	return d, d.settleIdentity(ctx)
}

// close closes what is open, the last first.
func (d *deployment) close() error {
	var errs []error
	for i := len(d.closers) - 1; i >= 0; i-- {
		errs = append(errs, d.closers[i]())
	}
	d.closers = nil
	return errors.Join(errs...)
}

// onClose has f called by close.
func (d *deployment) onClose(f func() error) { d.closers = append(d.closers, f) }

func (d *deployment) openControl(ctx context.Context) (err error) {
	if d.control, err = openControlOn(ctx, d.disks.control, d.cfg, d.log); err != nil {
		return err
	}
	d.onClose(d.control.Close)
	if d.registry, err = schemas.Open(ctx, d.control); err != nil {
		return err
	}
	d.letters, err = deadletter.Open(ctx, d.control)
	return err
}

// epoch names the source's history: a token or a generation of another one means nothing here.
func (d *deployment) epoch() string {
	return d.source.SystemID + "-" + strconv.Itoa(int(d.source.Timeline))
}

// loadCatalog reads the captured tables' definitions and registers them: those of the configuration, and those that were captured
// before, of which documents may still be made.
func (d *deployment) loadCatalog(ctx context.Context) (err error) {
	if err := d.readLeftovers(ctx); err != nil {
		return err
	}
	tables, err := ingest.LoadCatalog(ctx, d.sourceConfig(), d.registry, d.sourceConfig().Tables)
	if err != nil {
		return err
	}
	d.catalog.set(tables)
	return nil
}

// sourceConfig is how the source is read, with the tables that were captured at the start.
func (d *deployment) sourceConfig() cdc.Config {
	source := sourceConfig(d.cfg)
	source.Tables = append(slices.Clone(source.Tables), cdc.TableNames(d.earlier.tables)...)
	return source
}

// closeSearch bounds the closing of what the cluster holds open for readers.
const closeSearch = 3 * time.Second

func (d *deployment) openSinks() (err error) {
	if d.search, err = searchClient(d.cfg, d.shared.search.circuit); err != nil {
		return err
	}
	if d.search != nil {
		d.onClose(func() error {
			ctx, cancel := context.WithTimeout(context.Background(), closeSearch)
			defer cancel()
			return d.search.Close(ctx)
		})
	}
	if d.cache, err = cacheClient(d.cfg, d.shared.cache.circuit, d.log); err != nil {
		return err
	}
	if d.cache != nil {
		d.onClose(d.cache.Close)
	}
	return nil
}

func (d *deployment) openJournal(ctx context.Context) (err error) {
	first, _, err := d.engine.Bounds(ctx)
	if err != nil {
		return fmt.Errorf("open journal: %w", err)
	}
	minimum := uint64(0)
	if first == 0 {
		minimum = d.minSequence(ctx)
		if d.gap != nil {
			minimum = max(minimum, d.gap.Before)
		}
	}
	retention := journal.Retention{Age: d.cfg.Journal.Retention.Age.D(), Size: int64(d.cfg.Journal.Retention.Size)}
	d.journal, err = journal.Open(ctx, d.engine, d.registry, journal.Config{Retention: retention, MinSequence: minimum}, d.log)
	if err != nil {
		return fmt.Errorf("open journal: %w", err)
	}
	d.engine = nil
	d.onClose(d.journal.Close)
	if d.archiving, err = openArchive(ctx, d.cfg, d.journal, d.registry, d.log); err != nil {
		return err
	}
	if d.archiving.store != nil {
		d.onClose(d.archiving.store.Close)
	}
	return nil
}

// minSequence is what a new journal begins with: above every offset that a reader of the sinks may have seen, so that
// versions only grow for clients, too.
func (d *deployment) minSequence(ctx context.Context) uint64 {
	var highest event.Offset
	for _, v := range d.views {
		for _, store := range d.stores(v) {
			generations, err := store.Generations(ctx)
			if err != nil {
				// A sink that is away must not keep the journal from opening. Nothing can be mixed up: its
				// generations are of another journal and will be built anew.
				d.log.Warn("sink did not say what it has seen", "view", v.Name(), "error", err)
				continue
			}
			for _, info := range generations {
				g, err := store.Open(ctx, info.Number)
				if err != nil {
					d.log.Warn("generation not opened", "view", v.Name(), "generation", info.Number, "error", err)
					continue
				}
				if cp, ok, err := g.Checkpoint(ctx); err == nil && ok {
					highest = max(highest, cp.Offset)
				}
			}
		}
	}
	return highest.Sequence() + 1
}

// stores are the view's homes.
func (d *deployment) stores(v *views.View) []projectors.Store {
	var stores []projectors.Store
	if v.Search() != nil {
		stores = append(stores, d.search.Store(v))
	}
	if v.Cache() != nil {
		stores = append(stores, d.cache.Store(v))
	}
	return stores
}

// mirrorReader is the mirror's name among the journal's readers.
const mirrorReader = "mirror"

// openMirror opens the mirror, sees to it that it belongs to the journal, and gives it the views' indexes.
func (d *deployment) openMirror(ctx context.Context) (err error) {
	if err := d.finishGap(ctx); err != nil {
		return err
	}
	dir := d.cfg.Path(d.cfg.Mirror.Dir)
	d.journal.Retain(mirrorReader, d.mirror.DurableOffset())
	switch id, err := d.mirror.JournalID(); {
	case err != nil:
		return fmt.Errorf("open mirror: %w", err)
	case id == "":
		if err := d.mirror.SetJournalID(d.journal.Identity()); err != nil {
			return fmt.Errorf("open mirror: %w", err)
		}
	case id != d.journal.Identity():
		return fmt.Errorf("mirror %s belongs to journal %s, not to %s; restore the journal, or remove the mirror's folder to load it again: rm -r %s",
			dir, id, d.journal.Identity(), dir)
	}
	if err := ingest.CatchUp(ctx, d.journal, d.mirror); err != nil {
		return err
	}
	d.indexes.add(d.views...)
	d.stored = d.storedViews(ctx)
	d.indexes.add(d.stored...)
	return d.indexes.ensure(ctx, d.mirror)
}

// makeRunners makes a projector for each view in each of its sinks, as the record of what is deployed then says.
func (d *deployment) makeRunners(ctx context.Context) error {
	for _, v := range d.views {
		for _, def := range d.definitions(v) {
			r, err := d.makeRunner(def)
			if err != nil {
				return err
			}
			d.judgeOne(r)
			d.runners.add(r)
			d.earlier.remove(r.Name())
			if len(r.Paused()) > 0 {
				continue
			}
			if err := d.acceptDefinitions(ctx, v); err != nil {
				return err
			}
		}
	}
	return d.record(ctx)
}

// definitions are a view in each of its sinks.
func (d *deployment) definitions(v *views.View) (all []projectors.Definition) {
	for _, store := range d.stores(v) {
		all = append(all, projectors.Definition{View: v, Store: store})
	}
	return all
}

func (d *deployment) makeRunner(def projectors.Definition) (r *runner, err error) {
	sink, name := sinkOf(def.Store), def.View.Name()
	r = &runner{sink: sink, wanted: def.View}
	cfg := projectors.Config{
		Name: name + "." + sink, Sink: sink, Epoch: d.epoch(),
		Epochs: d.identity.Epochs, Gap: d.identity.Gap, Deployments: d.identity.Deployments,
		KeepGenerations: orNone(d.cfg.Projectors.KeepGenerations), VerifySample: orNone(d.cfg.Projectors.VerifySample),
		Compile: d.compileFor(def.Store), RebuildOnRequest: !*d.cfg.Views.AutoRebuild,
		Serving: func(projectors.Definition) {
			if d.serving != nil {
				d.serving(name)
			}
		},
	}
	cfg = d.withPolicy(cfg, cfg.Name, sink)
	if r.Runner, err = projectors.NewRunner(cfg, def.View, def.Store, d.mirror, d.journal, d.letters, d.log); err != nil {
		return nil, err
	}
	d.acquaint(def)
	// Until the projector says what it needs, the journal keeps everything for it.
	d.journal.Retain(cfg.Name, 0)
	return r, nil
}

// stateExists says whether the configuration's folders hold state already.
func stateExists(cfg *config.Config) bool {
	_, err := os.Stat(cfg.Path(cfg.Control.Dir))
	return err == nil
}
