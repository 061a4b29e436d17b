package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"
)

type replayCmd struct {
	configFlag
	Projector string `arg:"" help:"The projector, as status names it: order_summary.search."`
	From      string `required:"" help:"The first event: its offset, or the position (0/16B3748) or time (2026-01-31T12:00:00Z) of its commit." placeholder:"OFFSET|LSN|TIME"`
	To        string `help:"The last event, in the same way. Default: the journal's end." placeholder:"OFFSET|LSN|TIME"`
	DryRun    bool   `help:"Count the events and the documents that they affect; write nothing."`
	JSON      bool   `help:"Print the outcome as JSON."`
}

// replayOutcome is what a replay did, as the API says it and as --json prints it.
type replayOutcome struct {
	Projector    string    `json:"projector"`
	State        string    `json:"state"`
	DryRun       bool      `json:"dry_run"`
	From         uint64    `json:"from"`
	To           uint64    `json:"to"`
	Started      time.Time `json:"started"`
	Finished     time.Time `json:"finished,omitzero"`
	Batches      int64     `json:"batches"`
	BatchesTotal int64     `json:"batches_total"`
	Events       int64     `json:"events"`
	Touching     int64     `json:"touching"`
	Documents    int64     `json:"documents"`
	Deleted      int64     `json:"deleted"`
	Parked       int64     `json:"parked"`
	Reconciled   bool      `json:"reconciled"`
	Error        string    `json:"error,omitempty"`
}

// Run asks the running daemon for a replay and follows it.
func (c *replayCmd) Run(a *app) error {
	_, client, err := c.connect()
	if err != nil {
		return err
	}
	bar := a.newProgress("replay "+c.Projector, "batches")
	outcome, err := c.ask(a.ctx, client, bar)
	bar.finish()
	if errors.Is(err, errNoDaemon) {
		return fmt.Errorf("%w; a replay goes through the daemon that writes the documents; start it: lanternist run", err)
	}
	var refused *answerError
	if errors.As(err, &refused) && (refused.status == http.StatusNotFound || refused.status == http.StatusUnprocessableEntity) {
		return badInput(err)
	}
	if err != nil {
		return err
	}
	return c.print(a, outcome)
}

// ask starts a replay in the daemon and follows it. When this command ends early, the daemon goes on.
func (c *replayCmd) ask(ctx context.Context, client *client, bar *progress) (replayOutcome, error) {
	path := "/v1/projectors/" + url.PathEscape(c.Projector) + "/replay"
	query := url.Values{"from": {c.From}}
	if c.To != "" {
		query.Set("to", c.To)
	}
	if c.DryRun {
		query.Set("dry_run", "true")
	}
	var answer replayOutcome
	if err := client.post(ctx, path+"?"+query.Encode(), &answer); err != nil {
		return answer, err
	}
	for {
		bar.set(answer.Batches, answer.BatchesTotal)
		if answer.State != "running" {
			return answer, nil
		}
		select {
		case <-ctx.Done():
			return answer, fmt.Errorf("%w; the daemon goes on with the replay", context.Cause(ctx))
		case <-time.After(pollEvery):
		}
		answer = replayOutcome{}
		if err := client.get(ctx, path, nil, &answer); err != nil {
			return answer, err
		}
	}
}

func (c *replayCmd) print(a *app, o replayOutcome) error {
	if c.JSON {
		if err := printJSON(a.stdout, o); err != nil {
			return err
		}
	} else if o.Error == "" {
		fmt.Fprintln(a.stdout, o.summary())
	}
	if o.Error != "" {
		return fmt.Errorf("replay through %s did not come to its end: %s; it had read %s events and written %s documents; beginning again is harmless",
			c.Projector, o.Error, thousands(o.Events), thousands(o.Documents+o.Deleted))
	}
	return nil
}

func (o replayOutcome) summary() string {
	read := fmt.Sprintf("%s: %s events read, %s of them affect documents", o.Projector, thousands(o.Events), thousands(o.Touching))
	if o.DryRun {
		return fmt.Sprintf("%s; %s documents would be written", read, thousands(o.Documents))
	}
	done := fmt.Sprintf("%s; %s documents written, %s deleted, %s parked, in %s", read, thousands(o.Documents), thousands(o.Deleted),
		thousands(o.Parked), short(o.Finished.Sub(o.Started)))
	if o.Reconciled {
		done += "; a TRUNCATE was met, so all documents were"
	}
	return done
}
