// Command lanternist projects a Postgres database's changes onto Elasticsearch and Redis.
//
// It is the daemon (run), the commands that operate it (check, status, rebuild, deadletters, journal) and a
// demonstration that needs nothing but this binary's source (demo). lanternist --help lists everything.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"
)

// version is set when a release is built.
var version = "dev"

// Exit codes. They are documented in README.md and in lanternist --help.
const (
	exitOK          = 0
	exitFailed      = 1   // it was tried and did not work
	exitBadInput    = 2   // flags, configuration, views, database or sinks are not as they must be
	exitDifferent   = 3   // documents differ from the source, or what is stored is damaged
	exitInterrupted = 130 // a second signal
)

type commands struct {
	Demo        demoCmd        `cmd:"" help:"Local services, a shop's data, live traffic: see it work. With --once it checks itself and exits."`
	Init        initCmd        `cmd:"" help:"Look at a database and write a starter configuration."`
	Check       checkCmd       `cmd:"" help:"Configuration, database and sinks: every problem at once, with its fix; and what would change."`
	Run         runCmd         `cmd:"" help:"The daemon."`
	Source      sourceCmd      `cmd:"" help:"What belongs together: source, slot, journal, mirror; and gaps that are accepted."`
	Apply       applyCmd       `cmd:"" help:"Have the running daemon take over what has changed in its configuration: tables and views."`
	Status      statusCmd      `cmd:"" help:"Per projector: offset, lag and state."`
	Rebuild     rebuildCmd     `cmd:"" help:"Fill a new generation of a view from the mirror and promote it."`
	Replay      replayCmd      `cmd:"" help:"Run stored events of the journal again through one projector."`
	Verify      verifyCmd      `cmd:"" help:"Compare a view's documents with what they should be; with --repair mend them."`
	Schemas     schemasCmd     `cmd:"" help:"Definitions of the captured tables: list them, show their versions, acknowledge a change."`
	Deadletters deadlettersCmd `cmd:"" help:"Documents that a sink refused: look at them, try them again, discard them."`
	Events      eventsCmd      `cmd:"" help:"Print events, stored ones or as they come."`
	Journal     journalCmd     `cmd:"" help:"Look into the journal, archive it, verify it, restore it."`
	Mirror      mirrorCmd      `cmd:"" help:"Copies of the mirror in the archive, from which views as they were can be made."`
	Config      configCmd      `cmd:"" help:"Print the configuration in force, secrets masked."`
	Version     versionCmd     `cmd:"" help:"Print the version."`
}

// app is what every command is handed.
type app struct {
	ctx    context.Context // ends at the first SIGINT or SIGTERM
	stdout io.Writer
	stderr io.Writer
	json   bool // the command has --json
}

// exitError is an error with an exit code of its own.
type exitError struct {
	code int
	err  error // nil: everything has been said
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// badInput is an error that ends with exitBadInput.
func badInput(err error) error { return &exitError{exitBadInput, err} }

func main() {
	os.Exit(realMain(os.Args[1:], os.Stdout, os.Stderr))
}

func realMain(args []string, stdout, stderr io.Writer) int {
	ctx, stop := untilSignal()
	defer stop()
	var cmds commands
	code := exitOK
	a := &app{ctx: ctx, stdout: stdout, stderr: stderr}
	parser, err := kong.New(&cmds,
		kong.Name("lanternist"),
		kong.Description("Postgres changes, in order and exactly, in Elasticsearch and Redis.\n\n"+
			"Exit codes: 0 done, 1 failed, 2 bad input (flags, configuration, database, sinks), 3 documents differ or stored data is damaged, 130 interrupted twice."),
		kong.UsageOnError(),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
		kong.Writers(stdout, stderr),
		kong.Exit(func(int) { code = -1 }), // --help: nothing is run
		kong.Bind(a),
	)
	if err != nil {
		fmt.Fprintln(stderr, "lanternist:", err)
		return exitFailed
	}
	kctx, err := parser.Parse(args)
	if code < 0 {
		return exitOK
	}
	if err != nil {
		fmt.Fprintf(stderr, "lanternist: %v\n\nSee: lanternist --help\n", err)
		return exitBadInput
	}
	a.json = wantsJSON(kctx)
	return exitCode(kctx.Run(), stderr)
}

// wantsJSON says whether the command that was asked for was given --json.
func wantsJSON(kctx *kong.Context) bool {
	for _, flag := range kctx.Flags() {
		if flag.Name == "json" {
			given, _ := kctx.FlagValue(flag).(bool)
			return given
		}
	}
	return false
}

// exitCode prints an error, if there is something to print, and says what to exit with.
func exitCode(err error, stderr io.Writer) int {
	if err == nil {
		return exitOK
	}
	code := exitFailed
	var e *exitError
	if errors.As(err, &e) {
		code = e.code
		if e.err == nil {
			return code
		}
	}
	fmt.Fprintf(stderr, "lanternist: %v\n", err)
	return code
}

// untilSignal is a context that the first SIGINT or SIGTERM ends. The second ends the process.
func untilSignal() (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	done := make(chan struct{})
	go func() {
		select {
		case s := <-signals:
			cancel(stopped{s})
		case <-done:
			return
		}
		select {
		case <-signals:
			os.Exit(exitInterrupted)
		case <-done:
		}
	}()
	return ctx, func() {
		signal.Stop(signals)
		close(done)
		cancel(nil)
	}
}

// stopped is the cause of a context that a signal ended.
type stopped struct{ signal os.Signal }

func (s stopped) Error() string { return "stopped by " + s.signal.String() }
