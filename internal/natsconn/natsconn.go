// Package natsconn connects to NATS servers in the way that everything here that keeps data on them needs: fail at once when
// there is no server at the start, and reconnect for ever after that. What is sent over the connection is left
// to the callers.
package natsconn

import (
	"errors"
	"fmt"
	"log/slog"

	"github.com/nats-io/nats.go"
)

// Connect connects to a server, or to the first that answers of several URLs separated by commas. The name shows
// in the server's list of connections.
func Connect(url, name string, log *slog.Logger) (*nats.Conn, error) {
	conn, err := nats.Connect(url,
		nats.Name(name),
		nats.MaxReconnects(-1),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				log.Warn("nats disconnected", "connection", name, "error", err)
			}
		}),
		nats.ReconnectHandler(func(c *nats.Conn) {
			log.Info("nats reconnected", "connection", name, "server", c.ConnectedAddr())
		}),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			log.Warn("nats reported an error", "connection", name, "error", err)
		}),
		// What is sent while there is no connection fails and is tried again by whoever knows whether it may be.
		nats.ReconnectBufSize(-1),
	)
	if err != nil {
		if errors.Is(err, nats.ErrNoServers) {
			return nil, fmt.Errorf("connect to nats: %w: is the server running, and is the url right?", err)
		}
		return nil, fmt.Errorf("connect to nats: %w", err)
	}
	return conn, nil
}
