package cache

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/lanternist/lanternist/internal/faultpoint"
	"github.com/lanternist/lanternist/projectors"
)

// scanCount is how many keys Redis looks at in one step of a scan.
const scanCount = 1000

// Retire removes a generation that is not live. Its record goes last, so that a removal that was interrupted is known,
// and its identity first, so that a writer that still believes in it is refused.
func (s *Store) Retire(ctx context.Context, number int) error {
	live, err := s.client.redis.Get(ctx, s.liveKey()).Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		return s.classify("retire generation", err)
	}
	if strings.HasPrefix(live, strconv.Itoa(number)+":") {
		return s.classify("retire generation", projectors.Fatalf("promote another generation first", "%d is live", number))
	}
	_, ok, err := s.record(ctx, number)
	if err != nil || !ok {
		return s.classify("retire generation", err)
	}
	k := generationKeys(s.key, number)
	emptied := fmt.Sprintf(`{"format":%d}`, recordFormat)
	_, err = s.client.redis.TxPipelined(ctx, func(p redis.Pipeliner) error {
		p.HSet(ctx, s.generationsKey(), strconv.Itoa(number), emptied)
		p.Del(ctx, k.identity, k.writes, k.checkpoint)
		return nil
	})
	if err != nil {
		return s.classify("retire generation", err)
	}
	faultpoint.Hit("cache", "retire", "marked")
	if err := s.unlink(ctx, k.all); err != nil {
		return s.classify("retire generation", err)
	}
	faultpoint.Hit("cache", "retire", "emptied")
	err = s.client.redis.HDel(ctx, s.generationsKey(), strconv.Itoa(number)).Err()
	return s.classify("retire generation", err)
}

// unlink removes all keys that begin with prefix, a page at a time.
func (s *Store) unlink(ctx context.Context, prefix string) error {
	return s.scan(ctx, prefix, func(node redis.Cmdable, keys []string) error {
		return node.Unlink(ctx, keys...).Err()
	})
}

// scan visits all keys that begin with prefix, in pages, with the node that holds them. A key may be visited twice.
func (s *Store) scan(ctx context.Context, prefix string, visit func(node redis.Cmdable, keys []string) error) error {
	var node redis.Cmdable = s.client.redis
	if cluster, ok := s.client.redis.(*redis.ClusterClient); ok {
		master, err := cluster.MasterForKey(ctx, s.key)
		if err != nil {
			return err
		}
		node = master
	}
	var cursor uint64
	for {
		keys, next, err := node.Scan(ctx, cursor, escapeGlob(prefix)+"*", scanCount).Result()
		if err != nil {
			return err
		}
		if len(keys) > 0 {
			if err := visit(node, keys); err != nil {
				return err
			}
		}
		if cursor = next; cursor == 0 {
			return nil
		}
	}
}

// escapeGlob makes a pattern that matches s only.
func escapeGlob(s string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`, `]`, `\]`).Replace(s)
}
