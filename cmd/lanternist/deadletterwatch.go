package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

type deadlettersWatchCmd struct {
	configFlag
	letterFilter
	JSON bool `help:"Print JSON lines."`
}

// watchWait is how long one request waits for something to happen.
const watchWait = 15 * time.Second

// Run follows the daemon's dead letters.
func (c *deadlettersWatchCmd) Run(a *app) error {
	cfg, client, err := c.connect()
	if err != nil {
		return err
	}
	query := c.query()
	query.Set("wait", min(watchWait, cfg.HTTP.MaxWait.D()).String())
	for first := true; ; first = false {
		var page struct {
			Changes []struct {
				Kind   string    `json:"kind"`
				Time   time.Time `json:"time"`
				Letter letter    `json:"letter"`
			} `json:"changes"`
			Next   string `json:"next"`
			Missed bool   `json:"missed"`
		}
		err := client.get(a.ctx, "/v1/deadletters/changes", query, &page)
		if a.ctx.Err() != nil {
			return nil //nolint:nilerr // a person has seen enough
		}
		switch {
		case errors.Is(err, errNoDaemon) && first:
			return fmt.Errorf("%w; start it with: lanternist run --config %s", err, c.File)
		case err != nil && first:
			return lettersError(err)
		case err != nil:
			fmt.Fprintf(a.stderr, "lanternist: %v; trying again\n", err)
			select {
			case <-a.ctx.Done():
				return nil
			case <-time.After(time.Second):
			}
			continue
		}
		if page.Missed {
			fmt.Fprintln(a.stderr, "lanternist: some changes were missed; what there is: lanternist deadletters list")
		}
		for _, ch := range page.Changes {
			if c.JSON {
				line, err := json.Marshal(ch)
				if err == nil {
					_, err = fmt.Fprintf(a.stdout, "%s\n", line)
				}
				if err != nil {
					return err
				}
				continue
			}
			l := ch.Letter
			_, err := fmt.Fprintf(a.stdout, "%s  %-9s  %s  %s  %s  attempts %d  %s\n", ch.Time.Local().Format(time.DateTime), ch.Kind, l.Projector, l.DocumentID, l.Offset, l.Attempts, clip(l.Reason, 120))
			if err != nil {
				return err
			}
		}
		query.Set("after", page.Next)
	}
}
