package devstack

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

func TestNothingIsLeftOfAPrivateStack(t *testing.T) {
	needServices(t)
	t.Parallel()
	for name, scene := range map[string]struct {
		part string
		end  func(t *testing.T, c *child)
	}{
		"closed on Ctrl-C": {"orderly", func(t *testing.T, c *child) { c.signalAll(t, syscall.SIGINT) }},
		"Ctrl-C unhandled": {"small", func(t *testing.T, c *child) { c.signalAll(t, syscall.SIGINT) }},
		"owner killed":     {"private", func(t *testing.T, c *child) { c.cmd.Process.Kill() }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			base := openFolder(t)
			c := startChild(t, scene.part, base, 0)
			all := c.tree(t)
			mustInclude(t, all, "postgres", "redis-server")
			if scene.part != "small" {
				mustInclude(t, all, "java")
			}
			scene.end(t, c)
			if err := c.cmd.Wait(); scene.part == "orderly" && err != nil {
				t.Errorf("child: %v", err)
			}
			mustEnd(t, all)
			// The next stack there sweeps what the owner could not remove.
			dir, err := newDir(base, "stack-*")
			if err != nil {
				t.Fatal(err)
			}
			mustVanish(t, c.Dir)
			if err := dir.remove(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestNothingIsLeftOfASharedStack(t *testing.T) {
	needServices(t)
	t.Parallel()
	for name, end := range map[string]func(t *testing.T, owner *child, supervisor process){
		"owner killed": func(t *testing.T, owner *child, _ process) { owner.cmd.Process.Kill() },
		"Ctrl-C":       func(t *testing.T, owner *child, _ process) { owner.signalAll(t, syscall.SIGINT) },
		"supervisor killed": func(t *testing.T, _ *child, supervisor process) {
			if err := syscall.Kill(supervisor.PID, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			base := openFolder(t)
			c := startChild(t, "shared", base, 0)
			all := c.tree(t)
			self, _ := lookUp(os.Getpid())
			mustInclude(t, all, self.name, "postgres", "redis-server") // the supervisor is this binary
			end(t, c, all[0])
			if name != "supervisor killed" {
				_ = c.cmd.Wait() // its parent must reap it, as a shell does
				mustEnd(t, all)
				mustVanish(t, c.Dir)
				return
			}
			mustEnd(t, all)
			// The owner still lives: the next package gets a new stack in place of the dead one.
			again := startChild(t, "shared", base, c.cmd.Process.Pid)
			if again.Redis == "" || again.Redis == c.Redis {
				t.Errorf("Redis was %q and is %q", c.Redis, again.Redis)
			}
		})
	}
}

func TestPackagesInParallelShareOneStack(t *testing.T) {
	needServices(t)
	base := openFolder(t)
	owner := exec.Command("cat") // lives until it is killed
	if _, err := owner.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := owner.Start(); err != nil {
		t.Fatal(err)
	}
	var all [4]said
	t.Run("packages", func(t *testing.T) {
		for i := range all {
			t.Run("", func(t *testing.T) {
				t.Parallel()
				all[i] = startChild(t, "shared", base, owner.Process.Pid).said
			})
		}
	})
	if err := owner.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = owner.Wait() // it was killed
	for _, got := range all {
		if got.Postgres == "" || got != all[0] {
			t.Errorf("one package got %v, another %v", got, all[0])
		}
	}
	mustVanish(t, all[0].Dir)
}

// TestHeldByAnotherTest is not a test but the inside of one: see TestRunsOfGoTest.
func TestHeldByAnotherTest(t *testing.T) {
	hold := os.Getenv("DEVSTACK_TEST_HOLD")
	if hold == "" {
		t.Skip("part of TestRunsOfGoTest")
	}
	s := said{Postgres: Postgres(t).URL(), Redis: Redis(t).URL()}
	if err := s.print(); err != nil {
		t.Fatal(err)
	}
	owner, err := runOwner()
	if err != nil {
		t.Fatal(err)
	}
	Eventually(t, time.Minute, func() error {
		if !owner.runs() {
			os.Exit(1) //nolint:forbidigo // nobody listens any more
		}
		_, err := os.Stat(hold)
		return err
	})
}

func TestRunsOfGoTest(t *testing.T) {
	needServices(t)
	t.Parallel()
	dir := t.TempDir()
	binary, err := exec.LookPath("go")
	if err != nil {
		t.Skip("no go command on the PATH")
	}
	start := func(name string) (c *child, hold string) {
		hold = filepath.Join(dir, name)
		cmd := exec.Command(binary, "test", "-count=1", "-v", "-run", "^TestHeldByAnotherTest$", ".")
		cmd.Env = append(os.Environ(), "DEVSTACK_TEST_HOLD="+hold)
		return startCommand(t, cmd), hold
	}
	ends, holdEnds := start("ends")
	interrupted, _ := start("interrupted")
	killed, _ := start("killed")
	if ends.Redis == interrupted.Redis || ends.Postgres == killed.Postgres || killed.Redis == interrupted.Redis {
		t.Errorf("runs side by side share a server: %v, %v, %v", ends.said, interrupted.said, killed.said)
	}
	for _, scene := range []struct {
		run *child
		end func()
	}{
		{interrupted, func() { interrupted.signalAll(t, syscall.SIGINT) }},
		{killed, func() { killed.cmd.Process.Kill() }},
		{ends, func() { os.WriteFile(holdEnds, nil, 0o600) }},
	} {
		all := scene.run.tree(t)
		mustInclude(t, all, "postgres", "redis-server")
		scene.end()
		err := scene.run.cmd.Wait()
		if scene.run == ends && err != nil {
			t.Errorf("go test: %v", err)
		}
		mustEnd(t, all)
	}
}
