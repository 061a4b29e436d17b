package segments

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/hashicorp/raft-wal/metadb"

	"github.com/lanternist/lanternist/journal"
	"github.com/lanternist/lanternist/journal/journaltest"
)

const smallSegment = 16 << 10

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

// openLog opens the log in dir with small segments and closes it when the test ends.
func openLog(t testing.TB, dir string) *Log {
	t.Helper()
	log, err := Open(dir, Config{SegmentSize: smallSegment}, discard())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { log.Close() })
	return log
}

// written makes a log of entries 1..last in a new folder and closes it.
func written(t testing.TB, last uint64) (dir string) {
	t.Helper()
	dir = t.TempDir()
	log := openLog(t, dir)
	for sequence := uint64(1); sequence <= last; sequence++ {
		if err := log.Append(t.Context(), sequence, journaltest.Entry(sequence)); err != nil {
			t.Fatal(err)
		}
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	return dir
}

// files are the segment files in dir.
func files(t testing.TB, dir string) []segmentFile {
	t.Helper()
	list, err := segmentFiles(dir)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// edit changes a file's content.
func edit(t testing.TB, path string, change func(content []byte) []byte) {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, change(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// find is where an entry's bytes lie in a segment.
func find(t testing.TB, content []byte, sequence uint64) int {
	t.Helper()
	at := bytes.Index(content, journaltest.Entry(sequence))
	if at < 0 {
		t.Fatalf("entry %d is not in the file", sequence)
	}
	return at
}

// TestFlippedByteInAClosedSegment: the engine hands the damaged bytes on, and the journal's checksum tells. Here
// it is seen that nothing else is touched.
func TestFlippedByteInAClosedSegment(t *testing.T) {
	dir := written(t, 60)
	damaged := files(t, dir)[1].base + 2
	edit(t, files(t, dir)[1].path, func(b []byte) []byte {
		b[find(t, b, damaged)+3] ^= 1
		return b
	})
	log := openLog(t, dir)
	for sequence := uint64(1); sequence <= 60; sequence++ {
		entry, err := log.Read(t.Context(), sequence)
		if err != nil {
			t.Fatalf("entry %d: %v", sequence, err)
		}
		if same := bytes.Equal(entry, journaltest.Entry(sequence)); same == (sequence == damaged) {
			t.Errorf("entry %d is as it was: %t", sequence, same)
		}
	}
}

// TestEveryByteOfAClosedSegmentsFrames flips bytes around entries: a read finds the entry, damaged or not, or
// is ErrCorrupt. It never panics, and never gives the entry of another sequence.
func TestEveryByteOfAClosedSegmentsFrames(t *testing.T) {
	dir := written(t, 60)
	segment := files(t, dir)[1]
	whole, err := os.ReadFile(segment.path)
	if err != nil {
		t.Fatal(err)
	}
	from := find(t, whole, segment.base+1)
	last := files(t, dir)[2].base - 1
	index := find(t, whole, last) + len(journaltest.Entry(last))
	corrupt := 0
	log := openLog(t, dir) // closed segments are read from the file each time
	for _, at := range append(around(from-40, from+8), around(index, min(index+120, len(whole)))...) {
		for _, mask := range []byte{0x01, 0x80, 0xff} {
			edit(t, segment.path, func(b []byte) []byte {
				copy(b, whole)
				b[at] ^= mask
				return b
			})
			for sequence := segment.base; sequence <= last; sequence++ {
				entry, err := log.Read(t.Context(), sequence)
				switch {
				case errors.Is(err, journal.ErrCorrupt):
					corrupt++
				case err != nil:
					t.Fatalf("byte %d: entry %d: %v", at, sequence, err)
				case len(entry) >= 8 && !bytes.Equal(entry[8:], journaltest.Entry(sequence)[8:]):
					if other := journaltest.Entry(sequence + 1); bytes.Equal(entry, other) {
						t.Fatalf("byte %d: entry %d was given for %d", at, sequence+1, sequence)
					}
				}
			}
		}
	}
	if corrupt == 0 {
		t.Error("no damage was found")
	}
}

// around are the numbers from..to-1.
func around(from, to int) (list []int) {
	for i := from; i < to; i++ {
		list = append(list, i)
	}
	return list
}

// TestDamageInTheLastSegmentCutsNothingOff: raft-wal takes what follows a damaged frame for a torn append; the
// log refuses to open, says what would be lost, and leaves the files as they are.
func TestDamageInTheLastSegmentCutsNothingOff(t *testing.T) {
	dir := written(t, 64)
	list := files(t, dir)
	tail := list[len(list)-1]
	damaged := tail.base + 1
	if damaged+2 > 64 {
		t.Fatalf("the last segment begins with %d", tail.base)
	}
	edit(t, tail.path, func(b []byte) []byte {
		at := find(t, b, damaged)
		clear(b[at-13 : at]) // the frame and the beginning of what it holds
		return b
	})
	before, err := os.ReadFile(tail.path)
	if err != nil {
		t.Fatal(err)
	}
	_, err = Open(dir, Config{SegmentSize: smallSegment}, discard())
	var corrupt *journal.CorruptError
	if !errors.As(err, &corrupt) || corrupt.From != damaged || corrupt.To != 64 {
		t.Fatalf("open: %v; want batches %d-64", err, damaged)
	}
	after, err := os.ReadFile(tail.path)
	if err != nil || !bytes.Equal(before, after) {
		t.Errorf("the file was changed, or %v", err)
	}
}

// TestTornAppendIsCutOff at every place of the last entry.
func TestTornAppendIsCutOff(t *testing.T) {
	dir := written(t, 30)
	list := files(t, dir)
	tail := list[len(list)-1]
	whole, err := os.ReadFile(tail.path)
	if err != nil {
		t.Fatal(err)
	}
	from := find(t, whole, 30) - 13 // its frame: 8 bytes, and 5 of the raft log's fields
	to := find(t, whole, 30) + len(journaltest.Entry(30))
	for at := from; at < to; at += 1 + (to-from)/40 {
		edit(t, tail.path, func(b []byte) []byte {
			copy(b, whole)
			clear(b[at:])
			return b
		})
		log := openLog(t, dir)
		if first, last, err := log.Bounds(t.Context()); err != nil || first != 1 || last != 29 {
			t.Fatalf("cut at %d: the log holds %d-%d, %v", at, first, last, err)
		}
		if err := log.Append(t.Context(), 30, []byte("another")); err != nil {
			t.Fatalf("cut at %d: append: %v", at, err)
		}
		if got, err := log.Read(t.Context(), 30); err != nil || string(got) != "another" {
			t.Fatalf("cut at %d: %q, %v", at, got, err)
		}
		if err := log.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestShortClosedSegment(t *testing.T) {
	dir := written(t, 60)
	list := files(t, dir)
	edit(t, list[1].path, func(b []byte) []byte { return b[:len(b)/2] })
	log := openLog(t, dir)
	for sequence := uint64(1); sequence <= 60; sequence++ {
		_, err := log.Read(t.Context(), sequence)
		if inside := sequence >= list[1].base && sequence < list[2].base; inside != errors.Is(err, journal.ErrCorrupt) || !inside && err != nil {
			t.Errorf("entry %d: %v", sequence, err)
		}
	}
}

func TestMissingSegment(t *testing.T) {
	dir := written(t, 60)
	list := files(t, dir)
	if err := os.Remove(list[1].path); err != nil {
		t.Fatal(err)
	}
	_, err := Open(dir, Config{SegmentSize: smallSegment}, discard())
	var corrupt *journal.CorruptError
	if !errors.As(err, &corrupt) || corrupt.From != list[1].base || corrupt.To != list[2].base-1 {
		t.Fatalf("open: %v; want batches %d-%d", err, list[1].base, list[2].base-1)
	}
}

// TestCrashBetweenClosingASegmentAndTheMetadata: the last append has written the segment's index, but the
// process ended before the next segment was begun.
func TestCrashBetweenClosingASegmentAndTheMetadata(t *testing.T) {
	dir := t.TempDir()
	log := openLog(t, dir)
	var before []byte // the metadata before the append that closed the first segment
	last := uint64(0)
	for len(files(t, dir)) < 2 {
		var err error
		if before, err = os.ReadFile(filepath.Join(dir, metadb.FileName)); err != nil {
			t.Fatal(err)
		}
		for range 2 { // the second waits until the change of segments that the first began is over
			last++
			if err := log.Append(t.Context(), last, journaltest.Entry(last)); err != nil {
				t.Fatal(err)
			}
			if len(files(t, dir)) == 2 {
				break
			}
		}
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	second := files(t, dir)[1]
	if err := os.Remove(second.path); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, metadb.FileName), before, 0o600); err != nil {
		t.Fatal(err)
	}
	last = second.base - 1
	for range 2 {
		log = openLog(t, dir)
		if first, got, err := log.Bounds(t.Context()); err != nil || first != 1 || got != last {
			t.Fatalf("the log holds %d-%d, %v; want 1-%d", first, got, err, last)
		}
		if err := log.Append(t.Context(), last+1, journaltest.Entry(last+1)); err != nil {
			t.Fatalf("append after the crash: %v", err)
		}
		last++
		for sequence := uint64(1); sequence <= last; sequence++ {
			if entry, err := log.Read(t.Context(), sequence); err != nil || !bytes.Equal(entry, journaltest.Entry(sequence)) {
				t.Fatalf("entry %d: %d bytes, %v", sequence, len(entry), err)
			}
		}
		if err := log.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestLockedNamesTheProcess(t *testing.T) {
	dir := t.TempDir()
	log := openLog(t, dir)
	_, err := Open(dir, Config{}, discard())
	if !errors.Is(err, journal.ErrLocked) || !strings.Contains(err.Error(), "process "+strconv.Itoa(os.Getpid())) {
		t.Fatalf("second open: %v", err)
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	openLog(t, dir)
}

func TestViewOfALogThatIsBeingWritten(t *testing.T) {
	dir := written(t, 40)
	log := openLog(t, dir)
	view, err := OpenView(dir)
	if err != nil {
		t.Fatal(err)
	}
	for last := uint64(40); last < 60; last++ {
		if first, got, err := view.Bounds(t.Context()); err != nil || first != 1 || got != last {
			t.Fatalf("the view holds %d-%d, %v; want 1-%d", first, got, err, last)
		}
		for sequence := uint64(1); sequence <= last; sequence++ {
			if entry, err := view.Read(t.Context(), sequence); err != nil || !bytes.Equal(entry, journaltest.Entry(sequence)) {
				t.Fatalf("entry %d: %d bytes, %v", sequence, len(entry), err)
			}
		}
		if err := log.Append(t.Context(), last+1, journaltest.Entry(last+1)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := view.Read(t.Context(), 100); !errors.Is(err, journal.ErrNotFound) {
		t.Errorf("read what is not there: %v", err)
	}
	if err := view.Append(t.Context(), 61, nil); !errors.Is(err, ErrReadOnly) {
		t.Errorf("append: %v", err)
	}
	if _, err := OpenView(t.TempDir()); err == nil {
		t.Error("a view on nothing")
	}
}

// TestScanMarksAcrossTheEdgeOfItsBuffer: a mark that lies across two reads is found once.
func TestScanMarksAcrossTheEdgeOfItsBuffer(t *testing.T) {
	for shift := -markSize - 1; shift <= 1; shift++ {
		path := filepath.Join(t.TempDir(), "segment")
		content := make([]byte, 1<<20+shift, 3<<20)
		content = appendMark(content, 7)
		content = append(content, make([]byte, 1<<20)...)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		var found []uint64
		if err := scanMarks(path, func(sequence uint64) { found = append(found, sequence) }); err != nil || len(found) != 1 || found[0] != 7 {
			t.Errorf("shift %d: found %v, %v", shift, found, err)
		}
	}
}
