//go:build !unix

package segments

import "errors"

// lock has no implementation here: without one a second writer could not be refused.
type lock struct{}

func lockDir(string) (*lock, error) {
	return nil, errors.New("journal folders cannot be locked on this operating system: use a nats:// journal")
}

func (*lock) release() error { return nil }
