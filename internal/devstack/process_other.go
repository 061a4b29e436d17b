//go:build unix && !linux

package devstack

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
)

// bindToParent puts cmd in its own process group: a terminal's Ctrl-C does not reach it, and the watcher
// can end the whole group.
func bindToParent(cmd *exec.Cmd, _ os.Signal) { sysProcAttr(cmd).Setpgid = true }

// watcher ends process group $2 when process $1 is gone, and itself when the group is gone.
const watcher = `while kill -0 "$1" 2>/dev/null; do kill -0 -"$2" 2>/dev/null || exit 0; sleep 1; done; kill -KILL -"$2"`

// watchParent starts a shell that ends pid's process group after this process is gone. There is no
// parent-death signal here, so it polls.
func watchParent(pid int) error {
	cmd := exec.Command("/bin/sh", "-c", watcher, "sh", strconv.Itoa(os.Getpid()), strconv.Itoa(pid))
	sysProcAttr(cmd).Setpgid = true
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start watcher of process %d: %w", pid, err)
	}
	go func() { _ = cmd.Wait() }() // its exit code says nothing
	return nil
}
