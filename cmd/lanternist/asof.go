package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/lanternist/lanternist/asof"
	"github.com/lanternist/lanternist/config"
	"github.com/lanternist/lanternist/deadletter"
	"github.com/lanternist/lanternist/httpapi"
	"github.com/lanternist/lanternist/schemas"
)

// asofAnswer is what the API says of a view as of a moment that is being made.
type asofAnswer struct {
	State       string                `json:"state"`
	Unit        string                `json:"unit"`
	Done, Total int64                 //
	Started     time.Time             `json:"started"`
	Finished    time.Time             `json:"finished"`
	Result      *httpapi.FrozenStatus `json:"result"`
	Error       string                `json:"error"`
}

// makeAsOf makes a view as it was. It asks the running daemon, and does it alone when there is none.
func (c *rebuildCmd) makeAsOf(a *app, cfg *config.Config, client *client) error {
	if c.AsOf == "" || c.Into == "" {
		return badInput(errors.New("--as-of and --into go together: lanternist rebuild VIEW --as-of TIME|LSN --into NAME"))
	}
	moment, err := asof.ParseMoment(c.AsOf)
	if err != nil {
		return badInput(fmt.Errorf("--as-of: %w", err))
	}
	began := time.Now()
	bar := &phases{a: a, what: c.View + " as of " + c.AsOf}
	made, err := c.askAsOf(a.ctx, client, bar)
	if errors.Is(err, errNoDaemon) {
		made, err = c.aloneAsOf(a, cfg, moment, bar)
	}
	bar.finish()
	switch {
	case err != nil:
		return err
	case c.JSON:
		return printJSON(a.stdout, made)
	}
	fmt.Fprintf(a.stdout, "%s: %s documents of %s as of %s, in %s; they reflect what committed before %s", made.Name, thousands(made.Documents), made.View, made.At,
		short(time.Since(began)), made.LSN)
	if !made.Committed.IsZero() {
		fmt.Fprintf(a.stdout, ", the last of it at %s", made.Committed.Format(time.RFC3339Nano))
	}
	fmt.Fprintf(a.stdout, "\nread them as view %s, and remove them with: lanternist rebuild --drop %s\n", made.Name, made.Name)
	if made.Parked > 0 {
		fmt.Fprintf(a.stdout, "%s documents were refused by a sink; see: lanternist deadletters list --view %s\n", thousands(made.Parked), made.Name)
	}
	return nil
}

// askAsOf has the daemon make it. When this command ends early, the daemon goes on.
func (c *rebuildCmd) askAsOf(ctx context.Context, client *client, bar *phases) (*httpapi.FrozenStatus, error) {
	path := "/v1/views/" + url.PathEscape(c.View) + "/asof"
	var answer asofAnswer
	if err := client.post(ctx, path+"?"+url.Values{"at": {c.AsOf}, "into": {c.Into}}.Encode(), &answer); err != nil {
		return nil, refusedInput(err)
	}
	for answer.State == "running" {
		bar.set(answer.Unit, answer.Done, answer.Total)
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("%w; the daemon goes on with it: lanternist status", context.Cause(ctx))
		case <-time.After(pollEvery):
		}
		answer = asofAnswer{}
		if err := client.get(ctx, path, nil, &answer); err != nil {
			return nil, err
		}
	}
	if answer.Result == nil {
		return nil, errors.New(answer.Error)
	}
	return answer.Result, nil
}

// refusedInput gives what the daemon says is wrong with the input the exit code for that.
func refusedInput(err error) error {
	var refused *answerError
	if errors.As(err, &refused) {
		switch refused.status {
		case http.StatusNotFound, http.StatusConflict, http.StatusUnprocessableEntity, http.StatusNotImplemented:
			return badInput(err)
		}
	}
	return err
}

// aloneAsOf makes it with a daemon that runs for as long as that takes.
func (c *rebuildCmd) aloneAsOf(a *app, cfg *config.Config, moment asof.Moment, bar *phases) (status *httpapi.FrozenStatus, err error) {
	err = withDaemon(a, cfg, func(ctx context.Context, n *daemon) error {
		for _, v := range n.views {
			if v.Name() != c.View {
				continue
			}
			plan, err := n.past.service.Plan(ctx, v, moment, c.Into)
			switch {
			case errors.Is(err, asof.ErrName), errors.Is(err, asof.ErrFuture):
				return badInput(err)
			case err != nil:
				return err
			}
			made, err := n.past.service.Make(ctx, plan, func(p asof.Progress) { bar.set(string(p.Phase), p.Done, p.Total) })
			if err != nil {
				return err
			}
			told := httpapi.FrozenStatusOf(made)
			status = &told
			return nil
		}
		return badInput(fmt.Errorf("there is no view %q", c.View))
	})
	return status, err
}

// withDaemon does something with a daemon that runs meanwhile.
func withDaemon(a *app, cfg *config.Config, do func(ctx context.Context, n *daemon) error) (err error) {
	d, err := openDeployment(a.ctx, cfg, a.logger(config.Log{Level: "warn"}))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.close()) }()
	n, err := newDaemon(d)
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancelCause(a.ctx)
	defer stop(nil)
	ended := make(chan error, 1)
	go func() {
		ended <- n.run(ctx, &progress{})
		stop(errors.New("the daemon ended"))
	}()
	err = do(ctx, n)
	stop(errors.New("it is done"))
	return errors.Join(err, <-ended)
}

// drop removes a view that was made as of a moment.
func (c *rebuildCmd) drop(a *app, cfg *config.Config, client *client) error {
	var answer struct {
		Dropped string `json:"dropped"`
	}
	err := client.do(a.ctx, http.MethodDelete, "/v1/views/"+url.PathEscape(c.View)+"/asof", nil, &answer)
	if errors.Is(err, errNoDaemon) {
		answer.Dropped = c.View
		err = dropAlone(a, cfg, c.View)
	}
	switch {
	case err != nil:
		return refusedInput(err)
	case c.JSON:
		return printJSON(a.stdout, answer)
	}
	fmt.Fprintf(a.stdout, "%s: removed\n", answer.Dropped)
	return nil
}

// dropAlone removes it without opening more than that takes: also when a declared view has taken its name.
func dropAlone(a *app, cfg *config.Config, name string) (err error) {
	kv, err := openStoredControl(a.ctx, cfg)
	if err != nil {
		return err
	}
	d := &deployment{cfg: cfg, log: a.logger(config.Log{Level: "warn"}), control: kv, shared: newSharedSinks(cfg)}
	d.onClose(kv.Close)
	defer func() { err = errors.Join(err, d.close()) }()
	if d.registry, err = schemas.Open(a.ctx, kv); err != nil {
		return err
	}
	if d.letters, err = deadletter.Open(a.ctx, kv); err != nil {
		return err
	}
	if err := d.openSinks(); err != nil {
		return badInput(err)
	}
	s := asof.New(d.asofConfig(), asof.Parts{Control: kv, Schemas: d.registry, Letters: d.letters, Stores: d.frozenStores}, d.log)
	if err := s.Drop(a.ctx, name, nil); errors.Is(err, asof.ErrUnknown) {
		return badInput(err)
	} else if err != nil {
		return err
	}
	return nil
}

// phases is a bar for work whose phases count different things.
type phases struct {
	a    *app
	what string
	unit string
	bar  *progress
}

func (p *phases) set(unit string, done, total int64) {
	if p.unit != unit || p.bar == nil {
		p.finish()
		p.unit, p.bar = unit, p.a.newProgress(p.what, unit)
	}
	p.bar.set(done, total)
}

func (p *phases) finish() {
	if p.bar != nil {
		p.bar.finish()
	}
}

// frozenTable prints the views as of moments.
func frozenTable(a *app, frozen []httpapi.FrozenStatus) error {
	if len(frozen) == 0 {
		return nil
	}
	var rows [][]string
	for _, f := range frozen {
		committed := "-"
		if !f.Committed.IsZero() {
			committed = f.Committed.Format(time.RFC3339Nano)
		}
		rows = append(rows, []string{f.Name, f.View, f.At, f.LSN, committed, f.Offset.String(), thousands(f.Documents), thousands(f.Parked)})
	}
	fmt.Fprintln(a.stdout)
	return table(a.stdout, []string{"FROZEN", "OF", "AS OF", "LSN", "LAST COMMIT", "OFFSET", "DOCUMENTS", "PARKED"}, rows)
}
