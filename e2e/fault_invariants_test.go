package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lanternist/lanternist/internal/faults"
	"github.com/lanternist/lanternist/internal/sabotage"
)

// These tests break the invariants of ARCHITECTURE.md on purpose, by a daemon that lacks what keeps them. Each must be noticed
// by what guards its other side, and what the page of faults tells an operator to do must make everything right.

// mended sees to it that a daemon as it should be comes to what the source says.
func (s *saboteur) mended(result *faults.Result) {
	s.t.Helper()
	s.off = nil
	d, _ := s.obedient(result)
	s.right(d)
}

// refuses waits for the end of a daemon, which must name why.
func (s *saboteur) refuses(d *daemon, why string) {
	s.t.Helper()
	if code := d.exit(readyWithin); code == 0 || !strings.Contains(d.log.text(), why) {
		s.t.Fatalf("the daemon ended with %d and did not say %q:\n%s", code, why, tail(d.log.text(), 10))
	}
}

func TestFaultInvariant1(t *testing.T) {
	t.Parallel()
	result := faults.Cause(t, faults.Fault{
		ID: "invariant-1-acknowledged-before-durable", Area: "Journal", Heavy: true,
		Fault:   "I1 is broken: a transaction is acknowledged and then not written to the journal",
		Promise: "the next start sees that the slot is ahead of what is durable, and refuses rather than go on with a hole",
		Answer:  "do as `lanternist run` says; by default `rm -r data/journal data/mirror data/control`, then `lanternist run` loads everything again",
	})
	s := newSaboteur(t, []sabotage.Safeguard{sabotage.AppendFirst}, nil)
	d := s.running()
	s.database.Exec(`INSERT INTO books VALUES (100, 1, 'Durable', '1', '')`)
	d.reach()
	s.hold("ingest", "append")
	s.database.Exec(`INSERT INTO books VALUES (101, 1, 'Lost', '1', '')`)
	s.held("ingest", "append")
	if !s.confirmed(readyWithin) {
		t.Fatal("it was not acknowledged")
	}
	d.kill()
	s.off = nil
	d = s.start()
	if code := d.exit(readyWithin); code == 0 || !strings.Contains(d.log.text(), "slot") {
		t.Fatalf("the daemon ended with %d: %s", code, tail(d.log.text(), 10))
	}
	if !s.obey(d.log.text()) {
		t.Fatalf("it does not say what to do: %s", tail(d.log.text(), 10))
	}
	s.mended(result)
}

// mendedByVerify has lanternist verify find what is wrong, repair it, and find nothing more.
func (s *saboteur) mendedByVerify(view string) {
	s.t.Helper()
	if code, stdout, stderr := s.run("verify", view); code != 3 {
		s.t.Fatalf("verify exited with %d, want 3: %s%s", code, stdout, stderr)
	}
	if code, stdout, stderr := s.run("verify", view, "--repair"); code != 0 && code != 3 {
		s.t.Fatalf("verify --repair exited with %d: %s%s", code, stdout, stderr)
	}
	if code, stdout, stderr := s.run("verify", view); code != 0 {
		s.t.Fatalf("verify after the repair exited with %d: %s%s", code, stdout, stderr)
	}
}

func TestFaultInvariant2(t *testing.T) {
	t.Parallel()
	result := faults.Cause(t, faults.Fault{
		ID: "invariant-2-checkpoint-before-write", Area: "Sinks", Heavy: true,
		Fault:   "I2 is broken: a projector's checkpoint covers documents that were neither written nor parked",
		Promise: "a comparison names each document that is not as it should be, in each sink, and writes it",
		Answer:  "`lanternist verify VIEW --repair`",
	})
	s := newSaboteur(t, []sabotage.Safeguard{sabotage.WriteFirst}, nil)
	d := s.running()
	s.hold("book.search", "write")
	s.hold("book.cache", "write")
	s.database.Exec(`UPDATE books SET title = 'Skipped' WHERE id = 5`)
	s.held("book.search", "write")
	s.held("book.cache", "write")
	d.kill()
	s.off = nil
	began := time.Now()
	d = s.running()
	d.reach()
	s.mendedByVerify("book")
	result.Recovered(time.Since(began))
	s.right(d)
}

func TestFaultInvariant3(t *testing.T) {
	t.Parallel()
	result := faults.Cause(t, faults.Fault{
		ID: "invariant-3-mirror-ahead", Area: "Mirror", Heavy: true,
		Fault:   "I3 is broken: the mirror has what the journal does not",
		Promise: "the start refuses, says up to where each of them goes, and what to remove",
		Answer:  "do as `lanternist run` says: `rm -r data/mirror`, then `lanternist run` loads the tables again; if the slot is ahead as well, it says so next",
	})
	s := newSaboteur(t, nil, nil)
	d := s.running()
	s.database.Exec(`UPDATE books SET title = 'Kept' WHERE id = 1`)
	d.reach()
	d.stop()
	older := filepath.Join(t.TempDir(), "journal")
	journal := filepath.Join(s.dir, "data", "journal")
	if err := os.CopyFS(older, os.DirFS(journal)); err != nil {
		t.Fatal(err)
	}
	d = s.running()
	s.database.Exec(`UPDATE books SET title = 'Ahead' WHERE id = 2`)
	d.reach()
	d.stop()
	if err := os.RemoveAll(journal); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(journal, os.DirFS(older)); err != nil {
		t.Fatal(err)
	}
	s.refuses(s.start(), "journal-older")
	s.mended(result)
}

func TestFaultInvariant4(t *testing.T) {
	t.Parallel()
	result := faults.Cause(t, faults.Fault{
		ID: "invariant-4-idle-source-stands-still", Area: "API", Heavy: true,
		Fault:   "I4 is broken: the keepalives of a source whose captured tables are quiet advance nothing",
		Promise: "a reader with a token is told 504 and how far the view is, and is never answered with what may be older; a restart is enough",
		Answer:  "`lanternist status` shows the position; restart `lanternist run`",
	})
	s := newSaboteur(t, []sabotage.Safeguard{sabotage.Keepalives}, nil)
	d := s.start()
	s.foreign()
	if problem := s.arrives(d); !strings.Contains(problem, "504") || !strings.Contains(problem, "reached") {
		t.Fatalf("the reader is answered: %s", problem)
	}
	d.kill()
	s.mended(result)
}

// forsaken is what the log says of a table that cannot be followed.
const forsaken = `msg="table not followed any more, it must be loaded again"`

func TestFaultInvariant5(t *testing.T) {
	t.Parallel()
	result := faults.Cause(t, faults.Fault{
		ID: "invariant-5-unchanged-taken-for-null", Area: "Values", Heavy: true,
		Fault:   "I5 is broken: a value that Postgres did not send, because it did not change, is not filled in",
		Promise: "the mirror refuses the row and follows its table no more: it is loaded again, its views are served as they were and built anew, and no null is written anywhere",
		Answer:  "nothing: the table is loaded again by itself",
	})
	s := newSaboteur(t, []sabotage.Safeguard{sabotage.Fill}, nil)
	d := s.running()
	s.database.Exec(`UPDATE books SET title = 'Blurb untouched' WHERE id = 1`)
	began := time.Now()
	if !d.log.find(readyWithin, forsaken) {
		t.Fatal("the row was not refused")
	}
	s.right(d)
	result.Recovered(time.Since(began))
}

func TestFaultInvariant6(t *testing.T) {
	t.Parallel()
	result := faults.Cause(t, faults.Fault{
		ID: "invariant-6-out-of-order", Area: "Journal", Heavy: true,
		Fault:   "I6 is broken: a transaction that the journal has is delivered again, after later ones",
		Promise: "the journal refuses it, the daemon ends, and every transaction is in it once, in commit order",
		Answer:  "nothing: it goes on when it is started again",
	})
	s := newSaboteur(t, []sabotage.Safeguard{sabotage.Resume}, nil)
	d := s.running()
	s.hold("ingest", "acknowledge")
	s.database.Exec(`INSERT INTO books VALUES (101, 1, 'Once', '1', '')`)
	s.held("ingest", "acknowledge")
	d.kill()
	s.refuses(s.start(), "out of order")
	s.mended(result)
	if found := s.journalAfterStop(); len(found) > 0 {
		t.Fatal(found)
	}
}

// journalAfterStop is what is wrong with the journal when the daemon that runs has been stopped.
func (s *saboteur) journalAfterStop() []string {
	s.t.Helper()
	d := s.last
	d.stop()
	return s.journalProblems()
}

func TestFaultInvariant7(t *testing.T) {
	t.Parallel()
	result := faults.Cause(t, faults.Fault{
		ID: "invariant-7-document-is-not-its-definition", Area: "Sinks", Heavy: true,
		Fault:   "I7 is broken: a row moves to another parent, and the document that it has left is not composed again",
		Promise: "a comparison names the document and the field, and writes it",
		Answer:  "`lanternist verify VIEW --repair`",
	})
	s := newSaboteur(t, []sabotage.Safeguard{sabotage.BeforeImage}, nil)
	d := s.running()
	s.database.Exec(`UPDATE books SET shelf_id = 1 + shelf_id % 4 WHERE id = 1`)
	d.reach()
	if len(s.problems(d)) == 0 {
		t.Fatal("the document is right")
	}
	began := time.Now()
	s.mendedByVerify("shelf")
	result.Recovered(time.Since(began))
	if found := s.problems(d); len(found) > 0 {
		t.Fatal(found)
	}
}
