package disk

import (
	"context"
	"fmt"
	"io/fs"
	"syscall"
	"time"
)

// Room waits until the file system under dir has so many bytes free, or ctx ends. Who asks before it begins a piece of work, and
// waits while it holds nothing, leaves others a way to make room meanwhile. A system that does not tell has room.
func (d *Disk) Room(ctx context.Context, dir string, bytes int64) error {
	if d == nil {
		return nil
	}
	err := lacks(dir, bytes)
	if err == nil {
		return nil
	}
	w := d.begin(dir, err)
	defer d.end(w)
	for delay := retryDelayMin; ; delay = min(2*delay, retryDelayMax) {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(delay):
		}
		if lacks(dir, bytes) == nil {
			return nil
		}
	}
}

// lacks is an error when there is not so much room.
func lacks(dir string, bytes int64) error {
	free, ok := freeBytes(dir)
	if !ok || free >= bytes {
		return nil
	}
	return &fs.PathError{Op: "write to", Path: dir, Err: fmt.Errorf("%d MiB are free, %d MiB are to be: %w", free>>20, bytes>>20, syscall.ENOSPC)}
}
