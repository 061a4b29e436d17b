package devstack

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

const (
	// lockFile marks a folder of a stack, and only that: nothing without it is ever swept.
	lockFile = ".lanternist-stack"
	// baseLockFile serializes making, sweeping and finding stack folders.
	baseLockFile = ".lanternist-lock"
)

// stackDir is the folder of one stack. Its owner holds a lock on a file in it as long as it lives, so a
// folder whose lock is free belongs to nobody.
type stackDir struct {
	path string
	held *fileLock
}

// newDir makes a new folder for a stack in base ("" = the default) and removes what dead owners left there.
func newDir(base, pattern string) (*stackDir, error) {
	base, unlock, err := openBase(base)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := sweep(base); err != nil {
		return nil, err
	}
	path, err := os.MkdirTemp(base, pattern)
	if err != nil {
		return nil, fmt.Errorf("make stack folder: %w", err)
	}
	return holdDir(path)
}

// holdDir takes possession of a folder.
func holdDir(path string) (*stackDir, error) {
	if err := os.Chmod(path, 0o755); err != nil {
		return nil, fmt.Errorf("open stack folder to services: %w", err)
	}
	held, err := tryLock(filepath.Join(path, lockFile))
	if err != nil {
		return nil, err
	}
	if held == nil {
		return nil, fmt.Errorf("stack folder %s is in use", path)
	}
	return &stackDir{path: path, held: held}, nil
}

// remove deletes the folder. Files of a process that is just ending may appear while it runs.
func (d *stackDir) remove() error {
	defer d.held.unlock()
	return removeAll(d.path)
}

func removeAll(path string) error {
	deadline := time.Now().Add(5 * time.Second)
	for {
		err := os.RemoveAll(path)
		if err == nil || time.Now().After(deadline) {
			return err
		}
		time.Sleep(20 * time.Millisecond) //nolint:forbidigo // polls with a deadline: a dying server may still write
	}
}

// openBase makes and locks the folder that holds the folders of stacks.
func openBase(base string) (path string, unlock func(), err error) {
	if base == "" {
		if base, err = defaultBase(); err != nil {
			return "", nil, err
		}
	} else if base, err = filepath.Abs(base); err != nil {
		return "", nil, fmt.Errorf("stack folder: %w", err)
	}
	if err := os.MkdirAll(base, 0o755); err != nil {
		return "", nil, fmt.Errorf("make folder for stacks: %w", err)
	}
	l, err := lock(filepath.Join(base, baseLockFile))
	if err != nil {
		return "", nil, err
	}
	return base, func() { _ = l.unlock() }, nil
}

// defaultBase is a folder of ours under the system's temporary folder, or under /var/tmp when the services'
// user cannot reach that.
func defaultBase() (string, error) {
	return ownFolder(os.TempDir(), "lanternist-"+strconv.Itoa(os.Geteuid()))
}

// ownFolder returns parent/name, or /var/tmp/name where the services could not reach parent. The folder
// exists and nobody else can write to it.
func ownFolder(parent, name string) (string, error) {
	acc, err := serviceAccount()
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(parent, 0o755); err != nil || !acc.canReach(parent) {
		parent = "/var/tmp"
	}
	path := filepath.Join(parent, name)
	if err := os.Mkdir(path, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return "", fmt.Errorf("make folder: %w", err)
	}
	if err := checkOwned(path); err != nil {
		return "", err
	}
	return path, nil
}

// sweep removes the folders in base whose owners are gone. The caller holds the lock of base.
func sweep(base string) error {
	entries, err := os.ReadDir(base)
	if err != nil {
		return fmt.Errorf("list stack folders: %w", err)
	}
	for _, entry := range entries {
		path := filepath.Join(base, entry.Name())
		if _, err := os.Lstat(filepath.Join(path, lockFile)); err != nil {
			continue // not a folder of a stack
		}
		held, err := tryLock(filepath.Join(path, lockFile))
		if err != nil || held == nil {
			continue // in use
		}
		// What cannot be removed now is tried again at the next start.
		_ = os.RemoveAll(path)
		_ = held.unlock()
	}
	return nil
}
