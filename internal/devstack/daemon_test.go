package devstack

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestServerThatDoesNotStartSaysWhy(t *testing.T) {
	needServices(t)
	base := openFolder(t)
	_, err := Start(t.Context(), Options{Dir: base, Postgres: &PostgresOptions{Settings: map[string]string{"wal_level": "sideways"}}})
	if errors.Is(err, ErrUnavailable) {
		t.Skip(err)
	}
	if err == nil || !strings.Contains(err.Error(), `invalid value for parameter "wal_level": "sideways"`) {
		t.Errorf("error is %v", err)
	}
	if left, err := filepath.Glob(filepath.Join(base, "stack-*")); err != nil || len(left) != 0 {
		t.Errorf("left: %v, error %v", left, err)
	}
}

func TestStartWaitsForItsPort(t *testing.T) {
	stack := PrivateStack(t, Options{Redis: &RedisOptions{}})
	d, ok := stack.redis.(*daemon)
	if !ok {
		t.Skip("no redis-server")
	}
	if err := stack.KillRedis(); err != nil {
		t.Fatal(err)
	}
	squatter, err := net.Listen("tcp", loopback(d.fixed[0]))
	if err != nil {
		t.Fatal(err)
	}
	started := make(chan error)
	go func() { started <- stack.StartRedis(context.Background()) }()
	Eventually(t, 10*time.Second, func() error {
		if log, err := os.ReadFile(d.logPath); err != nil || !strings.Contains(strings.ToLower(string(log)), addressInUse) {
			return fmt.Errorf("no attempt yet, error: %w", err)
		}
		return nil
	})
	if err := squatter.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-started; err != nil {
		t.Fatal(err)
	}
}

func TestCancelledStartLeavesNothing(t *testing.T) {
	needServices(t)
	base := openFolder(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := Start(ctx, Options{Dir: base, Redis: &RedisOptions{}, Postgres: &PostgresOptions{}})
	if err == nil {
		t.Error("a cancelled start succeeded")
	}
	if left, err := filepath.Glob(filepath.Join(base, "stack-*")); err != nil || len(left) != 0 {
		t.Errorf("left: %v, error %v", left, err)
	}
}
