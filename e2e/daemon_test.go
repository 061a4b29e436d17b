package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/lanternist/lanternist/internal/devstack"
)

// How long a test waits for the daemon at most. Machines differ; nothing here is a claim about speed.
const (
	readyWithin = 2 * time.Minute
	stopWithin  = 40 * time.Second
)

// daemon is one running process of the daemon.
type daemon struct {
	in    *installation
	cmd   *exec.Cmd
	log   *daemonLog
	ended chan struct{}
	code  int // once it has ended
}

// start starts the daemon. It is killed at the end of the test when it still runs.
func (in *installation) start() *daemon {
	in.t.Helper()
	path, err := binaryPath()
	if err != nil {
		in.t.Fatal(err)
	}
	return in.startBinary(path)
}

// startBinary starts a binary of the daemon with more variables in its environment.
func (in *installation) startBinary(path string, more ...string) *daemon {
	in.t.Helper()
	d, err := in.launch(path, more...)
	if err != nil {
		in.t.Fatalf("start the daemon: %v", err)
	}
	in.t.Cleanup(func() {
		d.kill()
		text := d.log.text()
		if strings.Contains(text, "DATA RACE") || strings.Contains(text, "panic:") {
			in.t.Errorf("the daemon:\n%s", tail(text, 120))
		} else if in.t.Failed() {
			in.t.Logf("the daemon's log ends:\n%s", tail(text, 60))
		}
	})
	return d
}

// launch is startBinary for any goroutine. Who calls it sees to it that the process ends.
func (in *installation) launch(path string, more ...string) (*daemon, error) {
	d := &daemon{in: in, log: newDaemonLog(), ended: make(chan struct{})}
	d.cmd = exec.Command(path, "run", "--config", in.file)
	d.cmd.Env, d.cmd.Stdout, d.cmd.Stderr, d.cmd.SysProcAttr = slices.Concat(in.environment, more), d.log, d.log, child()
	if err := d.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		_ = d.cmd.Wait() // the state tells
		d.code = d.cmd.ProcessState.ExitCode()
		d.log.end()
		close(d.ended)
	}()
	return d, nil
}

// kill ends the process with SIGKILL and waits for its end.
func (d *daemon) kill() {
	_ = d.cmd.Process.Kill() // it may have ended
	<-d.ended
}

// stop ends the process with SIGTERM. It must exit with 0.
func (d *daemon) stop() {
	d.in.t.Helper()
	if err := d.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		d.in.t.Fatalf("stop the daemon: %v", err)
	}
	if code := d.exit(stopWithin); code != 0 {
		d.in.t.Fatalf("the daemon exited with %d after SIGTERM, want 0", code)
	}
}

// exit waits for the end and returns the exit code.
func (d *daemon) exit(within time.Duration) int {
	d.in.t.Helper()
	limit := time.NewTimer(within)
	defer limit.Stop()
	select {
	case <-d.ended:
		return d.code
	case <-limit.C:
		_ = d.cmd.Process.Signal(syscall.SIGQUIT) // its log then tells where it hangs
		d.in.t.Fatalf("the daemon did not end within %v", within)
		return -1
	}
}

// alive fails the test when the process has ended.
func (d *daemon) alive() {
	d.in.t.Helper()
	select {
	case <-d.ended:
		d.in.t.Fatalf("the daemon has ended with exit code %d", d.code)
	default:
	}
}

// ready waits until every view can be read.
func (d *daemon) ready() {
	d.in.t.Helper()
	devstack.Eventually(d.in.t, readyWithin, func() error {
		d.alive()
		return d.in.get("/readyz", nil)
	})
}

// daemonLog is what a daemon has printed.
type daemonLog struct {
	mu      sync.Mutex
	content bytes.Buffer
	ended   bool
	more    chan struct{} // closed when there is more
}

func newDaemonLog() *daemonLog { return &daemonLog{more: make(chan struct{})} }

func (l *daemonLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	close(l.more)
	l.more = make(chan struct{})
	return l.content.Write(p)
}

func (l *daemonLog) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = true
	close(l.more)
	l.more = make(chan struct{})
}

func (l *daemonLog) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.content.String()
}

// find waits until the log has one of the texts, and says whether it came before the process or the time ended.
func (l *daemonLog) find(within time.Duration, texts ...string) bool {
	limit := time.NewTimer(within)
	defer limit.Stop()
	for {
		l.mu.Lock()
		found, ended, more := slices.ContainsFunc(texts, func(text string) bool {
			return bytes.Contains(l.content.Bytes(), []byte(text))
		}), l.ended, l.more
		l.mu.Unlock()
		if found || ended {
			return found
		}
		select {
		case <-more:
		case <-limit.C:
			return false
		}
	}
}

// TestDaemonLog tests the tests' own ear.
func TestDaemonLog(t *testing.T) {
	l := newDaemonLog()
	go func() {
		fmt.Fprint(l, "level=INFO msg=lis")
		fmt.Fprintln(l, "tening")
	}()
	if !l.find(time.Minute, "msg=other", "msg=listening") {
		t.Error("not found")
	}
	l.end()
	if l.find(time.Minute, "nothing") {
		t.Error("found in a log that has ended")
	}
}

// signalTwice asks the process to end, and then to end at once.
func (d *daemon) signalTwice() {
	d.in.t.Helper()
	for range 2 {
		if err := d.cmd.Process.Signal(syscall.SIGINT); err != nil && !errors.Is(err, os.ErrProcessDone) {
			d.in.t.Fatal(err)
		}
	}
}
