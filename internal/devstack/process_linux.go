package devstack

import (
	"os"
	"os/exec"
	"syscall"
)

// bindToParent puts cmd in its own process group (a terminal's Ctrl-C does not reach it) and has the kernel
// send it signal when the thread that starts it ends.
func bindToParent(cmd *exec.Cmd, signal os.Signal) {
	attr := sysProcAttr(cmd)
	attr.Setpgid = true
	attr.Pdeathsig = signal.(syscall.Signal)
}

// watchParent has nothing to do where the kernel does it.
func watchParent(int) error { return nil }
