package e2e

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lanternist/lanternist/examples/shop"
	"github.com/lanternist/lanternist/internal/devstack"
)

// TestInitWritesWhatRuns takes the path of a newcomer: look at a database, check, run, ask for a document.
func TestInitWritesWhatRuns(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("needs real services; run without -short")
	}
	db := devstack.Postgres(t)
	if err := shop.Create(t.Context(), db.Conn(t.Context()), small); err != nil {
		t.Fatal(err)
	}
	path, err := binaryPath()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	out, err := exec.CommandContext(t.Context(), path, "init", "--url", db.URL(), "--dir", dir).CombinedOutput()
	if err != nil {
		t.Fatalf("init: %v\n%s", err, out)
	}
	again := exec.CommandContext(t.Context(), path, "init", "--url", db.URL(), "--dir", dir)
	if out, err := again.CombinedOutput(); again.ProcessState.ExitCode() != 2 || !strings.Contains(string(out), "--force") {
		t.Errorf("a second init does not refuse to write over the files: %v\n%s", err, out)
	}
	text, err := os.ReadFile(filepath.Join(dir, "lanternist.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(text), "postgres://") {
		t.Errorf("the configuration holds the URL:\n%s", text)
	}
	files, err := filepath.Glob(filepath.Join(dir, "views", "*.yaml"))
	if err != nil || len(files) < 4 {
		t.Fatalf("views: %v, %v", files, err)
	}
	views := map[string][]byte{}
	for _, file := range files {
		if views[strings.TrimSuffix(filepath.Base(file), ".yaml")], err = os.ReadFile(file); err != nil {
			t.Fatal(err)
		}
	}

	in := install(t, options{database: db, tables: shop.Tables(), views: views})
	if code, problems := in.check(); code != 0 {
		t.Errorf("check of the starter configuration: exit code %d, %v", code, problems)
	}
	d := in.start()
	d.ready()
	d.reach()
	for view, key := range map[string]string{"orders": "SELECT min(id)::text FROM orders", "customers": "SELECT max(id)::text FROM customers"} {
		var id string
		if err := db.Conn(t.Context()).QueryRow(t.Context(), key).Scan(&id); err != nil {
			t.Fatal(err)
		}
		res, err := http.Get(fmt.Sprintf("%s/v1/views/%s/%s", in.base, view, id))
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != http.StatusOK {
			t.Errorf("%s/%s: %s", view, id, res.Status)
		}
	}
	d.stop()
}
