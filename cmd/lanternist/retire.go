package main

import (
	"errors"
	"fmt"
	"strings"
)

// retire has the daemon remove the generations that are kept.
func (c *rebuildCmd) retire(a *app, client *client) error {
	outcomes, err := c.ask(a.ctx, client, &progress{})
	switch {
	case errors.Is(err, errNoDaemon):
		return fmt.Errorf("%w; start it with: lanternist run --config %s", err, c.File)
	case err != nil:
		return err
	}
	var failed []string
	for i := range outcomes {
		o := &outcomes[i]
		o.Generations, o.Documents = o.Documents, 0
		if o.Error != "" {
			failed = append(failed, fmt.Sprintf("in %s: %s", o.Sink, o.Error))
		} else if !c.JSON {
			fmt.Fprintf(a.stdout, "%s: %s older generations removed\n", o.Sink, thousands(o.Generations))
		}
	}
	if c.JSON {
		err = printJSON(a.stdout, outcomes)
	}
	if len(failed) > 0 {
		return fmt.Errorf("retire of %s did not succeed %s", c.View, strings.Join(failed, ", "))
	}
	return err
}
