//go:build !linux

package main

import "syscall"

// usageOf tells nothing: only Linux says what a running process has used.
func usageOf(int) (usage, error) { return usage{}, nil }

// ownedChild is of use on Linux only.
func ownedChild() *syscall.SysProcAttr { return nil }
