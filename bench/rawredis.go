package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"
)

// Kinds of raw writes to Redis.
const (
	redisSet    = "SET"
	redisScript = "script"
)

// rawWriters are how many connections write at once; the best of them is the limit.
var rawWriters = []int{1, 2, 4}

// pipelineSize is how many commands are sent before their answers are awaited.
const pipelineSize = 1000

// casScript replaces a value by one that is not older.
var casScript = redis.NewScript(`
local old = redis.call('GETRANGE', KEYS[1], 0, 18)
if old > ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1] .. ARGV[2])
return 1`)

// measureRawRedis writes the same documents with nothing in between: plain SETs, and a compare-and-set by script.
func measureRawRedis(ctx context.Context, r *round) ([]sample, error) {
	var samples []sample
	for _, kind := range []string{redisSet, redisScript} {
		best := sample{}
		for _, writers := range rawWriters {
			report, err := r.worker(ctx, "redis", task{
				Source: r.database.url, Redis: r.stack.Redis(), Prefix: fmt.Sprintf("%sraw-%s-%d:", r.prefix, kind, writers),
				Kind: kind, Operations: r.backlog.changes, Writers: writers,
			})
			if err != nil {
				return nil, err
			}
			best = faster(best, report.Phases[0].rawSample(sinkRedis, kind, writers))
		}
		samples = append(samples, best)
	}
	return samples, nil
}

// writeRedis writes documents in pipelines, and takes them away again.
func writeRedis(ctx context.Context, t task) (r report, err error) {
	documents, err := loadDocuments(ctx, t.Source)
	if err != nil {
		return r, err
	}
	options, err := redis.ParseURL(t.Redis)
	if err != nil {
		return r, fmt.Errorf("url of Redis: %w", err)
	}
	options.DisableIdentity = true
	client := redis.NewClient(options)
	defer func() { err = errors.Join(err, client.Close()) }()
	if err := casScript.Load(ctx, client).Err(); err != nil {
		return r, err
	}
	todo := operations(documents, t.Operations)
	watch, err := startWatch()
	if err != nil {
		return r, err
	}
	g, gctx := errgroup.WithContext(ctx)
	for w := range t.Writers {
		from, to := share(len(todo), w, t.Writers)
		g.Go(func() error { return pipelines(gctx, client, t, todo[from:to], from) })
	}
	if err := g.Wait(); err != nil {
		return r, err
	}
	p, err := watch.stop(t.Kind, len(todo))
	if err != nil {
		return r, err
	}
	r.Phases = []phase{p}
	return r, deleteKeys(ctx, t.Redis, t.Prefix)
}

// pipelines writes documents; their versions are above first.
func pipelines(ctx context.Context, client *redis.Client, t task, documents []document, first int) error {
	for len(documents) > 0 {
		n := min(pipelineSize, len(documents))
		p := client.Pipeline()
		for i, d := range documents[:n] {
			if t.Kind == redisSet {
				p.Set(ctx, t.Prefix+d.id, d.body, 0)
			} else {
				p.EvalSha(ctx, casScript.Hash(), []string{t.Prefix + d.id}, fmt.Sprintf("%019d", first+i+1), d.body)
			}
		}
		if _, err := p.Exec(ctx); err != nil {
			return fmt.Errorf("pipeline: %w", err)
		}
		documents, first = documents[n:], first+n
	}
	return nil
}

// deleteKeys removes all keys with a prefix, which holds nothing special to patterns.
func deleteKeys(ctx context.Context, url, prefix string) (err error) {
	options, err := redis.ParseURL(url)
	if err != nil {
		return fmt.Errorf("url of Redis: %w", err)
	}
	options.DisableIdentity = true
	client := redis.NewClient(options)
	defer func() { err = errors.Join(err, client.Close()) }()
	for cursor := uint64(0); ; {
		keys, next, err := client.Scan(ctx, cursor, prefix+"*", 1000).Result()
		if err != nil {
			return fmt.Errorf("delete keys %s*: %w", prefix, err)
		}
		if len(keys) > 0 {
			if err := client.Unlink(ctx, keys...).Err(); err != nil {
				return fmt.Errorf("delete keys %s*: %w", prefix, err)
			}
		}
		if cursor = next; cursor == 0 {
			return nil
		}
	}
}
