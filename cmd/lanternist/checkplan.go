package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/lanternist/lanternist/config"
	"github.com/lanternist/lanternist/plan"
	"github.com/lanternist/lanternist/row"
)

// checkReport is what check prints for machines.
type checkReport struct {
	Problems []problem  `json:"problems"`
	Notes    []problem  `json:"notes,omitempty"`         // what will happen in cases that have not come
	Plan     *plan.Plan `json:"plan,omitempty"`          // absent when something is wrong that must be put right first
	Against  string     `json:"compared_with,omitempty"` // what the plan is compared with
}

// What a plan is compared with.
const (
	againstDaemon = "the running daemon"
	againstRecord = "what the last daemon has left"
	againstNone   = "nothing: no daemon has run yet"
)

// plan says what would change, unless something is wrong that the daemon would refuse.
func (c *checkCmd) plan(ctx context.Context, problems []problem, tables []*row.Schema) (*plan.Plan, string, []problem) {
	for _, p := range problems {
		if !p.Warning && p.Where != "elasticsearch" && p.Where != "redis" {
			return nil, "", []problem{}
		}
	}
	made, against, err := c.compare(ctx, tables)
	if err != nil {
		return nil, "", []problem{{Where: "plan", What: err.Error(), Warning: true}}
	}
	return made, against, []problem{}
}

func (c *checkCmd) compare(ctx context.Context, tables []*row.Schema) (*plan.Plan, string, error) {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	cfg, client, err := c.connect()
	if err != nil {
		return nil, "", err
	}
	defs, err := parseViews(cfg)
	if err != nil {
		return nil, "", err
	}
	compiled, err := compileViews(cfg, defs, tables)
	if err != nil {
		return nil, "", err
	}
	wanted, err := describe(ctx, sourceConfig(cfg), cfg, tables, compiled)
	if err != nil {
		return nil, "", err
	}
	deployed, against, err := whatIsDeployed(ctx, cfg, client)
	if err != nil {
		return nil, "", err
	}
	return plan.New(deployed, wanted, plan.Options{}), against, nil
}

// whatIsDeployed asks the daemon, and looks at what the last one has left when none runs.
func whatIsDeployed(ctx context.Context, cfg *config.Config, client *client) (deployed *plan.Deployment, against string, err error) {
	deployed = &plan.Deployment{}
	err = client.get(ctx, "/v1/deployment", nil, deployed)
	if err == nil {
		return deployed, againstDaemon, nil
	}
	if !errors.Is(err, errNoDaemon) {
		return nil, "", fmt.Errorf("what is deployed cannot be asked: %w", err)
	}
	if cfg.Journal.URL.IsZero() && !stateExists(cfg) {
		return deployed, againstNone, nil
	}
	store, err := openControl(ctx, cfg, quiet)
	if err != nil {
		return nil, "", fmt.Errorf("what is deployed cannot be read: %w", err)
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	if deployed, err = readRecord(ctx, store); err != nil {
		return nil, "", err
	}
	if len(deployed.Tables) == 0 {
		against = againstNone
		return deployed, against, nil
	}
	return deployed, againstRecord, nil
}
