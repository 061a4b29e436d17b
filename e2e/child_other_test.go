//go:build !linux

package e2e

import "syscall"

// child is of use on Linux only.
func child() *syscall.SysProcAttr { return nil }
