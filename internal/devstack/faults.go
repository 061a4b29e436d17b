package devstack

import "context"

// StopPostgres shuts the server down in order (fast shutdown). Port and data stay for StartPostgres.
func (s *Stack) StopPostgres(ctx context.Context) error { return stopServer(ctx, s.postgres) }

// StartPostgres starts the server again on the same port and data and returns when it answers.
func (s *Stack) StartPostgres(ctx context.Context) error { return startServer(ctx, s.postgres) }

// KillPostgres ends the server with SIGKILL and returns when it is gone.
func (s *Stack) KillPostgres() error { return killServer(s.postgres) }

// StopElasticsearch shuts the node down in order. Port and data stay for StartElasticsearch.
func (s *Stack) StopElasticsearch(ctx context.Context) error { return stopServer(ctx, s.elasticsearch) }

// StartElasticsearch starts the node again on the same port and data and returns when it answers.
func (s *Stack) StartElasticsearch(ctx context.Context) error {
	return startServer(ctx, s.elasticsearch)
}

// KillElasticsearch ends the node with SIGKILL and returns when it is gone.
func (s *Stack) KillElasticsearch() error { return killServer(s.elasticsearch) }

// StopRedis shuts the server down. It persists nothing: started again, it is empty.
func (s *Stack) StopRedis(ctx context.Context) error { return stopServer(ctx, s.redis) }

// StartRedis starts the server again, empty, on the same port and returns when it answers.
func (s *Stack) StartRedis(ctx context.Context) error { return startServer(ctx, s.redis) }

// KillRedis ends the server with SIGKILL and returns when it is gone.
func (s *Stack) KillRedis() error { return killServer(s.redis) }

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
