package archive

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pglogrepl"
	"gocloud.dev/blob"

	"github.com/lanternist/lanternist/event"
	"github.com/lanternist/lanternist/journal"
)

// eachStore runs a test with every kind of store that needs no service.
func eachStore(t *testing.T, test func(t *testing.T, store *blob.Bucket)) {
	t.Run("folder", func(t *testing.T) { test(t, folderStore(t)) })
	t.Run("memory", func(t *testing.T) { test(t, memoryStore(t)) })
}

func TestReadersGoOnFromTheArchive(t *testing.T) {
	eachStore(t, func(t *testing.T, store *blob.Bucket) {
		w := newWorld(t, store, journal.Retention{})
		w.append(200, 3, 100)
		w.archiveAll(Config{FileSize: 20 << 10, BlockSize: 4 << 10})
		if files := w.names(); len(files) < 3 {
			t.Fatalf("files: %v", files)
		}
		w.append(50, 3, 100)
		w.trim(201)
		if retained, first := w.journal.Retained(), w.journal.First(); retained != 201 || first != 1 {
			t.Fatalf("retained from %d, readable from %d", retained, first)
		}
		w.check()
		w.seeks()
	})
}

// seeks checks that positions and times are found on both sides of the border.
func (w *world) seeks() {
	w.t.Helper()
	ctx := w.t.Context()
	for n := 1; n <= w.n; n++ {
		for what, seek := range map[string]func() (event.Offset, error){
			"position": func() (event.Offset, error) { return w.journal.SeekLSN(ctx, pglogrepl.LSN(n*1000-10)) },
			"time":     func() (event.Offset, error) { return w.journal.SeekTime(ctx, epoch.Add(time.Duration(n)*time.Second)) },
		} {
			after, err := seek()
			if err != nil {
				w.t.Fatalf("%s of transaction %d: %v", what, n, err)
			}
			b, err := w.journal.Next(ctx, after)
			if err != nil {
				w.t.Fatalf("%s of transaction %d: %v", what, n, err)
			}
			if b.Parts[0].XID != uint32(n) {
				w.t.Fatalf("%s of transaction %d leads to transaction %d", what, n, b.Parts[0].XID)
			}
		}
	}
	if oldest, ok, err := w.journal.Oldest(ctx); err != nil || !ok || oldest.CommitLSN != 1000 {
		w.t.Fatalf("oldest: %v, %t, %v", oldest, ok, err)
	}
	for _, from := range []event.Offset{0, 1, event.NewOffset(2, 0), event.NewOffset(w.journal.Retained(), 0)} {
		if err := w.journal.Retains(from); err != nil {
			w.t.Fatalf("retains from %s: %v", from, err)
		}
	}
}

func TestAHoleBetweenArchiveAndJournalIsSaid(t *testing.T) {
	w := newWorld(t, memoryStore(t), journal.Retention{})
	w.append(30, 2, 50)
	w.archiveAll(Config{})
	w.append(30, 2, 50)
	w.trim(50)
	if first := w.journal.First(); first != 50 {
		t.Errorf("readable from %d", first)
	}
	err := w.journal.Retains(event.NewOffset(10, 0))
	trimmed, ok := errors.AsType[*journal.TrimmedError](err)
	if !ok || trimmed.First != 50 || trimmed.ArchiveFirst != 1 || trimmed.ArchiveLast != 31 {
		t.Errorf("retains: %v", err)
	}
	if _, err := w.journal.Next(t.Context(), event.NewOffset(31, 1)); !errors.Is(err, journal.ErrTrimmed) {
		t.Errorf("next: %v", err)
	}
	if _, err := w.journal.SeekLSN(t.Context(), 3000); !errors.Is(err, journal.ErrTrimmed) {
		t.Errorf("seek: %v", err)
	}
	// The archiver goes on where the journal is; what is older does not count any more.
	w.archiveAll(Config{})
	w.append(5, 1, 10)
	w.trim(62)
	if first := w.journal.First(); first != 50 {
		t.Errorf("readable from %d", first)
	}
	if _, err := w.journal.Read(t.Context(), 40); !errors.Is(err, journal.ErrTrimmed) {
		t.Errorf("read in the hole: %v", err)
	}
	if b, err := w.journal.Read(t.Context(), 50); err != nil || describe(b) != w.all[50] {
		t.Errorf("read after the hole: %v", err)
	}
}

func TestAnArchiveThatIsAwayIsNotAnEmptyOne(t *testing.T) {
	w := newWorld(t, memoryStore(t), journal.Retention{})
	w.append(30, 2, 50)
	w.archiveAll(Config{})
	w.trim(31)
	w.archive = New(opened(w.store), w.archive.id, quiet()) // not listed yet
	w.journal.Attach(w.archive)
	after := event.NewOffset(10, 0)
	_, next := w.journal.Next(t.Context(), after)
	_, read := w.journal.Read(t.Context(), 10)
	_, seek := w.journal.SeekLSN(t.Context(), 3000)
	for what, err := range map[string]error{"retains": w.journal.Retains(after), "next": next, "read": read, "seek": seek} {
		if !errors.Is(err, journal.ErrArchiveAway) || errors.Is(err, journal.ErrTrimmed) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := w.archive.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.check()
}

func TestNames(t *testing.T) {
	id := journal.ID{1, 2, 3, 15: 0xff}
	if back, err := journal.ParseID(id.String()); err != nil || back != id {
		t.Errorf("%s: %v", back, err)
	}
	for _, bad := range []string{"", "x", id.String() + "0", "01020300-0000-0000-0000-0000000000zz", "01020300x0000-0000-0000-0000000000ff"} {
		if _, err := journal.ParseID(bad); err == nil {
			t.Errorf("%q is taken for an identity", bad)
		}
	}
	first, last, ok := parseName(id, nameOf(id, 7, 1<<40))
	if !ok || first != 7 || last != 1<<40 {
		t.Errorf("%d-%d, %t", first, last, ok)
	}
	name := nameOf(id, 7, 9)
	for _, bad := range []string{"", name + ".tmp", name[1:], nameOf(journal.ID{}, 7, 9), nameOf(id, 9, 7), nameOf(id, 0, 7),
		fmt.Sprintf("%s%016X-%016x%s", folder(id), 10, 11, suffix)} {
		if _, _, ok := parseName(id, bad); ok {
			t.Errorf("%q is taken for a file", bad)
		}
	}
}
