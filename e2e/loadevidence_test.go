package e2e

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/lanternist/lanternist/mirror"
	"github.com/lanternist/lanternist/row"
)

// copies is what the source is asked for, as a gate before it sees that, held against what the mirror has durably: a
// range that a dead process has left as done must not be asked for by a later one.
type copies struct {
	t *testing.T

	mu   sync.Mutex
	seen map[string]int // COPY statements, by what they read
	done map[string]int // ranges that are done, by what reads them → the process after which they were
	late []string       // statements that read what was done
}

func newCopies(t *testing.T) *copies {
	return &copies{t: t, seen: map[string]int{}, done: map[string]int{}}
}

var copyStatement = regexp.MustCompile(`(?s)^COPY \(SELECT .*? FROM (.*)\) TO STDOUT`)

// see takes a statement that the daemon sends.
func (c *copies) see(statement string) {
	m := copyStatement.FindStringSubmatch(statement)
	if m == nil || strings.Contains(m[1], " IN (") { // rows that moved between snapshots, by key
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seen[m[1]]++
	if process, ok := c.done[m[1]]; ok {
		c.late = append(c.late, fmt.Sprintf("%s, which was done when process %d ended", m[1], process))
	}
}

// left looks into what the process with a number, which has ended, has left of the mirror.
func (c *copies) left(in *installation, process int) {
	c.t.Helper()
	dir := filepath.Join(c.t.TempDir(), "mirror")
	if err := os.CopyFS(dir, os.DirFS(filepath.Join(in.dir, "data", "mirror"))); err != nil {
		if os.IsNotExist(err) {
			return // it was killed before it had one
		}
		c.t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	m, err := mirror.Open(mirror.Config{Dir: dir}, noSchemas{}, slog.New(slog.DiscardHandler))
	if err != nil {
		c.t.Fatal(err)
	}
	defer func() {
		if err := m.Close(); err != nil {
			c.t.Error(err)
		}
	}()
	for _, table := range m.Tables() {
		state, _, err := m.LoadState(table.OID)
		if err != nil {
			c.t.Fatal(err)
		}
		for _, r := range state.Ranges {
			if r.Done {
				c.finished(from(table.Name, r), process)
			}
		}
	}
}

func (c *copies) finished(what string, process int) {
	c.t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.done[what]; !ok {
		c.done[what] = process
	}
	if c.seen[what] == 0 {
		c.t.Errorf("%s is done, and the source was never asked for it", what)
	}
}

// check fails the test when something was read that was done.
func (c *copies) check() {
	c.t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	statements, again := 0, 0
	for what, n := range c.seen {
		statements += n
		again += n - 1
		if _, ok := c.done[what]; !ok {
			c.t.Errorf("%s was read and is not done", what)
		}
	}
	for _, what := range c.late {
		c.t.Errorf("was read again: %s", what)
	}
	c.t.Logf("%d ranges were read by %d COPY statements; %d of these went on with what a kill had cut off, none read what was done", len(c.done), statements, again)
}

// from is what a COPY of a range has after its FROM.
func from(table string, r mirror.LoadRange) string {
	name, columns := strings.TrimPrefix(table, "public."), `"id"`
	what := "ONLY " + table
	if name == "parted" {
		what = table
	}
	if name == "pairs" {
		columns = `("id", "part")`
	}
	var terms []string
	for _, end := range []struct {
		operator string
		values   []string
	}{{">=", r.From}, {"<", r.To}} {
		if end.values == nil {
			continue
		}
		values := "'" + strings.Join(end.values, "', '") + "'"
		if name == "pairs" {
			values = "(" + values + ")"
		}
		terms = append(terms, columns+" "+end.operator+" "+values)
	}
	if len(terms) == 0 {
		return what
	}
	return what + " WHERE " + strings.Join(terms, " AND ")
}

// noSchemas is for a mirror of which no row is read.
type noSchemas struct{}

func (noSchemas) Schema(uint32) (*row.Schema, bool) { return nil, false }

// TestCopiesSeeWhatIsReadAgain tests the tests' own eye.
func TestCopiesSeeWhatIsReadAgain(t *testing.T) {
	c := newCopies(t)
	c.see(`COPY (SELECT "id", "part", "n" FROM ONLY public.pairs WHERE ("id", "part") >= ('pair 1', '4') AND ("id", "part") < ('pair 2', '0')) TO STDOUT` + "\x00")
	c.see(`COPY (SELECT "id", "n" FROM ONLY public.numbers WHERE "id" < '500') TO STDOUT`)
	c.finished(from("public.pairs", mirror.LoadRange{From: []string{"pair 1", "4"}, To: []string{"pair 2", "0"}}), 3)
	c.see(`COPY (SELECT "id", "n" FROM ONLY public.numbers WHERE "id" < '500') TO STDOUT`)
	if len(c.late) > 0 {
		t.Fatalf("%q was not done", c.late)
	}
	c.see(`COPY (SELECT "id", "part", "n" FROM ONLY public.pairs WHERE ("id", "part") >= ('pair 1', '4') AND ("id", "part") < ('pair 2', '0')) TO STDOUT`)
	if len(c.late) != 1 || !strings.Contains(c.late[0], "process 3") {
		t.Errorf("read again: %q", c.late)
	}
}

// peakMemory is the most memory that the process has had resident, in bytes; 0 where the system does not tell.
func (d *daemon) peakMemory() int64 {
	d.in.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", d.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kib, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(value), "kB")), 10, 64)
			if err != nil {
				d.in.t.Fatalf("%s: %v", line, err)
			}
			return kib << 10
		}
	}
	return 0
}
