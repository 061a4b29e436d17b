//go:build linux || darwin

package disk

import (
	"math"
	"syscall"
)

// freeBytes is how much may still be written to the file system under dir; false when the system does not tell.
func freeBytes(dir string) (int64, bool) {
	var s syscall.Statfs_t
	if err := syscall.Statfs(dir, &s); err != nil || s.Bsize <= 0 {
		return 0, false
	}
	blocks, size := s.Bavail, uint64(s.Bsize) //nolint:gosec // above 0
	if blocks > math.MaxInt64/size {
		return math.MaxInt64, true
	}
	return int64(blocks * size), true //nolint:gosec // it fits
}
