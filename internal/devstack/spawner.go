package devstack

import (
	"errors"
	"os"
	"os/exec"
	"runtime"
)

// spawner starts all processes of a stack from one operating system thread that lives as long as the stack.
// A parent-death signal fires when the *thread* that forked ends, and Go ends threads when it likes.
type spawner struct {
	requests chan func()
	done     chan struct{}
}

var errSpawnerClosed = errors.New("stack is closed")

func newSpawner() *spawner {
	s := &spawner{requests: make(chan func()), done: make(chan struct{})}
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		for {
			select {
			case f := <-s.requests:
				f()
			case <-s.done:
				return
			}
		}
	}()
	return s
}

// start starts cmd so that deathSignal ends it when this process is gone.
func (s *spawner) start(cmd *exec.Cmd, deathSignal os.Signal) error {
	bindToParent(cmd, deathSignal)
	result := make(chan error, 1)
	request := func() { result <- cmd.Start() }
	select {
	case s.requests <- request:
	case <-s.done:
		return errSpawnerClosed
	}
	if err := <-result; err != nil {
		return err
	}
	return watchParent(cmd.Process.Pid)
}

func (s *spawner) close() { close(s.done) }
