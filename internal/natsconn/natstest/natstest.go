// Package natstest runs a real nats-server with JetStream inside a test.
package natstest

import (
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// Server is a running server that can be stopped and started again on the same data and port.
type Server struct {
	t    testing.TB
	opts server.Options
	srv  *server.Server
}

// Start starts a server that syncs every write, on a free port, and stops it when the test ends. maxPayload is
// its max_payload in bytes; 0 is the server's default of 1 MiB.
func Start(t testing.TB, maxPayload int32) *Server {
	t.Helper()
	s := &Server{t: t, opts: server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, NoLog: true, NoSigs: true, MaxPayload: maxPayload,
		JetStream: true, StoreDir: t.TempDir(), SyncAlways: true,
	}}
	s.Restart()
	t.Cleanup(s.Stop)
	return s
}

// Restart starts the server when it does not run.
func (s *Server) Restart() {
	s.t.Helper()
	if s.srv != nil {
		return
	}
	opts := s.opts
	srv, err := server.NewServer(&opts)
	if err != nil {
		s.t.Fatalf("start nats server: %v", err)
	}
	srv.Start()
	if !srv.ReadyForConnections(20 * time.Second) {
		s.t.Fatal("nats server not ready")
	}
	s.srv, s.opts.Port = srv, opts.Port
}

// Stop stops the server when it runs.
func (s *Server) Stop() {
	if s.srv != nil {
		s.srv.Shutdown()
		s.srv.WaitForShutdown()
		s.srv = nil
	}
}

// URL is where the server listens.
func (s *Server) URL() string {
	s.t.Helper()
	if s.srv == nil {
		s.t.Fatal("nats server is not running")
	}
	return s.srv.ClientURL()
}
