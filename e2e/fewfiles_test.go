//go:build linux

package e2e

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lanternist/lanternist/internal/devstack"
	"github.com/lanternist/lanternist/internal/faults"
)

// startWithFiles starts a daemon that may have only so many files open.
func (in *installation) startWithFiles(most int) *daemon {
	in.t.Helper()
	path, err := binaryPath()
	if err != nil {
		in.t.Fatal(err)
	}
	script := filepath.Join(in.t.TempDir(), "limited")
	text := fmt.Sprintf("#!/bin/sh\nulimit -n %d && exec '%s' \"$@\"\n", most, path)
	if err := os.WriteFile(script, []byte(text), 0o700); err != nil {
		in.t.Fatal(err)
	}
	return in.startBinary(script)
}

// openFiles is how many files the process has open.
func (d *daemon) openFiles() int {
	d.in.t.Helper()
	files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", d.cmd.Process.Pid))
	if err != nil {
		d.in.t.Fatal(err)
	}
	return len(files)
}

// crowd is many connections to the API, each with a request, that stay when they are answered.
type crowd struct {
	connections []net.Conn
	answered    atomic.Int64
}

func (in *installation) gather(connections int) *crowd {
	in.t.Helper()
	base, err := url.Parse(in.base)
	if err != nil {
		in.t.Fatal(err)
	}
	c := &crowd{}
	in.t.Cleanup(c.leave)
	for range connections {
		conn, err := net.Dial("tcp", base.Host)
		if err != nil {
			in.t.Fatal(err)
		}
		c.connections = append(c.connections, conn)
		go func() {
			if _, err := fmt.Fprintf(conn, "GET /v1/views/note/7 HTTP/1.1\r\nHost: %s\r\n\r\n", base.Host); err != nil {
				return // it has left
			}
			if answer, err := http.ReadResponse(bufio.NewReader(conn), nil); err == nil && answer.StatusCode == http.StatusOK {
				c.answered.Add(1)
			}
		}()
	}
	return c
}

func (c *crowd) leave() {
	for _, conn := range c.connections {
		_ = conn.Close()
	}
	c.connections = nil
}

func TestFaultFewFiles(t *testing.T) {
	const most, places = 128, 16
	result := faults.Cause(t, faults.Fault{
		ID: "few-file-descriptors", Area: "Resources",
		Fault: "The process may have no more than 128 files open, and 300 clients connect to the API and stay.",
		Promise: "Clients get 16 places, an eighth of the files (half of them when there are many); more wait in the system's queue and are answered when others leave. Journal, mirror and sinks go on " +
			"meanwhile, without ever lacking a descriptor.",
		Answer: "Raise the limit of the service (`ulimit -n`, or `LimitNOFILE=` of the unit) to twice the clients' connections, and 512 at least.",
		Heavy:  true,
	})
	in := installNotes(t, options{})
	audit := in.startAudit([]string{"public.notes"})
	d := in.startWithFiles(most)
	d.ready()
	d.reach()
	alone := d.openFiles()
	crowd := in.gather(300)
	devstack.Eventually(t, readyWithin, func() error {
		// Connections of the test's own client may have some of the places.
		if n := crowd.answered.Load(); n < places/2 {
			return fmt.Errorf("%d connections answered", n)
		}
		return nil
	})
	conn := in.database.Conn(t.Context())
	for i := range 100 {
		sql := `UPDATE notes SET n = n + 1, ballast = (SELECT string_agg(md5(random()::text), '') FROM generate_series(1, 2500)) WHERE id % 10 = $1`
		if _, err := conn.Exec(t.Context(), sql, i%10); err != nil {
			t.Fatal(err)
		}
	}
	devstack.Eventually(t, reachWithin, func() error {
		d.alive()
		if result := in.comparison(func(string) string { return noteTruth }); !result.Equal() {
			return errors.New("the sinks are behind")
		}
		return nil
	})
	crowded := d.openFiles()
	if n := crowd.answered.Load(); n > places {
		t.Errorf("%d connections have a place, want at most %d", n, places)
	}
	began := time.Now()
	crowd.leave()
	d.reach()
	result.Recovered(time.Since(began))
	if strings.Contains(d.log.text(), "disk operation waits") || strings.Contains(d.log.text(), "too many open files") {
		t.Error("files were lacking")
	}
	in.compareNotes()
	d.nothingParked()
	d.stop()
	audit.compare()
	result.Notef("%d files open without clients, %d with as many as have a place", alone, crowded)
}
