package devstack

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
)

// ErrUnavailable says that a service cannot be had on this machine: no binaries were found and none could
// be fetched. A service that was found and does not start is another error.
var ErrUnavailable = errors.New("service not available on this machine")

// errGiven answers an attempt to stop a server that was given by URL.
var errGiven = errors.New("the server was given by URL: it is not ours to start or stop")

// errAbsent answers an operation on a service that the stack was started without.
var errAbsent = errors.New("the stack has no such service")

// Options says which services a stack has. A nil pointer leaves the service out.
type Options struct {
	Postgres      *PostgresOptions
	Elasticsearch *ElasticsearchOptions
	Redis         *RedisOptions

	// Dir is the folder in which the stack makes its own folder. As root it must be reachable by the user
	// nobody. Default: a folder under the system's temporary folder.
	Dir string
	// Log receives service starts and stops. Default: discarded.
	Log *slog.Logger
	// Progress receives lines for a person about downloads and fallbacks. Default: discarded.
	Progress io.Writer
}

// server is one running service of a stack, ours or given.
type server interface {
	url() string
	start(ctx context.Context) error
	stop(ctx context.Context) error
	kill() error
}

// Stack is a set of services owned by the calling process. Its methods may be called concurrently, but not
// start, stop or kill of one service at the same time as another on that service.
type Stack struct {
	host          *host
	postgres      server
	elasticsearch server
	redis         server
}

// Start brings up the services of opts, all at the same time, and returns when each answers. On error
// nothing is left running. Ending ctx ends a start under way, not a stack that is up.
func Start(ctx context.Context, opts Options) (*Stack, error) {
	dir, err := newDir(opts.Dir, "stack-*")
	if err != nil {
		return nil, err
	}
	h, err := newHost(dir, opts.Log, lineWriter(opts.Progress))
	if err != nil {
		return nil, errors.Join(err, dir.remove())
	}
	s := &Stack{host: h}
	var starts []func(context.Context) error
	add := func(into *server, make func(context.Context) (server, error)) {
		starts = append(starts, func(ctx context.Context) (err error) {
			*into, err = make(ctx)
			return err
		})
	}
	if o := opts.Postgres; o != nil {
		add(&s.postgres, func(ctx context.Context) (server, error) { return newPostgres(ctx, h, *o) })
	}
	if o := opts.Elasticsearch; o != nil {
		add(&s.elasticsearch, func(ctx context.Context) (server, error) { return newElasticsearch(ctx, h, *o) })
	}
	if o := opts.Redis; o != nil {
		add(&s.redis, func(ctx context.Context) (server, error) { return newRedis(ctx, h, *o) })
	}
	if err := allAtOnce(ctx, starts); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// allAtOnce runs all functions concurrently; the first error ends the context of the others.
func allAtOnce(ctx context.Context, funcs []func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	results := make(chan error)
	for _, f := range funcs {
		go func() { results <- f(ctx) }()
	}
	var first error
	for range funcs {
		if err := <-results; err != nil && first == nil {
			first = err
			cancel()
		}
	}
	return first
}

// Postgres returns the URL of the server as its superuser, database postgres; "" without the service.
func (s *Stack) Postgres() string { return urlOf(s.postgres) }

// Elasticsearch returns the base URL of the cluster; "" without the service.
func (s *Stack) Elasticsearch() string { return urlOf(s.elasticsearch) }

// Redis returns the URL of the server; "" without the service.
func (s *Stack) Redis() string { return urlOf(s.redis) }

// Dir returns the stack's own folder. It is gone after Close.
func (s *Stack) Dir() string { return s.host.dir.path }

func urlOf(s server) string {
	if s == nil {
		return ""
	}
	return s.url()
}

// Close ends every service quickly, without giving it time to save anything, and removes the stack's folder.
// It returns after the last process is gone. Close may be called again.
func (s *Stack) Close() error { return s.host.close() }

// given is a server that somebody else runs.
type given string

func (g given) url() string                   { return string(g) }
func (g given) start(_ context.Context) error { return errGiven }
func (g given) stop(_ context.Context) error  { return errGiven }
func (g given) kill() error                   { return errGiven }

// givenURL returns the URL of the option, else of the environment variable.
func givenURL(option, variable string) string {
	if option != "" {
		return option
	}
	return os.Getenv(variable)
}
