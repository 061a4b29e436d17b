//go:build unix

package devstack

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

func sysProcAttr(cmd *exec.Cmd) *syscall.SysProcAttr {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	return cmd.SysProcAttr
}

// detach gives cmd a session of its own: no terminal, no signal of ours reaches it.
func detach(cmd *exec.Cmd) { sysProcAttr(cmd).Setsid = true }

// killGroup sends SIGKILL to the process group that pid leads. A group that is gone is no error.
func killGroup(pid int) error { return signalGroup(pid, syscall.SIGKILL) }

func signalGroup(pid int, signal syscall.Signal) error {
	if err := syscall.Kill(-pid, signal); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("send %s to process group %d: %w", signal, pid, err)
	}
	return nil
}

// groupGone reports whether no process of the group that pid led is left.
func groupGone(pid int) bool { return errors.Is(syscall.Kill(-pid, 0), syscall.ESRCH) }

// account is the user the servers run as: ourselves, or nobody when we are root.
type account struct {
	name       string
	credential *syscall.Credential // nil: ourselves
}

func serviceAccount() (*account, error) {
	if os.Geteuid() != 0 {
		return &account{name: strconv.Itoa(os.Geteuid())}, nil
	}
	nobody, err := user.Lookup("nobody")
	if err != nil {
		return nil, fmt.Errorf("find an unprivileged user to run services as: %w", err)
	}
	uid, err := strconv.ParseUint(nobody.Uid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("user nobody has id %q: %w", nobody.Uid, err)
	}
	gid, err := strconv.ParseUint(nobody.Gid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("user nobody has group %q: %w", nobody.Gid, err)
	}
	return &account{name: "nobody", credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}, nil
}

// prepare has cmd run as the account.
func (a *account) prepare(cmd *exec.Cmd) { sysProcAttr(cmd).Credential = a.credential }

// own gives path, a file or folder that we made, to the account.
func (a *account) own(path string) error {
	if a.credential == nil {
		return nil
	}
	if err := os.Lchown(path, int(a.credential.Uid), int(a.credential.Gid)); err != nil {
		return fmt.Errorf("give to user %s: %w", a.name, err)
	}
	return nil
}

// canReach reports whether the account may enter path and each folder above it.
func (a *account) canReach(path string) bool {
	if a.credential == nil {
		return true
	}
	path, err := filepath.EvalSymlinks(path)
	if err != nil {
		return false
	}
	for {
		info, err := os.Stat(path)
		if err != nil || info.IsDir() && info.Mode().Perm()&0o001 == 0 {
			return false
		}
		parent := filepath.Dir(path)
		if parent == path {
			return true
		}
		path = parent
	}
}

// checkOwned refuses a folder that another user could have prepared for us.
func checkOwned(path string) error {
	info, err := os.Lstat(path)
	if err != nil {
		return fmt.Errorf("look at folder: %w", err)
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok || !info.IsDir() || int(stat.Uid) != os.Geteuid() || info.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("folder %s must be a folder of ours that only we can write: remove it", path)
	}
	return nil
}
