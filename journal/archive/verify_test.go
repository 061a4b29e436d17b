package archive

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"gocloud.dev/blob/memblob"

	"github.com/lanternist/lanternist/journal"
)

// verified is a journal in memory with 41 batches, of which the first 21 are archived and the last 31 are in the journal.
func halfArchived(t *testing.T) *world {
	w := &world{t: t, memory: &memoryLog{}, store: memblob.OpenBucket(nil), random: rand.New(rand.NewPCG(1, 1)), all: map[uint64]string{}}
	t.Cleanup(func() { w.store.Close() })
	w.open(journal.Retention{})
	w.append(20, 2, 30)
	w.archiveAll(Config{FileSize: 1 << 10})
	w.append(20, 2, 30)
	w.trim(11)
	return w
}

func TestDamageInTheJournalIsFoundToo(t *testing.T) {
	flip := func(w *world, sequence uint64) { w.memory.entries[sequence-11][140] ^= 1 }
	for name, test := range map[string]struct {
		harm func(w *world)
		want []string // damage, each by where it is and some of what is said
	}{
		"none":           {func(*world) {}, nil},
		"one batch":      {func(w *world) { flip(w, 30) }, []string{"batch 30 in the journal: malformed batch: checksum"}},
		"in both places": {func(w *world) { flip(w, 15) }, []string{"batch 15 in the journal: malformed batch: checksum"}},
		"some batches": {func(w *world) {
			for _, s := range []uint64{30, 31, 33} {
				flip(w, s)
			}
		}, []string{"batches 30-31 in the journal: malformed batch: checksum", "batch 33 in the journal"}},
		"another history from the border on": {func(w *world) {
			w.memory.entries[22-11] = reseal(w.memory.entries[22-11], 5)
		}, []string{"batches 22-23 in the journal: damaged: it does not follow batch 21"}},
		"another batch at the border": {func(w *world) {
			w.memory.entries[21-11] = reseal(w.memory.entries[21-11], 5)
		}, []string{"batch 21 in the journal: damaged: its checksum is"}},
		"a hole": {func(w *world) {
			w.memory.entries, w.memory.first = w.memory.entries[30-11:], 30
		}, []string{"batches 22-29 in the journal: they are neither in the archive nor in the journal"}},
		"of another journal": {func(w *world) {
			e := w.memory.entries[30-11]
			e[33] ^= 1
			w.memory.entries[30-11] = reseal(e, 0)
		}, []string{"batch 30 in the journal: damaged: it says that it is batch 30 of journal"}},
	} {
		t.Run(name, func(t *testing.T) {
			w := halfArchived(t)
			test.harm(w)
			v, err := w.archive.Verify(t.Context(), w.memory, nil)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, d := range v.Damage {
				got = append(got, d.Error())
			}
			if len(got) != len(test.want) {
				t.Fatalf("damage: %q, want %q", got, test.want)
			}
			for i := range got {
				if !strings.HasPrefix(got[i], test.want[i]) {
					t.Errorf("damage: %q, want %q", got[i], test.want[i])
				}
			}
			if v.First != 1 || v.Last != 41 {
				t.Errorf("verified %+v", v)
			}
		})
	}
}

func TestTheArchiveAloneVerifies(t *testing.T) {
	w := halfArchived(t)
	v, err := w.archive.Verify(t.Context(), nil, nil)
	if err != nil || len(v.Damage) != 0 || v.Batches != 21 || v.First != 1 || v.Last != 21 {
		t.Errorf("%+v, %v", v, err)
	}
	empty := New(opened(memoryStore(t)), w.archive.id, quiet())
	if _, err := empty.Verify(t.Context(), w.memory, nil); err == nil {
		t.Error("verified before its files were listed")
	}
	if err := empty.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	v, err = empty.Verify(t.Context(), w.memory, nil)
	if err != nil || fmt.Sprint(v.Damage) != "[]" || v.Batches != 31 || v.First != 11 || v.Last != 41 {
		t.Errorf("without an archive: %+v, %v", v, err)
	}
}
