package faults_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// faultsLeast is how many faults the page lists at least.
const faultsLeast = 45

// row is a line of one of the page's tables: fault, promise, answer, package and test, result.
var row = regexp.MustCompile("^\\| (.+) \\| (.+) \\| (.+) \\| `([^`]+)` (\\S+) \\| (.+) \\|$")

// TestPageListsWhatIsThere sees to it that docs/reliability.md lists enough faults, each once, that each held, and that the tests
// that it names are there.
func TestPageListsWhatIsThere(t *testing.T) {
	root := filepath.Join("..", "..")
	text, err := os.ReadFile(filepath.Join(root, "docs", "reliability.md"))
	if errors.Is(err, fs.ErrNotExist) {
		t.Skip("make faults has not been run")
	}
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for line := range strings.Lines(string(text)) {
		m := row.FindStringSubmatch(strings.TrimSpace(line))
		if m == nil {
			continue
		}
		fault, answer, dir, test, result := m[1], m[3], m[4], m[5], m[6]
		if seen[fault] {
			t.Errorf("%q stands there twice", fault)
		}
		seen[fault] = true
		if !strings.HasPrefix(result, "held") {
			t.Errorf("%q: %s", fault, result)
		}
		if !strings.Contains(answer, "`") && !strings.Contains(answer, "nothing: ") {
			t.Errorf("%q: the answer %q has no command", fault, answer)
		}
		name, _, _ := strings.Cut(test, "/")
		if !has(t, filepath.Join(root, filepath.FromSlash(dir)), name) {
			t.Errorf("%q: there is no %s in %s", fault, name, dir)
		}
	}
	if len(seen) < faultsLeast {
		t.Errorf("the page lists %d faults, want at least %d", len(seen), faultsLeast)
	}
}

// has says whether a test of that name is in a package's folder.
func has(t *testing.T, dir, test string) bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(text), "func "+test+"(t *testing.T)") {
			return true
		}
	}
	return false
}
