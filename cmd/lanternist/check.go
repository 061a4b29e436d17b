package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/lanternist/lanternist/cdc"
	"github.com/lanternist/lanternist/config"
	"github.com/lanternist/lanternist/row"
)

type checkCmd struct {
	configFlag
	JSON bool `help:"Print as JSON."`
	SQL  bool `name:"sql" help:"Print the SQL that gives a role the least it needs."`
}

// problem is one thing that must be put right before the daemon can run.
type problem struct {
	Where string `json:"where"` // configuration, views, source, elasticsearch, redis
	What  string `json:"what"`
	Fix   string `json:"fix,omitempty"`
	// Warning is true when the daemon can run all the same.
	Warning bool `json:"warning,omitempty"`

	code string // of the source or of identity, for us
}

// checkTimeout bounds the look at each service.
const checkTimeout = 20 * time.Second

// Run looks at everything, however much of it is wrong, and says all of it.
func (c *checkCmd) Run(a *app) error {
	problems, notes, catalog, source := check(a.ctx, c.File)
	if a.ctx.Err() != nil {
		return context.Cause(a.ctx)
	}
	changes, against, problem := c.plan(a.ctx, problems, catalog)
	problems = append(problems, problem...)
	if c.JSON {
		if err := printJSON(a.stdout, checkReport{problems, notes, changes, against}); err != nil {
			return err
		}
	} else {
		printProblems(a, problems, against)
		for _, n := range notes {
			fmt.Fprintf(a.stdout, "\nNote: %s\n   %s\n", indent(n.What), indent(n.Fix))
		}
		if changes != nil {
			fmt.Fprintf(a.stdout, "\nCompared with %s:\n\n%s", against, changes.Text())
		}
	}
	if c.SQL && source != nil {
		fmt.Fprintf(a.stdout, "\n-- What the role needs, and nothing else:\n%s\n", cdc.LeastPrivilegeSQL(*source, catalog))
	}
	for _, p := range problems {
		if !p.Warning {
			return &exitError{code: exitBadInput}
		}
	}
	return nil
}

func printProblems(a *app, problems []problem, against string) {
	if len(problems) == 0 {
		next := "lanternist run"
		if against == againstDaemon {
			next = "lanternist apply"
		}
		fmt.Fprintln(a.stdout, "Nothing is wrong. Next: "+next)
		return
	}
	for i, p := range problems {
		kind := ""
		if p.Warning {
			kind = " (warning)"
		}
		fmt.Fprintf(a.stdout, "%d. %s%s: %s\n", i+1, p.Where, kind, indent(p.What))
		if p.Fix != "" {
			fmt.Fprintf(a.stdout, "   fix: %s\n", indent(p.Fix))
		}
	}
}

func indent(text string) string { return strings.ReplaceAll(text, "\n", "\n        ") }

// check looks at configuration, views, source and sinks. It returns the tables it found and, when the configuration
// could be read, how the source is reached.
func check(ctx context.Context, file string) (problems, notes []problem, catalog []*row.Schema, source *cdc.Config) {
	add := func(where string, err error) {
		for _, one := range flatten(err) {
			problems = append(problems, problem{Where: where, What: one.Error()})
		}
	}
	cfg, err := config.Load(file)
	add("configuration", err)
	if cfg == nil {
		return problems, nil, nil, nil
	}
	defs, err := parseViews(cfg)
	add("views", err)
	if !cfg.Source.URL.IsZero() {
		s := sourceConfig(cfg)
		source = &s
		var some []problem
		some, notes, catalog = checkSource(ctx, s)
		problems = append(problems, some...)
		problems = checkIdentity(ctx, cfg, problems)
	}
	if len(catalog) > 0 {
		compiled, err := compileViews(cfg, defs, catalog)
		add("views", err)
		if err == nil {
			add("projectors", checkOverrides(cfg, compiled))
		}
	}
	return append(problems, checkSinks(ctx, cfg)...), notes, catalog, source
}

// flatten takes joined errors apart.
func flatten(err error) []error {
	if err == nil {
		return nil
	}
	var problems config.Problems
	if errors.As(err, &problems) {
		all := make([]error, len(problems))
		for i, p := range problems {
			all[i] = p
		}
		return all
	}
	var several interface{ Unwrap() []error }
	if errors.As(err, &several) {
		var all []error
		for _, one := range several.Unwrap() {
			all = append(all, flatten(one)...)
		}
		return all
	}
	return []error{err}
}

func checkSource(ctx context.Context, source cdc.Config) (problems, notes []problem, tables []*row.Schema) {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	report, err := cdc.Preflight(ctx, source)
	if err != nil {
		return []problem{{Where: "source", What: err.Error()}}, nil, nil
	}
	for _, p := range report.Problems {
		problems = append(problems, problem{Where: "source", What: p.What, Fix: p.Fix, Warning: p.Severity == cdc.Warning, code: p.Code})
	}
	for _, n := range report.Notes {
		notes = append(notes, problem{Where: "source", What: n.What, Fix: n.Fix, code: n.Code})
	}
	return problems, notes, report.Tables
}

// preflightError is what a report says, as one error.
func preflightError(report *cdc.Report) error {
	lines := []string{"the source is not ready:"}
	for _, p := range report.Problems {
		if p.Severity == cdc.Warning {
			continue
		}
		lines = append(lines, "  "+indent(p.What))
		if p.Fix != "" {
			lines = append(lines, "    fix: "+indent(p.Fix))
		}
	}
	return errors.New(strings.Join(append(lines, "then see: lanternist check"), "\n"))
}

// passing says whether all that stands in the way may pass by itself, so that whoever started the daemon should start
// it again: a source that is not up yet, or has no connection left.
func passing(report *cdc.Report) bool {
	for _, p := range report.Problems {
		if p.Severity == cdc.Blocking && p.Code != "unreachable" && p.Code != "connections" {
			return false
		}
	}
	return true
}

func checkSinks(ctx context.Context, cfg *config.Config) []problem {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	var problems []problem
	if cfg.Elasticsearch != nil && !cfg.Elasticsearch.URL.IsZero() {
		if err := pingSearch(ctx, cfg); err != nil {
			problems = append(problems, problem{Where: "elasticsearch", What: err.Error(),
				Fix: "see that elasticsearch.url, username, password or api_key are right and that it runs: curl " + cfg.Elasticsearch.URL.String() + "/_cluster/health"})
		}
	}
	if cfg.Redis != nil && !cfg.Redis.URL.IsZero() {
		if err := pingCache(ctx, cfg); err != nil {
			problems = append(problems, problem{Where: "redis", What: err.Error(),
				Fix: "see that redis.url is right and that it runs: redis-cli -u " + cfg.Redis.URL.String() + " ping"})
		}
	}
	return problems
}

func pingSearch(ctx context.Context, cfg *config.Config) error {
	client, err := searchClient(cfg, nil)
	if err != nil {
		return err
	}
	return errors.Join(client.Ping(ctx), client.Close(ctx))
}

func pingCache(ctx context.Context, cfg *config.Config) error {
	client, err := cacheClient(cfg, nil, quiet)
	if err != nil {
		return err
	}
	return errors.Join(client.Check(ctx), client.Close())
}
