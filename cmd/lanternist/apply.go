package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/lanternist/lanternist/httpapi"
	"github.com/lanternist/lanternist/plan"
)

type applyCmd struct {
	configFlag
	DryRun   bool `help:"Only print what would be done."`
	KeepData bool `help:"Leave the documents of views that are removed in the sinks."`
	Wait     bool `help:"Return when all is done, with the exit code that says how it ended."`
	JSON     bool `help:"Print as JSON."`
}

// applyAnswer is what the API says of a change.
type applyAnswer struct {
	State    string         `json:"state"`
	Started  time.Time      `json:"started,omitzero"`
	Finished time.Time      `json:"finished,omitzero"`
	Plan     *plan.Plan     `json:"plan"`
	Steps    []httpapi.Step `json:"steps"`
	Error    string         `json:"error,omitempty"`
}

// Run has the running daemon take over what has changed in its configuration.
func (c *applyCmd) Run(a *app) error {
	_, client, err := c.connect()
	if err != nil {
		return err
	}
	query := url.Values{}
	if c.DryRun {
		query.Set("dry_run", "true")
	}
	if c.KeepData {
		query.Set("keep_data", "true")
	}
	var answer applyAnswer
	err = client.post(a.ctx, "/v1/apply?"+query.Encode(), &answer)
	var refused *answerError
	switch {
	case errors.Is(err, errNoDaemon):
		return fmt.Errorf("%w; lanternist run --config %s carries out what has changed when it starts; see it beforehand: lanternist check", err, c.File)
	case errors.As(err, &refused) && refused.status == http.StatusUnprocessableEntity:
		return badInput(errors.New(strings.ReplaceAll(refused.text, "; configuration: ", "\n  ")))
	case err != nil:
		return err
	}
	if !c.JSON {
		fmt.Fprint(a.stdout, answer.Plan.Text())
	}
	if c.Wait && !c.DryRun {
		if answer, err = c.follow(a.ctx, a, client, answer); err != nil {
			return err
		}
	}
	if c.JSON {
		if err := printJSON(a.stdout, answer); err != nil {
			return err
		}
	}
	return c.ended(a, answer)
}

// follow waits for the end.
func (c *applyCmd) follow(ctx context.Context, a *app, client *client, answer applyAnswer) (applyAnswer, error) {
	bar := newProgress(a.stderr, "apply", "steps")
	defer bar.finish()
	for answer.State == string(httpapi.JobRunning) {
		done := int64(0)
		for _, s := range answer.Steps {
			if s.State == httpapi.StepDone {
				done++
			}
		}
		bar.set(done, int64(len(answer.Steps)))
		select {
		case <-ctx.Done():
			return answer, fmt.Errorf("%w; the daemon goes on: lanternist status", context.Cause(ctx))
		case <-time.After(pollEvery):
		}
		answer = applyAnswer{}
		if err := client.get(ctx, "/v1/apply", nil, &answer); err != nil {
			return answer, err
		}
	}
	return answer, nil
}

// ended says how it ended, or goes on.
func (c *applyCmd) ended(a *app, answer applyAnswer) error {
	switch {
	case answer.Error != "":
		return fmt.Errorf("not all was carried out: %s\nWhat is left is carried out by the next apply, or start", answer.Error)
	case c.JSON || c.DryRun:
	case c.Wait:
		for _, s := range answer.Steps {
			if s.Error != "" {
				fmt.Fprintf(a.stdout, "%s %s: %s\n", s.Kind, s.Subject, s.Error)
			}
		}
		fmt.Fprintf(a.stdout, "\nDone, in %s.\n", short(answer.Finished.Sub(answer.Started)))
	default:
		fmt.Fprintln(a.stdout, "\nThe daemon carries it out; wait for it: lanternist apply --wait")
	}
	return nil
}
