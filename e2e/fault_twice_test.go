package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/lanternist/lanternist/examples/shop"
	"github.com/lanternist/lanternist/internal/devstack"
	"github.com/lanternist/lanternist/internal/faults"
	"github.com/lanternist/lanternist/internal/natsconn/natstest"
)

// TestFaultDaemonStartedTwice starts a second daemon on the folders of one that runs.
func TestFaultDaemonStartedTwice(t *testing.T) {
	t.Parallel()
	result := faults.Cause(t, faults.Fault{
		ID: "daemon-started-twice", Area: "Process", Fault: "A second daemon is started on the same folders",
		Promise: "The second refuses, names the process that has them, and exits with 1. The first goes on.",
		Answer:  "`lanternist status` shows the one that runs; stop it first if it is not the one that should",
	})
	in := installShop(t, options{}, small)
	d := in.start()
	d.ready()
	in.refuseSecond()
	d.alive()
	d.reach()
	result.Notef("%d documents compared", in.compare(shop.Truth))
	d.stop()
}

// refuseSecond starts a daemon on folders that are in use.
func (in *installation) refuseSecond() {
	in.t.Helper()
	second := in.start()
	if code := second.exit(readyWithin); code != 1 {
		in.t.Errorf("the second daemon exited with %d, want 1", code)
	}
	if text := second.log.text(); !strings.Contains(text, "locked") && !strings.Contains(text, "open in process") && !strings.Contains(text, "in use") {
		in.t.Errorf("the second daemon does not say why it ended:\n%s", text)
	}
}

// pausedFor is how long a daemon stands still that is then replaced.
const pausedFor = 60 * time.Second

// TestFaultPausedDaemonKeepsItsFolders pauses a daemon for a minute: nobody else gets its folders meanwhile, and it goes on.
func TestFaultPausedDaemonKeepsItsFolders(t *testing.T) {
	t.Parallel()
	result := faults.Cause(t, faults.Fault{
		ID: "daemon-paused-second-refused", Area: "Process", Heavy: true,
		Fault:   "The daemon is paused for 60 s (SIGSTOP), and a second is started on its folders meanwhile",
		Promise: "The second refuses as long as the first exists. The first goes on when it wakes, over a new connection.",
		Answer:  "nothing; or end the paused one with `kill -KILL PID`, which the second names",
	})
	server := devstack.PostgresServer(t, devstack.PostgresOptions{Settings: map[string]string{"wal_sender_timeout": senderTimeout.String()}})
	in := installShop(t, options{database: server.Database()}, small)
	audit := in.startAudit(shop.Tables())
	d := in.start()
	d.ready()
	tr := in.startTraffic(randomSource(t).Uint64(), busyRate)
	resume := d.pause(pausedFor)
	in.refuseSecond()
	resume()
	began := time.Now()
	d.reach()
	result.Recovered(time.Since(began))
	tr.stop()
	d.reach()
	n := in.compare(shop.Truth)
	d.nothingParked()
	d.stop()
	audit.compare()
	result.Notef("%d documents and %d transactions compared", n, audit.compared)
}

// pause stops the process. The returned function waits until it has stood still for long enough, and lets it go on.
func (d *daemon) pause(long time.Duration) (resume func()) {
	d.in.t.Helper()
	d.signal(syscall.SIGSTOP)
	until := time.NewTimer(long)
	return func() {
		d.in.t.Helper()
		<-until.C
		d.signal(syscall.SIGCONT)
	}
}

func (d *daemon) signal(signal syscall.Signal) {
	d.in.t.Helper()
	if err := d.cmd.Process.Signal(signal); err != nil {
		d.in.t.Fatalf("%v to the daemon: %v", signal, err)
	}
}

// TestFaultPausedDaemonReplaced pauses a daemon whose journal is on a NATS server, has a second take its place on another machine's
// folders, and lets the first go on.
func TestFaultPausedDaemonReplaced(t *testing.T) {
	t.Parallel()
	result := faults.Cause(t, faults.Fault{
		ID: "daemon-paused-replaced-resumed", Area: "Process", Heavy: true,
		Fault: "The daemon is paused for 60 s (SIGSTOP, a paused VM), a second on another machine takes its place, and the first wakes up",
		Promise: "The second waits for the slot until the source has given the first one's connection up, and goes on. The first may not append to the journal any more: " +
			"it writes nothing wrong and nothing twice, and ends with an error.",
		Answer: "nothing: stop the first for good, `systemctl disable --now lanternist` on its machine",
	})
	server := devstack.PostgresServer(t, devstack.PostgresOptions{Settings: map[string]string{"wal_sender_timeout": senderTimeout.String()}})
	in := installShop(t, options{database: server.Database(), nats: natstest.Start(t, 8<<20).URL()}, small)
	audit := in.startAudit(shop.Tables())
	first := in.start()
	first.ready()
	tr := in.startTraffic(randomSource(t).Uint64(), busyRate)
	first.reach()

	resume := first.pause(pausedFor)
	elsewhere := in.elsewhere()
	second := elsewhere.start()
	second.ready()
	second.reach()
	resume()
	// Both run now, under traffic. The first finds out when it appends, or when it asks for the slot for too long.
	code := first.exit(3 * time.Minute)
	if text := first.log.text(); code != 1 || !strings.Contains(text, "fenced") && !strings.Contains(text, "in use") && !strings.Contains(text, "another") {
		t.Errorf("the first daemon exited with %d, want 1 and the reason:\n%s", code, tail(text, 20))
	}
	result.Notef("the first: %s", reason(first.log.text()))
	began := time.Now()
	second.reach()
	result.Recovered(time.Since(began))
	tr.stop()
	second.reach()
	n := elsewhere.compare(shop.Truth)
	second.nothingParked()
	second.stop()
	audit.compare()
	result.Notef("%d documents and %d transactions compared", n, audit.compared)
}

// elsewhere is the same installation on another machine: the same configuration and services, folders of its own.
func (in *installation) elsewhere() *installation {
	in.t.Helper()
	other := *in
	other.dir = in.t.TempDir()
	other.file = filepath.Join(other.dir, "lanternist.yaml")
	address := freeAddress(in.t)
	text, err := os.ReadFile(in.file)
	if err != nil {
		in.t.Fatal(err)
	}
	other.base = "http://" + address
	other.write("lanternist.yaml", []byte(strings.Replace(string(text), strings.TrimPrefix(in.base, "http://"), address, 1)))
	for _, view := range in.views {
		text, err := os.ReadFile(filepath.Join(in.dir, "views", view+".yaml"))
		if err != nil {
			in.t.Fatal(err)
		}
		other.write("views/"+view+".yaml", text)
	}
	return &other
}
