package e2e

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "lanternist-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		os.Exit(1)
	}
	binaryDir = dir
	if err := moreAtOnce(); err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		os.Exit(1)
	}
	code := m.Run()
	client.CloseIdleConnections()
	if err := os.RemoveAll(dir); err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		code = max(code, 1)
	}
	if code == 0 {
		if err := goleak.Find(
			// The embedded nats-server keeps these for the life of a process.
			goleak.IgnoreAnyFunction("github.com/nats-io/nats-server/v2/server.(*Server).startGoRoutine"),
			goleak.IgnoreAnyFunction("github.com/nats-io/nats-server/v2/server.init.0.func1"),
		); err != nil {
			fmt.Fprintln(os.Stderr, "e2e:", err)
			code = 1
		}
	}
	os.Exit(code)
}

// atOnce is how many tests run at once at least: they wait for services far more than they compute, so that on few cores
// the default, one for each, would leave these idle.
const atOnce = 3

// moreAtOnce raises the default of -parallel. A value that was asked for stays.
func moreAtOnce() error {
	flag.Parse()
	asked := false
	flag.Visit(func(f *flag.Flag) { asked = asked || f.Name == "test.parallel" })
	if asked || runtime.GOMAXPROCS(0) >= atOnce {
		return nil
	}
	return flag.Set("test.parallel", strconv.Itoa(atOnce))
}

var binaryDir string // of this run; removed at its end

// binaryPath is the daemon's file. The first call builds it.
var binaryPath = sync.OnceValues(func() (string, error) {
	file := filepath.Join(binaryDir, "lanternist")
	args := append([]string{"build", "-o", file}, buildFlags...)
	build := exec.Command("go", append(args, "github.com/lanternist/lanternist/cmd/lanternist")...)
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the binary: %w\n%s", err, out)
	}
	return file, nil
})

// randomSource is the test's randomness. Its seed is printed, and can be given again.
func randomSource(t *testing.T) *rand.Rand {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("LANTERNIST_E2E_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("LANTERNIST_E2E_SEED: %v", err)
		}
	}
	t.Logf("seed %d (LANTERNIST_E2E_SEED)", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// tail is the last lines of a text.
func tail(text string, lines int) string {
	all := strings.Split(strings.TrimRight(text, "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
