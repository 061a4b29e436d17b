package e2e

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lanternist/lanternist/internal/devstack"
	"github.com/lanternist/lanternist/internal/faultpoint"
	"github.com/lanternist/lanternist/internal/faults"
)

// diskFaults is the folder that tells a daemon which operations of its disks fail.
type diskFaults struct {
	t   *testing.T
	dir string
}

// startFaulty starts a daemon whose disks can be made to fail.
func (in *installation) startFaulty(f diskFaults) *daemon {
	in.t.Helper()
	path, err := crashingBinary()
	if err != nil {
		in.t.Fatal(err)
	}
	return in.startBinary(path, faultpoint.VariableFaults+"="+f.dir)
}

func (f diskFaults) set(store, fault string) {
	f.t.Helper()
	if err := os.WriteFile(filepath.Join(f.dir, "disk."+store+".sync"), []byte(fault), 0o600); err != nil {
		f.t.Fatal(err)
	}
}

func (f diskFaults) end(store string) {
	f.t.Helper()
	if err := os.Remove(filepath.Join(f.dir, "disk."+store+".sync")); err != nil {
		f.t.Fatal(err)
	}
}

func TestFaultJournalSyncFails(t *testing.T) { syncFails(t, "journal", "Journal") }
func TestFaultMirrorSyncFails(t *testing.T)  { syncFails(t, "mirror", "Mirror") }
func TestFaultControlSyncFails(t *testing.T) { syncFails(t, "control", "Resources") }

func syncFails(t *testing.T, store, area string) {
	result := faults.Cause(t, faults.Fault{
		ID: "fsync-fails-" + store, Area: area,
		Fault:   "The disk of the " + store + " answers fsync with an error.",
		Promise: "The sync is not tried again and nothing after it is acknowledged: the daemon ends with exit code 1 and names the file. The next start goes on from what is on the disk, each transaction journaled once.",
		Answer:  "Look at the disk (`dmesg`); a supervisor starts the daemon again: `lanternist run`.",
		Heavy:   true,
	})
	in := installNotes(t, options{})
	audit := in.startAudit([]string{"public.notes"})
	f := diskFaults{t, t.TempDir()}
	d := in.startFaulty(f)
	d.ready()
	d.reach()
	f.set(store, "eio")
	in.database.Exec(`UPDATE notes SET n = n + 1`, `INSERT INTO foreign_traffic SELECT i, repeat(md5(i::text), 40) FROM generate_series(1, 3000) i`)
	if code := d.exit(readyWithin); code != 1 || !strings.Contains(d.log.text(), "a disk failed") || !strings.Contains(d.log.text(), store+": sync ") {
		t.Errorf("the daemon exited with %d; want 1, and the file's name", code)
	}
	in.database.Exec(`UPDATE notes SET n = n + 10 WHERE id < 50`)
	f.end(store)
	began := time.Now()
	d = in.startFaulty(f)
	d.ready()
	d.reach()
	result.Recovered(time.Since(began))
	in.compareNotes()
	d.nothingParked()
	d.stop()
	audit.compare()
}

func TestFaultSlowDisk(t *testing.T) {
	result := faults.Cause(t, faults.Fault{
		ID: "disk-slow", Area: "Resources",
		Fault:   "Every fsync of journal, mirror and control store takes 200 ms.",
		Promise: "Documents come later, in larger batches, and nothing else changes: the source's connection is kept, reads go on, and everything arrives while the disk is slow.",
		Answer:  "See how far behind it is with `lanternist status`; give the journal a faster disk.",
		Heavy:   true,
	})
	in := installNotes(t, options{})
	audit := in.startAudit([]string{"public.notes"})
	f := diskFaults{t, t.TempDir()}
	d := in.startFaulty(f)
	d.ready()
	d.reach()
	for _, store := range []string{"journal", "mirror", "control"} {
		f.set(store, "200ms")
	}
	conn := in.database.Conn(t.Context())
	for i := range 300 {
		if _, err := conn.Exec(t.Context(), `UPDATE notes SET n = n + 1 WHERE id = 1 + $1 % 100`, i); err != nil {
			t.Fatal(err)
		}
	}
	if a, err := in.ask(http.MethodGet, "/v1/views/note/7", nil); err != nil || a.status != http.StatusOK {
		t.Errorf("a read while the disk is slow: status %d, %v", a.status, err)
	}
	began := time.Now()
	d.reach()
	took := time.Since(began)
	var s struct {
		Source struct{ Reconnects int }
	}
	devstack.Eventually(t, readyWithin, func() error { return in.get("/v1/status", &s) })
	if s.Source.Reconnects != 0 {
		t.Errorf("%d reconnects", s.Source.Reconnects)
	}
	in.compareNotes()
	for _, store := range []string{"journal", "mirror", "control"} {
		f.end(store)
	}
	d.nothingParked()
	d.stop()
	audit.compare()
	result.Notef("300 transactions were in both sinks %v after the last", took.Round(time.Millisecond))
}
