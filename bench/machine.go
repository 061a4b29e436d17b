package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"

	"github.com/lanternist/lanternist/internal/devstack"
)

// machine is what the figures were taken on.
type machine struct {
	Date          time.Time `json:"date"`
	CPUs          int       `json:"cpus"` // that this process may use
	Model         string    `json:"model,omitzero"`
	OS            string    `json:"os"`
	Go            string    `json:"go"`
	Postgres      string    `json:"postgres"`
	Fsync         string    `json:"postgres_fsync"`
	Redis         string    `json:"redis,omitzero"`
	Elasticsearch string    `json:"elasticsearch,omitzero"`
}

// describe asks the machine and the services what they are.
func describe(ctx context.Context, stack *devstack.Stack) (m machine, err error) {
	m = machine{Date: time.Now().UTC(), CPUs: runtime.NumCPU(), Model: cpuModel(), OS: runtime.GOOS + "/" + runtime.GOARCH, Go: runtime.Version()}
	conn, err := pgx.Connect(ctx, stack.Postgres())
	if err != nil {
		return m, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	err = conn.QueryRow(ctx, "SELECT current_setting('server_version'), current_setting('fsync')").Scan(&m.Postgres, &m.Fsync)
	if err != nil {
		return m, fmt.Errorf("version of Postgres: %w", err)
	}
	if url := stack.Redis(); url != "" {
		if m.Redis, err = redisVersion(ctx, url); err != nil {
			return m, fmt.Errorf("version of Redis: %w", err)
		}
	}
	if url := stack.Elasticsearch(); url != "" {
		if m.Elasticsearch, err = elasticsearchVersion(ctx, url); err != nil {
			return m, fmt.Errorf("version of Elasticsearch: %w", err)
		}
	}
	return m, nil
}

func (m machine) hardware() string {
	return strings.TrimSpace(fmt.Sprintf("%d CPUs %s", m.CPUs, m.Model)) + ", " + m.OS
}

func (m machine) software() string {
	parts := []string{m.Go, fmt.Sprintf("Postgres %s (fsync %s)", m.Postgres, m.Fsync)}
	if m.Redis != "" {
		parts = append(parts, "Redis "+m.Redis)
	}
	if m.Elasticsearch != "" {
		parts = append(parts, "Elasticsearch "+m.Elasticsearch)
	}
	return strings.Join(parts, ", ")
}

// cpuModel is the processor's name, where the system tells it.
func cpuModel() string {
	text, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(text)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

func redisVersion(ctx context.Context, url string) (version string, err error) {
	options, err := redis.ParseURL(url)
	if err != nil {
		return "", err
	}
	options.DisableIdentity = true
	client := redis.NewClient(options)
	defer func() { err = errors.Join(err, client.Close()) }()
	info, err := client.Info(ctx, "server").Result()
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(info) {
		if value, ok := strings.CutPrefix(line, "redis_version:"); ok {
			return strings.TrimSpace(value), nil
		}
	}
	return "unknown", nil
}

func elasticsearchVersion(ctx context.Context, url string) (string, error) {
	body, code, err := get(ctx, url+"/_nodes?filter_path=nodes.*.version")
	if err != nil {
		return "", err
	}
	var answer struct {
		Nodes map[string]struct{ Version string }
	}
	if err := json.Unmarshal(body, &answer); err != nil || code != http.StatusOK {
		return "", errors.Join(fmt.Errorf("answer %d", code), err)
	}
	for _, node := range answer.Nodes {
		return node.Version, nil
	}
	return "", errors.New("no node")
}
