package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/lanternist/lanternist/internal/devstack"
)

// postgresSettings keep the server's own housekeeping out of the measured time. What makes it durable stays as it is.
var postgresSettings = map[string]string{
	"autovacuum":         "off",
	"checkpoint_timeout": "1h",
	"max_wal_size":       "16GB",
}

// workloadTimeout bounds one workload's measurement, so that what hangs is an error.
const workloadTimeout = 15 * time.Minute

// session is what all runs share.
type session struct {
	options options
	stack   *devstack.Stack
	binary  string // of the daemon
	dir     string
	prefix  string // of all names in Redis and Elasticsearch
	say     func(format string, args ...any)
	log     io.Writer // of daemons and workers
}

// measure starts the services, runs every chosen workload as often as asked, and returns what came out.
func measure(ctx context.Context, o options, stderr io.Writer) (_ *result, err error) {
	s := &session{
		options: o, prefix: "lanternist-bench-" + strings.ToLower(rand.Text()[:8]) + "-", log: io.Discard,
		say: func(format string, args ...any) { fmt.Fprintf(stderr, format+"\n", args...) },
	}
	if o.verbose {
		s.log = stderr
	}
	if s.dir, err = os.MkdirTemp(o.dir, "lanternist-bench-"); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(s.dir)) }()
	if err := s.buildDaemon(ctx); err != nil {
		return nil, err
	}
	s.say("Starting the services …")
	if err := s.start(ctx, stderr); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.stack.Close()) }()
	machine, err := describe(ctx, s.stack)
	if err != nil {
		return nil, err
	}
	var runs [][]sample
	for n := range o.runs {
		samples, err := s.run(ctx, n)
		if err != nil {
			return nil, fmt.Errorf("run %d: %w", n+1, err)
		}
		runs = append(runs, samples)
	}
	return newResult(machine, o, runs), nil
}

func (s *session) start(ctx context.Context, progress io.Writer) (err error) {
	options := devstack.Options{Postgres: &devstack.PostgresOptions{Settings: postgresSettings}, Dir: s.options.dir, Progress: progress}
	if s.options.needs(sinkElasticsearch) {
		options.Elasticsearch = &devstack.ElasticsearchOptions{Heap: s.options.heap}
	}
	if s.options.needs(sinkRedis) {
		options.Redis = &devstack.RedisOptions{}
	}
	if s.stack, err = devstack.Start(ctx, options); err != nil {
		return fmt.Errorf("start services: %w", err)
	}
	return nil
}

func (s *session) buildDaemon(ctx context.Context) error {
	s.binary = filepath.Join(s.dir, "lanternist")
	build := exec.CommandContext(ctx, "go", "build", "-o", s.binary, "github.com/lanternist/lanternist/cmd/lanternist")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build the daemon: %w\n%s", err, out)
	}
	return nil
}

// round is one run: a database with its backlog, and what the workloads have prepared for it.
type round struct {
	*session
	dir      string
	prefix   string
	database *database
	backlog  backlog

	loadTable bool // is there
}

// run does every chosen workload once, on a database of its own.
func (s *session) run(ctx context.Context, n int) (_ []sample, err error) {
	r := &round{session: s, dir: filepath.Join(s.dir, fmt.Sprintf("run%d", n+1)), prefix: fmt.Sprintf("%s%d-", s.prefix, n+1)}
	s.say("Run %d of %d: loading %d rows …", n+1, s.options.runs, s.options.rows)
	if err := os.Mkdir(r.dir, 0o700); err != nil {
		return nil, err
	}
	if r.database, err = createDatabase(ctx, s.stack.Postgres(), fmt.Sprintf("bench%d", n+1), s.options); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.clean(context.WithoutCancel(ctx))) }()
	for _, w := range s.options.chosen() {
		if w.prepare == nil {
			continue
		}
		if err := within(ctx, func(ctx context.Context) error { return w.prepare(ctx, r) }); err != nil {
			return nil, fmt.Errorf("prepare %s: %w", w.name, err)
		}
	}
	s.say("Run %d of %d: making %d changes …", n+1, s.options.runs, s.options.changes)
	if r.backlog, err = r.database.makeBacklog(ctx, s.options); err != nil {
		return nil, err
	}
	var samples []sample
	for _, w := range s.options.chosen() {
		err := within(ctx, func(ctx context.Context) error {
			some, err := w.measure(ctx, r)
			for _, sample := range some {
				s.say("  %s", sample)
			}
			samples = append(samples, some...)
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("measure %s: %w", w.name, err)
		}
	}
	return samples, nil
}

// within bounds a workload's time.
func within(ctx context.Context, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, workloadTimeout, fmt.Errorf("not done within %s", workloadTimeout))
	defer cancel()
	err := f(ctx)
	if err != nil && ctx.Err() != nil {
		err = errors.Join(context.Cause(ctx), err)
	}
	return err
}

// clean removes what the run has left in the services and on disk.
func (r *round) clean(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	errs := []error{r.database.drop(ctx), os.RemoveAll(r.dir)}
	if url := r.stack.Elasticsearch(); url != "" {
		errs = append(errs, deleteIndices(ctx, url, r.prefix))
	}
	if url := r.stack.Redis(); url != "" {
		errs = append(errs, deleteKeys(ctx, url, r.prefix))
	}
	return errors.Join(errs...)
}
