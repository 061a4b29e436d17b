//go:build !linux

package devstack

import (
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// lookUp returns the process that has the id now; ok is false when there is none that still runs.
func lookUp(pid int) (p process, ok bool) {
	out, err := exec.Command("ps", "-o", "stat=,lstart=,comm=", "-p", strconv.Itoa(pid)).Output()
	if err != nil {
		return process{}, false
	}
	const startWords = 5 // Tue Mar  3 10:11:12 2026
	fields := strings.Fields(string(out))
	if len(fields) < startWords+2 || strings.HasPrefix(fields[0], "Z") {
		return process{}, false
	}
	started := strings.NewReplacer(":", "").Replace(strings.Join(fields[1:startWords+1], ""))
	return process{PID: pid, Started: started, name: filepath.Base(strings.Join(fields[startWords+1:], " "))}, true
}
