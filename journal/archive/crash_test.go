package archive

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/lanternist/lanternist/internal/bucket"
	"github.com/lanternist/lanternist/journal"
	"github.com/lanternist/lanternist/journal/segments"
)

// Where the process that TestAKilledArchiver kills works: the journal's folder and the archive's.
const childEnv = "LANTERNIST_TEST_ARCHIVER"

// TestArchiverChild is the process that is killed: it appends and archives until then. It prints each transaction that has
// been appended and each batch up to which everything is archived.
func TestArchiverChild(t *testing.T) {
	dirs := strings.Split(os.Getenv(childEnv), "\n")
	if len(dirs) != 2 {
		t.Skip("is run by TestAKilledArchiver")
	}
	ctx := context.Background()
	store, err := bucket.Open(ctx, "file://"+dirs[1], "")
	if err != nil {
		t.Fatal(err)
	}
	log, err := segments.Open(dirs[0], segments.Config{SegmentSize: 64 << 10}, quiet())
	if err != nil {
		t.Fatal(err)
	}
	j, err := journal.Open(ctx, log, known, journal.Config{Retention: journal.Retention{Size: 1 << 20}, CacheBytes: 1}, quiet())
	if err != nil {
		t.Fatal(err)
	}
	id, err := journal.ParseID(j.Identity())
	if err != nil {
		t.Fatal(err)
	}
	a := New(opened(store), id, quiet())
	j.Attach(a)
	r := NewArchiver(Config{FileSize: 40 << 10, BlockSize: 8 << 10}, a, j, known, quiet())
	run(t, r)
	for n := int(j.Head().CommitLSN)/1000 + 1; ; n++ {
		if _, err := j.Append(ctx, []journal.Part{reproducible(n)}); err != nil {
			t.Fatal(err)
		}
		fmt.Println("appended", n)
	}
}

// reproducible is the n-th transaction, the same in every process.
func reproducible(n int) journal.Part {
	return transaction(rand.New(rand.NewPCG(7, uint64(n))), n, 3, 1000)
}

// TestAKilledArchiver kills a process that appends and archives, again and again, and reads everything at the end.
func TestAKilledArchiver(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	kills := 6
	if n, err := strconv.Atoi(os.Getenv("LANTERNIST_TEST_KILLS")); err == nil {
		kills = n
	}
	w := newWorld(t, folderStore(t), journal.Retention{})
	dir := t.TempDir()
	store, err := bucket.Open(t.Context(), "file://"+dir, "")
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	if err := w.journal.Close(); err != nil {
		t.Fatal(err)
	}
	appended := 0
	for range kills {
		appended = killOne(t, w.dir+"\n"+dir, appended, 100+w.random.IntN(200))
	}
	w.store = store
	w.open(journal.Retention{})
	if err := w.archive.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	if v := w.verify(); len(v.Damage) > 0 || v.First != 1 {
		t.Fatalf("damage: %v", v.Damage)
	}
	total := int(w.journal.Head().CommitLSN) / 1000
	if total < appended {
		t.Fatalf("the journal ends with transaction %d, %d were appended", total, appended)
	}
	for n := 1; n <= total; n++ {
		b, err := w.journal.Read(t.Context(), uint64(n+1))
		if err != nil {
			t.Fatal(err)
		}
		want := reproducible(n)
		for i := range want.Events {
			if got := b.Parts[0].Events[i]; string(got.After) != string(want.Events[i].After) {
				t.Fatalf("transaction %d, event %d is not what was appended", n, i)
			}
		}
	}
	t.Logf("%d transactions, retained from batch %d, %d files", total, w.journal.Retained(), len(w.names()))
	if w.journal.Retained() == 1 {
		t.Error("nothing was trimmed")
	}
}

// killOne runs the child and kills it when it has appended so many more. It returns the last transaction that it said.
func killOne(t *testing.T, dirs string, appended, more int) int {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestArchiverChild$")
	cmd.Env = append(os.Environ(), childEnv+"="+dirs)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	until, last := 0, appended
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		n := 0
		if _, err := fmt.Sscanf(lines.Text(), "appended %d", &n); err != nil {
			t.Errorf("child says: %s", lines.Text())
			continue
		}
		if until == 0 {
			until = n + more
		}
		last = n
		if n >= until {
			break
		}
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // it was killed
	if last == appended {
		t.Fatal("the child has appended nothing")
	}
	return last
}
