package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// keeper keeps a daemon running, as a machine's service manager does: one that has ended is started again.
type keeper struct {
	in   *installation
	path string

	mu      sync.Mutex
	d       *daemon
	ordered int // signals that end the process which was sent them; the next end is no surprise
	ends    map[string]int
	why     []string // it could not start
	wrong   []string
	memory  []sample
	stopped chan struct{} // closed by stop
	done    chan struct{} // closed when nothing is started any more
}

// sample is the memory of the daemon at a moment, in bytes.
type sample struct {
	at    time.Time
	bytes int64
}

// startAgain is the pause before a daemon that has ended is started again.
const startAgain = 200 * time.Millisecond

func (in *installation) keep(path string) *keeper {
	k := &keeper{in: in, path: path, ends: map[string]int{}, stopped: make(chan struct{}), done: make(chan struct{})}
	go k.run()
	return k
}

func (k *keeper) run() {
	defer close(k.done)
	for {
		d, err := k.in.launch(k.path)
		if err != nil {
			k.mark("start: " + err.Error())
			return
		}
		k.mu.Lock()
		k.d, k.ordered = d, 0
		k.mu.Unlock()
		k.watch(d)
		k.ended(d)
		select {
		case <-k.stopped:
			return
		case <-time.After(startAgain):
		}
	}
}

// watch samples the daemon's memory until it ends.
func (k *keeper) watch(d *daemon) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-d.ended:
			return
		case at := <-tick.C:
			if bytes := residentMemory(d.cmd.Process.Pid); bytes > 0 {
				k.mu.Lock()
				k.memory = append(k.memory, sample{at, bytes})
				k.mu.Unlock()
			}
		}
	}
}

// ended sorts the end of a process.
func (k *keeper) ended(d *daemon) {
	k.mu.Lock()
	defer k.mu.Unlock()
	text := d.log.text()
	if dir := os.Getenv("LANTERNIST_E2E_LOGS"); dir != "" {
		_ = os.WriteFile(fmt.Sprintf("%s/daemon-%03d.log", dir, d.cmd.Process.Pid), []byte(text), 0o600)
	}
	if strings.Contains(text, "DATA RACE") || strings.Contains(text, "panic:") || strings.Contains(text, "fatal error:") {
		k.wrong = append(k.wrong, "the daemon:\n"+tail(text, 150))
	}
	switch {
	case d.code == 0:
		k.ends["stopped in order"]++
	case k.ordered > 0 && d.code == -1:
		k.ends["killed"]++
	case d.code == -1:
		k.wrong = append(k.wrong, "the daemon was killed by "+d.cmd.ProcessState.String()+":\n"+tail(text, 40))
	case !strings.Contains(text, `msg="stream started"`): // a service that it needs to start was away
		k.ends["could not start"]++
		k.why = append(k.why, reason(text))
	default:
		k.wrong = append(k.wrong, fmt.Sprintf("the daemon ended by itself with %d: %s", d.code, tail(text, 40)))
	}
}

// reason is what a daemon has said last: why it has ended.
func reason(log string) string {
	text := strings.TrimSpace(log)
	if i := strings.LastIndex(text, "lanternist: "); i >= 0 {
		text = text[i:]
	}
	return strings.Join(strings.Fields(text[max(0, len(text)-300):]), " ")
}

func (k *keeper) mark(wrong string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.wrong = append(k.wrong, wrong)
}

// current is the process that runs, or ran last; nil before the first.
func (k *keeper) current() *daemon {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.d
}

// signal sends a signal to the process that runs and returns it. There may be none just then.
func (k *keeper) signal(signal syscall.Signal) (*daemon, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.d == nil {
		return nil, nil
	}
	if signal == syscall.SIGKILL {
		k.ordered++
	}
	if err := k.d.cmd.Process.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return k.d, fmt.Errorf("%v to the daemon: %w", signal, err)
	}
	return k.d, nil
}

// kill ends the process with SIGKILL. It returns when it is gone.
func (k *keeper) kill() error {
	d, err := k.signal(syscall.SIGKILL)
	if d != nil && err == nil {
		<-d.ended
	}
	return err
}

// terminate ends the process in order. It must exit with 0 within the time that its stages have.
func (k *keeper) terminate(ctx context.Context) error {
	d, err := k.signal(syscall.SIGTERM)
	if d == nil || err != nil {
		return err
	}
	limit := time.NewTimer(stopWithin + 20*time.Second) // while everything else is broken
	defer limit.Stop()
	select {
	case <-d.ended:
	case <-ctx.Done():
	case <-limit.C:
		_, _ = k.signal(syscall.SIGQUIT) // its log then tells where it hangs
		<-d.ended
		return fmt.Errorf("the daemon did not end after SIGTERM:\n%s", tail(d.log.text(), 200))
	}
	return nil
}

// stop ends the last process in order, and starts none.
func (k *keeper) stop(ctx context.Context) error {
	close(k.stopped)
	err := k.terminate(ctx)
	<-k.done
	return err
}

// abandon ends everything at once. It may be called after stop.
func (k *keeper) abandon() {
	select {
	case <-k.stopped:
	default:
		close(k.stopped)
	}
	for {
		_, _ = k.signal(syscall.SIGKILL)
		select {
		case <-k.done:
			return
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// residentMemory is the memory that a process has resident, in bytes; 0 where the system does not tell.
func residentMemory(pid int) int64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(text))
	if len(fields) < 2 {
		return 0
	}
	pages, err := strconv.ParseInt(fields[1], 10, 64)
	if err != nil {
		return 0
	}
	return pages * int64(os.Getpagesize())
}
