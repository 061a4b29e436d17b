package mirror

import (
	"bufio"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/jackc/pglogrepl"

	"github.com/lanternist/lanternist/event"
	"github.com/lanternist/lanternist/internal/faults"
	"github.com/lanternist/lanternist/row"
)

// diskTransactions is how many transactions are applied, three changes each.
const diskTransactions = 90

var diskIndex = Index{OID: 100, Columns: []string{"fk"}}

// diskWorld is the table, and every state that it has been in.
type diskWorld struct {
	registry *registry
	schema   *row.Schema
	changes  [][]*event.Event // by transaction
	states   [][]string       // after each of them, in the form of dump
}

// newDiskWorld makes the same transactions each time: inserts, updates that leave a large value alone, deletes.
func newDiskWorld() *diskWorld {
	w := &diskWorld{registry: &registry{}, states: [][]string{nil}}
	w.schema = w.registry.define(100, "things", "id", "fk", "big", "n")
	rows := map[string][]string{}
	for n := 1; n <= diskTransactions; n++ {
		lsn := pglogrepl.LSN(n * 100)
		var events []*event.Event
		for k := range 3 {
			id := strconv.Itoa((n*7 + k*5) % 23)
			old := rows[id]
			switch {
			case old == nil:
				rows[id] = []string{id, "p" + strconv.Itoa(n%4), strings.Repeat(id+"/"+strconv.Itoa(n)+" ", 600), strconv.Itoa(n)}
				events = append(events, insert(w.schema, lsn, rows[id]...))
			case (n+k)%4 == 0:
				delete(rows, id)
				events = append(events, remove(w.schema, lsn, id))
			default:
				rows[id] = []string{id, "p" + strconv.Itoa((n+k)%4), old[2], strconv.Itoa(n)}
				events = append(events, update(w.schema, lsn, id, rows[id][1], unchanged, rows[id][3]))
			}
		}
		w.changes = append(w.changes, events)
		var state []string
		for id, values := range rows {
			state = append(state, fmt.Sprintf("%s: %q", printKey(keyOf(id)), values))
		}
		slices.Sort(state)
		w.states = append(w.states, state)
	}
	return w
}

func (w *diskWorld) open(dir string, disk vfs.FS) (*Mirror, error) {
	return Open(Config{Dir: dir, CacheSize: 1 << 20, MemTableSize: 64 << 10, fs: disk}, w.registry, slog.New(slog.DiscardHandler))
}

// work applies all transactions, syncs now and then and opens the mirror again, and tells up to which it has synced.
func (w *diskWorld) work(t *testing.T, dir string, disk vfs.FS, synced func(n int)) error {
	for session := 0; ; session++ {
		m, err := w.open(dir, disk)
		if err != nil {
			return err
		}
		if session == 0 {
			if err := w.begin(t, m); err != nil {
				_ = m.Close() // the disk has failed already
				return err
			}
		}
		if err := w.session(m, synced); err != nil {
			_ = m.Close() // as above
			return err
		}
		done := int(m.Position()) == diskTransactions
		if err := m.Close(); err != nil || done {
			return err
		}
	}
}

// begin declares the index and makes the table complete.
func (w *diskWorld) begin(t *testing.T, m *Mirror) error {
	if err := m.EnsureIndexes(t.Context(), []Index{diskIndex}); err != nil {
		return err
	}
	if err := m.StartLoad(w.schema, nil); err != nil && !errors.Is(err, ErrLoading) { // a crash came before it was finished
		return err
	}
	return m.FinishLoad(t.Context(), w.schema.OID)
}

func (w *diskWorld) session(m *Mirror, synced func(n int)) error {
	for range diskTransactions / 3 {
		n := int(m.Position())
		if n == diskTransactions {
			return nil
		}
		b := m.Begin()
		for _, ev := range w.changes[n] {
			copied := *ev
			if err := b.Apply(&copied); err != nil {
				b.Discard()
				return err
			}
		}
		if err := b.Commit(event.Offset(n+1), w.changes[n][0].Transaction.EndLSN, true); err != nil {
			return err
		}
		if n%8 == 7 {
			offset, err := m.Sync()
			if err != nil {
				return err
			}
			synced(int(offset))
		}
	}
	return nil
}

// whole compares a mirror with the state at its position, which must not be before what was synced, catches up as from a
// journal, and compares again.
func (w *diskWorld) whole(t *testing.T, dir string, disk vfs.FS, synced int) error {
	t.Helper()
	m, err := w.open(dir, disk)
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	defer m.Close()
	at := int(m.Position())
	if at < synced || at > diskTransactions {
		return fmt.Errorf("it is at %d, was synced at %d", at, synced)
	}
	if got := sortedDump(t, m); !slices.Equal(got, w.states[at]) {
		return fmt.Errorf("at %d it holds %d rows, and not those that it had then", at, len(got))
	}
	if !m.Loaded(w.schema.OID) {
		if at > 0 {
			return fmt.Errorf("at %d the table is not complete", at)
		}
		if err := w.begin(t, m); err != nil {
			return err
		}
	}
	for int(m.Position()) < diskTransactions {
		if err := w.session(m, func(int) {}); err != nil {
			return fmt.Errorf("catch up: %w", err)
		}
	}
	if got := sortedDump(t, m); !slices.Equal(got, w.states[diskTransactions]) {
		return fmt.Errorf("caught up it holds %d rows, and not those of the end", len(got))
	}
	indexed := 0
	for fk := range 4 {
		indexed += len(lookup(t, m, diskIndex, "p"+strconv.Itoa(fk)))
	}
	if indexed != len(w.states[diskTransactions]) {
		return fmt.Errorf("the index has %d of %d rows", indexed, len(w.states[diskTransactions]))
	}
	return nil
}

func sortedDump(t *testing.T, m *Mirror) []string {
	lines := dump(t, m, 100)
	slices.Sort(lines)
	return lines
}

// stride is the first operation that is tried, and the distance to the next one.
func stride(seed uint64, most int) (first, step int) {
	if faults.Heavy() {
		most = max(1, most/10)
	}
	return 1 + int(seed%uint64(most)), most
}

// TestFaultMirrorCrash loses the power at operation k of the disk, for every k.
func TestFaultMirrorCrash(t *testing.T) {
	result := faults.Cause(t, faults.Fault{
		ID: "mirror-crash", Area: "Mirror",
		Fault: "the power fails at any operation on the mirror's files; a random part of what was not synced is lost",
		Promise: "the mirror is what it was at some offset that is not before the last sync: whole transactions, rows and indexes together; " +
			"the journal, which keeps what comes after the last sync, brings it to its end",
		Answer: "nothing: the start catches up from the journal",
	})
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	w := newDiskWorld()
	first, step := stride(seed, 37)
	crashes := 0
	for k := first; ; k += step {
		disk := vfs.NewCrashableMem()
		var ops, synced atomic.Int64
		var left *vfs.MemFS
		var then int
		random := rand.New(rand.NewPCG(seed, uint64(k)))
		wrapped := errorfs.Wrap(disk, errorfs.InjectorFunc(func(op errorfs.Op) error {
			if op.Kind.ReadOrWrite() == errorfs.OpIsWrite && ops.Add(1) == int64(k) {
				then = int(synced.Load())
				left = disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: random.IntN(101), RNG: random})
			}
			return nil
		}))
		if err := w.work(t, "mirror", wrapped, func(n int) { synced.Store(int64(n)) }); err != nil {
			t.Fatal(err)
		}
		if left == nil {
			break
		}
		crashes++
		if err := w.whole(t, "mirror", left, then); err != nil {
			t.Fatalf("crash at operation %d: %v", k, err)
		}
	}
	if crashes*step < 150 {
		t.Errorf("only %d crashes", crashes)
	}
	result.Notef("%d crashes", crashes)
}

// childDisk makes this test binary work on a folder whose disk fails: the folder, and the operation.
const childDisk = "LANTERNIST_TEST_MIRROR_DISK"

// TestDiskChild is the process that TestFaultMirrorDiskError watches. Pebble ends it when it cannot go on.
func TestDiskChild(t *testing.T) {
	dir, text, found := strings.Cut(os.Getenv(childDisk), "\n")
	if !found {
		t.Skip("is run by TestFaultMirrorDiskError")
	}
	failAt, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	var ops atomic.Int64
	disk := errorfs.Wrap(vfs.Default, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind.ReadOrWrite() == errorfs.OpIsWrite && ops.Add(1) == failAt {
			return errorfs.ErrInjected
		}
		return nil
	}))
	err = newDiskWorld().work(t, dir, disk, func(n int) { fmt.Println("synced", n) })
	fmt.Println("ended", ops.Load() >= failAt, err)
}

// TestFaultMirrorDiskError fails operation i of the disk, for many i, in a process of its own.
func TestFaultMirrorDiskError(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	result := faults.Cause(t, faults.Fault{
		ID: "mirror-disk-error", Area: "Mirror",
		Fault:   "any one write, sync, creation or removal of the mirror's files fails",
		Promise: "no row that is not the source's is ever read: the daemon goes on where that is safe, or ends, and the next start finds whole transactions and catches up from the journal",
		Answer:  "nothing: the daemon goes on when it is started again; if it ends again, look at the disk",
	})
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	w := newDiskWorld()
	first, step := stride(seed, 41)
	tried := 0
	for i := first; ; i += step {
		dir := t.TempDir()
		synced, reached := runDisk(t, childDisk+"="+dir+"\n"+strconv.Itoa(i))
		if !reached {
			break
		}
		tried++
		if err := w.whole(t, dir, vfs.Default, synced); err != nil {
			t.Fatalf("operation %d failed: %v", i, err)
		}
	}
	if tried*step < 100 {
		t.Errorf("only %d operations failed", tried)
	}
	result.Notef("%d operations failed, one in each run", tried)
}

// runDisk runs a child. It returns up to where it has synced, and whether the operation that was to fail came.
func runDisk(t *testing.T, variable string) (synced int, reached bool) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestDiskChild$")
	cmd.Env = append(os.Environ(), variable)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	reached = true // a process that does not say how it ended was ended
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if _, err := fmt.Sscanf(lines.Text(), "synced %d", &synced); err == nil {
			continue
		}
		if strings.HasPrefix(lines.Text(), "ended false") {
			reached = false
		}
	}
	_ = cmd.Wait() // it may have been ended, which is no failure
	return synced, reached
}
