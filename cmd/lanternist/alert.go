package main

import (
	"context"

	"github.com/lanternist/lanternist/deadletter/alert"
)

// newAlert makes what tells of dead letters; nil when nobody is to be told.
func newAlert(d *deployment) (*alert.Alert, error) {
	c := d.cfg.DeadLetters.Alert
	if c == nil {
		return nil, nil
	}
	return alert.New(alert.Config{URL: c.URL.Reveal(), Secret: c.Secret.Reveal(), Depth: c.Depth, Age: c.Age.D()}, d.letters, d.control, d.log)
}

// runAlert tells of dead letters until the context is done.
func (n *daemon) runAlert(ctx context.Context) error {
	if n.alert == nil {
		<-ctx.Done()
		return context.Cause(ctx)
	}
	return n.alert.Run(ctx)
}
