package segments

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/lanternist/lanternist/journal/journaltest"
)

// crashDir is the variable that makes this test binary append to a folder until it is killed.
const crashDir = "LANTERNIST_TEST_CRASH_DIR"

// crashConfig makes a third of the entries large ones.
var crashConfig = Config{SegmentSize: 32 << 10, inlineMax: 2000}

// crashWriter appends entries and prints the sequence of each that has been acknowledged.
func crashWriter() {
	log, err := Open(os.Getenv(crashDir), crashConfig, slog.New(slog.DiscardHandler))
	if err != nil {
		panic(err)
	}
	_, last, err := log.Bounds(context.Background())
	for sequence := last + 1; err == nil; sequence++ {
		if err = log.Append(context.Background(), sequence, journaltest.Entry(sequence)); err == nil {
			fmt.Println(sequence)
		}
		if sequence%50 == 0 && err == nil {
			err = log.Trim(context.Background(), sequence-200)
		}
	}
	panic(err)
}

// growDir is the variable that makes this test binary grow a log in a folder, and go on until it is killed.
const growDir = "LANTERNIST_TEST_GROW_DIR"

// growWriter appends entries of 2 KiB to 128 KiB, says "grown" when there are as many MiB as it was told, and goes on.
func growWriter() {
	mib, err := strconv.Atoi(os.Getenv(growSize))
	if err != nil {
		panic(err)
	}
	log, err := Open(os.Getenv(growDir), Config{}, slog.New(slog.DiscardHandler))
	entry := make([]byte, 128<<10)
	for sequence, size := uint64(1), 0; err == nil; sequence++ {
		n := len(entry)
		if size > (mib-32)<<20 {
			n = 2 << 10 // the last segment has many
		}
		before := size
		size += n
		if err = log.Append(context.Background(), sequence, entry[:n]); err == nil && before < mib<<20 && size >= mib<<20 {
			fmt.Println("grown")
		}
	}
	panic(err)
}

// TestEveryAcknowledgedEntrySurvivesSIGKILL kills a writing process again and again, at any point of its work
// including the change from one segment to the next.
func TestEveryAcknowledgedEntrySurvivesSIGKILL(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	dir := t.TempDir()
	acknowledged := uint64(0)
	rounds := 30
	if testing.Short() {
		rounds = 8
	}
	for round := range rounds {
		acknowledged = max(acknowledged, writeUntilKilled(t, dir, random))
		log, err := Open(dir, crashConfig, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatalf("round %d, open after %d: %v", round, acknowledged, err)
		}
		first, last, err := log.Bounds(t.Context())
		if err != nil || last < acknowledged || last > acknowledged+1 {
			t.Fatalf("round %d: the log holds %d-%d, %v; %d was acknowledged", round, first, last, err, acknowledged)
		}
		for sequence := first; sequence <= last; sequence++ {
			if entry, err := log.Read(t.Context(), sequence); err != nil || !bytes.Equal(entry, journaltest.Entry(sequence)) {
				t.Fatalf("round %d: entry %d of %d-%d: %d bytes, %v", round, sequence, first, last, len(entry), err)
			}
		}
		if err := log.Append(t.Context(), last+1, journaltest.Entry(last+1)); err != nil {
			t.Fatalf("round %d: append %d: %v", round, last+1, err)
		}
		acknowledged = last + 1
		checkLargeFiles(t, dir, first, last+1)
		if err := log.Close(); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d entries", acknowledged)
}

// writeUntilKilled runs a writer, kills it at a random moment and returns the last entry it acknowledged.
func writeUntilKilled(t *testing.T, dir string, random *rand.Rand) (acknowledged uint64) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), crashDir+"="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	kill := 1 + random.IntN(60) // lines until it is killed; it goes on meanwhile
	for n := 0; lines.Scan(); n++ {
		sequence, err := strconv.ParseUint(strings.TrimSpace(lines.Text()), 10, 64)
		if err != nil {
			t.Errorf("writer: %s", lines.Text())
			break
		}
		acknowledged = sequence
		if n == kill {
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := cmd.Wait(); err == nil {
		t.Fatal("the writer ended by itself")
	}
	return acknowledged
}

// checkLargeFiles checks that exactly the large entries of a log have files.
func checkLargeFiles(t *testing.T, dir string, first, last uint64) {
	t.Helper()
	files, err := largeFiles(dir)
	if err != nil {
		t.Fatal(err)
	}
	have := map[uint64]int{}
	for _, f := range files {
		have[f.sequence]++
	}
	for sequence := first; sequence <= last; sequence++ {
		want := 0
		if len(journaltest.Entry(sequence)) > crashConfig.inlineMax {
			want = 1
		}
		if have[sequence] != want {
			t.Fatalf("entry %d has %d files, want %d", sequence, have[sequence], want)
		}
		delete(have, sequence)
	}
	if len(have) > 0 {
		t.Fatalf("files of entries that are not in the log, %d-%d: %v", first, last, have)
	}
}
