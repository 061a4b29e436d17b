package devstack

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// copyTimeout bounds the copying of a data folder.
const copyTimeout = 2 * time.Minute

// DataCopy is a copy of a server's data folder, as it was when the server was shut down.
type DataCopy struct {
	dir string
}

// Copy stops the server in order, copies its data, and starts it again.
func (s *Server) Copy() DataCopy {
	s.t.Helper()
	p := s.postgres()
	to := filepath.Join(p.dir, fmt.Sprintf("copy-%d", time.Now().UnixNano()))
	s.whileStopped(func(ctx context.Context) error { return p.copyData(ctx, s.stack.host, p.data, to) })
	return DataCopy{dir: to}
}

// Restore stops the server, puts a copy of its data into place, and starts it. With recovery it is restored as a base backup
// is: the server has none of its replication slots any more, and goes on under a new timeline.
func (s *Server) Restore(c DataCopy, recovery bool) {
	s.t.Helper()
	p := s.postgres()
	s.whileStopped(func(ctx context.Context) error {
		if err := os.RemoveAll(p.data); err != nil {
			return err
		}
		if err := p.copyData(ctx, s.stack.host, c.dir, p.data); err != nil || !recovery {
			return err
		}
		return errors.Join(
			emptyFolder(filepath.Join(p.data, "pg_replslot")),
			p.write(s.stack.host, "recovery.signal", ""),
			p.configure(s.stack.host, "restore_command = 'false'"))
	})
}

// Standby makes a standby of the server, by a copy of its data, and starts it. It streams through a replication slot of the
// primary, and, from Postgres 17 on, keeps copies of the primary's failover slots, which wait for it. The server is stopped for
// a moment.
func (s *Server) Standby(t testing.TB) *Server {
	t.Helper()
	p := s.postgres()
	const slot = "standby"
	ctx, cancel := context.WithTimeout(context.Background(), copyTimeout)
	defer cancel()
	admin := func(statements ...string) {
		conn, err := pgx.Connect(ctx, s.URL())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(ctx)
		for _, sql := range statements {
			if _, err := conn.Exec(ctx, sql); err != nil {
				t.Fatalf("%s: %v", sql, err)
			}
		}
	}
	admin("SELECT pg_create_physical_replication_slot('" + slot + "', true)")
	dir, err := s.stack.host.subdir(filepath.Base(p.dir) + "-standby")
	if err != nil {
		t.Fatal(err)
	}
	c := cluster{bin: p.bin, dir: dir, data: filepath.Join(dir, "data"), password: p.password}
	s.whileStopped(func(ctx context.Context) error { return c.copyData(ctx, s.stack.host, p.data, c.data) })
	u, err := url.Parse(s.URL())
	if err != nil {
		t.Fatal(err)
	}
	settings := maps.Clone(p.settings)
	settings["primary_conninfo"] = fmt.Sprintf("host=%s port=%s user=postgres password=%s dbname=postgres sslmode=disable", u.Hostname(), u.Port(), p.password)
	settings["primary_slot_name"], settings["hot_standby_feedback"] = slot, "on"
	synchronized := postgresMajor(ctx, p.bin) >= 17
	if synchronized {
		settings["sync_replication_slots"] = "on"
	}
	if err := errors.Join(emptyFolder(filepath.Join(c.data, "pg_replslot")), c.write(s.stack.host, "standby.signal", "")); err != nil {
		t.Fatal(err)
	}
	started, err := c.start(ctx, s.stack.host, filepath.Base(dir), settings)
	if err != nil {
		t.Fatalf("start standby: %v", err)
	}
	if synchronized {
		admin("ALTER SYSTEM SET synchronized_standby_slots = '"+slot+"'", "SELECT pg_reload_conf()")
	}
	return &Server{t: t, stack: &Stack{host: s.stack.host, postgres: started}}
}

// Promote makes a primary of a standby and returns when it takes writes.
func (s *Server) Promote() {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), copyTimeout)
	defer cancel()
	conn, err := pgx.Connect(ctx, s.URL())
	if err != nil {
		s.t.Fatal(err)
	}
	defer conn.Close(ctx)
	var done bool
	if err := conn.QueryRow(ctx, "SELECT pg_promote(true, 60)").Scan(&done); err != nil || !done {
		s.t.Fatalf("promote: %t, %v", done, err)
	}
}

// Same is the database of the same name on another server, as on a standby.
func (d *Database) Same(s *Server) *Database { return &Database{t: d.t, name: d.name, admin: s.URL()} }

func (s *Server) postgres() *postgresServer {
	s.t.Helper()
	p, ok := s.stack.postgres.(*postgresServer)
	if !ok {
		s.t.Fatal("the server was given by URL: its data is not ours")
	}
	return p
}

// whileStopped does something while the server is shut down.
func (s *Server) whileStopped(do func(context.Context) error) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), copyTimeout)
	defer cancel()
	for _, step := range []func(context.Context) error{s.Stop, do, s.Start} {
		if err := step(ctx); err != nil {
			s.t.Fatal(err)
		}
	}
}

// copyData copies a data folder as the account that owns it.
func (c cluster) copyData(ctx context.Context, h *host, from, to string) error {
	cmd := exec.Command("cp", "-Rp", from, to)
	cmd.Dir = c.dir
	return h.runAsService(ctx, cmd)
}

// write writes a file of the data folder.
func (c cluster) write(h *host, name, text string) error {
	file := filepath.Join(c.data, name)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return err
	}
	return h.account.own(file)
}

// configure adds a line to the server's configuration.
func (c cluster) configure(h *host, line string) error {
	file := filepath.Join(c.data, "postgresql.auto.conf")
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	return c.write(h, "postgresql.auto.conf", string(text)+line+"\n")
}

// emptyFolder removes what is in a folder.
func emptyFolder(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}
