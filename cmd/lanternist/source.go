package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/lanternist/lanternist/config"
	"github.com/lanternist/lanternist/control"
	"github.com/lanternist/lanternist/identity"
	"github.com/lanternist/lanternist/row"
)

type sourceCmd struct {
	Show      sourceShowCmd      `cmd:"" help:"What belongs together (source, slot, journal, mirror), and what is not as it was, with the command to run next. The daemon must not run."`
	AcceptGap sourceAcceptGapCmd `cmd:"" name:"accept-gap" help:"Accept that changes are missing in the journal: make a new slot, write the gap into the journal, have all tables loaded. The daemon must not run."`
}

type sourceShowCmd struct {
	configFlag
	JSON bool `help:"Print as JSON."`
}

// sourceReport is what source show prints for machines.
type sourceReport struct {
	Record   *identity.Record  `json:"record"`
	Findings identity.Findings `json:"findings"`
	Pending  bool              `json:"pending_gap"`
}

// Run compares what is stored with the source. It exits with 2 when something keeps the daemon from starting.
func (c *sourceShowCmd) Run(a *app) error {
	cfg, err := c.load()
	if err != nil {
		return err
	}
	report, err := examine(a.ctx, cfg)
	if err != nil {
		return err
	}
	if c.JSON {
		err = printJSON(a.stdout, report)
	} else {
		err = printIdentity(a, report)
	}
	if err == nil && report.Findings.Stops() {
		err = &exitError{code: exitBadInput}
	}
	return err
}

// examine looks at what is stored while no daemon runs.
func examine(ctx context.Context, cfg *config.Config) (report sourceReport, err error) {
	if !anythingStored(cfg) {
		return report, badInput(fmt.Errorf("nothing has run with %s yet; start with: lanternist run --config %s", cfg.File, cfg.File))
	}
	store, err := openControl(ctx, cfg, quiet)
	if errors.Is(err, control.ErrLocked) {
		return report, fmt.Errorf("a daemon is running, which compares at its start and at every connection; see: lanternist status --config %s: %w", cfg.File, err)
	}
	if err != nil {
		return report, err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	facts, err := storedIdentity(ctx, cfg, store)
	if err != nil {
		return report, err
	}
	pending, err := readPending(ctx, store)
	report = sourceReport{Record: facts.Record, Findings: identity.Compare(facts), Pending: pending != nil}
	if report.Findings == nil {
		report.Findings = identity.Findings{}
	}
	return report, err
}

func printIdentity(a *app, report sourceReport) error {
	if r := report.Record; r != nil {
		fmt.Fprintf(a.stdout, "source       system %s timeline %d, database %s (OID %d)\n", r.Source.SystemID, r.Source.Timeline, r.Source.Database, r.Source.DatabaseOID)
		fmt.Fprintf(a.stdout, "slot         %s, created at %s\n", r.Slot.Name, r.Slot.Created)
		fmt.Fprintf(a.stdout, "publication  %s (OID %d) of role %s\n", r.Source.Publication, r.Source.PublicationOID, r.Source.PublicationOwner)
		fmt.Fprintf(a.stdout, "journal      %s, up to %s at least\nmirror       %s\n", r.Journal.ID, r.Journal.Head, r.Mirror)
		for projector, generation := range r.Generations {
			fmt.Fprintf(a.stdout, "sink         %s: %s\n", projector, generation)
		}
		if r.Gap != 0 {
			fmt.Fprintf(a.stdout, "last gap     at %s; see: lanternist journal dump --events --from %d --to %d\n", r.Gap, r.Gap.Sequence(), r.Gap.Sequence())
		}
	}
	if report.Pending {
		fmt.Fprintf(a.stdout, "\nA gap was accepted and is not finished. Next: %s, or lanternist run\n", identity.AcceptCommand)
	}
	if len(report.Findings) == 0 {
		fmt.Fprintln(a.stdout, "\nEverything is as it was. Next: lanternist run")
		return nil
	}
	for i, f := range report.Findings {
		fmt.Fprintf(a.stdout, "\n%d. %s: %s\n   next: %s\n", i+1, f.Code, f.What, f.Next)
	}
	return nil
}

type sourceAcceptGapCmd struct {
	configFlag
}

// Run opens everything as the daemon does, with consent, and closes it again.
func (c *sourceAcceptGapCmd) Run(a *app) error {
	cfg, err := c.load()
	if err != nil {
		return err
	}
	d, err := openDeploymentWith(a.ctx, cfg, a.logger(config.Log{Level: "warn"}), true)
	if err != nil {
		return err
	}
	gap := d.gap
	if err := d.close(); err != nil {
		return err
	}
	if gap == nil {
		fmt.Fprintln(a.stdout, "There is no gap: everything is as it was. Next: lanternist run")
		return nil
	}
	fmt.Fprintf(a.stdout, "Accepted: changes from %s to %s are missing in the journal", gap.Info.From, gap.Info.To)
	if gap.Anew {
		fmt.Fprint(a.stdout, ", which begins anew")
	}
	fmt.Fprintln(a.stdout, ".\nAll tables are loaded at the next start, and the views are built from them; until then readers see what there is.\nNext: lanternist run")
	return nil
}

// noSchemas is for a mirror of which no row is read.
type noSchemas struct{}

func (noSchemas) Schema(uint32) (*row.Schema, bool) { return nil, false }
