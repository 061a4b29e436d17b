// Command bench measures how fast changes travel from Postgres into the journal, into Redis and into Elasticsearch,
// and what of the machine they use on the way. Every rate is also given as a ratio to a limit that was measured in
// the same run: a reader that only receives, raw bulk requests and raw pipelines of the same documents.
//
// It starts services of its own. Each thing measured runs in a process of its own, so that its CPU time and its memory
// are nobody else's: the daemon as users run it, or this binary again (see worker.go). README.md is the method.
//
// A workload is one file and one entry in workloads.go.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
)

// options are the flags.
type options struct {
	changes  int
	rows     int
	loadRows int
	runs     int
	only     []string // names of workloads; none: all
	dir      string
	heap     string
	json     bool
	verbose  bool
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := realMain(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code) //nolint:forbidigo // the one place that exits
}

// realMain is main without the process around it: 0 done, 1 it did not work, 2 the flags are wrong.
func realMain(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	if len(args) == 2 && args[0] == workerFlag {
		return exitCode(work(ctx, args[1], os.Stdin, stdout), stderr)
	}
	o, err := parseOptions(args, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		fmt.Fprintln(stderr, "bench:", err)
		return 2
	}
	return exitCode(run(ctx, o, stdout, stderr), stderr)
}

func exitCode(err error, stderr io.Writer) int {
	if err == nil {
		return 0
	}
	fmt.Fprintln(stderr, "bench:", err)
	return 1
}

// run measures and prints.
func run(ctx context.Context, o options, stdout, stderr io.Writer) error {
	result, err := measure(ctx, o, stderr)
	if err != nil {
		return err
	}
	if o.json {
		return result.printJSON(stdout)
	}
	return result.print(stdout)
}

// parseOptions reads the flags and names everything that is wrong with their values.
func parseOptions(args []string, stderr io.Writer) (options, error) {
	var o options
	var only string
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.IntVar(&o.changes, "changes", 200_000, "changes in the backlog, in transactions of ten")
	f.IntVar(&o.rows, "rows", 100_000, "rows of the table before the backlog; more than a twentieth of -changes")
	f.IntVar(&o.loadRows, "load-rows", 500_000, "rows of the table that the workload load loads")
	f.IntVar(&o.runs, "runs", 1, "runs, of which medians are printed; 3 for figures that are to be published")
	f.StringVar(&only, "only", "", "workloads to run, separated by commas: "+strings.Join(workloadNames(), ", ")+"; default all")
	f.StringVar(&o.dir, "dir", "", "folder for services and data, on the disk to measure; default the system's temporary folder")
	f.StringVar(&o.heap, "heap", "1g", "heap of Elasticsearch")
	f.BoolVar(&o.json, "json", false, "print JSON")
	f.BoolVar(&o.verbose, "v", false, "show what the daemons log")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if only != "" {
		o.only = strings.Split(only, ",")
	}
	return o, o.validate(f.Args())
}

func (o options) validate(rest []string) error {
	var errs []error
	if len(rest) > 0 {
		errs = append(errs, fmt.Errorf("unexpected arguments: %s", strings.Join(rest, " ")))
	}
	if o.changes < backlogCycle || o.changes%backlogCycle != 0 {
		errs = append(errs, fmt.Errorf("-changes %d: want a multiple of %d", o.changes, backlogCycle))
	}
	if o.rows < 2+o.changes/backlogCycle {
		errs = append(errs, fmt.Errorf("-rows %d: the backlog deletes %d rows, and updates others", o.rows, o.changes/backlogCycle))
	}
	if o.loadRows < 1 {
		errs = append(errs, fmt.Errorf("-load-rows %d: want at least 1", o.loadRows))
	}
	if o.runs < 1 {
		errs = append(errs, fmt.Errorf("-runs %d: want at least 1", o.runs))
	}
	for _, name := range o.only {
		if !slices.Contains(workloadNames(), name) {
			errs = append(errs, fmt.Errorf("-only: there is no workload %q; there are %s", name, strings.Join(workloadNames(), ", ")))
		}
	}
	return errors.Join(errs...)
}
