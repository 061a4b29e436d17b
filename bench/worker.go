package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"

	"github.com/jackc/pglogrepl"
)

// workerFlag begins the command line of a worker: this binary, started again to do one thing in a process of its own.
// It reads a task as JSON and prints a report as JSON.
const workerFlag = "-worker"

// workers by name.
var workers = map[string]func(context.Context, task) (report, error){
	"receive":       receive,
	"journal-load":  loadJournal,
	"journal-drain": drainJournal,
	"copy":          copyToNothing,
	"load":          load,
	"redis":         writeRedis,
	"bulk":          writeBulk,
}

// task is what a worker is asked to do. Each uses the fields that it needs.
type task struct {
	Source        string        `json:"source,omitempty"` // URL of the database
	Slot          string        `json:"slot,omitempty"`
	Table         string        `json:"table,omitempty"` // default: the backlog's
	Mark          pglogrepl.LSN `json:"mark,omitempty"`  // see backlog.mark
	Dir           string        `json:"dir,omitempty"`
	Redis         string        `json:"redis,omitempty"`
	Elasticsearch string        `json:"elasticsearch,omitempty"`
	Prefix        string        `json:"prefix,omitempty"`
	Kind          string        `json:"kind,omitempty"` // of raw writes
	Operations    int           `json:"operations,omitempty"`
	Writers       int           `json:"writers,omitempty"`
}

// table is the one that the task is about.
func (t task) table() string { return cmp.Or(t.Table, table) }

// report is what came of a task.
type report struct {
	Phases []phase `json:"phases"`
}

// phase is a measured stretch of a worker's time.
type phase struct {
	Name       string  `json:"name,omitempty"`
	Seconds    float64 `json:"seconds"`
	Operations int     `json:"operations"`
	usage
}

// stopwatch measures a phase of this process.
type stopwatch struct {
	began  time.Time
	before usage
}

func startWatch() (stopwatch, error) {
	before, err := usageOf(os.Getpid())
	return stopwatch{time.Now(), before}, err
}

func (w stopwatch) stop(name string, operations int) (phase, error) {
	seconds := time.Since(w.began).Seconds()
	now, err := usageOf(os.Getpid())
	return phase{Name: name, Seconds: seconds, Operations: operations, usage: now.since(w.before)}, err
}

// work is a worker's main.
func work(ctx context.Context, name string, in io.Reader, out io.Writer) error {
	do, ok := workers[name]
	if !ok {
		return fmt.Errorf("no worker %q", name)
	}
	var t task
	if err := json.NewDecoder(in).Decode(&t); err != nil {
		return fmt.Errorf("worker %s: read task: %w", name, err)
	}
	r, err := do(ctx, t)
	if err != nil {
		return fmt.Errorf("worker %s: %w", name, err)
	}
	return json.NewEncoder(out).Encode(r)
}

// workerBinary is the file that workers are started from, and what comes before workerFlag on their command line.
var workerBinary = os.Executable

// worker does a task in a process of its own.
func (s *session) worker(ctx context.Context, name string, t task) (r report, err error) {
	binary, err := workerBinary()
	if err != nil {
		return r, err
	}
	in, err := json.Marshal(t)
	if err != nil {
		return r, err
	}
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(ctx, binary, workerFlag, name)
	cmd.Stdin, cmd.Stdout, cmd.Stderr, cmd.SysProcAttr = bytes.NewReader(in), &out, io.MultiWriter(&errs, s.log), ownedChild()
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	// A parent-death signal fires when the thread ends that started the process.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := cmd.Run(); err != nil {
		return r, errors.Join(fmt.Errorf("worker %s: %w", name, err), errors.New(tail(errs.String(), 20)))
	}
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		return r, fmt.Errorf("worker %s: read report %q: %w", name, out.String(), err)
	}
	return r, nil
}
