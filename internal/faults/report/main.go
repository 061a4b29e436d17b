// Command report makes docs/reliability.md of the results that tests kept (see package faults):
//
//	report DIR > docs/reliability.md
//
// It fails when a promise did not hold.
package main

import (
	"bufio"
	"cmp"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/lanternist/lanternist/internal/faults"
)

//go:embed preface.md
var preface string

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "report:", err)
		os.Exit(1) //nolint:forbidigo // this is a main
	}
}

func run(args []string, out io.Writer) error {
	if len(args) != 1 {
		return errors.New("usage: report DIR")
	}
	results, err := read(args[0])
	if err != nil {
		return err
	}
	if err := write(out, results); err != nil {
		return err
	}
	var broken []string
	for _, r := range results {
		if r.Outcome != "held" {
			broken = append(broken, r.ID)
		}
	}
	if len(broken) > 0 {
		return fmt.Errorf("did not hold: %s", strings.Join(broken, ", "))
	}
	return nil
}

// read returns the results, by area and id.
func read(dir string) ([]*faults.Result, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil {
		return nil, err
	}
	var results []*faults.Result
	for _, file := range files {
		content, err := os.ReadFile(file) //nolint:gosec // the folder that was named
		if err != nil {
			return nil, err
		}
		r := new(faults.Result)
		if err := json.Unmarshal(content, r); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		results = append(results, r)
	}
	slices.SortFunc(results, func(a, b *faults.Result) int {
		return cmp.Or(cmp.Compare(slices.Index(faults.Areas, a.Area), slices.Index(faults.Areas, b.Area)), cmp.Compare(a.ID, b.ID))
	})
	return results, nil
}

func write(to io.Writer, results []*faults.Result) error {
	out := bufio.NewWriter(to)
	fmt.Fprintln(out, preface)
	fmt.Fprintf(out, "%d faults.\n", len(results))
	for _, area := range faults.Areas {
		if !slices.ContainsFunc(results, func(r *faults.Result) bool { return r.Area == area }) {
			continue
		}
		fmt.Fprintf(out, "\n## %s\n\n| Fault | Promise | What you do | Test | Last result |\n|---|---|---|---|---|\n", area)
		for _, r := range results {
			if r.Area == area {
				fmt.Fprintf(out, "| %s | %s | %s | `%s` %s | %s |\n", cell(r.Fault.Fault), cell(r.Promise), cell(r.Answer), r.Package, r.Test, cell(measured(r)))
			}
		}
	}
	return out.Flush()
}

func cell(text string) string {
	return strings.NewReplacer("|", `\|`, "\n", " ").Replace(text)
}

// measured is what a test found, in words.
func measured(r *faults.Result) string {
	words := []string{r.Outcome}
	if r.Recovery > 0 {
		words = append(words, "recovered in "+r.Recovery.Round(roundTo(r.Recovery)).String())
	}
	if r.Resent != nil {
		words = append(words, fmt.Sprintf("%d sent again", *r.Resent))
	}
	if r.Letters != nil {
		words = append(words, fmt.Sprintf("%d parked", *r.Letters))
	}
	if r.Note != "" {
		words = append(words, r.Note)
	}
	return strings.Join(words, "; ")
}

func roundTo(d time.Duration) time.Duration {
	if d > time.Second {
		return 100 * time.Millisecond
	}
	return time.Millisecond
}
