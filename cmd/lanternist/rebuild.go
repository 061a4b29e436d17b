package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/lanternist/lanternist/config"
)

type rebuildCmd struct {
	configFlag
	View     string `arg:"" help:"The view."`
	Rollback bool   `xor:"what" help:"Go back to the generation that was live before, instead of building a new one."`
	Retire   bool   `xor:"what" help:"Remove the older generations that are kept to go back to."`
	List     bool   `xor:"what" help:"Only list the generations that the sinks hold."`
	AsOf     string `xor:"what" placeholder:"TIME|LSN" help:"Make a view of VIEW as it was: after what had committed at a time (2026-01-31T12:00:00Z), or before a position (0/16B3748)."`
	Into     string `placeholder:"NAME" help:"With --as-of: the name of the view that is made."`
	Drop     bool   `xor:"what" help:"Remove VIEW, which was made with --as-of."`
	JSON     bool   `help:"Print the outcome as JSON."`
}

// kind is what is done, as messages and the API name it.
func (c *rebuildCmd) kind() string {
	switch {
	case c.Rollback:
		return "rollback"
	case c.Retire:
		return "retire"
	}
	return "rebuild"
}

// rebuildOutcome is what a rebuild or rollback did in one sink.
type rebuildOutcome struct {
	Sink        string  `json:"sink"`
	Documents   int64   `json:"documents"`             // composed by a rebuild
	Batches     int64   `json:"batches,omitempty"`     // of the journal, read by a rollback
	Generations int64   `json:"generations,omitempty"` // removed by a retirement
	Seconds     float64 `json:"seconds"`
	Error       string  `json:"error,omitempty"`
}

// done notes how far it came, in what it counts.
func (o *rebuildOutcome) done(rollback bool, n int64) {
	if rollback {
		o.Batches = n
		return
	}
	o.Documents = n
}

// Run asks the running daemon, and does it alone when there is none.
func (c *rebuildCmd) Run(a *app) error {
	cfg, client, err := c.connect()
	if err != nil {
		return err
	}
	switch {
	case c.List:
		return c.list(a, client)
	case c.Drop:
		return c.drop(a, cfg, client)
	case c.AsOf != "" || c.Into != "":
		return c.makeAsOf(a, cfg, client)
	}
	if c.Retire {
		return c.retire(a, client)
	}
	things := "documents"
	if c.Rollback {
		things = "batches"
	}
	bar := a.newProgress(c.kind()+" "+c.View, things)
	outcomes, err := c.ask(a.ctx, client, bar)
	if errors.Is(err, errNoDaemon) {
		outcomes, err = c.alone(a, cfg, bar)
	}
	bar.finish()
	if err != nil {
		return err
	}
	return c.print(a, outcomes)
}

func (c *rebuildCmd) print(a *app, outcomes []rebuildOutcome) error {
	var failed []string
	for _, o := range outcomes {
		if o.Error != "" {
			failed = append(failed, fmt.Sprintf("in %s: %s", o.Sink, o.Error))
		}
	}
	if c.JSON {
		if err := printJSON(a.stdout, outcomes); err != nil {
			return err
		}
	} else {
		for _, o := range outcomes {
			if o.Error == "" {
				took := short(time.Duration(o.Seconds * float64(time.Second)))
				if c.Rollback {
					fmt.Fprintf(a.stdout, "%s: caught up with %s journal batches in %s, the generation before is live now\n", o.Sink, thousands(o.Batches), took)
				} else {
					fmt.Fprintf(a.stdout, "%s: %s documents in %s, live now\n", o.Sink, thousands(o.Documents), took)
				}
			}
		}
	}
	if len(failed) > 0 {
		return fmt.Errorf("%s of %s did not succeed %s; the live generation is as it was there; see: lanternist status", c.kind(), c.View, strings.Join(failed, ", "))
	}
	return nil
}

// rebuildAnswer is what the API says of a rebuild.
type rebuildAnswer struct {
	State    string    `json:"state"`
	Started  time.Time `json:"started"`
	Finished time.Time `json:"finished"`
	Sinks    map[string]struct {
		Done  int64  `json:"done"`
		Total int64  `json:"total"`
		Step  string `json:"step"`
		Error string `json:"error"`
	} `json:"sinks"`
}

// pollEvery is how often the daemon is asked how far it is.
const pollEvery = 250 * time.Millisecond

// stepsOf says at which step each sink is.
func stepsOf(answer rebuildAnswer) string {
	text := ""
	for _, sink := range slices.Sorted(maps.Keys(answer.Sinks)) {
		if step := answer.Sinks[sink].Step; step != "" {
			text += fmt.Sprintf(" (%s: %s)", sink, step)
		}
	}
	return text
}

// ask starts a rebuild in the daemon and follows it. When this command ends early, the daemon goes on.
func (c *rebuildCmd) ask(ctx context.Context, client *client, bar *progress) ([]rebuildOutcome, error) {
	path := "/v1/views/" + url.PathEscape(c.View) + "/" + c.kind()
	var answer rebuildAnswer
	if err := client.post(ctx, path, &answer); err != nil {
		return nil, err
	}
	for {
		var done, total int64
		for _, s := range answer.Sinks {
			done, total = done+s.Done, total+s.Total
		}
		bar.describe(c.kind() + " " + c.View + stepsOf(answer))
		bar.set(done, total)
		if answer.State != "running" {
			break
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("%w; the daemon goes on with the %s: lanternist status", context.Cause(ctx), c.kind())
		case <-time.After(pollEvery):
		}
		if err := client.get(ctx, path, nil, &answer); err != nil {
			return nil, err
		}
	}
	var outcomes []rebuildOutcome
	for _, sink := range slices.Sorted(maps.Keys(answer.Sinks)) {
		s := answer.Sinks[sink]
		o := rebuildOutcome{Sink: sink, Seconds: answer.Finished.Sub(answer.Started).Seconds(), Error: s.Error}
		o.done(c.Rollback, s.Done)
		outcomes = append(outcomes, o)
	}
	return outcomes, nil
}

// alone runs what a daemon would, until the rebuild is done.
func (c *rebuildCmd) alone(a *app, cfg *config.Config, bar *progress) (outcomes []rebuildOutcome, err error) {
	*cfg.Views.AutoRebuild = false // this command says what is built
	d, err := openDeployment(a.ctx, cfg, a.logger(config.Log{Level: "warn"}))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, d.close()) }()
	// All projectors run meanwhile, so that the journal keeps what they need.
	var targets []*runner
	var names []string
	for _, r := range d.runners.list() {
		names = append(names, r.view().Name())
		if r.view().Name() == c.View {
			targets = append(targets, r)
		}
	}
	if len(targets) == 0 {
		return nil, badInput(fmt.Errorf("there is no view %q; there are: %s", c.View, strings.Join(slices.Compact(names), ", ")))
	}
	n, err := newDaemon(d)
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancelCause(a.ctx)
	defer stop(nil)
	ended := make(chan error, 1)
	go func() {
		ended <- n.run(ctx, &progress{})
		stop(errors.New("the daemon ended"))
	}()
	outcomes, err = n.rebuildAll(ctx, targets, c.Rollback, bar)
	stop(errors.New("the " + c.kind() + " is over"))
	return outcomes, errors.Join(err, <-ended)
}

// rebuildAll rebuilds, or rolls back, in all sinks of a view at once.
func (n *daemon) rebuildAll(ctx context.Context, targets []*runner, rollback bool, bar *progress) ([]rebuildOutcome, error) {
	if err := n.waitUntilRunning(ctx, &progress{}); err != nil {
		return nil, err
	}
	outcomes, dones, totals := make([]rebuildOutcome, len(targets)), make([]int64, len(targets)), make([]int64, len(targets))
	var mu sync.Mutex
	var g errgroup.Group
	for i, r := range targets {
		began := time.Now()
		outcomes[i].Sink = r.Status().Sink
		run := r.Rebuild
		if rollback {
			run = r.Rollback
		}
		g.Go(func() error {
			err := run(ctx, func(done, total int64) {
				mu.Lock()
				defer mu.Unlock()
				dones[i], totals[i] = done, total
				outcomes[i].done(rollback, done)
				var sum, all int64
				for k := range dones {
					sum, all = sum+dones[k], all+totals[k]
				}
				bar.set(sum, all)
			})
			outcomes[i].Seconds = time.Since(began).Seconds()
			if err != nil {
				outcomes[i].Error = err.Error()
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return outcomes, nil
}
