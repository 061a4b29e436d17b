package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/lanternist/lanternist/httpapi"
	"github.com/lanternist/lanternist/projectors"
)

type statusCmd struct {
	configFlag
	JSON  bool `help:"Print as JSON."`
	Check bool `help:"Print nothing; exit with 0 when the daemon is ready, else with 1. For health checks."`
}

// Run asks the daemon where everything stands.
func (c *statusCmd) Run(a *app) error {
	_, client, err := c.connect()
	if err != nil {
		return err
	}
	var s httpapi.Status
	err = client.get(a.ctx, "/v1/status", nil, &s)
	switch {
	case c.Check && (err != nil || !s.Ready):
		return &exitError{code: exitFailed}
	case c.Check:
		return nil
	case errors.Is(err, errNoDaemon):
		if reasons := c.whyNot(a); reasons != nil {
			return fmt.Errorf("%w, and it would not start: %w", err, reasons)
		}
		return fmt.Errorf("%w; start it with: lanternist run --config %s", err, c.File)
	case err != nil:
		return err
	case c.JSON:
		return printJSON(a.stdout, s)
	}
	return c.print(a, &s)
}

// whyNot is what keeps a daemon from starting, as far as that is a matter of identity; nil when nothing is known to.
// What cannot be looked at is left to the start to say.
func (c *statusCmd) whyNot(a *app) error {
	cfg, err := c.load()
	if err != nil || !anythingStored(cfg) {
		return nil
	}
	ctx, cancel := context.WithTimeout(a.ctx, checkTimeout)
	defer cancel()
	report, err := examine(ctx, cfg)
	if err != nil || !report.Findings.Stops() {
		return nil
	}
	return report.Findings
}

func (c *statusCmd) print(a *app, s *httpapi.Status) error {
	ready := "ready"
	if !s.Ready {
		ready = "not ready yet"
	}
	source := "connected"
	if !s.Source.Connected {
		source = "NOT CONNECTED"
	}
	fmt.Fprintf(a.stdout, "%s since %s\n", ready, s.Started.Local().Format(time.DateTime))
	fmt.Fprintf(a.stdout, "source   %s, at %s, acknowledged %s, behind %s\n", source, s.Source.WALEnd, s.Source.Acknowledged, bytesText(int64(s.Source.LagBytes)))
	printSlot(a.stdout, s.Source.Slot)
	for _, w := range s.Disks {
		fmt.Fprintf(a.stdout, "DISK     %s waits since %s for %s: %s\n", w.Store, w.Since.Local().Format(time.DateTime), w.Path, w.Error)
	}
	fmt.Fprintf(a.stdout, "journal  %s to %s, up to %s\n", s.Journal.First, s.Journal.Head, s.Journal.LSN)
	printArchive(a.stdout, s.Journal.Archive)
	fmt.Fprintf(a.stdout, "mirror   %s, up to %s\n", s.Mirror.Offset, s.Mirror.LSN)
	printSinks(a.stdout, s.Sinks)
	printJobs(a.stdout, s.Jobs)
	fmt.Fprintln(a.stdout)
	rows := make([][]string, 0, len(s.Projectors))
	notes := ""
	for _, t := range s.Load.Failing {
		notes += fmt.Sprintf("\n%s cannot be loaded, and is tried again (%d attempts so far): %s\n", t.Table, t.Attempts, t.Error)
	}
	for _, p := range s.Projectors {
		rows = append(rows, []string{p.Projector, fmt.Sprintf("g%d", p.Generation), string(p.State), p.Offset.String(), p.LSN,
			thousands(p.LagEvents), bytesText(p.LagBytes), fmt.Sprintf("%.1f s", p.LagSeconds), thousands(p.Documents + p.Deletes), thousands(p.Parked)})
		for _, g := range p.Generations {
			if !g.Live && g.Refusal == "" {
				notes += fmt.Sprintf("\n%s keeps generation %d, at %s, to go back to; see: lanternist rebuild --list %s\n", p.Projector, g.Number, g.LSN, p.View)
			}
		}
		if p.Pending != "" {
			notes += fmt.Sprintf("\n%s: pending: %s\n", p.Projector, p.Pending)
		}
		if b := p.Build; b != nil {
			notes += fmt.Sprintf("\n%s: %s, %s, %s of %s\n", p.Projector, b.Kind, b.Step, thousands(b.Done), thousands(b.Total))
			if b.HeldBack != "" {
				notes += fmt.Sprintf("  held back: %s\n", b.HeldBack)
			}
		}
		if p.Error != "" {
			notes += fmt.Sprintf("\n%s: %s\n", p.Projector, p.Error)
		}
		if p.Hint != "" {
			notes += fmt.Sprintf("  %s\n", p.Hint)
		}
	}
	for _, d := range s.DeadLetters {
		notes += fmt.Sprintf("\n%s: %s dead letters (%s), the oldest since %s; see: lanternist deadletters list --projector %s\n",
			d.Projector, thousands(d.Letters), d.Class, d.Oldest.Local().Format(time.DateTime), d.Projector)
	}
	if s.Alert != nil && s.Alert.Error != "" {
		notes += fmt.Sprintf("\nthe alert of dead letters has %d notices that nobody takes: %s\n", s.Alert.Pending, s.Alert.Error)
	}
	err := table(a.stdout, []string{"PROJECTOR", "GEN", "STATE", "OFFSET", "LSN", "EVENTS", "BYTES", "BEHIND", "DOCUMENTS", "PARKED"}, rows)
	err = errors.Join(err, frozenTable(a, s.Frozen))
	fmt.Fprint(a.stdout, notes)
	return err
}

// printSlot prints what the source keeps for the slot, and for whom, when there is something to say.
func printSlot(w io.Writer, s *httpapi.SlotStatus) {
	if s == nil || s.Holder == nil && s.WALStatus == "reserved" {
		return
	}
	fmt.Fprintf(w, "slot     the source keeps %s of log for it (%s)\n", bytesText(int64(s.RetainedBytes)), s.WALStatus)
	if s.Holder != nil {
		fmt.Fprintf(w, "         held by %s\n", s.Holder.Text)
	}
}

// printJobs prints how far long work is that runs.
func printJobs(w io.Writer, jobs []httpapi.Job) {
	for _, j := range jobs {
		if j.State == httpapi.JobRunning {
			line := progressLine{Kind: j.Kind, Subject: j.Subject, Reading: j.Reading, Unit: j.Unit}
			fmt.Fprintf(w, "running  %s\n", line.text())
		}
	}
}

// printSinks prints which sinks do not take what is sent to them.
func printSinks(w io.Writer, sinks []projectors.SinkStatus) {
	for _, s := range sinks {
		c := s.Circuit
		if c.State == projectors.CircuitClosed && c.Reads == projectors.CircuitClosed {
			continue
		}
		fmt.Fprintf(w, "%-8s circuit %s since %s", s.Sink, c.State, c.Since.Local().Format(time.DateTime))
		if c.Reads != projectors.CircuitClosed {
			fmt.Fprintf(w, ", reads are refused")
		}
		fmt.Fprintf(w, ", probed %s times: %s\n", thousands(c.Probes), c.Error)
	}
}

// printArchive prints how far the journal's archive is, if it has one.
func printArchive(w io.Writer, s *httpapi.ArchiveStatus) {
	if s == nil {
		return
	}
	fmt.Fprintf(w, "archive  %s, up to batch %s, %s files, %s, behind %s", s.State, thousands(s.LastBatch), thousands(s.Files), bytesText(s.Bytes), bytesText(int64(s.Behind)))
	if s.Missing > 0 {
		fmt.Fprintf(w, ", %s FILES MISSING; see: lanternist journal verify", thousands(s.Missing))
	}
	if s.Error != "" {
		fmt.Fprintf(w, "\n         %s", s.Error)
	}
	fmt.Fprintln(w)
}

// bytesText prints a number of bytes for people.
func bytesText(n int64) string {
	const unit = 1024
	if n < unit {
		return fmt.Sprintf("%d B", n)
	}
	value, exp := float64(n)/unit, 0
	for ; value >= unit && exp < 3; exp++ {
		value /= unit
	}
	return fmt.Sprintf("%.1f %ciB", value, "KMGT"[exp])
}
