package segments

import (
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"
)

// growSize is the variable that makes TestOpenAfterSIGKILL write a log of that many MiB. Default 256.
const growSize = "LANTERNIST_TEST_JOURNAL_MIB"

// TestOpenAfterSIGKILL opens a large log whose writer was killed, and logs how long it took: what is read at
// open does not depend on how much the log holds.
func TestOpenAfterSIGKILL(t *testing.T) {
	if testing.Short() {
		t.Skip("writes hundreds of megabytes")
	}
	mib := 256
	if s := os.Getenv(growSize); s != "" {
		var err error
		if mib, err = strconv.Atoi(s); err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	cmd := exec.Command(os.Args[0])
	cmd.Stderr = os.Stderr
	cmd.Env = append(os.Environ(), growDir+"="+dir, growSize+"="+strconv.Itoa(mib))
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ready := make([]byte, 64)
	n, err := out.Read(ready) // written when the log has grown; the writer goes on
	if err != nil || string(ready[:n]) != "grown\n" {
		t.Errorf("writer: %q, %v", ready[:n], err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil {
		t.Fatal("the writer ended by itself")
	}
	began := time.Now()
	log, err := Open(dir, Config{}, discard())
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	first, last, err := log.Bounds(t.Context())
	if err != nil || first != 1 {
		t.Fatalf("the log holds %d-%d, %v", first, last, err)
	}
	if _, err := log.Read(t.Context(), last); err != nil {
		t.Fatal(err)
	}
	size, err := log.Size(t.Context())
	if err != nil || size < int64(mib)<<20 {
		t.Fatalf("size %d, %v", size, err)
	}
	t.Logf("opened %d MiB, %d entries, in %v", size>>20, last, time.Since(began))
	if err := log.Append(t.Context(), last+1, []byte("more")); err != nil {
		t.Fatal(err)
	}
}
