package e2e

import (
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/lanternist/lanternist/internal/devstack"
	"github.com/lanternist/lanternist/internal/faultpoint"
	"github.com/lanternist/lanternist/internal/faults"
	"github.com/lanternist/lanternist/internal/sabotage"
)

// These tests prove that the suite can fail. Each scenario provokes what a safeguard is for, and then has the checks of
// this package look for what is wrong. They must find nothing with the binary as it is, and something when the safeguard
// is off. Where a second line of defence stops the daemon before anything is wrong, that counts as found: it is shown
// again without the second line, so that the comparison itself is seen to find it.

const (
	booksSchema = `
CREATE TABLE shelves (id int PRIMARY KEY, name text NOT NULL);
CREATE TABLE books (id int PRIMARY KEY, shelf_id int, title text NOT NULL, rank text NOT NULL DEFAULT '1', blurb text NOT NULL);
CREATE TABLE others (id serial PRIMARY KEY, content text);
ALTER TABLE books ALTER blurb SET STORAGE EXTERNAL;
INSERT INTO shelves SELECT i, 'Shelf ' || i FROM generate_series(1, 4) i;
INSERT INTO books SELECT i, 1 + i % 4, 'Book ' || i, i, repeat(md5(i::text), 120) FROM generate_series(1, 40) i;
`
	bookView = `view: book
from: public.books
fields:
  id:
  shelf_id:
  title: {as: keyword}
  rank: {as: keyword}
  blurb: {as: text}
search: {mappings: {rank: {type: integer}}}
cache: {}
`
	shelfView = `view: shelf
from: public.shelves
fields:
  id:
  name: {as: keyword}
  books: {many: public.books, on: {shelf_id: id}, order_by: id, fields: {id: , title: {as: keyword}}}
search:
cache: {}
`
)

func booksTruth(view string) string {
	if view == "book" {
		return `SELECT id::text, jsonb_build_object('id', id, 'shelf_id', shelf_id, 'title', title, 'rank', rank, 'blurb', blurb) FROM books`
	}
	return `SELECT s.id::text, jsonb_build_object('id', s.id, 'name', s.name, 'books', coalesce(
		(SELECT jsonb_agg(jsonb_build_object('id', b.id, 'title', b.title) ORDER BY b.id) FROM books b WHERE b.shelf_id = s.id), '[]')) FROM shelves s`
}

// saboteur is an installation whose daemon does without some safeguards.
type saboteur struct {
	*installation
	binary string
	off    []sabotage.Safeguard
	holds  string // folder of the places to be held at
	last   *daemon
}

// newSaboteur makes an installation. source may put something between daemon and database.
func newSaboteur(t *testing.T, off []sabotage.Safeguard, source func(*devstack.Database) string, more ...string) *saboteur {
	t.Helper()
	if testing.Short() {
		t.Skip("needs real services; run without -short")
	}
	database := devstack.Postgres(t)
	database.Exec(booksSchema)
	o := options{database: database, tables: []string{"public.shelves", "public.books"},
		views: map[string][]byte{"book": []byte(bookView), "shelf": []byte(shelfView)}, more: strings.Join(more, "\n")}
	if source != nil {
		o.source = source(database)
	}
	binary, err := crashingBinary()
	if err != nil {
		t.Fatal(err)
	}
	return &saboteur{installation: install(t, o), binary: binary, off: off, holds: t.TempDir()}
}

func (s *saboteur) start() *daemon {
	s.t.Helper()
	var names []string
	for _, name := range s.off {
		names = append(names, string(name))
	}
	s.last = s.startBinary(s.binary, sabotage.Variable+"="+strings.Join(names, ","), faultpoint.VariableHold+"="+s.holds)
	return s.last
}

// running is a daemon that serves its views.
func (s *saboteur) running() *daemon {
	s.t.Helper()
	d := s.start()
	d.ready()
	return d
}

// hold has the daemon held when it reaches a place the next time.
func (s *saboteur) hold(place ...string) {
	s.t.Helper()
	if err := os.WriteFile(filepath.Join(s.holds, faultpoint.HoldFile(place...)), nil, 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// held waits until the daemon is held at a place.
func (s *saboteur) held(place ...string) {
	s.t.Helper()
	devstack.Eventually(s.t, readyWithin, func() error {
		_, err := os.Stat(filepath.Join(s.holds, faultpoint.HoldFile(place...)+".held"))
		return err
	})
}

// release lets the daemon go on.
func (s *saboteur) release(place ...string) {
	s.t.Helper()
	if err := os.Remove(filepath.Join(s.holds, faultpoint.HoldFile(place...)+".held")); err != nil {
		s.t.Fatal(err)
	}
}

// patience is how long a daemon may take until it shows what is committed. One that was sabotaged is not waited for as long:
// that it does not get there is what is looked for.
func (s *saboteur) patience() time.Duration {
	if len(s.off) > 0 {
		return 15 * time.Second
	}
	return readyWithin
}

// confirmed waits until the slot may forget everything that is committed now, and says whether it may.
func (s *saboteur) confirmed(within time.Duration) bool {
	s.t.Helper()
	conn := s.database.Conn(s.t.Context())
	defer conn.Close(s.t.Context())
	wanted := s.position()
	for end := time.Now().Add(within); ; time.Sleep(20 * time.Millisecond) { //nolint:forbidigo // this is the polling with a deadline
		var passed bool
		if err := conn.QueryRow(s.t.Context(), `SELECT confirmed_flush_lsn >= $2::pg_lsn - 128 FROM pg_replication_slots WHERE slot_name = $1`, s.slot, wanted).Scan(&passed); err != nil {
			s.t.Fatal(err)
		}
		if passed || time.Now().After(end) {
			return passed
		}
	}
}

// problems are what the checks find: a daemon that ends, or does not get to what is committed; documents that are not what
// SQL on the source says and have no dead letter.
func (s *saboteur) problems(d *daemon) []string {
	s.t.Helper()
	if problem := s.arrives(d); problem != "" {
		return []string{problem}
	}
	result := s.comparison(booksTruth)
	parked := 0
	for _, p := range s.status().Projectors {
		parked += p.Parked
	}
	var all []string
	if wrong := result.Different + result.Missing + result.Extra; wrong > parked {
		for _, difference := range result.Differences {
			all = append(all, difference.String())
		}
	}
	return all
}

// arrives waits until every view in every sink shows what is committed; else it says why not.
func (s *saboteur) arrives(d *daemon) (problem string) {
	s.t.Helper()
	token := s.position()
	end := time.Now().Add(s.patience())
	for _, view := range s.views {
		for _, path := range []string{"/v1/views/" + view + "/none", "/v1/views/" + view + "/search"} {
			for {
				select {
				case <-d.ended:
					return fmt.Sprintf("the daemon ended with %d: %s", d.code, tail(d.log.text(), 2))
				default:
				}
				a, err := s.ask(http.MethodGet, path, url.Values{"after": {token}, "wait": {"1s"}})
				if err == nil && (a.status == http.StatusOK || a.status == http.StatusNotFound) && a.header.Get("Lanternist-Position") != "" {
					break
				}
				if time.Now().After(end) || strings.Contains(string(a.body), "has stopped") {
					return fmt.Sprintf("%s does not get to %s: %d %s %v", path, token, a.status, a.body, err)
				}
				time.Sleep(20 * time.Millisecond) //nolint:forbidigo // this is the polling with a deadline
			}
		}
	}
	return ""
}

// listener is told by the walk through a journal what is wrong, once.
type listener struct{ heard []string }

func (*listener) Helper() {}
func (l *listener) Fatalf(format string, args ...any) {
	l.heard = append(l.heard, fmt.Sprintf(format, args...))
	runtime.Goexit()
}

// journalProblems are what is wrong with the journal of a daemon that has ended.
func (s *saboteur) journalProblems() []string {
	l := &listener{}
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.walked(l)
	}()
	<-done
	return l.heard
}

// scenario is what provokes the need for safeguards.
type scenario struct {
	name  string
	off   []sabotage.Safeguard
	heavy bool // only with LANTERNIST_FAULTS=all
	run   func(*testing.T, []sabotage.Safeguard) []string
}

var scenarios = []scenario{
	{"acknowledged before it is in the journal", []sabotage.Safeguard{sabotage.AppendFirst}, true, killedBeforeAppend},
	{"acknowledged before it is in the journal, slot not looked at", []sabotage.Safeguard{sabotage.AppendFirst, sabotage.SlotAhead}, false, killedBeforeAppend},
	{"writes without a version", []sabotage.Safeguard{sabotage.Versions}, false, oldWriteAfterDelete},
	{"checkpoint before the write", []sabotage.Safeguard{sabotage.WriteFirst}, false, killedBeforeWrite},
	{"unchanged values not filled in", []sabotage.Safeguard{sabotage.Fill}, true, largeValueLeftAlone},
	{"unchanged values neither filled in nor refused", []sabotage.Safeguard{sabotage.Fill, sabotage.UnknownValue}, false, largeValueLeftAlone},
	{"before-image ignored", []sabotage.Safeguard{sabotage.BeforeImage}, false, childMoved},
	{"delivered again", []sabotage.Safeguard{sabotage.Resume}, true, killedBeforeAcknowledge},
	{"delivered again and not refused", []sabotage.Safeguard{sabotage.Resume, sabotage.CommitOrder}, true, killedBeforeAcknowledge},
	{"position of an idle source not durable", []sabotage.Safeguard{sabotage.IdleDurable}, true, killedAfterForeignTraffic},
	{"keepalives ignored", []sabotage.Safeguard{sabotage.Keepalives}, true, foreignTraffic},
	{"loaded rows replace newer ones", []sabotage.Safeguard{sabotage.LoadOrder}, true, changedWhileLoading},
	{"refused and forgotten", []sabotage.Safeguard{sabotage.Park}, true, refusedDocument},
}

// TestSabotage shows for each safeguard that the suite finds nothing with it, and something without it. All of them, and
// each also with the safeguard on, with LANTERNIST_FAULTS=all.
func TestSabotage(t *testing.T) {
	t.Parallel()
	for _, sc := range scenarios {
		t.Run(strings.ReplaceAll(sc.name, " ", "_"), func(t *testing.T) {
			t.Parallel()
			if sc.heavy && !faults.Heavy() {
				t.Skipf("set %s=all", faults.VariableSize)
			}
			t.Run("off", func(t *testing.T) {
				t.Parallel()
				found := sc.run(t, sc.off)
				if len(found) == 0 {
					t.Fatalf("without %v nothing is found to be wrong: the suite could not fail", sc.off)
				}
				t.Logf("found without %v: %s", sc.off, strings.Join(found[:min(len(found), 3)], "; "))
			})
			t.Run("on", func(t *testing.T) {
				t.Parallel()
				if !faults.Heavy() {
					t.Skipf("set %s=all", faults.VariableSize)
				}
				if found := sc.run(t, nil); len(found) > 0 {
					t.Fatalf("with every safeguard: %s", strings.Join(found, "; "))
				}
			})
		})
	}
}

// TestEverySafeguardIsTried keeps the list of scenarios complete.
func TestEverySafeguardIsTried(t *testing.T) {
	tried := map[sabotage.Safeguard]bool{}
	for _, sc := range scenarios {
		for _, s := range sc.off {
			tried[s] = true
		}
	}
	for _, s := range sabotage.All {
		if !tried[s] {
			t.Errorf("no scenario is without %s", s)
		}
	}
}

// killedBeforeAppend kills the daemon when a transaction has been received and is not in the journal.
func killedBeforeAppend(t *testing.T, off []sabotage.Safeguard) []string {
	s := newSaboteur(t, off, nil)
	d := s.running()
	s.database.Exec(`INSERT INTO books VALUES (100, 1, 'Durable', '1', '')`) // the journal is not new
	d.reach()
	s.hold("ingest", "append")
	s.database.Exec(`INSERT INTO books VALUES (101, 1, 'Lost', '1', '')`)
	s.held("ingest", "append")
	wait := 3 * time.Second // for what must not come
	if len(off) > 0 {
		wait = readyWithin
	}
	if s.confirmed(wait) != (len(off) > 0) {
		t.Fatalf("acknowledged: %t", len(off) == 0)
	}
	d.kill()
	return s.problems(s.start())
}

// killedBeforeAcknowledge kills the daemon when a transaction is in the journal and the source does not know.
func killedBeforeAcknowledge(t *testing.T, off []sabotage.Safeguard) []string {
	s := newSaboteur(t, off, nil)
	d := s.running()
	s.hold("ingest", "acknowledge")
	s.database.Exec(`INSERT INTO books VALUES (101, 1, 'Twice', '1', '')`)
	s.held("ingest", "acknowledge")
	d.kill()
	d = s.start()
	if d.log.find(readyWithin, `msg=stopping error=`, `msg="replication started"`); d.log.find(time.Second, `msg=stopping error=`) {
		d.exit(readyWithin)
	}
	problems := s.problems(d)
	if len(problems) == 0 {
		d.stop()
	}
	return append(problems, s.journalProblems()...)
}

// oldWriteAfterDelete has a daemon that was stopped in the middle of a write go on after another one took its place and
// deleted the document.
func oldWriteAfterDelete(t *testing.T, off []sabotage.Safeguard) []string {
	s := newSaboteur(t, off, nil)
	paused := s.running()
	for _, sink := range []string{"book.search", "book.cache"} {
		s.hold(sink, "write")
		s.hold(sink, "wrote")
	}
	s.database.Exec(`UPDATE books SET title = 'Late' WHERE id = 6`)
	s.held("book.search", "write")
	s.held("book.cache", "write")
	paused.signal(syscall.SIGSTOP)
	next := s.successor()
	d := next.running()
	s.database.Exec(`DELETE FROM books WHERE id = 6`)
	d.reach()
	paused.signal(syscall.SIGCONT)
	for _, sink := range []string{"book.search", "book.cache"} {
		s.release(sink, "write")
		s.held(sink, "wrote")
	}
	paused.kill()
	return next.problems(d)
}

// successor is an installation with a copy of the data of one that is stopped, whose connection to the slot is cut.
func (s *saboteur) successor() *saboteur {
	s.t.Helper()
	other := *s.installation
	other.dir = s.t.TempDir()
	if err := os.CopyFS(other.dir, os.DirFS(s.dir)); err != nil {
		s.t.Fatal(err)
	}
	other.file = filepath.Join(other.dir, "lanternist.yaml")
	text, err := os.ReadFile(other.file)
	if err != nil {
		s.t.Fatal(err)
	}
	address := freeAddress(s.t)
	other.write("lanternist.yaml", []byte(strings.ReplaceAll(string(text), strings.TrimPrefix(s.base, "http://"), address)))
	other.base = "http://" + address
	s.database.Exec(fmt.Sprintf(`SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = '%s' AND active_pid IS NOT NULL`, s.slot))
	return &saboteur{installation: &other, binary: s.binary, off: s.off, holds: s.t.TempDir()}
}

// killedBeforeWrite kills the daemon when a change is in the mirror and its documents are not in the sinks.
func killedBeforeWrite(t *testing.T, off []sabotage.Safeguard) []string {
	s := newSaboteur(t, off, nil)
	d := s.running()
	s.hold("book.search", "write")
	s.hold("book.cache", "write")
	s.database.Exec(`UPDATE books SET title = 'Skipped' WHERE id = 5`)
	s.held("book.search", "write")
	s.held("book.cache", "write")
	d.kill()
	return s.problems(s.start())
}

// largeValueLeftAlone updates a row without its value that is stored out of line.
func largeValueLeftAlone(t *testing.T, off []sabotage.Safeguard) []string {
	s := newSaboteur(t, off, nil)
	d := s.running()
	s.database.Exec(`UPDATE books SET title = 'Blurb untouched' WHERE id = 1`)
	problems := s.problems(d)
	if strings.Contains(d.log.text(), forsaken) {
		problems = append(problems, "the mirror met an unchanged value that it does not know")
	}
	return problems
}

// childMoved gives a row another parent, without its key being changed: Postgres does not send where it was.
func childMoved(t *testing.T, off []sabotage.Safeguard) []string {
	s := newSaboteur(t, off, nil)
	d := s.running()
	s.database.Exec(`UPDATE books SET shelf_id = 1 + shelf_id % 4 WHERE id = 1`)
	return s.problems(d)
}

// foreign writes what is not captured.
func (s *saboteur) foreign() {
	s.database.Exec(`INSERT INTO others (content) SELECT repeat(md5(i::text), 4) FROM generate_series(1, 15000) i`)
}

func foreignTraffic(t *testing.T, off []sabotage.Safeguard) []string {
	s := newSaboteur(t, off, nil)
	d := s.start()
	s.foreign()
	return s.problems(d)
}

// killedAfterForeignTraffic kills the daemon when the slot has moved beyond what is in the journal.
func killedAfterForeignTraffic(t *testing.T, off []sabotage.Safeguard) []string {
	s := newSaboteur(t, off, nil)
	d := s.running()
	s.database.Exec(`INSERT INTO books VALUES (100, 1, 'Durable', '1', '')`) // the journal is not new
	d.reach()
	s.foreign()
	if !s.confirmed(readyWithin) {
		t.Fatal("foreign traffic was not acknowledged")
	}
	d.kill()
	return s.problems(s.start())
}

// changedWhileLoading changes and removes rows that a snapshot has as they were.
func changedWhileLoading(t *testing.T, off []sabotage.Safeguard) []string {
	var g *gate
	s := newSaboteur(t, off, func(database *devstack.Database) string {
		g = newGate(t, database, func(table string) bool { return table == "books" })
		return g.url(database)
	})
	d := s.start()
	g.waits("books")
	s.database.Exec(`UPDATE books SET title = 'Newer' WHERE id = 3; DELETE FROM books WHERE id = 4`)
	after := s.position()
	devstack.Eventually(t, reachWithin, func() error {
		d.alive()
		s.database.Exec(`UPDATE shelves SET name = name WHERE id = 1`)
		var st status
		if err := s.get("/v1/status", &st); err != nil {
			return err
		}
		if parseLSN(t, st.Journal.LSN) < parseLSN(t, after) {
			return fmt.Errorf("the journal is at %s", st.Journal.LSN)
		}
		return nil
	})
	g.release()
	return s.problems(d)
}

// refusedDocument makes a document that Elasticsearch refuses.
func refusedDocument(t *testing.T, off []sabotage.Safeguard) []string {
	s := newSaboteur(t, off, nil)
	d := s.running()
	s.database.Exec(`UPDATE books SET rank = 'many' WHERE id = 7`)
	return s.problems(d)
}
