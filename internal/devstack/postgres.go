package devstack

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// PostgresOptions says which Postgres a stack has.
type PostgresOptions struct {
	// URL of a server to use instead of starting one, as a superuser. Default: LANTERNIST_POSTGRES_URL
	// when Version and Settings are empty.
	URL string
	// Version is the major version, "14" to "18". Default: that of the newest server binaries found on this
	// machine, else 17.
	Version string
	// Settings are added to, and override, the stack's own: wal_level=logical, max_replication_slots=200,
	// max_wal_senders=200, max_connections=500. The default for fsync is Postgres's own, on.
	Settings map[string]string
}

var postgresSettings = map[string]string{
	"wal_level":               "logical",
	"max_replication_slots":   "200",
	"max_wal_senders":         "200",
	"max_connections":         "500",
	"listen_addresses":        "127.0.0.1",
	"unix_socket_directories": "",
	"timezone":                "UTC",
	"log_timezone":            "UTC",
	// Shared memory in the data folder goes away with it, also after SIGKILL.
	"dynamic_shared_memory_type": "mmap",
}

func newPostgres(ctx context.Context, h *host, opts PostgresOptions) (server, error) {
	variable := ""
	if opts.Version == "" && len(opts.Settings) == 0 {
		variable = "LANTERNIST_POSTGRES_URL"
	}
	if url := givenURL(opts.URL, variable); url != "" {
		return given(url), nil
	}
	bin, err := postgresBinaries(ctx, h, opts.Version)
	if err != nil {
		return nil, fmt.Errorf("postgres %s: %w", opts.Version, err)
	}
	name := "postgres"
	if opts.Version != "" {
		name += "-" + opts.Version
	}
	dir, err := h.subdir(name)
	if err != nil {
		return nil, err
	}
	c := cluster{bin: bin, dir: dir, data: filepath.Join(dir, "data"), password: rand.Text()}
	if err := c.init(ctx, h); err != nil {
		return nil, fmt.Errorf("initialize postgres: %w", err)
	}
	settings := maps.Clone(postgresSettings)
	maps.Copy(settings, opts.Settings)
	return c.start(ctx, h, name, settings)
}

// start starts a server on the data folder.
func (c cluster) start(ctx context.Context, h *host, name string, settings map[string]string) (server, error) {
	d, err := startDaemon(ctx, h, daemonSpec{
		name:        name,
		ports:       1,
		command:     func(ports []int) *exec.Cmd { return c.command(ports[0], settings) },
		ready:       c.ready,
		url:         c.url,
		stopSignal:  syscall.SIGINT,  // fast shutdown
		endSignal:   syscall.SIGQUIT, // immediate shutdown: frees shared memory
		deathSignal: syscall.SIGQUIT,
		readyWithin: time.Minute,
		stopWithin:  30 * time.Second,
	})
	return &postgresServer{daemon: d, cluster: c, settings: settings}, err
}

// postgresServer is a server with its data folder.
type postgresServer struct {
	*daemon
	cluster
	settings map[string]string
}

func (s *postgresServer) url() string { return s.daemon.url() }

func (s *postgresServer) start(ctx context.Context) error { return s.daemon.start(ctx) }

// cluster is a Postgres data folder and the binaries that serve it.
type cluster struct {
	bin, dir, data, password string
}

// init makes the data folder. The password keeps other users of this machine out, and lets a client see
// that it talks to this server and no other.
func (c cluster) init(ctx context.Context, h *host) error {
	passwordFile := filepath.Join(c.dir, "password")
	if err := os.WriteFile(passwordFile, []byte(c.password), 0o600); err != nil {
		return fmt.Errorf("write password file: %w", err)
	}
	if err := h.account.own(passwordFile); err != nil {
		return err
	}
	cmd := exec.Command(filepath.Join(c.bin, "initdb"), "--pgdata", c.data, "--username", "postgres",
		"--pwfile", passwordFile, "--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C", "--no-sync")
	cmd.Dir, cmd.Env = c.dir, serviceEnv(c.dir)
	return errors.Join(h.runAsService(ctx, cmd), os.Remove(passwordFile))
}

func (c cluster) command(port int, settings map[string]string) *exec.Cmd {
	args := []string{"-D", c.data, "-c", "port=" + strconv.Itoa(port)}
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		args = append(args, "-c", name+"="+settings[name])
	}
	cmd := exec.Command(filepath.Join(c.bin, "postgres"), args...)
	cmd.Dir, cmd.Env = c.dir, serviceEnv(c.dir)
	return cmd
}

func (c cluster) url(ports []int) string {
	u := url.URL{
		Scheme:   "postgres",
		User:     url.UserPassword("postgres", c.password),
		Host:     loopback(ports[0]),
		Path:     "/postgres",
		RawQuery: "sslmode=disable",
	}
	return u.String()
}

func (c cluster) ready(ctx context.Context, ports []int, _ int) error {
	conn, err := pgx.Connect(ctx, c.url(ports))
	if err != nil {
		return err
	}
	return errors.Join(conn.Ping(ctx), conn.Close(ctx))
}

// serviceEnv is the environment of a server: nothing of ours but the PATH.
func serviceEnv(home string) []string {
	return []string{"PATH=" + os.Getenv("PATH"), "HOME=" + home, "TMPDIR=" + home, "LC_ALL=C", "TZ=UTC"}
}
