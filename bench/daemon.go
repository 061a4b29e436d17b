package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pglogrepl"
)

// viewName is the view that is projected: the table's rows as they are.
const viewName = "items"

const viewFields = `view: %s
from: %s
fields:
  id:
  customer_id:
  status: {as: keyword}
  amount:
  note:
  updated_at:
`

// viewOf is a view of a table with one sink.
func viewOf(name, table, sink string) []byte {
	section := "cache:\n"
	if sink == sinkElasticsearch {
		section = "search:\n"
	}
	return fmt.Appendf(nil, viewFields+section, name, table)
}

const (
	statusEvery = 20 * time.Millisecond // between two looks at a draining daemon, and so the error of its time
	stopWithin  = 45 * time.Second
)

// daemon is an installation of the daemon with one view in one sink.
type daemon struct {
	*round
	sink string
	dir  string
	base string // URL of the API

	cmd     *exec.Cmd
	log     *logLines
	process chan error // has the result when the process has ended, once
	dead    bool       // that was not wanted, and has been told
}

// prepareDaemon has the daemon make its slot, load the table and build the view, and stops it.
func prepareDaemon(sink string) func(context.Context, *round) error {
	return func(ctx context.Context, r *round) (err error) {
		d, err := r.install(ctx, sink)
		if err != nil {
			return err
		}
		if err := d.start(ctx); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, d.stop()) }()
		_, err = d.until(ctx, func(s status) bool { return s.Ready })
		return err
	}
}

// measureDaemon starts the daemon again and measures until everything is in the sink.
func measureDaemon(sink string) func(context.Context, *round) ([]sample, error) {
	return func(ctx context.Context, r *round) (_ []sample, err error) {
		d, err := r.install(ctx, sink)
		if err != nil {
			return nil, err
		}
		if err := d.start(ctx); err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, d.stop()) }()
		if err := d.follows(ctx); err != nil {
			return nil, err
		}
		began := time.Now()
		before, err := usageOf(d.cmd.Process.Pid)
		if err != nil {
			return nil, err
		}
		s, err := d.until(ctx, func(s status) bool { return pglogrepl.LSN(s.Projectors[0].LSN) >= r.backlog.mark })
		if err != nil {
			return nil, err
		}
		p := phase{Seconds: time.Since(began).Seconds(), Operations: r.backlog.changes}
		now, err := usageOf(d.cmd.Process.Pid)
		if err != nil {
			return nil, err
		}
		p.usage = now.since(before)
		out := p.sample(sink, fmt.Sprintf("the daemon, one view; %d rounds, %d writes", s.Projectors[0].Rounds, s.Projectors[0].Batches))
		out.Sink, out.Documents = sink, s.Projectors[0].Documents+s.Projectors[0].Deletes
		return []sample{out}, d.verify(ctx)
	}
}

// install writes the configuration for the backlog's table, or finds it there.
func (r *round) install(ctx context.Context, sink string) (*daemon, error) {
	return r.installView(ctx, sink, sink, table, viewOf(viewName, table, sink))
}

// installView writes the configuration for one view of a table. name is that of folder and slot.
func (r *round) installView(ctx context.Context, sink, name, table string, view []byte) (*daemon, error) {
	d := &daemon{round: r, sink: sink, dir: filepath.Join(r.dir, name)}
	address, err := freeAddress(ctx)
	if err != nil {
		return nil, err
	}
	d.base = "http://" + address
	service := fmt.Sprintf("redis: {url: %q, prefix: %q}", r.stack.Redis(), r.prefix)
	if sink == sinkElasticsearch {
		service = fmt.Sprintf("elasticsearch: {url: %q, prefix: %q}", r.stack.Elasticsearch(), r.prefix)
	}
	cfg := fmt.Sprintf("source: {url: \"${DATABASE_URL}\", slot: %s, publication: %s, tables: [%s]}\n%s\nhttp: {listen: %q}\nviews: [view.yaml]\n",
		r.slot(strings.ReplaceAll(name, "-", "_")), publication, table, service, address)
	return d, errors.Join(os.MkdirAll(d.dir, 0o700),
		os.WriteFile(filepath.Join(d.dir, "lanternist.yaml"), []byte(cfg), 0o600),
		os.WriteFile(filepath.Join(d.dir, "view.yaml"), view, 0o600))
}

// freeAddress is a loopback address that was free a moment ago. Its port is below the ephemeral range, so that no outgoing
// connection takes it before the daemon does, and outside of the range of the stack's servers.
func freeAddress(ctx context.Context) (string, error) {
	var errs []error
	for range 100 {
		address := fmt.Sprintf("127.0.0.1:%d", 10000+rand.IntN(10000))
		l, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
		if err == nil {
			return address, l.Close()
		}
		errs = append(errs, err)
	}
	return "", fmt.Errorf("no port is free: %w", errs[0])
}

func (d *daemon) start(ctx context.Context) error {
	d.log, d.process = newLogLines(d.session.log), make(chan error, 1)
	// Not ctx: the end of it is not the end of the daemon, which stop ends in order.
	d.cmd = exec.CommandContext(context.WithoutCancel(ctx), d.binary, "run", "--config", filepath.Join(d.dir, "lanternist.yaml"))
	d.cmd.Env = append(os.Environ(), "DATABASE_URL="+d.database.url)
	d.cmd.Stdout, d.cmd.Stderr, d.cmd.SysProcAttr = d.log, d.log, ownedChild()
	started := make(chan error)
	go func() {
		// A parent-death signal fires when the thread ends that started the process: it is kept until then.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := d.cmd.Start()
		started <- err
		if err == nil {
			d.process <- d.cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		return fmt.Errorf("start the daemon: %w", err)
	}
	return context.Cause(ctx)
}

// stop ends the daemon in order. What it has not written by then it writes now.
func (d *daemon) stop() error {
	if d.dead {
		return nil
	}
	if err := d.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop the daemon: %w", err)
	}
	select {
	case err := <-d.process:
		if err != nil {
			return d.died(err)
		}
		return nil
	case <-time.After(stopWithin):
		return errors.Join(fmt.Errorf("the daemon did not stop within %s", stopWithin), d.cmd.Process.Kill())
	}
}

// died is the error of a daemon that has ended by itself.
func (d *daemon) died(err error) error {
	d.dead = true
	return fmt.Errorf("the daemon has ended: %w\n%s", cmp.Or(err, errors.New("exit status 0")), tail(d.log.text(), 20))
}

// follows waits for the moment at which the daemon asks for the stream.
func (d *daemon) follows(ctx context.Context) error {
	select {
	case <-d.log.streaming:
		return nil
	case err := <-d.process:
		return d.died(err)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// status is what is read of the daemon's status.
type status struct {
	Ready      bool
	Projectors []struct {
		State     string
		Error     string
		LSN       position
		Documents int
		Deletes   int
		Batches   int
		Rounds    int
	}
}

// position is a position as Postgres prints it.
type position pglogrepl.LSN

// UnmarshalText parses a position.
func (p *position) UnmarshalText(text []byte) error {
	lsn, err := pglogrepl.ParseLSN(string(text))
	*p = position(lsn)
	return err
}

// until looks at the daemon's status until it is as wanted, and returns it.
func (d *daemon) until(ctx context.Context, done func(status) bool) (status, error) {
	tick := time.NewTicker(statusEvery)
	defer tick.Stop()
	for {
		var s status
		body, code, err := get(ctx, d.base+"/v1/status")
		if err == nil && code == http.StatusOK {
			if err := json.Unmarshal(body, &s); err != nil {
				return s, fmt.Errorf("status of the daemon: %w", err)
			}
		}
		if len(s.Projectors) == 1 {
			if done(s) {
				return s, nil
			}
			if p := s.Projectors[0]; p.State == "stopped" && p.Error != "" {
				return s, fmt.Errorf("the projector has stopped: %s", p.Error)
			}
		}
		select {
		case <-tick.C: // an API that does not answer is not up yet
		case err := <-d.process:
			return s, d.died(err)
		case <-ctx.Done():
			return s, context.Cause(ctx)
		}
	}
}

// verifyKeys is how many documents are compared with the table after each drain.
const verifyKeys = 500

// verify reads documents through the API, deleted ones too, and compares them with the table.
func (d *daemon) verify(ctx context.Context) error {
	documents, err := loadDocuments(ctx, d.database.url)
	if err != nil {
		return err
	}
	want := make(map[string]string, len(documents))
	for _, doc := range documents {
		want[doc.id] = doc.body
	}
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0))
	highest := d.options.rows + d.options.changes*3/backlogCycle
	for range verifyKeys {
		id := fmt.Sprint(lastKey + 1 + random.IntN(highest-lastKey))
		body, code, err := get(ctx, d.base+"/v1/views/"+viewName+"/"+id)
		if err != nil {
			return fmt.Errorf("compare documents: %w", err)
		}
		got := string(body)
		if code == http.StatusNotFound {
			got = ""
		}
		if got != want[id] {
			return fmt.Errorf("compare documents (seed %d): document %s is %d %s, want %q", seed, id, code, body, want[id])
		}
	}
	return nil
}

// get reads a URL.
func get(ctx context.Context, url string) (body []byte, code int, err error) {
	return exchange(ctx, http.MethodGet, url, nil)
}

// client keeps a connection for each writer.
var client = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 8}}

// exchange performs a request and reads the answer.
func exchange(ctx context.Context, method, url string, body io.Reader) (_ []byte, code int, err error) {
	req, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		return nil, 0, err
	}
	req.Header.Set("Content-Type", "application/x-ndjson")
	resp, err := client.Do(req)
	if err != nil {
		return nil, 0, err
	}
	defer func() { err = errors.Join(err, resp.Body.Close()) }()
	answer, err := io.ReadAll(resp.Body)
	return answer, resp.StatusCode, err
}

// tail is the last lines of a text.
func tail(text string, lines int) string {
	all := strings.Split(strings.TrimRight(text, "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
