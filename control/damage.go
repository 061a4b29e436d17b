package control

import (
	"fmt"
	"io/fs"
	"strings"

	"github.com/cockroachdb/errors" // knows what Pebble marks as corruption
	"github.com/cockroachdb/pebble/v2"
)

// damaged makes an error ErrDamaged that says that files are not as they were written, or are gone.
func damaged(err error) error {
	if errors.Is(err, pebble.ErrCorruption) || errors.Is(err, fs.ErrNotExist) || strings.Contains(err.Error(), "object size mismatch") {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return err
}
