package archive

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/lanternist/lanternist/journal"
	"github.com/lanternist/lanternist/journal/segments"
)

// moved is the world on a new machine, where there is nothing but the archive.
func (w *world) moved(bytes uint64) Restored {
	w.t.Helper()
	if err := w.journal.Close(); err != nil {
		w.t.Fatal(err)
	}
	id := w.archive.id
	w.dir = w.t.(*testing.T).TempDir()
	engine := w.openEngine()
	a := New(opened(w.store), id, quiet())
	if err := a.Load(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
	var done, total int64
	restored, err := a.Restore(w.t.Context(), engine, bytes, func(d, n int64) { done, total = d, n })
	if err != nil {
		w.t.Fatal(err)
	}
	if done != total || uint64(done) != restored.Bytes {
		w.t.Fatalf("progress ends at %d of %d, restored %+v", done, total, restored)
	}
	if err := engine.Close(); err != nil {
		w.t.Fatal(err)
	}
	w.open(journal.Retention{})
	if w.archive.id != id {
		w.t.Fatalf("journal %s is restored as %s", id, w.archive.id)
	}
	if err := w.archive.Load(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
	return restored
}

func TestAJournalIsRestored(t *testing.T) {
	for _, bytes := range []uint64{0, 1, 5000} {
		w := newWorld(t, folderStore(t), journal.Retention{})
		w.append(60, 3, 60)
		w.archiveAll(Config{FileSize: 8 << 10, BlockSize: 1 << 10})
		head := w.journal.Head()
		r := w.moved(bytes)
		if w.journal.Head() != head || r.Last != 61 || w.journal.Retained() != r.First || w.journal.First() != 1 {
			t.Errorf("restored %+v, journal from %d to %+v, was %+v", r, w.journal.Retained(), w.journal.Head(), head)
		}
		if bytes == 0 && r.First != 1 || bytes == 1 && r.First != 61 || bytes == 5000 && (r.Bytes > bytes || r.Bytes < bytes/2) {
			t.Errorf("asked for %d bytes, restored %+v", bytes, r)
		}
		w.check()
		// Life goes on.
		w.append(10, 2, 50)
		w.archiveAll(Config{})
		w.trim(71)
		w.check()
		if v := w.verify(); len(v.Damage) > 0 {
			t.Errorf("damage: %v", v.Damage)
		}
	}
}

func TestRestoreRefuses(t *testing.T) {
	w := archived(t, memoryStore(t))
	if _, err := w.archive.Restore(t.Context(), w.engine, 0, nil); !errors.Is(err, ErrNotEmpty) {
		t.Errorf("a journal that is not empty: %v", err)
	}
	name := w.names()[1]
	whole, err := w.store.ReadAll(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	whole[len(whole)/2] ^= 1
	w.put(name, whole)
	w.fresh()
	engine, err := segments.Open(t.TempDir(), segments.Config{}, quiet())
	if err != nil {
		t.Fatal(err)
	}
	defer engine.Close()
	if _, err := w.archive.Restore(t.Context(), engine, 0, nil); !errors.Is(err, journal.ErrCorrupt) || !strings.Contains(err.Error(), name) {
		t.Errorf("a damaged archive: %v", err)
	}
	empty := New(opened(memoryStore(t)), w.archive.id, quiet())
	if err := empty.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := empty.Restore(t.Context(), &memoryLog{}, 0, nil); !errors.Is(err, ErrNothing) {
		t.Errorf("an empty archive: %v", err)
	}
}

func TestFilesCarryTheDefinitions(t *testing.T) {
	w := archived(t, memoryStore(t))
	got, err := w.archive.Schemas(t.Context())
	if err != nil || len(got) != len(known) {
		t.Fatalf("%v, %v", got, err)
	}
	// With nothing but the archive every batch can be decoded.
	restored := tables{}
	for _, s := range got {
		restored[s.ID] = s
	}
	for _, sequence := range slices.Sorted(maps.Keys(w.all)) {
		if sequence > 121 {
			break
		}
		entry, err := w.archive.Read(t.Context(), sequence)
		if err != nil {
			t.Fatal(err)
		}
		b, err := journal.DecodeEntry(entry, restored)
		if err != nil || describe(b) != w.all[sequence] {
			t.Fatalf("batch %d: %v", sequence, err)
		}
	}
	ids, err := Journals(t.Context(), w.store)
	if err != nil || len(ids) != 1 || ids[0] != w.archive.id {
		t.Errorf("journals %v, %v", ids, err)
	}
}
