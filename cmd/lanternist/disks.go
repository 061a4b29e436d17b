package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/lanternist/lanternist/config"
	"github.com/lanternist/lanternist/internal/disk"
)

// disks are the disks under the daemon's stores. With a journal on NATS servers there is only the mirror's.
type disks struct{ journal, mirror, control *disk.Disk }

func newDisks(c *config.Config, log *slog.Logger) disks {
	d := disks{mirror: disk.New("mirror", log)}
	if c.Journal.URL.Reveal() == "" {
		d.journal, d.control = disk.New("journal", log), disk.New("control", log)
	}
	return d
}

func (d *disks) all() []*disk.Disk { return []*disk.Disk{d.journal, d.mirror, d.control} }

// waiting are the stores that wait for room, or for a file descriptor.
func (d *disks) waiting() (all []disk.Waiting) {
	for _, one := range d.all() {
		if w, ok := one.Waiting(); ok {
			all = append(all, w)
		}
	}
	return all
}

// err is what failed on a disk and does not pass.
func (d *disks) err() error {
	for _, one := range d.all() {
		if err := one.Err(); err != nil {
			return err
		}
	}
	return nil
}

// errDisk is wrapped by the error that ends the daemon because of a disk.
var errDisk = errors.New("a disk failed; nothing was acknowledged that is not on it")

// lost says what failed on a disk and does not pass, and why the process has to end: after a failed sync the system may take what
// was not written for written, so it is read anew by the next process.
func (d *disks) lost() error {
	if err := d.err(); err != nil {
		return fmt.Errorf("%w: %w; look at the disk (dmesg), then start again: what is on it is checked, and the source sends the rest again", errDisk, err)
	}
	return nil
}

// errWaits is wrapped by the error of a daemon that was stopped while a store waited for its disk.
var errWaits = errors.New("the stores were not closed")

// stuck says which store waits for its disk, or what failed on one, when that keeps the stores from being opened or closed. They are
// then left as a crash would leave them, which is what they are made for.
func (d *disks) stuck() error {
	if err := d.lost(); err != nil {
		return err
	}
	waiting := d.waiting()
	if len(waiting) == 0 {
		return nil
	}
	w := waiting[0]
	return fmt.Errorf("%w: %s waits for %s since %s: %s; nothing is lost, the next start goes on from what is on the disk",
		errWaits, w.Store, w.Path, w.Since.Format(time.RFC3339), w.Error)
}

// stuckEvery is how often it is looked whether a disk stands in the way.
const stuckEvery = 100 * time.Millisecond

// openUnlessStuck is openDeployment, which a disk may hold up for any time. When a disk fails then, or somebody stops the daemon
// while one is full, the stores are left as they are.
func openUnlessStuck(ctx context.Context, cfg *config.Config, log *slog.Logger) (d *deployment, err error) {
	disks := newDisks(cfg, log)
	done := make(chan struct{})
	go func() {
		defer close(done)
		d, err = openDeploymentOn(ctx, cfg, log, disks, false)
	}()
	tick := time.NewTicker(stuckEvery)
	defer tick.Stop()
	for {
		select {
		case <-done:
			return d, err
		case <-tick.C:
		}
		if lost := disks.lost(); lost != nil {
			return nil, lost
		}
		if ctx.Err() == nil {
			continue
		}
		if stuck := disks.stuck(); stuck != nil {
			return nil, stuck
		}
	}
}

// closeUnlessStuck closes the stores, unless a disk stands in the way.
func (n *daemon) closeUnlessStuck() error {
	if n.disks.err() != nil {
		return nil // it has been said
	}
	closed := make(chan error, 1)
	go func() { closed <- n.close() }()
	tick := time.NewTicker(stuckEvery)
	defer tick.Stop()
	for {
		select {
		case err := <-closed:
			return err
		case <-tick.C:
		}
		if err := n.disks.stuck(); err != nil {
			return err
		}
	}
}
