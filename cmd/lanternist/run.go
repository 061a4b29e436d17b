package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/lanternist/lanternist/cdc"
	"github.com/lanternist/lanternist/config"
	"github.com/lanternist/lanternist/deadletter/alert"
	"github.com/lanternist/lanternist/httpapi"
	"github.com/lanternist/lanternist/ingest"
	"github.com/lanternist/lanternist/projectors"
	"github.com/lanternist/lanternist/row"
)

// How long each stage may take to stop, in the order in which they stop.
const (
	stopIngest     = 15 * time.Second // to end what is being received, journaled, loaded and archived
	stopDrain      = 5 * time.Second  // to apply what has been journaled
	stopProjectors = 15 * time.Second // to end what is being written, and to save checkpoints
	stopHTTP       = 10 * time.Second
	stopFull       = time.Second // for ingest while a disk is full: it stands still, and is safe where it stands
)

// errStuck is what a stage ends with that did not stop in time. What it uses must not be closed then: everything durable is so
// without being closed.
var errStuck = errors.New("did not stop in time")

// maintenanceEvery is how often the journal is trimmed and told what the mirror still needs.
const maintenanceEvery = 15 * time.Second

type runCmd struct {
	configFlag
}

// Run is the daemon: it ends at the first signal, or with an error that a person must look at.
func (c *runCmd) Run(a *app) error {
	cfg, err := c.load()
	if err != nil {
		return err
	}
	boundMemory(cfg)
	log := a.logger(cfg.Log)
	for {
		err := c.once(a, cfg, log)
		if !errors.Is(err, cdc.ErrPromoted) || a.ctx.Err() != nil {
			return err
		}
		// Everything that knows the epoch is made anew. It takes a moment, in which readers are refused.
		log.Warn("source promoted, starting again with its new timeline", "why", err)
	}
}

// once runs the daemon until a person stops it, or something does that a person must look at.
func (c *runCmd) once(a *app, cfg *config.Config, log *slog.Logger) error {
	d, err := openUnlessStuck(a.ctx, cfg, log)
	if err != nil {
		if a.ctx.Err() != nil && !errors.Is(err, errWaits) && !errors.Is(err, errDisk) {
			return nil // a person stopped it while it was starting
		}
		return explainDamage(cfg, err)
	}
	daemon, err := newDaemon(d)
	if err != nil {
		return errors.Join(err, d.close())
	}
	defer daemon.listenForHangUp(a.ctx)()
	bar := a.logProgress(log, "load tables", "rows")
	err = daemon.run(a.ctx, bar)
	if errors.Is(err, errStuck) {
		return errors.Join(err, daemon.disks.stuck())
	}
	return errors.Join(explainDamage(cfg, err), daemon.closeUnlessStuck())
}

// daemon is a deployment that moves.
type daemon struct {
	*deployment
	reader *cdc.Reader
	pump   *ingest.Pump
	loader *ingest.Loader
	tables *ingest.Tables
	api    *httpapi.Server
	alert  *alert.Alert // nil when nobody is told of dead letters
	slots  slotWatch

	background sync.WaitGroup // what goes on by itself, until the ingest stage ends

	swapping sync.Mutex // held while the API is told by which definition a view is read
	changing sync.Mutex // held while the deployment is changed
	names    []string   // of the tables that are configured; guarded by changing
}

// newDaemon makes the moving parts. Nothing runs yet.
func newDaemon(d *deployment) (*daemon, error) {
	source := d.sourceConfig()
	reader, err := cdc.NewReader(source, d.registry, d.log)
	if err != nil {
		return nil, err
	}
	n := &daemon{deployment: d, reader: reader, names: d.cfg.Source.Tables}
	reader.Expect(*d.source)
	n.pump = ingest.NewPump(ingest.PumpConfig{Slot: d.source.ConfirmedFlush, MaxBatch: n.maxBatch()},
		reader, d.journal, d.mirror, d.control, d.log)
	n.loader = ingest.NewLoader(ingest.LoadConfig{
		Workers: d.cfg.Snapshot.Workers, Rate: d.cfg.Snapshot.Rate, Session: d.cfg.Snapshot.Session.D(), RangeRows: d.cfg.Snapshot.RangeRows,
	}, source, d.registry, d.mirror, reader.RequestPosition, d.log)
	n.tables = ingest.NewTables(source, d.registry, n.pump, n.loader, d.mirror, d.catalog.all(), d.log)
	d.past.source.keepalive = reader.RequestKeepalive
	if n.alert, err = newAlert(d); err != nil {
		return nil, err
	}
	if n.api, err = newAPI(n); err != nil {
		return nil, err
	}
	return n, nil
}

// maxBatch bounds a journal batch: what one receive yields with before-images, and never more than the engine stores in one piece.
func (n *daemon) maxBatch() int {
	return min(8*int(n.cfg.Source.BatchBytes), n.journal.MaxInline()*9/10)
}

// run moves everything until ctx ends or a part cannot go on, then stops in the order of the path: receiving,
// journal and mirror first, then the projectors with what has been journaled and their checkpoints, then the API. Requests that wait are
// answered at once. A stage that does not stop in time is left behind, and said.
func (n *daemon) run(ctx context.Context, bar *progress) error {
	failed := make(chan error, 3)
	api := start(failed, n.api.Run)
	projecting := start(failed, n.runners.run)
	ingesting := start(failed, func(ctx context.Context) error { return n.runIngest(ctx, bar) })

	var cause error
	select {
	case <-ctx.Done():
		n.log.Info("stopping", "why", context.Cause(ctx).Error())
	case cause = <-failed:
		if lost := n.disks.lost(); lost != nil {
			cause = lost
		}
		n.log.Error("stopping", "error", cause)
	case <-n.disks.journal.Lost():
	case <-n.disks.mirror.Lost():
	case <-n.disks.control.Lost():
	}
	if err := n.disks.lost(); err != nil {
		return err // nothing can be drained; a goroutine may stand in the disk's way for ever
	}
	patience := stopIngest
	if len(n.disks.waiting()) > 0 {
		patience = stopFull
	}
	err := errors.Join(cause, n.stopped("receiving", ingesting, patience))
	if len(n.disks.waiting()) == 0 { // a write would wait with them
		n.noteStop()
	}
	n.drain()
	n.api.Drain()
	err = errors.Join(err, n.stopped("projectors", projecting, stopProjectors), n.stopped("api", api, stopHTTP))
	if err == nil {
		n.log.Info("stopped")
	}
	return err
}

// noteStop brings the record up to date, so that the next start can tell more.
func (n *daemon) noteStop() {
	ctx, cancel := context.WithTimeout(context.Background(), countTimeout)
	defer cancel()
	if err := n.countDecoded(ctx); err != nil {
		n.log.Debug("slot not counted", "error", err)
	}
	if err := n.saveIdentity(ctx); err != nil {
		n.log.Warn("identity not written", "error", err)
	}
}

// stopped stops a stage.
func (n *daemon) stopped(name string, s *stage, limit time.Duration) error {
	began := time.Now()
	err := s.stop(name, limit)
	if took := time.Since(began).Round(time.Millisecond); errors.Is(err, errStuck) {
		n.log.Error(name+" not stopped", "after", took)
	} else {
		n.log.Info(name+" stopped", "took", took)
	}
	return err
}

// errStop is the cause of a context that a stage is stopped by.
var errStop = errors.New("stage stopped")

// stage is a part of the daemon that runs in a goroutine of its own.
type stage struct {
	cancel context.CancelCauseFunc
	done   chan error
}

// start runs a stage. Its error is sent to failed when it ends before it is stopped.
func start(failed chan<- error, run func(context.Context) error) *stage {
	ctx, cancel := context.WithCancelCause(context.Background())
	s := &stage{cancel: cancel, done: make(chan error, 1)}
	go func() {
		err := run(ctx)
		if ctx.Err() == nil {
			if err == nil {
				err = errors.New("a stage ended by itself")
			}
			failed <- err
			err = nil
		}
		if errors.Is(err, errStop) || errors.Is(err, context.Canceled) {
			err = nil
		}
		s.done <- err
	}()
	return s
}

// stop stops the stage and waits for its end.
func (s *stage) stop(name string, limit time.Duration) error {
	s.cancel(errStop)
	select {
	case err := <-s.done:
		return err
	case <-time.After(limit):
		return fmt.Errorf("%s %w (%v)", name, errStuck, limit)
	}
}

// runIngest follows the source, loads what is missing, and looks after journal and mirror.
func (n *daemon) runIngest(ctx context.Context, bar *progress) error {
	if err := n.tables.Open(ctx); err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return n.pump.Run(ctx) })
	g.Go(func() error {
		stop := n.showLoad(bar)
		defer stop()
		return n.loader.Run(ctx)
	})
	n.evolution.mu.Lock()
	n.evolution.running = ctx
	n.evolution.mu.Unlock()
	n.registry.OnNew(func(s *row.Schema) {
		n.metDefinition(s)
		n.tables.Look()
	})
	defer n.background.Wait()
	g.Go(func() error {
		if err := n.tables.Start(ctx); err != nil {
			return err
		}
		return n.tables.Watch(ctx, ingest.WatchConfig{Every: n.cfg.Source.SchemaCheck.D(), Changed: n.changed})
	})
	g.Go(func() error { return n.maintain(ctx) })
	g.Go(func() error { return n.slots.run(ctx, n.sourceConfig(), n.warnOfHolder) })
	g.Go(func() error { return n.mirror.Watch(ctx) })
	g.Go(func() error { return n.runArchive(ctx) })
	g.Go(func() error { return n.runPast(ctx) })
	g.Go(func() error { return n.tidy(ctx) })
	g.Go(func() error { return n.runAlert(ctx) })
	return n.explain(g.Wait())
}

// showLoad draws the load's progress until the returned function is called.
func (n *daemon) showLoad(bar *progress) (stop func()) {
	done, drawn := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(drawn)
		tick := time.NewTicker(200 * time.Millisecond)
		defer tick.Stop()
		loading := false
		for {
			select {
			case <-tick.C:
				switch p := n.loader.Progress(); {
				case p.Loading:
					bar.set(p.Rows, p.Total)
					loading = true
				case loading:
					bar.finish()
					loading = false
				}
			case <-done:
				bar.finish()
				return
			}
		}
	}()
	return func() {
		close(done)
		<-drawn
	}
}

// maintain makes the mirror durable now and then, so that the journal need not keep what it has, and trims the journal
// of a quiet source.
func (n *daemon) maintain(ctx context.Context) error {
	tick := time.NewTicker(maintenanceEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
		durable, err := n.mirror.Sync()
		if err != nil {
			return fmt.Errorf("make mirror durable: %w", err)
		}
		n.journal.Retain(mirrorReader, durable)
		if err := n.journal.Trim(ctx); err != nil && ctx.Err() == nil {
			return fmt.Errorf("trim journal: %w", err)
		}
		if err := n.saveIdentity(ctx); err != nil && ctx.Err() == nil {
			return err
		}
	}
}

// warnOfHolder says that a transaction on the source has its log grow.
func (n *daemon) warnOfHolder(h *cdc.SlotHolder, retained uint64) {
	n.log.Warn("an open transaction holds the source's log", "bytes", retained, "by", h.String())
}

// drain gives the projectors a moment to apply what has been journaled, so that the next start has little to do.
func (n *daemon) drain() {
	ctx, cancel := context.WithTimeout(context.Background(), stopDrain)
	defer cancel()
	head, _ := n.mirror.Progress()
	for _, r := range n.runners.list() {
		if n.shared.of(r.sink).circuit.Status().State != projectors.CircuitClosed {
			n.log.Warn("projector is behind while stopping: its sink does not take writes", "projector", r.Name())
			continue
		}
		if s := r.Status(); s.State == projectors.StateRunning {
			if _, err := r.Wait(ctx, head.LSN); err != nil {
				n.log.Warn("projector is behind while stopping", "projector", r.Name(), "until", head.LSN.String())
			}
		}
	}
}
