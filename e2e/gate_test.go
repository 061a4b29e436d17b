package e2e

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lanternist/lanternist/internal/devstack"
)

// gate is a proxy before Postgres that holds the COPY of chosen tables back, so that a test can change the database
// while a first load is under way: after its snapshot was taken, before or after the rows are copied.
type gate struct {
	t        *testing.T
	listener net.Listener
	server   string // host:port
	running  sync.WaitGroup

	mu    sync.Mutex
	hold  func(table string) bool
	see   func(query string) // told of each query; may be nil
	open  chan struct{}      // closed by release
	held  map[string]bool    // tables whose COPY waits or has waited
	conns map[net.Conn]bool
}

// newGate makes a gate before a database that holds the tables for which hold is true.
func newGate(t *testing.T, database *devstack.Database, hold func(table string) bool) *gate {
	t.Helper()
	u, err := url.Parse(database.URL())
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := &gate{t: t, listener: listener, server: u.Host, hold: hold,
		open: make(chan struct{}), held: map[string]bool{}, conns: map[net.Conn]bool{}}
	g.running.Go(g.accept)
	t.Cleanup(g.close)
	return g
}

// url is the database's URL through the gate.
func (g *gate) url(database *devstack.Database) string {
	u, err := url.Parse(database.URL())
	if err != nil {
		g.t.Fatal(err)
	}
	u.Host = g.listener.Addr().String()
	query := u.Query()
	query.Set("sslmode", "disable")
	u.RawQuery = query.Encode()
	return u.String()
}

// waits waits until the COPY of all of the tables is held.
func (g *gate) waits(tables ...string) {
	g.t.Helper()
	devstack.Eventually(g.t, readyWithin, func() error {
		g.mu.Lock()
		defer g.mu.Unlock()
		for _, table := range tables {
			if !g.held[table] {
				return fmt.Errorf("%s is not being copied; held are %v", table, g.held)
			}
		}
		return nil
	})
}

// release lets everything through from now on.
func (g *gate) release() {
	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case <-g.open:
	default:
		close(g.open)
	}
}

func (g *gate) close() {
	g.release()
	if err := g.listener.Close(); err != nil {
		g.t.Error(err)
	}
	g.mu.Lock()
	for c := range g.conns {
		c.Close()
	}
	g.mu.Unlock()
	g.running.Wait()
}

func (g *gate) accept() {
	for {
		front, err := g.listener.Accept()
		if err != nil {
			if !errors.Is(err, net.ErrClosed) {
				g.t.Error(err)
			}
			return
		}
		back, err := net.DialTimeout("tcp", g.server, 10*time.Second)
		if err != nil {
			front.Close()
			continue // the client sees that
		}
		g.mu.Lock()
		g.conns[front], g.conns[back] = true, true
		g.mu.Unlock()
		g.running.Go(func() {
			defer g.end(front, back)
			_, _ = io.Copy(front, back) // a connection that breaks is the daemon's matter
		})
		g.running.Go(func() {
			defer g.end(front, back)
			_ = g.forward(back, front)
		})
	}
}

func (g *gate) end(conns ...net.Conn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, c := range conns {
		c.Close()
		delete(g.conns, c)
	}
}

var copyCommand = regexp.MustCompile(`(?is)^COPY .*? FROM (?:ONLY )?"?public"?\."?(\w+)"?`)

// forward passes the client's messages on, one by one.
func (g *gate) forward(server io.Writer, client io.Reader) error {
	for header := 4; ; { // the startup message has no type
		message := make([]byte, header)
		if _, err := io.ReadFull(client, message); err != nil {
			return err
		}
		size := binary.BigEndian.Uint32(message[header-4:])
		if size < 4 || size > 64<<20 {
			return fmt.Errorf("message of %d bytes", size)
		}
		message = append(message, make([]byte, size-4)...)
		if _, err := io.ReadFull(client, message[header:]); err != nil {
			return err
		}
		if header == 5 && message[0] == 'Q' {
			g.pass(strings.TrimSpace(string(message[5:])))
		}
		if _, err := server.Write(message); err != nil {
			return err
		}
		header = 5
	}
}

// pass tells of a query, and waits while it is one that is held.
func (g *gate) pass(query string) {
	if g.see != nil {
		g.see(query)
	}
	m := copyCommand.FindStringSubmatch(query)
	if m == nil || !g.hold(m[1]) {
		return
	}
	g.mu.Lock()
	g.held[m[1]] = true
	g.mu.Unlock()
	<-g.open
}
