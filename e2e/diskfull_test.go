//go:build linux

package e2e

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/lanternist/lanternist/internal/devstack"
	"github.com/lanternist/lanternist/internal/faults"
)

var noteView = map[string][]byte{"note": []byte(`view: note
from: public.notes
fields: {id: , title: {as: keyword}, n: }
search: {settings: {number_of_shards: 1}}
cache:
`)}

const noteTruth = `SELECT id::text, jsonb_build_object('id', id, 'title', title, 'n', n) FROM notes`

// installNotes makes an installation whose rows have as much beside what the documents show as a test likes.
func installNotes(t *testing.T, o options) *installation {
	t.Helper()
	o.tables, o.views = []string{"public.notes"}, noteView
	in := install(t, o)
	in.database.Exec(`CREATE TABLE notes (id int PRIMARY KEY, title text NOT NULL, n int NOT NULL, ballast text)`,
		`CREATE TABLE foreign_traffic (id int, text text)`,
		`INSERT INTO notes SELECT i, 'note ' || i, 0, NULL FROM generate_series(1, 100) i`)
	return in
}

// compareNotes compares every document in both sinks with the source.
func (in *installation) compareNotes() {
	in.t.Helper()
	in.t.Logf("%d documents compared", in.compare(func(string) string { return noteTruth }))
}

// smallDisk is a file system of a few MiB.
type smallDisk struct {
	t       *testing.T
	dir     string
	ballast string
}

// mountSmall mounts a file system of so many MiB in the installation's data folder.
func (in *installation) mountSmall(store string, mib int) *smallDisk {
	in.t.Helper()
	dir := filepath.Join(in.dir, "data", store)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		in.t.Fatal(err)
	}
	if err := syscall.Mount("lanternist-test", dir, "tmpfs", 0, fmt.Sprintf("size=%dm", mib)); err != nil {
		in.t.Skipf("mount a small file system: %v", err)
	}
	in.t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			in.t.Errorf("unmount %s: %v", dir, err)
		}
	})
	return &smallDisk{t: in.t, dir: dir, ballast: filepath.Join(dir, "ballast")}
}

// fill leaves no room.
func (d *smallDisk) fill() {
	d.t.Helper()
	f, err := os.OpenFile(d.ballast, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		d.t.Fatal(err)
	}
	defer f.Close()
	block := make([]byte, 1<<20)
	for size := len(block); size > 0; {
		if _, err := f.Write(block[:size]); errors.Is(err, syscall.ENOSPC) {
			size /= 16
		} else if err != nil {
			d.t.Fatal(err)
		}
	}
}

// free makes room again.
func (d *smallDisk) free() {
	d.t.Helper()
	if err := os.Remove(d.ballast); err != nil {
		d.t.Fatal(err)
	}
}

// waitingDisk is the store that waits for its disk, as the status says; "" when none does.
func (in *installation) waitingDisk() string {
	in.t.Helper()
	var s struct {
		Disks []struct{ Store, Path, Error string }
	}
	if err := in.get("/v1/status", &s); err != nil {
		in.t.Fatal(err)
	}
	if len(s.Disks) == 0 {
		return ""
	}
	if w := s.Disks[0]; w.Path == "" || !strings.Contains(w.Error, "no space left") {
		in.t.Errorf("the status does not say what is missing: %+v", w)
	}
	return s.Disks[0].Store
}

func TestFaultJournalDiskFull(t *testing.T) {
	diskFull(t, faults.Fault{
		ID: "disk-full-journal", Area: "Resources",
		Fault: "The journal's disk is full.",
	}, "journal", 200, growNotes)
}

func TestFaultMirrorDiskFull(t *testing.T) {
	diskFull(t, faults.Fault{
		ID: "disk-full-mirror", Area: "Resources",
		Fault: "The mirror's disk is full.",
	}, "mirror", 60, growNotes)
}

// growNotes are rows that do not compress, and changes of a table that is not captured, whose position has to be written, too.
var growNotes = []string{
	`UPDATE notes SET n = n + 1, ballast = (SELECT string_agg(md5(random()::text), '') FROM generate_series(1, 2500)) WHERE id % 10 = $1`,
	`INSERT INTO foreign_traffic SELECT $1, repeat(md5(random()::text), 40) FROM generate_series(1, 1500)`,
}

// diskFull fills the disk of a store under traffic that makes the store grow, and makes room again.
func diskFull(t *testing.T, f faults.Fault, store string, mib int, grow []string) {
	f.Promise = "The stream stands still, nothing is acknowledged to the source that is not durable, reads go on, status and health name the store; " +
		"it goes on by itself when there is room, with every transaction journaled once."
	f.Answer = "Make room on the disk; nothing has to be started again. Which store it is: `lanternist status`."
	f.Heavy = true
	result := faults.Cause(t, f)
	in := installNotes(t, options{})
	disk := in.mountSmall(store, mib)
	audit := in.startAudit([]string{"public.notes"})
	d := in.start()
	d.ready()
	d.reach()
	disk.fill()

	conn := in.database.Conn(t.Context())
	rounds := 0
	devstack.Eventually(t, reachWithin, func() error {
		d.alive()
		if waits := in.waitingDisk(); waits == store {
			return nil
		} else if waits != "" {
			t.Fatalf("%s waits, want %s", waits, store)
		}
		rounds++
		for _, sql := range grow {
			if _, err := conn.Exec(t.Context(), sql, rounds%10); err != nil {
				t.Fatal(err)
			}
		}
		return fmt.Errorf("the disk of %s is full, and nothing waits after %d rounds", store, rounds)
	})
	if _, err := conn.Exec(t.Context(), `UPDATE notes SET n = n + 1, title = 'full ' || id`); err != nil {
		t.Fatal(err)
	}
	var health struct{ Status string }
	if err := in.get("/healthz", &health); err != nil || health.Status == "ok" {
		t.Errorf("health is %q, %v", health.Status, err)
	}
	if code, out, _ := in.run("status"); code != 0 || !strings.Contains(out, store+" waits since") {
		t.Errorf("status exits with %d and does not name the disk:\n%s", code, out)
	}
	for _, path := range []string{"/v1/views/note/7", "/v1/views/note/search"} {
		if a, err := in.ask(http.MethodGet, path, nil); err != nil || a.status != http.StatusOK {
			t.Errorf("%s while the disk is full: status %d, %v", path, a.status, err)
		}
	}
	in.acknowledgedIsDurable()
	d.alive()
	disk.free()
	began := time.Now()
	d.reach()
	result.Recovered(time.Since(began))
	if waits := in.waitingDisk(); waits != "" {
		t.Errorf("%s still waits", waits)
	}
	in.compareNotes()
	d.nothingParked()
	d.stop()
	audit.compare()
	result.Notef("%d rounds until it was full", rounds)
}

// acknowledgedIsDurable compares what the source may forget with what the daemon says is in the journal.
func (in *installation) acknowledgedIsDurable() {
	in.t.Helper()
	var confirmed, later string
	conn := in.database.Conn(in.t.Context())
	defer conn.Close(in.t.Context())
	if err := conn.QueryRow(in.t.Context(), `SELECT confirmed_flush_lsn::text FROM pg_replication_slots WHERE slot_name = $1`, in.slot).Scan(&confirmed); err != nil {
		in.t.Fatal(err)
	}
	var s struct {
		Journal struct{ LSN string }
		Source  struct{ Acknowledged string }
	}
	if err := in.get("/v1/status", &s); err != nil {
		in.t.Fatal(err)
	}
	if later = s.Source.Acknowledged; parseLSN(in.t, s.Journal.LSN) > parseLSN(in.t, later) {
		later = s.Journal.LSN
	}
	if parseLSN(in.t, confirmed) > parseLSN(in.t, later) {
		in.t.Errorf("the slot has confirmed %s, the daemon has made durable %s", confirmed, later)
	}
}

// TestFaultStoppedWhileTheDiskIsFull stops the daemon while it stands still, and stops the next one while it cannot even open its
// stores.
func TestFaultStoppedWhileTheDiskIsFull(t *testing.T) {
	result := faults.Cause(t, faults.Fault{
		ID: "stopped-while-disk-full", Area: "Resources",
		Fault: "The daemon is told to stop while the mirror's disk is full, and once more while it is starting on the full disk.",
		Promise: "It ends within its deadlines with exit code 1, names the store, and leaves the stores as a crash would; the next start goes on from there, " +
			"with every transaction journaled once.",
		Answer: "Make room, then start it again: `lanternist run`.",
		Heavy:  true,
	})
	in := installNotes(t, options{})
	disk := in.mountSmall("mirror", 100)
	audit := in.startAudit([]string{"public.notes"})
	d := in.start()
	d.ready()
	d.reach()
	disk.fill()
	conn := in.database.Conn(t.Context())
	devstack.Eventually(t, reachWithin, func() error {
		d.alive()
		if in.waitingDisk() == "mirror" {
			return nil
		}
		_, err := conn.Exec(t.Context(), growNotes[0], 1)
		return errors.Join(err, errors.New("nothing waits"))
	})
	d.stopStuck("mirror")

	d = in.start()
	if !d.log.find(readyWithin, "disk operation waits") {
		t.Fatal("the daemon started on a full disk as if it had room")
	}
	d.stopStuck("mirror")

	disk.free()
	began := time.Now()
	d = in.start()
	d.ready()
	d.reach()
	result.Recovered(time.Since(began))
	in.compareNotes()
	d.nothingParked()
	d.stop()
	audit.compare()
}

// stopStuck stops a daemon whose store waits for its disk.
func (d *daemon) stopStuck(store string) {
	d.in.t.Helper()
	if err := d.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		d.in.t.Fatal(err)
	}
	if code := d.exit(stopWithin); code != 1 || !strings.Contains(d.log.text(), "not closed: "+store+" waits") {
		d.in.t.Errorf("exit code %d; want 1, and the name of the store that waits", code)
	}
}

// TestFaultControlDiskFull starts the daemon on a full disk of the control store, stops it, and makes room under the next one.
func TestFaultControlDiskFull(t *testing.T) {
	result := faults.Cause(t, faults.Fault{
		ID: "disk-full-control", Area: "Resources",
		Fault: "The disk of the control store (positions, dead letters, table definitions) is full when the daemon starts.",
		Promise: "The start waits, names the store, and goes on by itself when there is room, with every transaction journaled once; " +
			"a daemon stopped meanwhile ends with exit code 1.",
		Answer: "Make room on the disk; nothing has to be started again. Until then the log names the file: `lanternist run`.",
		Heavy:  true,
	})
	in := installNotes(t, options{})
	disk := in.mountSmall("control", 20)
	audit := in.startAudit([]string{"public.notes"})
	d := in.start()
	d.ready()
	d.reach()
	d.stop()
	in.database.Exec(`UPDATE notes SET n = n + 1`)
	disk.fill()

	d = in.start()
	if !d.log.find(readyWithin, "disk operation waits") {
		t.Fatal("the daemon started on a full disk as if it had room")
	}
	d.stopStuck("control")
	d = in.start()
	if !d.log.find(readyWithin, "disk operation waits") {
		t.Fatal("the daemon started on a full disk as if it had room")
	}
	in.database.Exec(`UPDATE notes SET n = n + 1`)
	d.alive()
	disk.free()
	began := time.Now()
	d.ready()
	d.reach()
	result.Recovered(time.Since(began))
	in.compareNotes()
	d.nothingParked()
	d.stop()
	audit.compare()
}
