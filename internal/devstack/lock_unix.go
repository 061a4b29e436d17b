//go:build unix

package devstack

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// fileLock is an exclusive lock that the kernel releases when its holder ends, however it ends.
type fileLock struct{ file *os.File }

// lock waits for the lock on path, a file that it makes.
func lock(path string) (*fileLock, error) {
	l, err := lockWith(path, syscall.LOCK_EX)
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return l, nil
}

// tryLock takes the lock on path, or returns nil when another holds it.
func tryLock(path string) (*fileLock, error) {
	l, err := lockWith(path, syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return l, nil
}

func lockWith(path string, how int) (*fileLock, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		err = syscall.Flock(int(file.Fd()), how)
		if !errors.Is(err, syscall.EINTR) {
			break
		}
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return &fileLock{file: file}, nil
}

// unlock releases the lock.
func (l *fileLock) unlock() error { return l.file.Close() }
