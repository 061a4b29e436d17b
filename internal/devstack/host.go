package devstack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
)

// host is what the servers of one stack share: the folder, the unprivileged user, the thread that starts
// processes, and the list of what runs.
type host struct {
	dir      *stackDir
	account  *account
	log      *slog.Logger
	progress func(line string)
	spawner  *spawner

	mu     sync.Mutex
	closed bool
	ends   []func() error // one per started server: end it now and wait
}

func newHost(dir *stackDir, log *slog.Logger, progress func(string)) (*host, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	acc, err := serviceAccount()
	if err != nil {
		return nil, err
	}
	if !acc.canReach(dir.path) {
		return nil, fmt.Errorf("stack folder %s: user %s cannot reach it; choose a folder whose parents are open to others", dir.path, acc.name)
	}
	return &host{dir: dir, account: acc, log: log, progress: progress, spawner: newSpawner()}, nil
}

// subdir makes a folder in the stack's folder that belongs to the account the servers run as.
func (h *host) subdir(name string) (string, error) {
	path := filepath.Join(h.dir.path, name)
	if err := os.Mkdir(path, 0o700); err != nil {
		return "", fmt.Errorf("make service folder: %w", err)
	}
	return path, h.account.own(path)
}

// atClose registers how a server is ended. A host that is closed already ends it at once.
func (h *host) atClose(end func() error) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return errors.Join(errors.New("stack is closed"), end())
	}
	h.ends = append(h.ends, end)
	return nil
}

// close ends all servers at the same time, then removes the folder.
func (h *host) close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil
	}
	h.closed = true
	errs := make([]error, len(h.ends))
	var wg sync.WaitGroup
	for i, end := range h.ends {
		wg.Go(func() { errs[i] = end() })
	}
	wg.Wait()
	h.spawner.close()
	return errors.Join(append(errs, h.dir.remove())...)
}

// spawn starts cmd as the service account, in its own process group, so that it ends with this process.
func (h *host) spawn(cmd *exec.Cmd, deathSignal os.Signal) error {
	h.account.prepare(cmd)
	return h.spawner.start(cmd, deathSignal)
}

// runAsService runs a short command as the service account.
func (h *host) runAsService(ctx context.Context, cmd *exec.Cmd) error {
	h.account.prepare(cmd)
	return h.run(ctx, cmd)
}

// run runs a short command, which ends with ctx and with this process. Its output is in the error.
func (h *host) run(ctx context.Context, cmd *exec.Cmd) error {
	out, err := os.CreateTemp(h.dir.path, "run-*.log")
	if err != nil {
		return fmt.Errorf("make command log: %w", err)
	}
	defer os.Remove(out.Name())
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	if err := h.spawner.start(cmd, os.Kill); err != nil {
		return fmt.Errorf("start %s: %w", filepath.Base(cmd.Path), err)
	}
	stop := context.AfterFunc(ctx, func() { _ = killGroup(cmd.Process.Pid) })
	defer stop()
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("run %s: %w\n%s", filepath.Base(cmd.Path), errors.Join(err, ctx.Err()), tail(out.Name()))
	}
	return nil
}

// lineWriter turns a writer into a sink for lines; nil discards them.
func lineWriter(w io.Writer) func(string) {
	if w == nil {
		return func(string) {}
	}
	var mu sync.Mutex
	return func(line string) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Fprintln(w, line)
	}
}
