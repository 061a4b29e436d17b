//go:build unix

package segments

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/lanternist/lanternist/journal"
)

// lock is the folder's lock: an exclusive lock on its LOCK file, which the system lets go of when the process
// ends, however it ends. It also keeps this process from opening the folder twice.
type lock struct{ file *os.File }

// lockDir takes the lock, or returns journal.ErrLocked and says who has it.
func lockDir(dir string) (*lock, error) {
	file, err := os.OpenFile(filepath.Join(dir, "LOCK"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		holder := "another process"
		if pid, readErr := io.ReadAll(io.LimitReader(file, 20)); readErr == nil && len(pid) > 0 {
			holder = "process " + strings.TrimSpace(string(pid))
		}
		return nil, errors.Join(fmt.Errorf("%w: it is open in %s", journal.ErrLocked, holder), file.Close())
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", file.Name(), err), file.Close())
	}
	// The pid is only for the message above.
	if err := file.Truncate(0); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	if _, err := file.WriteAt(fmt.Appendf(nil, "%d\n", os.Getpid()), 0); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return &lock{file}, nil
}

// release gives up the lock. The file stays: removing it would race with the next holder.
func (l *lock) release() error { return l.file.Close() }
