package devstack

import (
	"context"
	"fmt"
	"syscall"
)

// StopPostgres shuts the server down in order (fast shutdown). Port and data stay for StartPostgres.
func (s *Stack) StopPostgres(ctx context.Context) error { return stopServer(ctx, s.postgres) }

// StartPostgres starts the server again on the same port and data and returns when it answers.
func (s *Stack) StartPostgres(ctx context.Context) error { return startServer(ctx, s.postgres) }

// KillPostgres ends the server with SIGKILL and returns when it is gone.
func (s *Stack) KillPostgres() error { return killServer(s.postgres) }

// AbortPostgres ends the server as `pg_ctl stop -m immediate` does: it recovers from its log when it is started again.
func (s *Stack) AbortPostgres() error {
	switch p := s.postgres.(type) {
	case *postgresServer:
		return p.end() // its endSignal is the immediate shutdown
	case nil:
		return errAbsent
	default:
		return errGiven
	}
}

// StopElasticsearch shuts the node down in order. Port and data stay for StartElasticsearch.
func (s *Stack) StopElasticsearch(ctx context.Context) error { return stopServer(ctx, s.elasticsearch) }

// StartElasticsearch starts the node again on the same port and data and returns when it answers.
func (s *Stack) StartElasticsearch(ctx context.Context) error {
	return startServer(ctx, s.elasticsearch)
}

// KillElasticsearch ends the node with SIGKILL and returns when it is gone.
func (s *Stack) KillElasticsearch() error { return killServer(s.elasticsearch) }

// StopRedis shuts the server down. Without RedisOptions.Persist it is empty when it is started again.
func (s *Stack) StopRedis(ctx context.Context) error { return stopServer(ctx, s.redis) }

// StartRedis starts the server again on the same port and returns when it answers.
func (s *Stack) StartRedis(ctx context.Context) error { return startServer(ctx, s.redis) }

// KillRedis ends the server with SIGKILL and returns when it is gone.
func (s *Stack) KillRedis() error { return killServer(s.redis) }

// EraseRedis removes what the stopped server has persisted.
func (s *Stack) EraseRedis() error {
	if r, ok := s.redis.(redisServer); ok {
		return r.erase()
	}
	return fmt.Errorf("erase redis: %w", errGiven)
}

// PausePostgres stops all processes of the server without ending them (SIGSTOP).
func (s *Stack) PausePostgres() error { return signalServer(s.postgres, syscall.SIGSTOP) }

// ResumePostgres lets them go on.
func (s *Stack) ResumePostgres() error { return signalServer(s.postgres, syscall.SIGCONT) }

// PauseElasticsearch stops the node's processes without ending them (SIGSTOP).
func (s *Stack) PauseElasticsearch() error { return signalServer(s.elasticsearch, syscall.SIGSTOP) }

// ResumeElasticsearch lets them go on.
func (s *Stack) ResumeElasticsearch() error { return signalServer(s.elasticsearch, syscall.SIGCONT) }

// PauseRedis stops the server's process without ending it (SIGSTOP).
func (s *Stack) PauseRedis() error { return signalServer(s.redis, syscall.SIGSTOP) }

// ResumeRedis lets it go on.
func (s *Stack) ResumeRedis() error { return signalServer(s.redis, syscall.SIGCONT) }

// signalServer sends a signal to all processes of a server that is ours. One that is down gets none.
func signalServer(s server, signal syscall.Signal) error {
	switch s := s.(type) {
	case *daemon:
		return s.signal(signal)
	case *postgresServer:
		return s.signal(signal)
	case redisServer:
		return s.signal(signal)
	case nil:
		return errAbsent
	default:
		return errGiven
	}
}

func startServer(ctx context.Context, s server) error {
	if s == nil {
		return errAbsent
	}
	return s.start(ctx)
}

func stopServer(ctx context.Context, s server) error {
	if s == nil {
		return errAbsent
	}
	return s.stop(ctx)
}

func killServer(s server) error {
	if s == nil {
		return errAbsent
	}
	return s.kill()
}
