package e2e

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lanternist/lanternist/internal/devstack"
	"github.com/lanternist/lanternist/internal/faults"
)

// These tests damage files of a daemon that has ended, as disks and people do, and then do what they are told.

// damage changes the bytes of a file.
func (s *saboteur) damage(path string, change func(content []byte) []byte) {
	s.t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		s.t.Fatal(err)
	}
	if err := os.WriteFile(path, change(content), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// largest is the largest file of those that match.
func (s *saboteur) largest(patterns ...string) string {
	s.t.Helper()
	var largest string
	var size int64 = -1
	for _, pattern := range patterns {
		paths, err := filepath.Glob(filepath.Join(s.dir, pattern))
		if err != nil {
			s.t.Fatal(err)
		}
		for _, path := range paths {
			if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Size() > size {
				largest, size = path, info.Size()
			}
		}
	}
	if size < 0 {
		s.t.Fatalf("no file is named %v", patterns)
	}
	return largest
}

// used is the length of a file without the zeros at its end.
func used(content []byte) int { return len(bytes.TrimRight(content, "\x00")) }

// scrambled has a piece of its middle overwritten.
func scrambled(content []byte) []byte {
	from, to := len(content)/3, min(len(content), len(content)/3+max(64, len(content)/4))
	for i := from; i < to; i++ {
		content[i] ^= 0x5a
	}
	return content
}

// obedient starts the daemon, and does what it says when it ends: it removes the folders that it names. It returns the
// daemon that serves, and everything that was said on the way.
func (s *saboteur) obedient(result *faults.Result) (*daemon, string) {
	s.t.Helper()
	began := time.Now()
	said := ""
	for range 4 {
		d := s.start()
		if s.serves(d) {
			result.Recovered(time.Since(began))
			return d, said
		}
		text := d.log.text()
		said += text
		if !s.obey(text) {
			s.t.Fatalf("the daemon ended and did not say what to remove:\n%s", tail(text, 20))
		}
	}
	s.t.Fatalf("the daemon still ends after everything was done that it said:\n%s", tail(said, 40))
	return nil, ""
}

// serves waits until every view can be read; false when the daemon ends instead.
func (s *saboteur) serves(d *daemon) bool {
	s.t.Helper()
	ends := false
	devstack.Eventually(s.t, readyWithin, func() error {
		select {
		case <-d.ended:
			ends = true
			return nil
		default:
			return s.get("/readyz", nil)
		}
	})
	return !ends
}

// obey removes the folders that a text says are to be removed.
func (s *saboteur) obey(text string) bool {
	s.t.Helper()
	if strings.Contains(text, "lanternist source accept-gap") {
		code, _, _ := s.run("source", "accept-gap")
		return code == 0
	}
	_, command, found := strings.Cut(text[max(0, strings.LastIndex(text, "rm -r ")):], "rm -r ")
	if !found {
		return false
	}
	line, _, _ := strings.Cut(command, "\n")
	line, _, _ = strings.Cut(line, `\n`)
	removed := false
	for word := range strings.FieldsSeq(line) {
		path := strings.Trim(word, `"';,`)
		if !strings.HasPrefix(path, filepath.Join(s.dir, "data")+string(filepath.Separator)) {
			break
		}
		if err := os.RemoveAll(path); err != nil {
			s.t.Fatal(err)
		}
		removed = true
	}
	return removed
}

// right sees to it that everything is as the source says, now and after one more change.
func (s *saboteur) right(d *daemon) {
	s.t.Helper()
	for _, sql := range []string{`SELECT 1`, `UPDATE books SET title = 'Afterwards' WHERE id = 2; UPDATE books SET shelf_id = 1 + shelf_id % 4 WHERE id = 9`} {
		s.database.Exec(sql)
		if found := s.problems(d); len(found) > 0 {
			s.t.Fatalf("after %s: %s", sql, strings.Join(found, "; "))
		}
	}
}

// worked is a daemon that has journaled a few transactions and has ended.
func worked(t *testing.T, more ...string) *saboteur {
	s := newSaboteur(t, nil, nil, more...)
	d := s.running()
	for i := range 12 {
		s.database.Exec(fmt.Sprintf(`UPDATE books SET title = 'Marked %02d', blurb = blurb || 'x' WHERE id = %d`, i, i+1))
	}
	d.reach()
	d.stop()
	return s
}

func TestFaultJournalTornTail(t *testing.T) {
	t.Parallel()
	result := faults.Cause(t, faults.Fault{
		ID: "journal-torn-tail", Area: "Journal", Heavy: true,
		Fault:   "the daemon dies while it appends, and half of the batch is on the disk",
		Promise: "the half batch is cut off; it was not acknowledged, so the source sends its transactions again; nothing is missing, nothing comes twice",
		Answer:  "nothing: the next start does it",
	})
	s := newSaboteur(t, nil, nil)
	d := s.running()
	s.database.Exec(`UPDATE books SET title = 'Whole' WHERE id = 1`)
	d.reach()
	s.hold("ingest", "journaled")
	s.database.Exec(`INSERT INTO books VALUES (101, 1, 'Torn', '1', repeat('torn', 100))`)
	s.held("ingest", "journaled")
	d.kill()
	s.damage(s.largest("data/journal/*.wal"), func(b []byte) []byte {
		clear(b[used(b)-200:])
		return b
	})
	began := time.Now()
	d = s.running()
	result.Recovered(time.Since(began))
	result.Repeated(1)
	s.right(d)
	d.stop()
	if found := s.journalProblems(); len(found) > 0 {
		t.Fatal(found)
	}
}

func TestFaultJournalBitFlipped(t *testing.T) {
	t.Parallel()
	result := faults.Cause(t, faults.Fault{
		ID: "journal-bit-flipped", Area: "Journal", Heavy: true,
		Fault:   "a bit flips in a batch that the journal has long since written",
		Promise: "whoever reads the batch is told, by its number, and never gets something else; all other batches are read, the views go on and can be built anew from the mirror",
		Answer:  "see what is damaged: `lanternist journal verify`; it matters to replays and readers of the past only; with an archive the batches can be had back with `lanternist journal restore`",
	})
	s := worked(t)
	s.damage(s.largest("data/journal/*.wal"), func(b []byte) []byte {
		at := bytes.Index(b, []byte("Marked 04"))
		if at < 0 {
			t.Fatal("the batch is not in the file")
		}
		b[at+8] ^= 1
		return b
	})
	var v verifiedJournal
	s.journalCommand(3, &v, "verify")
	if len(v.Damage) != 1 || v.Damage[0].From != v.Damage[0].To || !strings.Contains(v.Damage[0].Error, "checksum") || v.Batches < 10 {
		t.Fatalf("verified %+v", v)
	}
	began := time.Now()
	d := s.running()
	result.Recovered(time.Since(began))
	s.right(d)
	if code, stdout, stderr := s.run("rebuild", "book"); code != 0 {
		t.Fatalf("rebuild exited with %d: %s%s", code, stdout, stderr)
	}
	s.right(d)
	if code, stdout, stderr := s.run("replay", "book.search", "--from", "beginning", "--dry-run"); code == 0 || !strings.Contains(stdout+stderr, fmt.Sprint(v.Damage[0].From)) {
		t.Errorf("a replay over the damage exited with %d: %s%s", code, stdout, stderr)
	}
	result.Notef("damage named: batch %d", v.Damage[0].From)
}

func TestFaultJournalTruncated(t *testing.T) {
	t.Parallel()
	result := faults.Cause(t, faults.Fault{
		ID: "journal-truncated", Area: "Journal", Heavy: true,
		Fault:   "the end of a journal file is cut off while the daemon is down",
		Promise: "the start refuses, says what is missing and the command that loads everything again; the sinks go on serving what they have; nothing is lost",
		Answer:  "do as it says: `rm -r data/mirror` or `rm -r data/journal data/mirror data/control`, then `lanternist run`",
	})
	s := worked(t)
	s.damage(s.largest("data/journal/*.wal"), func(b []byte) []byte { return b[:used(b)*2/3] })
	d, said := s.obedient(result)
	if said == "" {
		t.Error("the daemon went on as if nothing were missing")
	}
	s.right(d)
}

func TestFaultJournalFileMissing(t *testing.T) {
	t.Parallel()
	result := faults.Cause(t, faults.Fault{
		ID: "journal-file-missing", Area: "Journal", Heavy: true,
		Fault:   "a journal file is removed while the daemon is down",
		Promise: "the start refuses, says what is missing and the command that loads everything again; nothing is lost",
		Answer:  "do as it says: `rm -r data/mirror` or `rm -r data/journal data/mirror data/control`, then `lanternist run`",
	})
	s := worked(t)
	if err := os.Remove(s.largest("data/journal/*.wal")); err != nil {
		t.Fatal(err)
	}
	d, said := s.obedient(result)
	if said == "" {
		t.Error("the daemon went on as if nothing were missing")
	}
	s.right(d)
}

func TestFaultMirrorTableDamaged(t *testing.T) {
	t.Parallel()
	result := faults.Cause(t, faults.Fault{
		ID: "mirror-table-damaged", Area: "Mirror", Heavy: true,
		Fault:   "bytes of a mirror file change while the daemon is down",
		Promise: "the damage is noticed when it is read, no document is made of it; the mirror is loaded again from the source, the views are served meanwhile",
		Answer:  "load the mirror again: `rm -r data/mirror`, then `lanternist run`",
	})
	s := worked(t)
	s.damage(s.largest("data/mirror/*.sst"), scrambled)
	d, said := s.obedient(result)
	if said == "" {
		t.Error("the daemon went on as if nothing were damaged")
	}
	s.right(d)
}

func TestFaultArchiveFileDamaged(t *testing.T) {
	t.Parallel()
	result := faults.Cause(t, faults.Fault{
		ID: "archive-file-damaged", Area: "Archive", Heavy: true,
		Fault:   "bytes of an archive file change in the store",
		Promise: "file and batches are named, nothing of the file is taken for what it is not, the daemon goes on, and other files are read",
		Answer:  "see which: `lanternist journal verify`; put the file back from another copy of the store, and verify again",
	})
	s := worked(t, `archive: {url: "file://data/archive", file_size: 1MiB}`, "")
	if code, stdout, stderr := s.run("journal", "archive"); code != 0 {
		t.Fatalf("journal archive exited with %d: %s%s", code, stdout, stderr)
	}
	var path string
	if err := filepath.WalkDir(filepath.Join(s.dir, "data", "archive"), func(p string, e os.DirEntry, err error) error {
		if err == nil && !e.IsDir() && strings.HasSuffix(p, ".lnja") || err == nil && !e.IsDir() && path == "" {
			path = p
		}
		return err
	}); err != nil || path == "" {
		t.Fatal("no archive file", err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	s.damage(path, scrambled)
	var v verifiedJournal
	s.journalCommand(3, &v, "verify")
	if len(v.Damage) == 0 || v.Damage[0].File == "" || !strings.Contains(path, filepath.Base(v.Damage[0].File)) {
		t.Fatalf("verified %+v, %s is damaged", v, path)
	}
	d := s.running()
	s.right(d)
	d.stop()
	s.damage(path, func([]byte) []byte { return whole })
	s.journalCommand(0, &v, "verify")
	result.Notef("damage named in file %s", filepath.Base(path))
}

func TestFaultSinkCheckpointDamaged(t *testing.T) {
	t.Parallel()
	result := faults.Cause(t, faults.Fault{
		ID: "sink-checkpoint-damaged", Area: "Sinks", Heavy: true,
		Fault:   "a projector's checkpoint in Redis or Elasticsearch is overwritten with something else",
		Promise: "the projector concerned stops and says so; all others go on; nothing is written from a position that is not known",
		Answer:  "build the view anew: `lanternist rebuild VIEW`",
	})
	s := worked(t)
	s.overwriteCheckpoints("book")
	began := time.Now()
	d := s.start()
	devstack.Eventually(t, readyWithin, func() error {
		d.alive()
		var st status
		if err := s.get("/v1/status", &st); err != nil {
			return err
		}
		for _, p := range st.Projectors {
			if strings.HasPrefix(p.Projector, "book.") && p.State == "running" {
				return fmt.Errorf("%s is %s", p.Projector, p.State)
			}
			if strings.HasPrefix(p.Projector, "shelf.") && p.State != "running" {
				return fmt.Errorf("%s is %s", p.Projector, p.State)
			}
		}
		return nil
	})
	if code, stdout, stderr := s.run("rebuild", "book"); code != 0 {
		t.Fatalf("rebuild exited with %d: %s%s", code, stdout, stderr)
	}
	s.right(d)
	result.Recovered(time.Since(began))
}

// overwriteCheckpoints makes the checkpoints of a view unreadable in both sinks.
func (s *saboteur) overwriteCheckpoints(view string) {
	s.t.Helper()
	opts, err := redis.ParseURL(s.cache)
	if err != nil {
		s.t.Fatal(err)
	}
	db := redis.NewClient(opts)
	defer db.Close()
	keys, err := db.Keys(s.t.Context(), s.cachePrefix+"{"+view+"}:*checkpoint*").Result()
	if err != nil || len(keys) == 0 {
		s.t.Fatalf("no checkpoint in Redis: %v", err)
	}
	slices.Sort(keys)
	if err := db.Set(s.t.Context(), keys[len(keys)-1], "{not a checkpoint", 0).Err(); err != nil {
		s.t.Fatal(err)
	}
	s.elasticsearch(http.MethodPost, s.search+"/"+s.searchPrefix+view+"/_doc/%00checkpoint?refresh=true",
		map[string]any{"lanternist_checkpoint": map[string]any{"Offset": "nowhere"}}, nil)
}
