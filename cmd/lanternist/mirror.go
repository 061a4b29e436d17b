package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/lanternist/lanternist/config"
	"github.com/lanternist/lanternist/httpapi"
	"github.com/lanternist/lanternist/mirror/checkpoint"
)

type mirrorCmd struct {
	Checkpoint mirrorCheckpointCmd `cmd:"" help:"Make a copy of the mirror now, and store it in the archive."`
	List       mirrorListCmd       `cmd:"" help:"List the copies that the archive holds."`
}

type mirrorCheckpointCmd struct {
	configFlag
	JSON bool `help:"Print as JSON."`
}

// checkpointAnswer is what the API says of a copy that is being made.
type checkpointAnswer struct {
	State       string                    `json:"state"`
	Done, Total int64                     //
	Result      *httpapi.CheckpointStatus `json:"result"`
	Error       string                    `json:"error"`
}

// Run asks the running daemon, and makes the copy itself when there is none.
func (c *mirrorCheckpointCmd) Run(a *app) error {
	cfg, client, err := c.connect()
	if err != nil {
		return err
	}
	bar := a.newProgress("checkpoint mirror", "bytes")
	made, err := c.ask(a.ctx, client, bar)
	if errors.Is(err, errNoDaemon) {
		made, err = c.alone(a, cfg, bar)
	}
	bar.finish()
	switch {
	case err != nil:
		return refusedInput(err)
	case c.JSON:
		return printJSON(a.stdout, made)
	}
	fmt.Fprintf(a.stdout, "%s: %s tables, %s rows, %s, up to %s\n", made.Name, thousands(made.Tables), thousands(made.Rows), bytesText(made.Bytes), made.LSN)
	return nil
}

func (c *mirrorCheckpointCmd) ask(ctx context.Context, client *client, bar *progress) (*httpapi.CheckpointStatus, error) {
	const path = "/v1/mirror/checkpoints"
	var answer checkpointAnswer
	if err := client.post(ctx, path, &answer); err != nil {
		return nil, err
	}
	for answer.State == "running" {
		bar.set(answer.Done, answer.Total)
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("%w; the daemon goes on with it", context.Cause(ctx))
		case <-time.After(pollEvery):
		}
		answer = checkpointAnswer{}
		if err := client.get(ctx, path+"/making", nil, &answer); err != nil {
			return nil, err
		}
	}
	if answer.Result == nil {
		return nil, errors.New(answer.Error)
	}
	return answer.Result, nil
}

func (c *mirrorCheckpointCmd) alone(a *app, cfg *config.Config, bar *progress) (status *httpapi.CheckpointStatus, err error) {
	err = withKeeper(a, cfg, func(k *checkpoint.Keeper) error {
		stored, err := k.Make(a.ctx, bar.set)
		if err == nil {
			told := httpapi.CheckpointStatusOf(stored.Manifest)
			status = &told
		}
		return err
	})
	return status, err
}

// withKeeper does something with the mirror's checkpoints while no daemon runs.
func withKeeper(a *app, cfg *config.Config, do func(*checkpoint.Keeper) error) (err error) {
	d, err := openDeployment(a.ctx, cfg, a.logger(config.Log{Level: "warn"}))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.close()) }()
	if d.past.keeper == nil {
		return badInput(errors.New("no archive is configured, so mirror checkpoints have no place; add: archive: {url: file://data/archive}"))
	}
	return do(d.past.keeper)
}

type mirrorListCmd struct {
	configFlag
	JSON bool `help:"Print as JSON."`
}

// checkpointsAnswer is what the API says of the copies.
type checkpointsAnswer struct {
	Checkpoints []httpapi.CheckpointStatus `json:"checkpoints"`
	Damaged     []string                   `json:"damaged,omitempty"`
}

// Run lists the copies, as the daemon sees them or, when there is none, as they are.
func (c *mirrorListCmd) Run(a *app) error {
	cfg, client, err := c.connect()
	if err != nil {
		return err
	}
	var answer checkpointsAnswer
	err = client.get(a.ctx, "/v1/mirror/checkpoints", nil, &answer)
	if errors.Is(err, errNoDaemon) {
		answer, err = c.alone(a, cfg)
	}
	switch {
	case err != nil:
		return refusedInput(err)
	case c.JSON:
		return printJSON(a.stdout, answer)
	}
	var rows [][]string
	for _, s := range answer.Checkpoints {
		committed := "-"
		if !s.Committed.IsZero() {
			committed = s.Committed.Format(time.RFC3339Nano)
		}
		rows = append(rows, []string{s.Name, s.Made.Local().Format(time.DateTime), s.LSN, committed, thousands(s.Tables), thousands(s.Rows), bytesText(s.Bytes)})
	}
	err = table(a.stdout, []string{"CHECKPOINT", "MADE", "LSN", "LAST COMMIT", "TABLES", "ROWS", "SIZE"}, rows)
	for _, d := range answer.Damaged {
		fmt.Fprintf(a.stdout, "\n%s\n", d)
	}
	return err
}

func (c *mirrorListCmd) alone(a *app, cfg *config.Config) (answer checkpointsAnswer, err error) {
	answer.Checkpoints = []httpapi.CheckpointStatus{}
	err = withKeeper(a, cfg, func(k *checkpoint.Keeper) error {
		list, err := k.List(a.ctx)
		for _, m := range list.Manifests {
			answer.Checkpoints = append(answer.Checkpoints, httpapi.CheckpointStatusOf(m))
		}
		for _, d := range list.Damaged {
			answer.Damaged = append(answer.Damaged, d.Error())
		}
		return err
	})
	return answer, err
}
