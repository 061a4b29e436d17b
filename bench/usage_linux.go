package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// ticksPerSecond is USER_HZ, which is 100 on every Linux that user programs see.
const ticksPerSecond = 100

// usageOf is what a running process has used. It is read from /proc rather than taken from wait4: a child's peak as
// wait4 tells it begins with what its parent had in memory.
func usageOf(pid int) (u usage, err error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return u, fmt.Errorf("read CPU time: %w", err)
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return u, fmt.Errorf("read peak memory: %w", err)
	}
	if u.CPUSeconds, err = parseStat(string(stat)); err != nil {
		return u, err
	}
	u.PeakBytes, err = parseStatus(string(status))
	return u, err
}

// parseStat is user and system time of a /proc/<pid>/stat, in seconds.
func parseStat(text string) (float64, error) {
	// pid (name) state …: the name may contain anything, also parentheses.
	fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
	const user, system = 11, 12 // fields 14 and 15 of proc_pid_stat(5)
	if len(fields) <= system {
		return 0, fmt.Errorf("read CPU time: %q", text)
	}
	ticks := 0
	for _, field := range fields[user : system+1] {
		n, err := strconv.Atoi(field)
		if err != nil {
			return 0, fmt.Errorf("read CPU time: %w", err)
		}
		ticks += n
	}
	return float64(ticks) / ticksPerSecond, nil
}

// parseStatus is VmHWM of a /proc/<pid>/status, in bytes.
func parseStatus(text string) (int64, error) {
	for line := range strings.Lines(text) {
		value, ok := strings.CutPrefix(line, "VmHWM:")
		if !ok {
			continue
		}
		kib, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(value), "kB")), 10, 64)
		if err != nil {
			return 0, fmt.Errorf("read peak memory: %w", err)
		}
		return kib << 10, nil
	}
	return 0, fmt.Errorf("read peak memory: no VmHWM in %q", text)
}

// ownedChild makes a process end with the thread that started it.
func ownedChild() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
