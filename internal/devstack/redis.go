package devstack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/alicebob/miniredis/v2"
)

// RedisOptions says which Redis a stack has.
type RedisOptions struct {
	// URL of a server to use instead of starting one. Default: LANTERNIST_REDIS_URL.
	URL string
	// Persist has the server keep what it has answered for in an append-only file, so that it has its data again when it is
	// started after a stop or a kill. Default: it starts empty.
	Persist bool
}

// redisServer is a redis-server and its folder.
type redisServer struct {
	*daemon
	dir string
}

// erase removes what the stopped server has kept.
func (s redisServer) erase() error {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return fmt.Errorf("erase redis: %w", err)
	}
	var errs []error
	for _, e := range entries {
		errs = append(errs, os.RemoveAll(filepath.Join(s.dir, e.Name())))
	}
	return errors.Join(errs...)
}

// newRedis starts redis-server from the PATH, or a miniredis in this process where there is none.
func newRedis(ctx context.Context, h *host, opts RedisOptions) (server, error) {
	if url := givenURL(opts.URL, "LANTERNIST_REDIS_URL"); url != "" {
		return given(url), nil
	}
	binary, err := exec.LookPath("redis-server")
	if err != nil {
		h.progress("redis-server is not on the PATH: using miniredis, an imitation inside this process")
		return newMiniredis(h)
	}
	dir, err := h.subdir("redis")
	if err != nil {
		return nil, err
	}
	persist := "no"
	if opts.Persist {
		persist = "yes"
	}
	d, err := startDaemon(ctx, h, daemonSpec{
		name:  "redis",
		ports: 1,
		command: func(ports []int) *exec.Cmd {
			cmd := exec.Command(binary, "--port", strconv.Itoa(ports[0]), "--bind", "127.0.0.1",
				"--save", "", "--appendonly", persist, "--daemonize", "no", "--dir", dir)
			cmd.Dir, cmd.Env = dir, serviceEnv(dir)
			return cmd
		},
		ready:       redisReady,
		url:         redisURL,
		stopSignal:  syscall.SIGTERM,
		endSignal:   syscall.SIGKILL,
		deathSignal: syscall.SIGKILL,
		readyWithin: 20 * time.Second,
		stopWithin:  10 * time.Second,
	})
	return redisServer{d, dir}, err
}

func redisURL(ports []int) string { return "redis://" + loopback(ports[0]) }

// redisReady asks the server for its process id: another Redis may own the port. It speaks the inline form of
// the protocol itself, because a client would log each failed attempt.
func redisReady(ctx context.Context, ports []int, pid int) (err error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", loopback(ports[0]))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return err
		}
	}
	if _, err := io.WriteString(conn, "INFO server\r\nQUIT\r\n"); err != nil {
		return err
	}
	info, err := io.ReadAll(io.LimitReader(conn, 64<<10))
	if err != nil {
		return err
	}
	if !strings.Contains(string(info), fmt.Sprintf("\r\nprocess_id:%d\r\n", pid)) {
		return errors.New("another server answers on the port")
	}
	return nil
}

// miniredisServer is the stand-in for redis-server. It keeps its data when it is stopped.
type miniredisServer struct{ m *miniredis.Miniredis }

func newMiniredis(h *host) (server, error) {
	s := miniredisServer{miniredis.NewMiniRedis()}
	var err error
	for range addressAttempts {
		var ports []int
		if ports, err = freePorts(1); err != nil {
			break
		}
		if err = s.m.StartAddr(loopback(ports[0])); err == nil {
			return s, h.atClose(s.kill)
		}
	}
	return nil, fmt.Errorf("start miniredis: %w", err)
}

func (s miniredisServer) url() string                   { return "redis://" + s.m.Addr() }
func (s miniredisServer) start(_ context.Context) error { return s.m.Restart() }
func (s miniredisServer) stop(_ context.Context) error  { return s.kill() }
func (s miniredisServer) kill() error                   { s.m.Close(); return nil }
