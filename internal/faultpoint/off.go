//go:build !faultpoint

package faultpoint

// Enabled says that the process can be ended.
const Enabled = false

// Hit ends the process if this is the place. The elements of its name are joined by slashes.
func Hit(...string) {}

// Error is the error that an operation has to fail with, nil for none.
func Error(...string) error { return nil }
