package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/lanternist/lanternist/config"
	"github.com/lanternist/lanternist/deadletter"
)

// letterChoice says which letters something is done to.
type letterChoice struct {
	configFlag
	ID string `arg:"" optional:"" help:"The letter's id, as list prints it."`
	letterFilter
	All    bool `help:"All of them."`
	DryRun bool `help:"Only say what would be done."`
	JSON   bool `help:"Print the outcome as JSON."`
}

// check refuses a choice that chooses nothing, or too much.
func (c *letterChoice) check(do string) error {
	f := c.filter()
	f.ID = c.ID
	switch {
	case f.All() && !c.All:
		return badInput(fmt.Errorf("say which dead letters to %s: an id, a filter such as --projector, or --all; see: lanternist deadletters list", do))
	case !f.All() && c.All:
		return badInput(fmt.Errorf("--all and an id or a filter exclude each other; leave one of them out: lanternist deadletters %s --all", do))
	}
	if err := f.Validate(); err != nil {
		return badInput(fmt.Errorf("%w; see: lanternist deadletters list", err))
	}
	return nil
}

func (c *letterChoice) query() url.Values {
	q := c.letterFilter.query()
	setQuery(q, "id", c.ID)
	if c.All {
		q.Set("all", "true")
	}
	if c.DryRun {
		q.Set("dry_run", "true")
	}
	return q
}

// letterWork is what was, or would be, done to letters, as the API says it and as --json prints it.
type letterWork struct {
	State      string                 `json:"state"`
	Kind       string                 `json:"kind"`
	Letters    int                    `json:"letters"`
	Done       int                    `json:"done"`
	Left       int                    `json:"left"`
	Started    time.Time              `json:"started,omitzero"`
	Finished   time.Time              `json:"finished,omitzero"`
	Projectors []letterWorkProjectors `json:"projectors"`
	Error      string                 `json:"error,omitempty"`
}

type letterWorkProjectors struct {
	Projector string   `json:"projector"`
	Letters   int      `json:"letters"`
	Done      int      `json:"done"`
	Left      int      `json:"left"`
	Action    string   `json:"action"`
	Refusal   string   `json:"refusal,omitempty"`
	Offsets   []string `json:"offsets"`
	IDs       []string `json:"ids"`
}

type deadlettersRedriveCmd struct{ letterChoice }

// Run asks the running daemon to try letters again, and follows it.
func (c *deadlettersRedriveCmd) Run(a *app) error {
	if err := c.check("redrive"); err != nil {
		return err
	}
	_, client, err := c.connect()
	if err != nil {
		return err
	}
	bar := a.newProgress("redrive dead letters", "letters")
	var work letterWork
	err = client.do(a.ctx, http.MethodPost, "/v1/deadletters/redrive", c.query(), &work)
	if err == nil && !c.DryRun {
		work, err = followLetters(a.ctx, client, "/v1/deadletters/redrive", work, bar)
	}
	bar.finish()
	if errors.Is(err, errNoDaemon) {
		return fmt.Errorf("%w; letters are tried again by the daemon that writes the documents; start it: lanternist run --config %s", err, c.File)
	}
	if err != nil {
		return lettersError(err)
	}
	return c.print(a, work)
}

// lettersError tells what a person asked for that cannot be had from what did not work.
func lettersError(err error) error {
	if refused, ok := errors.AsType[*answerError](err); ok && (refused.status == http.StatusUnprocessableEntity || refused.status == http.StatusNotFound) {
		return badInput(err)
	}
	return err
}

// followLetters waits for the end of work. When this command ends early, the daemon goes on.
func followLetters(ctx context.Context, client *client, path string, work letterWork, bar *progress) (letterWork, error) {
	for work.State == "running" {
		bar.set(int64(work.Done+work.Left), int64(work.Letters))
		select {
		case <-ctx.Done():
			return work, fmt.Errorf("%w; the daemon goes on with the %s: lanternist status", context.Cause(ctx), work.Kind)
		case <-time.After(pollEvery):
		}
		work = letterWork{}
		if err := client.get(ctx, path, nil, &work); err != nil {
			return work, err
		}
	}
	return work, nil
}

// print says what was done, or would be. Letters that are left are no success.
func (c *letterChoice) print(a *app, w letterWork) error {
	if c.JSON {
		if err := printJSON(a.stdout, w); err != nil {
			return err
		}
	} else {
		for _, line := range w.lines() {
			fmt.Fprintln(a.stdout, line)
		}
	}
	switch {
	case w.State == "planned":
		return nil
	case w.Error != "" && w.Kind == "redrive":
		return fmt.Errorf("%d of %d dead letters are gone, the others are where they were: %s", w.Done, w.Letters, w.Error)
	case w.Error != "":
		return fmt.Errorf("%d of %d dead letters are gone, the others are where they were: %s; see: lanternist deadletters list", w.Done, w.Letters, w.Error)
	case w.Left > 0 && w.Kind == "redrive":
		return fmt.Errorf("%d dead letters were refused again; see why: lanternist deadletters list", w.Left)
	}
	return nil
}

func (w *letterWork) lines() []string {
	if w.Letters == 0 {
		return []string{"There are no dead letters."}
	}
	var lines []string
	for _, p := range w.Projectors {
		switch {
		case p.Refusal != "":
			lines = append(lines, fmt.Sprintf("%s: %s letters, not tried: %s", p.Projector, thousands(p.Letters), p.Refusal))
		case w.State == "planned":
			lines = append(lines, fmt.Sprintf("%s: %s letters would be %s, in this order:", p.Projector, thousands(p.Letters), p.Action))
			for i, id := range p.IDs {
				lines = append(lines, fmt.Sprintf("  %s  %s", p.Offsets[i], id))
			}
			if more := p.Letters - len(p.IDs); more > 0 {
				lines = append(lines, fmt.Sprintf("  and %s more", thousands(more)))
			}
		case w.Kind == "redrive":
			lines = append(lines, fmt.Sprintf("%s: %s of %s letters are gone, %s were refused again", p.Projector, thousands(p.Done), thousands(p.Letters), thousands(p.Left)))
		}
	}
	if w.Kind == "discard" && w.State != "planned" {
		lines = append(lines, fmt.Sprintf("%s dead letters discarded.", thousands(w.Done)))
	}
	if w.State == "planned" {
		lines = append(lines, "Nothing was changed.")
	}
	return lines
}

type deadlettersDiscardCmd struct {
	letterChoice
	Yes bool `short:"y" help:"Discard all without asking."`
}

// Run removes letters: through the running daemon, or else from its folder.
func (c *deadlettersDiscardCmd) Run(a *app) error {
	if err := c.check("discard"); err != nil {
		return err
	}
	cfg, client, err := c.connect()
	if err != nil {
		return err
	}
	if c.All && !c.DryRun && !c.Yes {
		if err := confirm(a, "Discard all dead letters? Their documents stay as they are in the sinks, and nothing tells any more that they are not right."); err != nil {
			return err
		}
	}
	bar := a.newProgress("discard dead letters", "letters")
	var work letterWork
	err = client.delete(a.ctx, "/v1/deadletters", c.query(), &work)
	if err == nil && !c.DryRun {
		work, err = followLetters(a.ctx, client, "/v1/deadletters/discard", work, bar)
	}
	bar.finish()
	if errors.Is(err, errNoDaemon) {
		work, err = c.stored(a.ctx, cfg)
	}
	if err != nil {
		return lettersError(err)
	}
	return c.print(a, work)
}

// confirm asks. Where nobody can be asked, --yes must have been given.
func confirm(a *app, question string) error {
	if !term.IsTerminal(int(os.Stdin.Fd())) {
		return badInput(errors.New("all dead letters would be discarded, and there is no terminal to ask: add --yes"))
	}
	fmt.Fprintf(a.stderr, "%s [y/N] ", question)
	answer, err := bufio.NewReader(os.Stdin).ReadString('\n')
	if err != nil || !strings.HasPrefix(strings.ToLower(strings.TrimSpace(answer)), "y") {
		return badInput(errors.New("nothing was discarded"))
	}
	return nil
}

// stored removes letters of a daemon that is not running.
func (c *deadlettersDiscardCmd) stored(ctx context.Context, cfg *config.Config) (letterWork, error) {
	work := letterWork{State: "planned", Kind: "discard"}
	if !cfg.Journal.URL.IsZero() {
		return work, errors.New("no daemon answers here, and one elsewhere may be using the same bucket; ask it, or start it: lanternist run")
	}
	f := c.filter()
	f.ID = c.ID
	err := withLetters(ctx, cfg, func(store *deadletter.Store) error {
		err := store.List(ctx, f, func(l deadletter.Letter) error {
			if n := len(work.Projectors); n == 0 || work.Projectors[n-1].Projector != l.Projector {
				work.Projectors = append(work.Projectors, letterWorkProjectors{Projector: l.Projector, Action: "removed; the sink keeps what it has"})
			}
			p := &work.Projectors[len(work.Projectors)-1]
			if p.Letters++; p.Letters <= 20 {
				p.IDs, p.Offsets = append(p.IDs, l.ID), append(p.Offsets, l.Offset.String())
			}
			work.Letters++
			return nil
		})
		switch {
		case err != nil:
			return err
		case work.Letters == 0 && !f.All():
			return badInput(errors.New("no dead letter is as the filter says; see: lanternist deadletters list"))
		case c.DryRun:
			return nil
		}
		work.State = "done"
		work.Done, err = store.DiscardAll(ctx, f, nil, nil)
		return err
	})
	return work, err
}
