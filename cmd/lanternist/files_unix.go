//go:build unix

package main

import "syscall"

// openFiles is how many files the process may have open; 0 when there is no bound, or the system does not tell.
func openFiles() int {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil || limit.Cur > 1<<20 {
		return 0
	}
	return int(limit.Cur)
}
