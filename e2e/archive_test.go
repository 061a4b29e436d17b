package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lanternist/lanternist/event"
	"github.com/lanternist/lanternist/examples/shop"
	"github.com/lanternist/lanternist/internal/devstack"
)

// journalStatus is what a test looks at of the journal and its archive.
type journalStatus struct {
	Journal struct {
		First   event.Offset `json:"first"`
		Head    event.Offset `json:"head"`
		Archive struct {
			State     string `json:"state"`
			LastBatch uint64 `json:"last_batch"`
			Files     int    `json:"files"`
			Behind    uint64 `json:"behind_bytes"`
		} `json:"archive"`
	} `json:"journal"`
}

func (in *installation) journal() (s journalStatus) {
	in.t.Helper()
	if err := in.get("/v1/status", &s); err != nil {
		in.t.Fatal(err)
	}
	return s
}

// journalCommand runs a command on the journal that prints JSON, and wants an exit code of it.
func (in *installation) journalCommand(want int, v any, args ...string) {
	in.t.Helper()
	code, stdout, stderr := in.run(append(append([]string{"journal"}, args...), "--json")...)
	if code != want {
		in.t.Fatalf("journal %v exited with %d, want %d:\n%s%s", args, code, want, stdout, stderr)
	}
	if err := json.Unmarshal([]byte(stdout), v); err != nil {
		in.t.Fatalf("journal %v: %v:\n%s", args, err, stdout)
	}
}

// verifiedJournal is what journal verify prints.
type verifiedJournal struct {
	Files   int    `json:"files"`
	Batches uint64 `json:"batches"`
	First   uint64 `json:"first_batch"`
	Last    uint64 `json:"last_batch"`
	Damage  []struct {
		File  string `json:"file"`
		From  uint64 `json:"from_batch"`
		To    uint64 `json:"to_batch"`
		Error string `json:"error"`
	} `json:"damage"`
}

// grow makes about so many KiB of journal, in transactions of 32 KiB.
func (in *installation) grow(kib int) {
	in.t.Helper()
	for range kib / 32 {
		in.database.Exec(`UPDATE customers SET preferences = jsonb_build_object('filler', repeat(md5(random()::text), 512)) WHERE id = 1`)
	}
}

// The journal keeps a MiB, the archive everything: events that have left the journal can be replayed, verified and restored,
// and damage is named.
func TestTheJournalGoesOnInTheArchive(t *testing.T) {
	t.Parallel()
	in := installShop(t, options{
		journal: "{dir: data/journal, retention: {size: 1MiB}}",
		more:    "archive: {url: \"file://data/archive\", file_size: 1MiB}\n",
	}, small)
	d := in.start()
	d.ready()
	lsn := in.position()
	in.database.Exec(`INSERT INTO customers (id, email, name, country) VALUES (-1, '-1@archive.example', 'Client', 'NO')`)
	d.reach()
	marker := in.offsetAt(lsn)
	in.grow(600)
	d.reach()
	var archived struct {
		LastBatch uint64 `json:"last_batch"`
		Files     int    `json:"files"`
	}
	in.journalCommand(0, &archived, "archive") // through the daemon
	if s := in.journal(); archived.LastBatch == 0 || archived.LastBatch > s.Journal.Head.Sequence() || s.Journal.Archive.Files == 0 || s.Journal.Archive.State != "running" {
		t.Errorf("archived %+v, status %+v", archived, s)
	}
	d.stop()

	// What is durable in the mirror need not stay in the journal.
	d = in.start()
	d.ready()
	later := in.position()
	in.grow(800)
	d.reach()
	devstack.Eventually(t, time.Minute, func() error {
		if s := in.journal(); uint64(s.Journal.First) <= marker {
			return fmt.Errorf("event %d is still in the journal: %+v", marker, s)
		}
		in.grow(64)
		return nil
	})
	if again := in.offsetAt(lsn); again != marker {
		t.Errorf("the first event from %s on is %d, was %d", lsn, again, marker)
	}
	if r := in.replay("--from", lsn); r.State != "done" || r.Touching == 0 {
		t.Errorf("replay across the border: %+v", r)
	}
	var v verifiedJournal
	in.journalCommand(0, &v, "verify") // while the daemon runs
	if v.Files == 0 || v.Batches == 0 || v.First == 0 || len(v.Damage) != 0 {
		t.Errorf("verified %+v", v)
	}
	d.stop()
	in.journalCommand(0, &archived, "archive") // without a daemon
	in.restoreElsewhere(archived.LastBatch)

	// Life goes on with the restored journal; the tables are loaded anew. Damage is only in the way of those who come upon it.
	name := in.damage(marker)
	if err := os.RemoveAll(filepath.Join(in.dir, "data", "mirror")); err != nil {
		t.Fatal(err)
	}
	d = in.start()
	d.ready()
	if offset := in.offsetAt(later); offset <= marker {
		t.Errorf("the first event from %s on is %d, that from %s on is %d", later, offset, lsn, marker)
	}
	code, stdout, stderr := in.run("replay", "customer_profile.search", "--from", lsn)
	if code == 0 || !strings.Contains(stdout+stderr, name) {
		t.Errorf("replay of what is damaged: %d\n%s%s", code, stdout, stderr)
	}
	in.database.Exec(`UPDATE customers SET name = 'Later' WHERE id = -1`)
	d.reach()
	in.compare(shop.Truth)
}

// restoreElsewhere takes the journal away and restores it from the archive.
func (in *installation) restoreElsewhere(last uint64) {
	in.t.Helper()
	code, _, stderr := in.run("journal", "restore")
	if code != 2 || !strings.Contains(stderr, "is not empty") {
		in.t.Errorf("restore over a journal: %d\n%s", code, stderr)
	}
	if err := os.Rename(filepath.Join(in.dir, "data", "journal"), filepath.Join(in.dir, "data", "lost")); err != nil {
		in.t.Fatal(err)
	}
	control := filepath.Join(in.dir, "data", "control")
	if err := os.Rename(control, control+".kept"); err != nil {
		in.t.Fatal(err)
	}
	var restored struct {
		Last    uint64 `json:"last_batch"`
		Schemas int    `json:"schemas"`
	}
	in.journalCommand(0, &restored, "restore")
	if restored.Last != last || restored.Schemas == 0 {
		in.t.Errorf("restored %+v, archived up to %d", restored, last)
	}
	// Its events can be read, although the control store was lost as well.
	code, stdout, stderr := in.run("journal", "dump", "--events")
	if code != 0 || !strings.Contains(stdout, "customers.updated") {
		in.t.Errorf("dump: %d\n%s", code, stderr)
	}
	// The slot's place is kept there too, which this test is not about.
	if err := os.RemoveAll(control); err != nil {
		in.t.Fatal(err)
	}
	if err := os.Rename(control+".kept", control); err != nil {
		in.t.Fatal(err)
	}
}

// damage flips a byte of the archive's first file, which holds an event, and returns the file's name. Verifying names it too.
func (in *installation) damage(marker uint64) (name string) {
	in.t.Helper()
	files, err := filepath.Glob(filepath.Join(in.dir, "data", "archive", "journal", "*", "*.lnja"))
	if err != nil || len(files) == 0 {
		in.t.Fatalf("archive files %v, %v", files, err)
	}
	content, err := os.ReadFile(files[0])
	if err != nil {
		in.t.Fatal(err)
	}
	content[200] ^= 4
	if err := os.WriteFile(files[0], content, 0o600); err != nil {
		in.t.Fatal(err)
	}
	name = filepath.Base(files[0])
	var v verifiedJournal
	in.journalCommand(3, &v, "verify")
	if len(v.Damage) != 1 || !strings.HasSuffix(v.Damage[0].File, name) || v.Damage[0].From != 1 || v.Batches == 0 {
		in.t.Fatalf("verified %+v, want damage in %s", v, name)
	}
	code, stdout, _ := in.run("journal", "verify")
	if code != 3 || !strings.Contains(stdout, name) || !strings.Contains(stdout, fmt.Sprintf("batches %d-%d", v.Damage[0].From, v.Damage[0].To)) {
		in.t.Errorf("verify: %d\n%s", code, stdout)
	}
	if to := event.NewOffset(v.Damage[0].To+1, 0); uint64(to) <= marker {
		in.t.Fatalf("event %d is not in the damaged batches %d-%d", marker, v.Damage[0].From, v.Damage[0].To)
	}
	return name
}
