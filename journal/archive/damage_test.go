package archive

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pglogrepl"
	"gocloud.dev/blob"

	"github.com/lanternist/lanternist/event"
	"github.com/lanternist/lanternist/journal"
)

// archived is a journal of which everything but the last batches is in the archive alone.
func archived(t *testing.T, store *blob.Bucket) *world {
	w := newWorld(t, store, journal.Retention{})
	w.append(120, 3, 80)
	w.archiveAll(Config{FileSize: 12 << 10, BlockSize: 3 << 10})
	w.append(20, 3, 80)
	w.trim(121)
	return w
}

// fresh is the archive as a program sees it that has read nothing of it.
func (w *world) fresh() {
	w.t.Helper()
	w.archive = New(opened(w.store), w.archive.id, quiet())
	w.journal.Attach(w.archive)
	if err := w.archive.Load(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
}

// verify verifies everything.
func (w *world) verify() Verified {
	w.t.Helper()
	v, err := w.archive.Verify(w.t.Context(), w.engine, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	return v
}

// readUntilDamage reads in order from the beginning. Every batch must be what was appended.
func (w *world) readUntilDamage() (read uint64, err error) {
	w.t.Helper()
	after := event.Offset(0)
	for after < w.journal.Head().Offset {
		b, err := w.journal.Next(w.t.Context(), after)
		if err != nil {
			return read, err
		}
		if want, ok := w.all[b.Sequence]; ok && describe(b) != want {
			w.t.Fatalf("batch %d is read as something else than was appended", b.Sequence)
		}
		if read != 0 && b.Sequence != read+1 {
			w.t.Fatalf("batch %d comes after batch %d", b.Sequence, read)
		}
		read, after = b.Sequence, b.Last()
	}
	return read, nil
}

func TestAWholeArchiveVerifies(t *testing.T) {
	eachStore(t, func(t *testing.T, store *blob.Bucket) {
		w := archived(t, store)
		var done, total int64
		v, err := w.archive.Verify(t.Context(), w.engine, func(d, n int64) {
			if d < done || d > n {
				t.Errorf("progress goes from %d to %d of %d", done, d, n)
			}
			done, total = d, n
		})
		if err != nil || len(v.Damage) > 0 {
			t.Fatalf("%v, %v", v.Damage, err)
		}
		if v.First != 1 || v.Last != 141 || v.Batches != 141 || v.Events != 420 || v.Files != len(w.names()) {
			t.Errorf("verified %+v", v)
		}
		if done == 0 || total == 0 {
			t.Error("no progress was told")
		}
	})
}

// TestEveryFlippedByteIsFound flips single bytes all over a file, and every byte of its head and of its tail; with
// LANTERNIST_TEST_FLIPS=all every byte.
func TestEveryFlippedByteIsFound(t *testing.T) {
	w := archived(t, memoryStore(t))
	name := w.names()[2]
	first, last, _ := parseName(w.archive.id, name)
	whole, err := w.store.ReadAll(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	tail, err := readTail(whole[len(whole)-tailSize:])
	if err != nil {
		t.Fatal(err)
	}
	step := 23
	if testing.Short() || raceDetector {
		step = 151
	}
	all := os.Getenv("LANTERNIST_TEST_FLIPS") == "all"
	tried := 0
	for at := 0; at < len(whole); at++ {
		inBlocks := at > headSize+blockHeaderSize+50 && uint64(at) < tail.index
		inIndex := uint64(at) >= tail.index && at < len(whole)-tailSize
		if !all && (inBlocks && at%step != 0 || inIndex && at%(step/4) != 0) {
			continue
		}
		tried++
		changed := slices.Clone(whole)
		changed[at] ^= 1 << w.random.IntN(8)
		w.put(name, changed)
		w.fresh()
		w.foundIn(fmt.Sprintf("flipped byte %d of %d", at, len(whole)), name, first, last)
	}
	t.Logf("%d bytes of a file of %d flipped", tried, len(whole))
	w.put(name, whole)
	w.fresh()
	w.check()
}

func (w *world) put(name string, content []byte) {
	w.t.Helper()
	if err := w.store.WriteAll(w.t.Context(), name, content, nil); err != nil {
		w.t.Fatal(err)
	}
}

// foundIn checks that verify names the file and a range within it, and nothing else; and that readers get either what was
// appended, or stop with an error that says the same.
func (w *world) foundIn(what, name string, first, last uint64) {
	w.t.Helper()
	v := w.verify()
	if len(v.Damage) == 0 {
		w.t.Fatalf("%s: verify finds nothing", what)
	}
	for _, d := range v.Damage {
		if d.File != name || d.From < first || d.To > last || d.From > d.To {
			w.t.Fatalf("%s: verify says %v, want something about %s", what, d, name)
		}
	}
	read, err := w.readUntilDamage()
	if err == nil {
		return // the byte is one that readers do not need
	}
	corrupt, ok := errors.AsType[*journal.CorruptError](err)
	if !ok || !strings.Contains(err.Error(), name) || corrupt.From < first || corrupt.To > last {
		w.t.Fatalf("%s: reading stops with %v", what, err)
	}
	if corrupt.From != read+1 || v.Damage[0].From != corrupt.From || v.Damage[0].To != corrupt.To {
		w.t.Fatalf("%s: read up to %d, then %v; verify says %v", what, read, err, v.Damage)
	}
}

func TestTruncatedFilesAreFound(t *testing.T) {
	w := archived(t, memoryStore(t))
	name := w.names()[1]
	first, last, _ := parseName(w.archive.id, name)
	whole, err := w.store.ReadAll(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	for _, length := range []int{0, 1, headSize, headSize + tailSize, len(whole) / 2, len(whole) - tailSize, len(whole) - 1} {
		w.put(name, whole[:length])
		w.fresh()
		w.foundIn(fmt.Sprintf("cut off at %d", length), name, first, last)
	}
	w.put(name, append(slices.Clone(whole), 'x'))
	w.fresh()
	w.foundIn("one byte more", name, first, last)
	// It is cut off while a program is reading it.
	w.put(name, whole)
	w.fresh()
	if _, err := w.journal.Read(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	w.archive.blocks = newLRU[blockKey, cached](0)
	w.put(name, whole[:headSize+10])
	w.foundIn("cut off meanwhile", name, first, last)
}

func TestMissingFilesAreNamed(t *testing.T) {
	eachStore(t, func(t *testing.T, store *blob.Bucket) {
		w := archived(t, store)
		names := w.names()
		name := names[2]
		first, last, _ := parseName(w.archive.id, name)
		// A program that knows it, and one that comes later.
		if err := w.store.Delete(t.Context(), name); err != nil {
			t.Fatal(err)
		}
		w.foundIn("removed meanwhile", name, first, last)
		w.fresh()
		w.foundIn("removed", name, first, last)
		if span, err := w.archive.Range(); err != nil || span.First != 1 || span.Last != 121 {
			t.Errorf("range %v, %v", span, err)
		}
		// What does not need it can be had.
		if after, err := w.journal.SeekLSN(t.Context(), 2500); err != nil || after.Sequence() != 3 {
			t.Errorf("seek before: %v, %v", after, err)
		}
		if after, err := w.journal.SeekLSN(t.Context(), 118_500); err != nil || after.Sequence() != 119 {
			t.Errorf("seek after: %v, %v", after, err)
		}
		if _, err := w.journal.SeekLSN(t.Context(), pglogrepl.LSN(1000*(first+2))); !errors.Is(err, journal.ErrCorrupt) || !strings.Contains(err.Error(), name) {
			t.Errorf("seek within: %v", err)
		}
		// Two in a row: the name of the second is known, that of the first is not.
		if err := w.store.Delete(t.Context(), names[1]); err != nil {
			t.Fatal(err)
		}
		w.fresh()
		v := w.verify()
		before, _, _ := parseName(w.archive.id, names[1])
		if len(v.Damage) != 2 || v.Damage[0].From != before || v.Damage[0].To != first-1 || v.Damage[1].File != name {
			t.Errorf("two files missing: %v", v.Damage)
		}
	})
}

func TestFilesThatOverlapAreRefused(t *testing.T) {
	w := archived(t, memoryStore(t))
	name := w.names()[1]
	first, last, _ := parseName(w.archive.id, name)
	whole, err := w.store.ReadAll(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	w.put(nameOf(w.archive.id, first, last-1), whole)
	err = New(opened(w.store), w.archive.id, quiet()).Load(t.Context())
	if !errors.Is(err, ErrOverlap) || !strings.Contains(err.Error(), name) {
		t.Errorf("load: %v", err)
	}
}

// TestAFileOfAnotherHistoryIsFound puts a whole and valid file, of another journal with the same identity, in the place of
// one.
func TestAFileOfAnotherHistoryIsFound(t *testing.T) {
	w := archived(t, memoryStore(t))
	names := w.names()
	x, err := w.archive.index(t.Context(), w.archive.files.Load().files[2])
	if err != nil {
		t.Fatal(err)
	}
	var content strings.Builder
	about := x.description
	about.Events, about.Bytes = 0, 0
	fw, err := newFileWriter(&content, w.archive.id, about, 3<<10)
	if err != nil {
		t.Fatal(err)
	}
	crc := uint32(4711)
	for sequence := about.First; sequence <= about.Last; sequence++ {
		entry, err := w.journal.Entry(t.Context(), sequence)
		if err != nil {
			t.Fatal(err)
		}
		entry = reseal(entry, crc)
		e, err := journal.ReadEntry(entry)
		if err != nil {
			t.Fatal(err)
		}
		crc = e.Checksum()
		if err := fw.add(entry); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := fw.finish(nil); err != nil {
		t.Fatal(err)
	}
	w.put(names[2], []byte(content.String()))
	w.fresh()
	v := w.verify()
	if len(v.Damage) != 2 || v.Damage[0].File != names[2] || v.Damage[0].From != about.First || v.Damage[1].File != names[3] {
		t.Errorf("verify says %v", v.Damage)
	}
	read, err := w.readUntilDamage()
	if read != about.First-1 || !errors.Is(err, journal.ErrCorrupt) || !strings.Contains(err.Error(), names[2]) {
		t.Errorf("read up to %d, then %v", read, err)
	}
}
