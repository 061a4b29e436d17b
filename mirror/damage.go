package mirror

import (
	"context"
	"fmt"
	"io/fs"
	"strings"
	"sync"

	"github.com/cockroachdb/errors" // knows what Pebble marks as corruption
	"github.com/cockroachdb/pebble/v2"
)

// damage is the first damage that was met in a file, by a reader or by what Pebble does by itself.
type damage struct {
	once  sync.Once
	found chan struct{} // closed when there is one
	err   error
}

func newDamage() *damage { return &damage{found: make(chan struct{})} }

// note notes damage. It does not block: Pebble calls it while it reads.
func (d *damage) note(info pebble.DataCorruptionInfo) {
	d.once.Do(func() {
		d.err = fmt.Errorf("%w: %s: %v", ErrDamaged, info.Path, info.Details) //nolint:errorlint // its text, without Pebble's stack
		close(d.found)
	})
}

// Watch returns when ctx ends, with its cause, or with an error that is ErrDamaged when damage is met: what reads it gets an
// error, and nobody must wait for that to pass.
func (m *Mirror) Watch(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-m.damage.found:
		return m.damage.err
	}
}

// damagedAtOpen makes an error of opening ErrDamaged when it says that files are not as they were written, or are gone.
func damagedAtOpen(err error) error {
	if errors.Is(err, pebble.ErrCorruption) || errors.Is(err, fs.ErrNotExist) || strings.Contains(err.Error(), "object size mismatch") {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return err
}
