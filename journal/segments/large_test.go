package segments

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/lanternist/lanternist/internal/faults"
	"github.com/lanternist/lanternist/journal"
	"github.com/lanternist/lanternist/journal/journaltest"
)

// openLarge opens a log in which every entry of the tests over 1,000 bytes is large.
func openLarge(t testing.TB, dir string) *Log {
	t.Helper()
	log, err := Open(dir, Config{SegmentSize: smallSegment, inlineMax: 1000}, discard())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { log.Close() })
	return log
}

// writtenLarge makes a log of entries 1..last, and returns which of them are large.
func writtenLarge(t testing.TB, last uint64) (dir string, large []uint64) {
	t.Helper()
	dir = t.TempDir()
	log := openLarge(t, dir)
	for sequence := uint64(1); sequence <= last; sequence++ {
		if err := log.Append(t.Context(), sequence, journaltest.Entry(sequence)); err != nil {
			t.Fatal(err)
		}
		if len(journaltest.Entry(sequence)) > 1000 {
			large = append(large, sequence)
		}
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	return dir, large
}

// readsAll reads the entries 1..last of a log, of which one is damaged; 0: none.
func readsAll(t testing.TB, log journal.Log, last, damaged uint64) {
	t.Helper()
	for sequence := uint64(1); sequence <= last; sequence++ {
		entry, err := log.Read(t.Context(), sequence)
		if sequence == damaged {
			if !errors.Is(err, journal.ErrCorrupt) {
				t.Fatalf("damaged entry %d: %d bytes, %v", sequence, len(entry), err)
			}
			continue
		}
		if err != nil || !bytes.Equal(entry, journaltest.Entry(sequence)) {
			t.Fatalf("entry %d: %d bytes, %v", sequence, len(entry), err)
		}
	}
}

// large is the file of an entry.
func large(t testing.TB, dir string, sequence uint64) string {
	t.Helper()
	files, err := largeFiles(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if f.sequence == sequence {
			return f.path
		}
	}
	t.Fatalf("entry %d has no file", sequence)
	return ""
}

func TestFaultLargeEntryDamaged(t *testing.T) {
	result := faults.Cause(t, faults.Fault{
		ID: "journal-large-entry-damaged", Area: "Journal",
		Fault:   "The file of a journal entry that is too large for a segment is flipped by a bit, cut short, or removed.",
		Promise: "Reading that batch is an error that names the batch and the file; every other batch is read, and nothing is passed over or made up.",
		Answer:  "See which batch it is, and restore it from the archive: `lanternist journal verify`, then `lanternist journal restore`.",
	})
	dir, larges := writtenLarge(t, 40)
	victim := larges[len(larges)/2]
	path := large(t, dir, victim)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	flipped := bytes.Clone(whole)
	flipped[len(flipped)/2] ^= 0x04
	cases := 0
	for name, damage := range map[string]func() error{
		"bit flipped": func() error { return os.WriteFile(path, flipped, 0o600) },
		"cut short":   func() error { return os.Truncate(path, int64(len(whole)-1)) },
		"emptied":     func() error { return os.Truncate(path, 0) },
		"removed":     func() error { return os.Remove(path) },
	} {
		if err := os.WriteFile(path, whole, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := damage(); err != nil {
			t.Fatal(err)
		}
		log := openLarge(t, dir)
		readsAll(t, log, 40, victim)
		if err := log.Close(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		view, err := OpenView(dir)
		if err != nil {
			t.Fatal(err)
		}
		readsAll(t, view, 40, victim)
		cases++
	}
	if err := os.WriteFile(path, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	readsAll(t, openLarge(t, dir), 40, 0)
	result.Notef("%d kinds of damage", cases)
}

func TestFaultCrashAroundALargeEntry(t *testing.T) {
	result := faults.Cause(t, faults.Fault{
		ID: "journal-large-entry-crash", Area: "Journal",
		Fault:   "The process dies between writing the file of a large journal entry and the entry's claim check, or between a trim and the removal of the files.",
		Promise: "No entry is without its file, and no file without its entry is left after the next start.",
		Answer:  "nothing: the next start removes what was never acknowledged, and says how many files in its log: `lanternist journal verify` finds no damage.",
	})
	dir, larges := writtenLarge(t, 30)
	entry := journaltest.Entry(31)
	for len(entry) <= 1000 {
		entry = append(entry, entry...)
	}
	// As a crash leaves it: the file of the next entry, whole and torn; one of an entry long trimmed; and one that an
	// attempt before has left beside the one that counts.
	orphans := []claim{newClaim(31, entry), {sequence: 32, crc: 7}, {sequence: larges[0], crc: 8}}
	for _, c := range orphans {
		if err := c.write(nil, dir, entry[:len(entry)/2]); err != nil {
			t.Fatal(err)
		}
	}
	log := openLarge(t, dir)
	readsAll(t, log, 30, 0)
	for _, c := range orphans {
		if _, err := os.Stat(filepath.Join(dir, largeDir, c.name())); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is still there: %v", c.name(), err)
		}
	}
	if err := log.Append(t.Context(), 31, entry); err != nil {
		t.Fatal(err)
	}
	if got, err := log.Read(t.Context(), 31); err != nil || !bytes.Equal(got, entry) {
		t.Fatalf("entry 31: %d bytes, %v", len(got), err)
	}
	// A trim that died before the files were removed.
	kept := large(t, dir, larges[0])
	whole, err := os.ReadFile(kept)
	if err != nil {
		t.Fatal(err)
	}
	if err := log.Trim(t.Context(), larges[len(larges)-1]); err != nil {
		t.Fatal(err)
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(kept, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	openLarge(t, dir)
	files, err := largeFiles(dir)
	if err != nil || len(files) != 2 {
		t.Fatalf("%d files after the trim, %v; want those of entries %d and 31", len(files), err, larges[len(larges)-1])
	}
	result.Notef("%d files removed", len(orphans)+1)
}
