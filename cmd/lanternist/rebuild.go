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
	View string `arg:"" help:"The view."`
	JSON bool   `help:"Print the outcome as JSON."`
}

// rebuildOutcome is what a rebuild did in one sink.
type rebuildOutcome struct {
	Sink      string  `json:"sink"`
	Documents int64   `json:"documents"`
	Seconds   float64 `json:"seconds"`
	Error     string  `json:"error,omitempty"`
}

// Run asks the running daemon for a rebuild, and does it alone when there is none.
func (c *rebuildCmd) Run(a *app) error {
	cfg, client, err := c.connect()
	if err != nil {
		return err
	}
	bar := newProgress(a.stderr, "rebuild "+c.View, "documents")
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
				fmt.Fprintf(a.stdout, "%s: %s documents in %s, live now\n", o.Sink, thousands(o.Documents), short(time.Duration(o.Seconds*float64(time.Second))))
			}
		}
	}
	if len(failed) > 0 {
		return fmt.Errorf("rebuild of %s did not succeed %s; the live generation is as it was; see: lanternist status", c.View, strings.Join(failed, ", "))
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
		Error string `json:"error"`
	} `json:"sinks"`
}

// pollEvery is how often the daemon is asked how far it is.
const pollEvery = 250 * time.Millisecond

// ask starts a rebuild in the daemon and follows it. When this command ends early, the daemon goes on.
func (c *rebuildCmd) ask(ctx context.Context, client *client, bar *progress) ([]rebuildOutcome, error) {
	path := "/v1/views/" + url.PathEscape(c.View) + "/rebuild"
	var answer rebuildAnswer
	if err := client.post(ctx, path, &answer); err != nil {
		return nil, err
	}
	for answer.State == "running" {
		var done, total int64
		for _, s := range answer.Sinks {
			done, total = done+s.Done, total+s.Total
		}
		bar.set(done, total)
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("%w; the daemon goes on with the rebuild: lanternist status", context.Cause(ctx))
		case <-time.After(pollEvery):
		}
		if err := client.get(ctx, path, nil, &answer); err != nil {
			return nil, err
		}
	}
	var outcomes []rebuildOutcome
	for _, sink := range slices.Sorted(maps.Keys(answer.Sinks)) {
		s := answer.Sinks[sink]
		outcomes = append(outcomes, rebuildOutcome{sink, s.Done, answer.Finished.Sub(answer.Started).Seconds(), s.Error})
	}
	return outcomes, nil
}

// alone runs what a daemon would, until the rebuild is done.
func (c *rebuildCmd) alone(a *app, cfg *config.Config, bar *progress) (outcomes []rebuildOutcome, err error) {
	d, err := openDeployment(a.ctx, cfg, a.logger(config.Log{Level: "warn"}))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, d.close()) }()
	// All projectors run meanwhile, so that the journal keeps what they need.
	var targets []*runner
	var names []string
	for _, r := range d.runners {
		names = append(names, r.view.Name())
		if r.view.Name() == c.View {
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
	outcomes, err = n.rebuildAll(ctx, targets, bar)
	stop(errors.New("the rebuild is over"))
	return outcomes, errors.Join(err, <-ended)
}

// rebuildAll rebuilds in all sinks of a view at once.
func (n *daemon) rebuildAll(ctx context.Context, targets []*runner, bar *progress) ([]rebuildOutcome, error) {
	if err := n.waitUntilRunning(ctx, &progress{}); err != nil {
		return nil, err
	}
	outcomes, totals := make([]rebuildOutcome, len(targets)), make([]int64, len(targets))
	var mu sync.Mutex
	var g errgroup.Group
	for i, r := range targets {
		began := time.Now()
		outcomes[i].Sink = r.Status().Sink
		g.Go(func() error {
			err := r.Rebuild(ctx, func(done, total int64) {
				mu.Lock()
				defer mu.Unlock()
				outcomes[i].Documents, totals[i] = done, total
				var sum, all int64
				for k := range outcomes {
					sum, all = sum+outcomes[k].Documents, all+totals[k]
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
