package devstack

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// daemonSpec says how one kind of server is run.
type daemonSpec struct {
	name  string
	ports int // how many
	// command builds the command for the chosen ports, without output and credentials.
	command func(ports []int) *exec.Cmd
	// ready returns nil when the process answers as itself, not as a stranger on the same port.
	ready       func(ctx context.Context, ports []int, pid int) error
	url         func(ports []int) string
	stopSignal  syscall.Signal // ends the server in order
	endSignal   syscall.Signal // ends it when its stack closes: quickly, but leaving nothing outside the folder
	deathSignal syscall.Signal // sent by the kernel when this process is gone
	readyWithin time.Duration
	stopWithin  time.Duration
}

// daemon is a server that runs as a child process. Once it has answered, its ports never change.
type daemon struct {
	daemonSpec
	host    *host
	logPath string

	mu    sync.Mutex
	fixed []int
	run   *run
}

// run is one life of a daemon's process.
type run struct {
	pid    int
	exited chan struct{} // closed after the process was waited for
	err    error         // why it exited; read after exited
}

const (
	endWithin        = 8 * time.Second
	addressAttempts  = 10
	addressInUse     = "address already in use"
	previousLifeLeft = "pre-existing shared memory block"
)

// startDaemon starts a server for the first time and registers its end with the host.
func startDaemon(ctx context.Context, h *host, spec daemonSpec) (*daemon, error) {
	d := &daemon{daemonSpec: spec, host: h, logPath: filepath.Join(h.dir.path, spec.name+".log")}
	startErr := d.start(ctx)
	if err := h.atClose(d.end); err != nil {
		return nil, errors.Join(startErr, err)
	}
	return d, startErr
}

func (d *daemon) url() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.daemonSpec.url(d.fixed)
}

// start starts the process and waits until it answers. An address that is taken is tried again: on other
// ports the first time, on the same ones later.
func (d *daemon) start(ctx context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.run != nil && !d.run.over() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, d.readyWithin)
	defer cancel()
	began := time.Now()
	for attempt := 1; ; attempt++ {
		ports := d.fixed
		if ports == nil {
			var err error
			if ports, err = freePorts(d.ports); err != nil {
				return fmt.Errorf("start %s: %w", d.name, err)
			}
		}
		err := d.startOn(ctx, ports)
		if err == nil {
			d.fixed = ports
			d.host.log.Info("service started", "service", d.name, "pid", d.run.pid, "took", time.Since(began).Round(time.Millisecond))
			return nil
		}
		if attempt == addressAttempts || !worthAnotherTry(err) {
			return fmt.Errorf("start %s: %w", d.name, err)
		}
		if err := pause(ctx, 200*time.Millisecond); err != nil {
			return fmt.Errorf("start %s: %w", d.name, err)
		}
	}
}

func worthAnotherTry(err error) bool {
	text := strings.ToLower(err.Error())
	return strings.Contains(text, addressInUse) || strings.Contains(text, previousLifeLeft)
}

// startOn starts the process on ports; on error no process is left.
func (d *daemon) startOn(ctx context.Context, ports []int) error {
	output, err := os.OpenFile(d.logPath, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	defer output.Close()
	start, err := output.Seek(0, 2)
	if err != nil {
		return fmt.Errorf("find end of log: %w", err)
	}
	cmd := d.command(ports)
	cmd.Stdout, cmd.Stderr = output, output
	if err := d.host.spawn(cmd, d.deathSignal); err != nil {
		return err
	}
	r := &run{pid: cmd.Process.Pid, exited: make(chan struct{})}
	go func() {
		defer close(r.exited)
		r.err = cmd.Wait()
	}()
	d.run = r
	if err := d.awaitReady(ctx, ports, r); err != nil {
		return errors.Join(fmt.Errorf("%w\n%s", err, tailFrom(d.logPath, start)), r.end(d.endSignal))
	}
	return nil
}

// awaitReady polls until the server answers, its process is gone or ctx ends.
func (d *daemon) awaitReady(ctx context.Context, ports []int, r *run) error {
	for {
		attempt, cancel := context.WithTimeout(ctx, 5*time.Second)
		err := d.ready(attempt, ports, r.pid)
		cancel()
		if err == nil && !r.over() {
			return nil
		}
		select {
		case <-r.exited:
			return fmt.Errorf("process ended before it answered: %w", exitCause(r.err))
		case <-ctx.Done():
			return fmt.Errorf("no answer within %s: %w", d.readyWithin, errors.Join(ctx.Err(), err))
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func exitCause(err error) error {
	if err == nil {
		return errors.New("exit status 0")
	}
	return err
}

// stop ends the server in order; after stopWithin it is ended at once and that is an error.
func (d *daemon) stop(ctx context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.run == nil || d.run.over() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, d.stopWithin)
	defer cancel()
	if err := syscall.Kill(d.run.pid, d.stopSignal); err != nil {
		return fmt.Errorf("stop %s: %w", d.name, err)
	}
	select {
	case <-d.run.exited:
		d.host.log.Info("service stopped", "service", d.name)
		return d.run.end(syscall.SIGKILL)
	case <-ctx.Done():
		return errors.Join(fmt.Errorf("stop %s: still running after %s", d.name, d.stopWithin), d.run.end(syscall.SIGKILL))
	}
}

// kill ends the server and everything it started with SIGKILL.
func (d *daemon) kill() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.run.end(syscall.SIGKILL)
}

// signal sends a signal to everything of the server, if it runs.
func (d *daemon) signal(signal syscall.Signal) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.run == nil || d.run.over() {
		return nil
	}
	return signalGroup(d.run.pid, signal)
}

// end is how a stack that closes ends the server.
func (d *daemon) end() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.run.end(d.endSignal)
}

func (r *run) over() bool {
	select {
	case <-r.exited:
		return true
	default:
		return false
	}
}

// end sends signal to the process group and returns when nothing of it is left; SIGKILL follows.
func (r *run) end(signal syscall.Signal) error {
	if r == nil {
		return nil
	}
	if err := signalGroup(r.pid, signal); err != nil {
		return err
	}
	if r.gone(endWithin) {
		return nil
	}
	if err := signalGroup(r.pid, syscall.SIGKILL); err != nil {
		return err
	}
	if !r.gone(endWithin) {
		return fmt.Errorf("process group %d is still there after SIGKILL", r.pid)
	}
	return nil
}

// gone waits until the process and its group are gone.
func (r *run) gone(within time.Duration) bool {
	deadline := time.After(within)
	select {
	case <-r.exited:
	case <-deadline:
		return false
	}
	for !groupGone(r.pid) {
		select {
		case <-deadline:
			return false
		case <-time.After(5 * time.Millisecond):
		}
	}
	return true
}

// pause waits for d or the end of ctx.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
