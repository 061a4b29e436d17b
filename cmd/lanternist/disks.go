package main

import (
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

// closeUnlessStuck closes the stores, unless a disk stands in the way: they are then left as a crash would leave them, which is
// what they are made for.
func (n *daemon) closeUnlessStuck() error {
	if n.disks.err() != nil {
		return nil // it has been said
	}
	closed := make(chan error, 1)
	go func() { closed <- n.close() }()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case err := <-closed:
			return err
		case <-tick.C:
		}
		if waiting := n.disks.waiting(); len(waiting) > 0 {
			w := waiting[0]
			return fmt.Errorf("the stores were not closed: %s waits for %s since %s: %s; nothing is lost, the next start goes on from what is on the disk",
				w.Store, w.Path, w.Since.Format(time.RFC3339), w.Error)
		}
		if err := n.disks.lost(); err != nil {
			return err
		}
	}
}
