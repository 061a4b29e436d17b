// Package faults keeps the written promise for each fault together with the test that causes it for real. A test says with
// Cause which fault it causes and what is promised then; what it measured is kept when it ends, and docs/reliability.md is
// made from that by the command in faults/report. It leaves to the tests to cause a fault and to judge what came of it.
//
//	LANTERNIST_FAULTS=all       heavy faults are caused as well: long, large, or in need of the machine for themselves
//	LANTERNIST_FAULTS_DIR=DIR   where results are kept, a file for each fault; without it they are only logged
package faults

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// Variables of the environment.
const (
	VariableSize = "LANTERNIST_FAULTS"
	VariableDir  = "LANTERNIST_FAULTS_DIR"
)

// Areas are the parts of the table, in its order.
var Areas = []string{"Source", "Journal", "Mirror", "Schema", "Values", "Sinks", "Process", "Resources", "API", "Archive"}

// Fault is one thing that goes wrong, and what is promised when it does.
type Fault struct {
	ID      string // unique, lower case with dashes: "journal-bit-flipped"
	Area    string // one of Areas
	Fault   string // what happens, as an operator would say it
	Promise string // what holds then
	Answer  string // what the operator does: a command in backquotes, or "nothing: " and why
	Heavy   bool   // is caused only with LANTERNIST_FAULTS=all
}

// Result is what a test measured. It is safe for concurrent use.
type Result struct {
	Fault
	Package  string
	Test     string
	Outcome  string    // "held" or "broken"
	Measured time.Time // the day

	Recovery time.Duration // from the end of the fault until everything was right again; 0: not measured
	Resent   *int          `json:",omitempty"` // writes or transactions sent again
	Letters  *int          `json:",omitempty"` // dead letters parked
	Note     string        // more figures, in a few words

	mu sync.Mutex
}

var idPattern = regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`)

// Cause says that the test causes the fault. A heavy one is skipped unless asked for. The result is kept when the test ends.
// A test may cause several faults, and a fault belongs to one test.
func Cause(t testing.TB, f Fault) *Result {
	t.Helper()
	if !idPattern.MatchString(f.ID) || !slices.Contains(Areas, f.Area) || f.Fault == "" || f.Promise == "" || f.Answer == "" {
		t.Fatalf("fault %q is not described in full: %+v", f.ID, f)
	}
	if f.Heavy && os.Getenv(VariableSize) != "all" {
		t.Skipf("heavy: set %s=all", VariableSize)
	}
	r := &Result{Fault: f, Package: caller(2), Test: t.Name()}
	t.Cleanup(func() {
		if !t.Skipped() {
			r.keep(t)
		}
	})
	return r
}

// Heavy says whether heavy faults are caused.
func Heavy() bool { return os.Getenv(VariableSize) == "all" }

// Recovered notes how long it took until everything was right again after the fault's end. The longest counts.
func (r *Result) Recovered(d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.Recovery = max(r.Recovery, d)
}

// Repeated notes writes or transactions that were sent again.
func (r *Result) Repeated(n int) { r.add(&r.Resent, n) }

// Parked notes dead letters.
func (r *Result) Parked(n int) { r.add(&r.Letters, n) }

func (r *Result) add(to **int, n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if *to != nil {
		n += **to
	}
	*to = &n
}

// Notef adds figures in a few words.
func (r *Result) Notef(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.Note != "" {
		r.Note += "; "
	}
	r.Note += fmt.Sprintf(format, args...)
}

func (r *Result) keep(t testing.TB) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.Outcome, r.Measured = "held", time.Now().UTC().Truncate(24*time.Hour)
	if t.Failed() {
		r.Outcome = "broken"
	}
	line, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		t.Errorf("fault %s: %v", r.ID, err)
		return
	}
	dir := os.Getenv(VariableDir)
	if dir == "" {
		t.Logf("fault %s: %s, recovery %v, %s", r.ID, r.Outcome, r.Recovery.Round(time.Millisecond), r.Note)
		return
	}
	if err := os.WriteFile(filepath.Join(dir, r.ID+".json"), append(line, '\n'), 0o644); err != nil { //nolint:gosec // a report
		t.Errorf("fault %s: %v", r.ID, err)
	}
}

// caller is the package of the caller, as a path inside the module.
func caller(skip int) string {
	pc, _, _, _ := runtime.Caller(skip)
	name := runtime.FuncForPC(pc).Name()
	slash := strings.LastIndexByte(name, '/') + 1
	dot := strings.IndexByte(name[slash:], '.')
	path := strings.TrimSuffix(name[:slash+dot], "_test")
	return strings.TrimPrefix(path, "github.com/lanternist/lanternist/")
}
