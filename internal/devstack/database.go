package devstack

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// Database is a fresh, empty Postgres database that belongs to one test.
type Database struct {
	t     testing.TB
	name  string
	admin string // URL of the server's database postgres
}

// DatabaseOption changes which server a database is made in.
type DatabaseOption func(*databaseConfig)

type databaseConfig struct{ version string }

// Version asks for a major version of Postgres, "14" to "18". Default: what this machine has.
func Version(major string) DatabaseOption {
	return func(c *databaseConfig) { c.version = major }
}

// Postgres makes a database in the shared server: superuser, wal_level=logical, fsync off, collation C. When
// the test ends, the connections to it, its replication slots and the database itself are removed. Slots and
// roles belong to the whole server: name them after Name.
func Postgres(t testing.TB, opts ...DatabaseOption) *Database {
	t.Helper()
	var c databaseConfig
	for _, opt := range opts {
		opt(&c)
	}
	variable := "LANTERNIST_POSTGRES_URL"
	if c.version != "" {
		variable = ""
	}
	d := newDatabase(t, sharedService(t, request{Service: "postgres", Version: c.version}, variable))
	d.dropAtCleanup()
	return d
}

func newDatabase(t testing.TB, admin string) *Database {
	t.Helper()
	d := &Database{t: t, name: uniqueName(), admin: admin}
	if err := d.onServer(func(ctx context.Context, conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, "CREATE DATABASE "+d.name)
		return err
	}); err != nil {
		t.Fatalf("create database %s: %v", d.name, err)
	}
	return d
}

// dropAtCleanup removes the database and its slots when the test ends.
func (d *Database) dropAtCleanup() {
	d.t.Cleanup(func() {
		if err := d.onServer(d.drop); err != nil {
			d.t.Errorf("drop database %s: %v", d.name, err)
		}
	})
}

// Name returns the name of the database, which no other test of this server has. It may be used as a prefix
// for slots and roles.
func (d *Database) Name() string { return d.name }

// URL returns the connection URL as superuser.
func (d *Database) URL() string { return onDatabase(d.admin, d.name) }

// Conn opens a connection that is closed when the test ends, unless the test closes it before.
func (d *Database) Conn(ctx context.Context) *pgx.Conn {
	d.t.Helper()
	conn, err := pgx.Connect(ctx, d.URL())
	if err != nil {
		d.t.Fatalf("connect to database %s: %v", d.name, err)
	}
	d.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = conn.Close(ctx) // the test may have ended it, or its server
	})
	return conn
}

// Exec runs each text, of one or more statements, in its own transaction.
func (d *Database) Exec(sql ...string) {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	conn, err := pgx.Connect(ctx, d.URL())
	if err != nil {
		d.t.Fatalf("connect to database %s: %v", d.name, err)
	}
	defer conn.Close(ctx)
	for _, text := range sql {
		if _, err := conn.PgConn().Exec(ctx, text).ReadAll(); err != nil {
			d.t.Fatalf("execute %q: %v", text, err)
		}
	}
}

// onServer runs f on a connection to the server's database postgres.
func (d *Database) onServer(f func(context.Context, *pgx.Conn) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, d.admin)
	if err != nil {
		return err
	}
	return errors.Join(f(ctx, conn), conn.Close(ctx))
}

// drop ends the database's connections, then removes its slots and the database. A slot is free only some
// time after its walsender was told to end, so both are tried until there is none.
func (d *Database) drop(ctx context.Context, conn *pgx.Conn) error {
	for {
		left, err := dropSlots(ctx, conn, d.name)
		if err != nil {
			return fmt.Errorf("drop replication slots: %w", err)
		}
		if left == 0 {
			break
		}
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return fmt.Errorf("drop replication slots: %d still in use: %w", left, err)
		}
	}
	_, err := conn.Exec(ctx, "DROP DATABASE IF EXISTS "+d.name+" WITH (FORCE)")
	return err
}

// dropSlots drops the idle slots of a database, ends the users of the others and returns how many are left.
func dropSlots(ctx context.Context, conn *pgx.Conn, database string) (left int, err error) {
	if _, err := conn.Exec(ctx, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
		WHERE datname = $1 AND backend_type = 'walsender'`, database); err != nil {
		return 0, err
	}
	rows, err := conn.Query(ctx, `SELECT slot_name FROM pg_replication_slots WHERE database = $1`, database)
	if err != nil {
		return 0, err
	}
	slots, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return 0, err
	}
	for _, slot := range slots {
		// It may have been taken or, when temporary, dropped since.
		if _, err := conn.Exec(ctx, `SELECT pg_drop_replication_slot($1)`, slot); err != nil {
			left++
		}
	}
	return left, ctx.Err()
}

// onDatabase replaces the database in a connection URL.
func onDatabase(server, name string) string {
	u, err := url.Parse(server)
	if err != nil || u.Scheme == "" { // a keyword/value string: the last dbname wins
		return server + " dbname=" + name
	}
	u.Path = "/" + name
	return u.String()
}

// Server is a Postgres server that belongs to one test.
type Server struct {
	t     testing.TB
	stack *Stack
}

// PostgresServer starts a server for one test: with its own settings, or to be stopped and killed. Its fsync
// is off unless the settings say otherwise.
func PostgresServer(t testing.TB, opts PostgresOptions) *Server {
	t.Helper()
	settings := map[string]string{"fsync": "off"}
	maps.Copy(settings, opts.Settings)
	opts.Settings = settings
	return &Server{t: t, stack: PrivateStack(t, Options{Postgres: &opts})}
}

// Database makes a new database in the server. It goes away with the server.
func (s *Server) Database() *Database {
	s.t.Helper()
	return newDatabase(s.t, s.URL())
}

// URL returns the connection URL of database postgres as superuser.
func (s *Server) URL() string { return s.stack.Postgres() }

// Stop shuts the server down in order.
func (s *Server) Stop(ctx context.Context) error { return s.stack.StopPostgres(ctx) }

// Start starts the server again on the same port and data.
func (s *Server) Start(ctx context.Context) error { return s.stack.StartPostgres(ctx) }

// Kill ends the server with SIGKILL.
func (s *Server) Kill() error { return s.stack.KillPostgres() }

// Abort ends the server with an immediate shutdown: it recovers from its log at the next start.
func (s *Server) Abort() error { return s.stack.AbortPostgres() }

// Pause stops all processes of the server without ending them (SIGSTOP).
func (s *Server) Pause() error { return s.stack.PausePostgres() }

// Resume lets them go on.
func (s *Server) Resume() error { return s.stack.ResumePostgres() }
