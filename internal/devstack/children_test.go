package devstack

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// children are the parts that a child process plays. Each prints one line of JSON when it is ready.
var children = map[string]func() error{
	"private": privateChild,
	"small":   privateChild, // without Elasticsearch
	"orderly": orderlyChild,
	"shared":  sharedChild,
}

// said is the line a child prints.
type said struct{ Dir, Postgres, Elasticsearch, Redis string }

func (s said) print() error { return json.NewEncoder(os.Stdout).Encode(s) }

// privateChild starts a stack of its own and does nothing more: no signal is handled.
func privateChild() error {
	s, err := startAll(context.Background())
	if err != nil {
		return err
	}
	if err := (said{s.Dir(), s.Postgres(), s.Elasticsearch(), s.Redis()}).print(); err != nil {
		return err
	}
	select {}
}

// orderlyChild closes its stack on Ctrl-C.
func orderlyChild() error {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt)
	defer cancel()
	s, err := startAll(ctx)
	if err != nil {
		return err
	}
	if err := (said{s.Dir(), s.Postgres(), s.Elasticsearch(), s.Redis()}).print(); err != nil {
		return err
	}
	<-ctx.Done()
	return s.Close()
}

func startAll(ctx context.Context) (*Stack, error) {
	opts := Options{
		Postgres: &PostgresOptions{},
		Redis:    &RedisOptions{},
		Dir:      os.Getenv("DEVSTACK_TEST_BASE"),
		Progress: os.Stderr,
	}
	if os.Getenv(childEnv) != "small" {
		opts.Elasticsearch = &ElasticsearchOptions{Heap: "256m", JavaOptions: []string{quickCompiler}}
	}
	return Start(ctx, opts)
}

// sharedChild asks the shared stack of DEVSTACK_TEST_OWNER for services and lives until its input ends.
func sharedChild() error {
	pid, err := strconv.Atoi(os.Getenv("DEVSTACK_TEST_OWNER"))
	if err != nil {
		return err
	}
	if pid == 0 {
		pid = os.Getpid()
	}
	owner, ok := lookUp(pid)
	if !ok {
		return fmt.Errorf("no process %d", pid)
	}
	s := said{Dir: filepath.Join(os.Getenv("DEVSTACK_TEST_BASE"), "run-"+owner.String())}
	for service, url := range map[string]*string{"postgres": &s.Postgres, "redis": &s.Redis} {
		conn, err := dialSupervisor(context.Background(), os.Getenv("DEVSTACK_TEST_BASE"), owner)
		if err != nil {
			return err
		}
		if *url, err = ask(context.Background(), conn, request{Service: service}, func(string) {}); err != nil {
			return err
		}
	}
	if err := s.print(); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// child is a running child process.
type child struct {
	said
	cmd *exec.Cmd
}

// startChild starts a part in its own process group and returns when it is ready.
func startChild(t *testing.T, part, base string, owner int) *child {
	t.Helper()
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(binary)
	cmd.Env = append(os.Environ(), childEnv+"="+part, "DEVSTACK_TEST_BASE="+base, "DEVSTACK_TEST_OWNER="+strconv.Itoa(owner))
	for _, variable := range []string{"LANTERNIST_POSTGRES_URL", "LANTERNIST_ELASTICSEARCH_URL", "LANTERNIST_REDIS_URL"} {
		cmd.Env = append(cmd.Env, variable+"=") // these tests are about our own processes
	}
	return startCommand(t, cmd)
}

// startCommand starts cmd, whose output has one line that begins with { and is what it has to say.
func startCommand(t *testing.T, cmd *exec.Cmd) *child {
	t.Helper()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cmd.StdinPipe(); err != nil { // open until the child was waited for
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c := &child{cmd: cmd}
	t.Cleanup(func() { c.signalAll(t, syscall.SIGKILL); _ = cmd.Wait() })
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if strings.HasPrefix(lines.Text(), "{") {
			if err := json.Unmarshal(lines.Bytes(), &c.said); err != nil {
				t.Fatal(err)
			}
			return c
		}
		t.Log(lines.Text())
	}
	t.Fatalf("child ended before it was ready: %v, %v", lines.Err(), cmd.Wait())
	return nil
}

// signalAll does what a terminal does on Ctrl-C: it signals the child's process group.
func (c *child) signalAll(t *testing.T, signal syscall.Signal) {
	t.Helper()
	if err := signalGroup(c.cmd.Process.Pid, signal); err != nil {
		t.Error(err)
	}
}

// tree returns the child's descendants.
func (c *child) tree(t *testing.T) []process {
	t.Helper()
	return descendants(t, c.cmd.Process.Pid)
}

// descendants lists the processes that pid started, and those that they started.
func descendants(t *testing.T, pid int) []process {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil || len(stats) == 0 {
		t.Skipf("no /proc to list processes from: %v", err)
	}
	children := map[int][]int{}
	for _, path := range stats {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // it ended
		}
		var id, parent int
		var state string
		_, rest, _ := strings.Cut(string(text), ") ")
		if _, err := fmt.Sscan(string(text), &id); err != nil {
			t.Fatal(err)
		}
		if _, err := fmt.Sscan(rest[strings.LastIndex(rest, ")")+1:], &state, &parent); err != nil {
			t.Fatal(err)
		}
		children[parent] = append(children[parent], id)
	}
	var all []process
	for queue := children[pid]; len(queue) > 0; queue = queue[1:] {
		queue = append(queue, children[queue[0]]...)
		if p, ok := lookUp(queue[0]); ok {
			all = append(all, p)
		}
	}
	return all
}

// mustInclude fails the test unless every name is among the processes, so that a test of their end means
// something.
func mustInclude(t *testing.T, all []process, names ...string) {
	t.Helper()
	for _, name := range names {
		found := 0
		for _, p := range all {
			if strings.HasPrefix(p.name, name) {
				found++
			}
		}
		if found == 0 {
			t.Fatalf("no process %s among %v", name, all)
		}
	}
}

// mustEnd fails the test if any of the processes still runs after a while.
func mustEnd(t *testing.T, all []process) {
	t.Helper()
	Eventually(t, 30*time.Second, func() error {
		var left error
		for _, p := range all {
			if p.runs() {
				left = errors.Join(left, fmt.Errorf("process %d (%s) still runs", p.PID, p.name))
			}
		}
		return left
	})
}

// mustVanish fails the test if path still exists after a while.
func mustVanish(t *testing.T, path string) {
	t.Helper()
	Eventually(t, 30*time.Second, func() error {
		if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("%s is still there (error: %w)", path, err)
		}
		return nil
	})
}

// openFolder makes a folder that the services' user can reach, which t.TempDir is not.
func openFolder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp(os.TempDir(), "devstack-test-*")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}
