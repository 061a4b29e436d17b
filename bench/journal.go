package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/lanternist/lanternist/cdc"
	"github.com/lanternist/lanternist/config"
	"github.com/lanternist/lanternist/control"
	"github.com/lanternist/lanternist/ingest"
	"github.com/lanternist/lanternist/journal"
	"github.com/lanternist/lanternist/journal/segments"
	"github.com/lanternist/lanternist/mirror"
	"github.com/lanternist/lanternist/row"
	"github.com/lanternist/lanternist/schemas"
)

func (r *round) journalTask() task {
	return task{Source: r.database.url, Slot: r.slot("journal"), Dir: filepath.Join(r.dir, "journal"), Mark: r.backlog.mark}
}

func prepareJournal(ctx context.Context, r *round) error {
	t := r.journalTask()
	if err := os.Mkdir(t.Dir, 0o700); err != nil {
		return err
	}
	_, err := r.worker(ctx, "journal-load", t)
	return err
}

func measureJournal(ctx context.Context, r *round) ([]sample, error) {
	report, err := r.worker(ctx, "journal-drain", r.journalTask())
	if err != nil {
		return nil, err
	}
	p := report.Phases[0]
	// The mark may be reached one change before the end.
	if p.Operations != r.backlog.changes && p.Operations != r.backlog.changes-1 {
		return nil, fmt.Errorf("%d changes are in the journal, the backlog has %d", p.Operations, r.backlog.changes)
	}
	return []sample{p.sample("journal", "journal and mirror, no sink")}, nil
}

// path is the part of the daemon between the source and the projectors, wired as the daemon wires it.
type path struct {
	tables  []*row.Schema
	journal *journal.Journal
	mirror  *mirror.Mirror
	reader  *cdc.Reader
	pump    *ingest.Pump
	loader  *ingest.Loader
	closers []func() error
}

// openPath opens a path with the configuration's defaults.
func openPath(ctx context.Context, t task) (p *path, err error) {
	var cfg config.Config
	cfg.SetDefaults()
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	p = &path{}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.close())
		}
	}()
	source := cdc.DefaultConfig()
	source.URL, source.Slot, source.Publication, source.Tables = t.Source, t.Slot, publication, []string{t.table()}
	source.BatchBytes = int(cfg.Source.BatchBytes)
	setup, err := cdc.Setup(ctx, source)
	if err != nil {
		return p, err
	}
	store, err := control.OpenPebble(filepath.Join(t.Dir, "control"), log)
	if err != nil {
		return p, err
	}
	p.closers = append(p.closers, store.Close)
	registry, err := schemas.Open(ctx, store)
	if err != nil {
		return p, err
	}
	if p.tables, err = catalog(ctx, t.Source, t.table()); err != nil {
		return p, err
	}
	for i, schema := range p.tables {
		if p.tables[i], err = registry.Register(ctx, schema); err != nil {
			return p, err
		}
	}
	engine, err := segments.Open(filepath.Join(t.Dir, "journal"), segments.Config{}, log)
	if err != nil {
		return p, err
	}
	retention := journal.Retention{Age: cfg.Journal.Retention.Age.D(), Size: int64(cfg.Journal.Retention.Size)}
	if p.journal, err = journal.Open(ctx, engine, registry, journal.Config{Retention: retention}, log); err != nil {
		return p, errors.Join(err, engine.Close())
	}
	p.closers = append(p.closers, p.journal.Close)
	p.mirror, err = mirror.Open(mirror.Config{Dir: filepath.Join(t.Dir, "mirror"), CacheSize: int64(cfg.Mirror.Cache)}, registry, log)
	if err != nil {
		return p, err
	}
	p.closers = append(p.closers, p.mirror.Close)
	if p.reader, err = cdc.NewReader(source, registry, log); err != nil {
		return p, err
	}
	maxBatch := min(8*source.BatchBytes, p.journal.MaxInline()*9/10)
	captures := func(s *row.Schema) bool { return s.QualifiedName() == t.table() }
	p.pump = ingest.NewPump(ingest.PumpConfig{Slot: setup.ConfirmedFlush, MaxBatch: maxBatch, Captures: captures},
		p.reader, p.journal, p.mirror, store, log)
	load := ingest.LoadConfig{Workers: cfg.Snapshot.Workers, Session: cfg.Snapshot.Session.D(), RangeRows: cfg.Snapshot.RangeRows}
	p.loader = ingest.NewLoader(load, source, registry, p.mirror, p.reader.RequestPosition, log)
	return p, nil
}

// catalog reads the definition of a table.
func catalog(ctx context.Context, url, table string) ([]*row.Schema, error) {
	conn, err := cdc.Connect(ctx, cdc.Config{URL: url})
	if err != nil {
		return nil, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	return cdc.LoadCatalog(ctx, conn, []string{table})
}

// close closes what is open, the last first.
func (p *path) close() error {
	var errs []error
	for i := len(p.closers) - 1; i >= 0; i-- {
		errs = append(errs, p.closers[i]())
	}
	return errors.Join(errs...)
}

// errDone stops a pump that has done what it was for.
var errDone = errors.New("done")

// during runs the pump until f returns.
func (p *path) during(ctx context.Context, f func(context.Context) error) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	pumped := make(chan error, 1)
	go func() {
		err := p.pump.Run(ctx)
		stop(err) // when it ends by itself, so must f
		pumped <- err
	}()
	err := f(ctx)
	stop(errDone)
	if pumpErr := <-pumped; !errors.Is(pumpErr, errDone) {
		err = errors.Join(err, pumpErr)
	}
	return err
}

// loadJournal makes the slot and loads the table into the mirror.
func loadJournal(ctx context.Context, t task) (r report, err error) {
	p, err := openPath(ctx, t)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, p.close()) }()
	return r, p.during(ctx, func(ctx context.Context) error { return p.loader.Load(ctx, p.tables...) })
}

// drainJournal follows the stream until everything before the mark is in the journal, durably, and in the mirror.
func drainJournal(ctx context.Context, t task) (r report, err error) {
	p, err := openPath(ctx, t)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, p.close()) }()
	watch, err := startWatch()
	if err != nil {
		return r, err
	}
	err = p.during(ctx, func(ctx context.Context) error {
		for {
			progress, moved := p.mirror.Progress()
			if progress.LSN >= t.Mark {
				phase, err := watch.stop("", 0)
				r.Phases = append(r.Phases, phase)
				return err
			}
			select {
			case <-moved:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
	})
	if err != nil {
		return r, err
	}
	r.Phases[0].Operations = int(p.pump.Events()) // the pump counts a batch after the mirror shows it
	return r, nil
}
