package devstack

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// lookUp returns the process that has the id now; ok is false when there is none that still runs.
func lookUp(pid int) (p process, ok bool) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return process{}, false
	}
	// pid (name) state … : the name may contain anything, also parentheses.
	text := string(stat)
	open, end := strings.IndexByte(text, '('), strings.LastIndexByte(text, ')')
	if open < 0 || end < open {
		return process{}, false
	}
	fields := strings.Fields(text[end+1:])
	const state, startTime = 0, 19 // fields 3 and 22 of proc_pid_stat(5)
	if len(fields) <= startTime || strings.Contains("ZXx", fields[state]) {
		return process{}, false
	}
	if _, err := strconv.ParseUint(fields[startTime], 10, 64); err != nil {
		return process{}, false
	}
	return process{PID: pid, Started: fields[startTime], name: text[open+1 : end]}, true
}
