package cache

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"

	"github.com/lanternist/lanternist/projectors"
)

// Client is a Redis, shared by the stores of all views. It is safe for concurrent use.
type Client struct {
	cfg       Config
	redis     redis.UniversalClient
	log       *slog.Logger
	size      *projectors.WriteSize
	pushbacks atomic.Uint64 // times that Redis did not answer a write in time, or was busy
}

// quiet stops the Redis library from writing to standard error what it also returns as errors.
var quiet = sync.OnceFunc(logging.Disable)

// NewClient makes a client. It does not connect: Check does, and every operation when it must.
func NewClient(cfg Config, log *slog.Logger) (*Client, error) {
	quiet()
	cfg = cfg.withDefaults()
	rdb, err := cfg.dial()
	if err != nil {
		return nil, err
	}
	most := cfg.PipelineSize * cfg.BatchBytes
	return &Client{cfg: cfg, redis: rdb, log: log, size: projectors.NewWriteSize(pipelineBytesLeast, most, most)}, nil
}

// WriteBytes is how many bytes of documents are sent together now.
func (c *Client) WriteBytes() int { return c.size.Bytes() }

// Close closes the connections. Operations under way fail.
func (c *Client) Close() error { return c.redis.Close() }

// Check connects and returns what stands in the way of keeping documents in this Redis: it cannot be reached, does not
// know us, or is set to evict keys that nothing can bring back.
func (c *Client) Check(ctx context.Context) error {
	if err := c.redis.Ping(ctx).Err(); err != nil {
		return classify("connect to redis", err)
	}
	return c.checkEviction(ctx)
}

// checkEviction refuses a Redis that may evict any key. A document that was evicted is composed anew, but an
// evicted lookup would look like an empty one. Redis that does not say is believed.
func (c *Client) checkEviction(ctx context.Context) error {
	info, err := c.redis.Info(ctx, "memory").Result()
	if err != nil {
		if _, answered := errors.AsType[redis.Error](err); answered && !redis.IsAuthError(err) {
			c.log.Debug("redis does not tell its eviction policy", "error", err)
			return nil
		}
		return classify("ask redis for its eviction policy", err)
	}
	policy := infoField(info, "maxmemory_policy")
	if strings.HasPrefix(policy, "allkeys-") && infoField(info, "maxmemory") != "0" {
		return projectors.Fatalf("set maxmemory-policy to noeviction, or to volatile-lru for views with cache.ttl, or use another Redis",
			"redis: maxmemory-policy %s may evict any key", policy)
	}
	return nil
}

// infoField is the value of a field of INFO, or "".
func infoField(info, name string) string {
	lines := bufio.NewScanner(strings.NewReader(info))
	for lines.Scan() {
		if key, value, ok := strings.Cut(lines.Text(), ":"); ok && key == name {
			return value
		}
	}
	return ""
}

// classify gives an error of Redis its operation and its class.
func classify(operation string, err error) error {
	switch {
	case err == nil:
		return nil
	case redis.IsAuthError(err):
		return projectors.Fatalf("check user and password in redis.url", "%s: %w", operation, err)
	case redis.IsPermissionError(err):
		return projectors.Fatalf("give the user the commands on keys with the prefix (+@all ~prefix*)", "%s: %w", operation, err)
	case redis.HasErrorPrefix(err, "Protocol error: invalid bulk length"), redis.HasErrorPrefix(err, "string exceeds maximum allowed size"):
		return projectors.Permanentf("%s: more than Redis takes in one value (proto-max-bulk-len): %w", operation, err)
	case redis.HasErrorPrefix(err, "WRONGTYPE"):
		return projectors.Fatalf("another program uses keys with this prefix: choose another redis.prefix", "%s: %w", operation, err)
	case redis.HasErrorPrefix(err, "unknown command"):
		return projectors.Fatalf("use Redis 6 or later, or a compatible server", "%s: %w", operation, err)
	case redis.HasErrorPrefix(err, "MOVED"), redis.HasErrorPrefix(err, "CROSSSLOT"):
		return projectors.Fatalf("this Redis is a cluster: write redis+cluster:// in redis.url", "%s: %w", operation, err)
	}
	err = fmt.Errorf("%s: %w", operation, err)
	if !answered(err) {
		return projectors.Unanswered(err)
	}
	return err
}

// answered says that an error is what Redis said, or what was made of that.
func answered(err error) bool {
	if _, said := errors.AsType[redis.Error](err); said {
		return true
	}
	_, network := errors.AsType[net.Error](err)
	return !network && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, context.DeadlineExceeded) &&
		!errors.Is(err, redis.ErrPoolTimeout)
}
