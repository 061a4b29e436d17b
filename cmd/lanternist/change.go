package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"syscall"

	"github.com/lanternist/lanternist/cdc"
	"github.com/lanternist/lanternist/config"
	"github.com/lanternist/lanternist/httpapi"
	"github.com/lanternist/lanternist/plan"
	"github.com/lanternist/lanternist/row"
	"github.com/lanternist/lanternist/views"
)

// target is what a changed configuration wants of a running daemon.
type target struct {
	names  []string      // of the captured tables, in the form of cdc.Config.Tables
	tables []*row.Schema // that the names mean, not registered
	defs   []*views.Definition
	wanted *plan.Deployment
}

// Deployed implements httpapi.Changes.
func (n *daemon) Deployed() *plan.Deployment {
	now := n.deployed()
	now.Settings, _ = settings(n.cfg) // they could be printed at the start
	return now
}

// Prepare implements httpapi.Changes.
func (n *daemon) Prepare(ctx context.Context, o plan.Options) (*httpapi.Change, error) {
	t, problems := n.target(ctx)
	if len(problems) > 0 {
		return nil, &httpapi.RefusedError{Problems: problems}
	}
	p := plan.New(n.Deployed(), t.wanted, o)
	return &httpapi.Change{Plan: p, Run: func(ctx context.Context, steps func([]httpapi.Step)) error {
		return n.carryOut(ctx, t, p, steps)
	}}, nil
}

// target reads the configuration again, with all that is wrong with it. Settings that cannot change are as at the start.
func (n *daemon) target(ctx context.Context) (t *target, problems []string) {
	add := func(err error) {
		for _, one := range flatten(err) {
			problems = append(problems, one.Error())
		}
	}
	cfg, err := config.Load(n.cfg.File)
	add(err)
	if cfg == nil {
		return nil, problems
	}
	merged := *n.cfg
	merged.Source.Tables, merged.Views = cfg.Source.Tables, cfg.Views
	defs, err := parseViews(&merged)
	add(err)
	tables, some := capturable(ctx, sourceConfig(&merged))
	problems = append(problems, some...)
	if len(tables) == 0 {
		return nil, problems
	}
	compiled, err := compileViews(withSinks(&merged, cfg), defs, tables)
	add(err)
	add(checkOverrides(cfg, compiled))
	add(needRestart(n.cfg, cfg, compiled))
	add(n.taken(compiled))
	if len(problems) > 0 {
		return nil, problems
	}
	wanted, err := describe(ctx, sourceConfig(&merged), cfg, tables, compiled)
	add(err)
	return &target{names: merged.Source.Tables, tables: tables, defs: defs, wanted: wanted}, problems
}

// taken refuses views with the name of one as of a moment.
func (n *daemon) taken(compiled []*views.View) error {
	var errs []error
	for _, frozen := range n.past.service.All() {
		if slices.ContainsFunc(compiled, func(v *views.View) bool { return v.Name() == frozen.Name }) {
			errs = append(errs, n.takenName(&frozen.Record))
		}
	}
	return errors.Join(errs...)
}

// needRestart refuses views in a sink that the daemon was started without.
func needRestart(running, next *config.Config, compiled []*views.View) error {
	var errs []error
	for _, v := range compiled {
		if v.Search() != nil && running.Elasticsearch == nil {
			errs = append(errs, fmt.Errorf("%s: view %s has a search section, and the daemon was started without elasticsearch: that needs a restart", next.File, v.Name()))
		}
		if v.Cache() != nil && running.Redis == nil {
			errs = append(errs, fmt.Errorf("%s: view %s has a cache section, and the daemon was started without redis: that needs a restart", next.File, v.Name()))
		}
	}
	return errors.Join(errs...)
}

// withSinks is a configuration that has a sink where either has it: that one is missing in the running daemon is said elsewhere.
func withSinks(merged, next *config.Config) *config.Config {
	c := *merged
	if c.Elasticsearch == nil {
		c.Elasticsearch = next.Elasticsearch
	}
	if c.Redis == nil {
		c.Redis = next.Redis
	}
	return &c
}

// capturable looks at the tables of a configuration, and whether we may have the publication send them.
func capturable(ctx context.Context, source cdc.Config) (tables []*row.Schema, problems []string) {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	report, err := cdc.PreflightTables(ctx, source, source.Tables)
	if err != nil {
		return nil, []string{"source: " + err.Error()}
	}
	for _, p := range report.Problems {
		if p.Severity == cdc.Warning {
			continue
		}
		text := "source: " + p.What
		if p.Fix != "" {
			text += "; fix: " + p.Fix
		}
		problems = append(problems, text)
	}
	if len(problems) > 0 {
		return report.Tables, problems
	}
	change, err := cdc.PlanPublication(ctx, source, source.Tables, nil)
	switch {
	case err != nil:
		problems = append(problems, "source: "+err.Error())
	case len(change.SQL) > 0 && change.Refused != "":
		refused := &cdc.PublicationError{Publication: change.Publication, Why: change.Refused, SQL: change.SQL}
		problems = append(problems, "source: "+refused.Error())
	}
	return report.Tables, problems
}

// describe is the deployment that a configuration wants.
func describe(ctx context.Context, source cdc.Config, cfg *config.Config, tables []*row.Schema, compiled []*views.View) (*plan.Deployment, error) {
	d := &plan.Deployment{Tables: []plan.Table{}, Projectors: []plan.Projector{}}
	rows, err := cdc.EstimateRows(ctx, source, tables)
	if err != nil {
		return nil, err
	}
	for i, s := range tables {
		d.Tables = append(d.Tables, plan.Table{OID: s.OID, Name: s.QualifiedName(), Rows: rows[i]})
	}
	for _, v := range compiled {
		for _, sink := range sinksOf(v) {
			d.Projectors = append(d.Projectors, plan.Describe(v, sink))
		}
	}
	d.Settings, err = settings(cfg)
	return d, err
}

// sinksOf names the sinks that a view goes to.
func sinksOf(v *views.View) (sinks []string) {
	if v.Search() != nil {
		sinks = append(sinks, "search")
	}
	if v.Cache() != nil {
		sinks = append(sinks, "cache")
	}
	return sinks
}

// listenForHangUp has each SIGHUP take the configuration over, until the returned function is called.
func (n *daemon) listenForHangUp(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	hangUps, ended := make(chan os.Signal, 1), make(chan struct{})
	signal.Notify(hangUps, syscall.SIGHUP)
	go func() {
		defer close(ended)
		for {
			select {
			case <-hangUps:
				n.hangUp(ctx)
			case <-ctx.Done():
				return
			}
		}
	}()
	return func() {
		signal.Stop(hangUps)
		cancel()
		<-ended
	}
}

// hangUp has a SIGHUP take the configuration over.
func (n *daemon) hangUp(ctx context.Context) {
	err := n.api.Apply(ctx, plan.Options{})
	var refused *httpapi.RefusedError
	switch {
	case errors.As(err, &refused):
		n.log.Error("configuration refused, nothing was changed", "problems", slices.Clone(refused.Problems))
	case err != nil:
		n.log.Warn("configuration not taken over", "error", err)
	}
}
