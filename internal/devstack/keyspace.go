package devstack

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// KeySpace is the part of a Redis server that belongs to one test.
type KeySpace struct {
	address, prefix string
}

// Redis returns the shared server and a prefix for the test's keys. When the test ends, the keys that begin
// with the prefix are deleted.
func Redis(t testing.TB) *KeySpace {
	t.Helper()
	address := sharedService(t, request{Service: "redis"}, "LANTERNIST_REDIS_URL")
	k := &KeySpace{address: address, prefix: uniqueName() + ":"}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := k.deleteKeys(ctx); err != nil {
			t.Errorf("delete keys %s*: %v", k.prefix, err)
		}
	})
	return k
}

// URL returns the redis:// URL of the server.
func (k *KeySpace) URL() string { return k.address }

// Prefix begins the test's keys: a lower-case word and a colon.
func (k *KeySpace) Prefix() string { return k.prefix }

func (k *KeySpace) deleteKeys(ctx context.Context) (err error) {
	opts, err := redis.ParseURL(k.address)
	if err != nil {
		return fmt.Errorf("read redis URL: %w", err)
	}
	opts.Protocol, opts.DisableIdentity = 2, true
	client := redis.NewClient(opts)
	defer func() { err = errors.Join(err, client.Close()) }()
	var cursor uint64
	for {
		keys, next, err := client.Scan(ctx, cursor, k.prefix+"*", 1000).Result()
		if err != nil {
			return err
		}
		if len(keys) > 0 {
			if err := client.Unlink(ctx, keys...).Err(); err != nil {
				return err
			}
		}
		if cursor = next; cursor == 0 {
			return nil
		}
	}
}
