package control_test

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/lanternist/lanternist/control"
	"github.com/lanternist/lanternist/internal/faults"
)

// writes is how often work writes.
const writes = 60

// entry is what the n-th write leaves: a value, or, every fifth, the removal of the one before.
func entry(n int) (key string, value []byte) {
	if n%5 == 4 {
		return fmt.Sprintf("k/%d", (n-1)%7), nil
	}
	return fmt.Sprintf("k/%d", n%7), []byte(strings.Repeat(strconv.Itoa(n)+" ", 2000))
}

// stateAfter is the content of a store after so many writes.
func stateAfter(n int) map[string]string {
	state := map[string]string{}
	for i := range n {
		if key, value := entry(i); value != nil {
			state[key] = string(value)
		} else {
			delete(state, key)
		}
	}
	return state
}

// work writes, and tells of each write that has been acknowledged.
func work(ctx context.Context, dir string, disk vfs.FS, acknowledged func(n int)) error {
	for n := 0; n < writes; {
		s, err := control.OpenPebbleIn(dir, disk, slog.New(slog.DiscardHandler))
		if err != nil {
			return err
		}
		for range 20 {
			key, value := entry(n)
			if value != nil {
				err = s.Put(ctx, key, value)
			} else {
				err = s.Delete(ctx, key)
			}
			if err != nil {
				_ = s.Close() // the disk has failed already
				return err
			}
			n++
			acknowledged(n)
		}
		if err := s.Close(); err != nil {
			return err
		}
	}
	return nil
}

// whole compares a store with what acknowledged writes, or one more, have left, and sees to it that it goes on.
func whole(t *testing.T, dir string, disk vfs.FS, acknowledged int) error {
	t.Helper()
	s, err := control.OpenPebbleIn(dir, disk, slog.New(slog.DiscardHandler))
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	defer s.Close()
	got := map[string]string{}
	if err := s.List(t.Context(), "", func(key string, value []byte) error { got[key] = string(value); return nil }); err != nil {
		return err
	}
	if !sameState(got, stateAfter(acknowledged)) && !sameState(got, stateAfter(acknowledged+1)) {
		return fmt.Errorf("after %d writes it holds %d keys, and not what they left", acknowledged, len(got))
	}
	return s.Put(t.Context(), "afterwards", []byte("x"))
}

func sameState(a, b map[string]string) bool {
	for key, value := range a {
		if b[key] != value {
			return false
		}
	}
	return len(a) == len(b)
}

// stride is the first operation that is tried, and the distance to the next one.
func stride(seed uint64, most int) (first, step int) {
	if faults.Heavy() {
		most = max(1, most/10)
	}
	return 1 + int(seed%uint64(most)), most
}

// TestFaultControlStoreCrash loses the power at operation k of the disk, for every k.
func TestFaultControlStoreCrash(t *testing.T) {
	result := faults.Cause(t, faults.Fault{
		ID: "control-store-crash", Area: "Journal",
		Fault:   "the power fails at any operation on the control store's files; a random part of what was not synced is lost",
		Promise: "every write that was acknowledged is there after the start: positions, dead letters, schema versions, what is deployed",
		Answer:  "nothing: the store opens with what is durable",
	})
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	first, step := stride(seed, 11)
	crashes := 0
	for k := first; ; k += step {
		disk := vfs.NewCrashableMem()
		var ops, acknowledged atomic.Int64
		var left *vfs.MemFS
		var then int
		random := rand.New(rand.NewPCG(seed, uint64(k)))
		wrapped := errorfs.Wrap(disk, errorfs.InjectorFunc(func(op errorfs.Op) error {
			if op.Kind.ReadOrWrite() == errorfs.OpIsWrite && ops.Add(1) == int64(k) {
				then = int(acknowledged.Load())
				left = disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: random.IntN(101), RNG: random})
			}
			return nil
		}))
		if err := work(t.Context(), "control", wrapped, func(n int) { acknowledged.Store(int64(n)) }); err != nil {
			t.Fatal(err)
		}
		if left == nil {
			break
		}
		crashes++
		if err := whole(t, "control", left, then); err != nil {
			t.Fatalf("crash at operation %d: %v", k, err)
		}
	}
	if crashes*step < 100 {
		t.Errorf("only %d crashes", crashes)
	}
	result.Notef("%d crashes", crashes)
}

// childDisk makes this test binary work on a folder whose disk fails: the folder, and the operation.
const childDisk = "LANTERNIST_TEST_CONTROL_DISK"

// TestDiskChild is the process that TestFaultControlStoreDiskError watches. Pebble ends it when it cannot go on.
func TestDiskChild(t *testing.T) {
	dir, text, found := strings.Cut(os.Getenv(childDisk), "\n")
	if !found {
		t.Skip("is run by TestFaultControlStoreDiskError")
	}
	failAt, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	var ops atomic.Int64
	disk := errorfs.Wrap(vfs.Default, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind.ReadOrWrite() == errorfs.OpIsWrite && ops.Add(1) == failAt {
			return errorfs.ErrInjected
		}
		return nil
	}))
	err = work(context.Background(), dir, disk, func(n int) { fmt.Println("acknowledged", n) })
	fmt.Println("ended", ops.Load() >= failAt, err)
}

// TestFaultControlStoreDiskError fails operation i of the disk, for many i, in a process of its own.
func TestFaultControlStoreDiskError(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	result := faults.Cause(t, faults.Fault{
		ID: "control-store-disk-error", Area: "Journal",
		Fault:   "any one write, sync, creation or removal of the control store's files fails",
		Promise: "what could not be made durable is not acknowledged: the daemon ends rather than go on, and everything acknowledged is there after the next start",
		Answer:  "nothing: the daemon goes on when it is started again; if it ends again, look at the disk",
	})
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	first, step := stride(seed, 29)
	tried := 0
	for i := first; ; i += step {
		dir := t.TempDir()
		acknowledged, reached := runDisk(t, childDisk+"="+dir+"\n"+strconv.Itoa(i))
		if !reached {
			break
		}
		tried++
		if err := whole(t, dir, vfs.Default, acknowledged); err != nil {
			t.Fatalf("operation %d failed: %v", i, err)
		}
	}
	if tried*step < 60 {
		t.Errorf("only %d operations failed", tried)
	}
	result.Notef("%d operations failed, one in each run", tried)
}

// runDisk runs a child. It returns the last write that it acknowledged, and whether the operation that was to fail came.
func runDisk(t *testing.T, variable string) (acknowledged int, reached bool) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestDiskChild$")
	cmd.Env = append(os.Environ(), variable)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	reached = true // a process that does not say how it ended was ended
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if _, err := fmt.Sscanf(lines.Text(), "acknowledged %d", &acknowledged); err == nil {
			continue
		}
		if strings.HasPrefix(lines.Text(), "ended false") {
			reached = false
		}
	}
	_ = cmd.Wait() // it may have been ended, which is no failure
	return acknowledged, reached
}
