package e2e

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/lanternist/lanternist/internal/devstack"
	"github.com/lanternist/lanternist/internal/faults"
	"github.com/lanternist/lanternist/internal/natsconn/natstest"
)

// ward is a small installation that things are done to behind its back: one table, one view in both sinks.
type ward struct {
	*installation
	d *daemon
}

const wardView = "view: parcels\nfrom: public.parcels\nfields: {id: , state: {as: keyword}}\nsearch: {}\ncache: {}\n"

// newWard makes one with 200 rows.
func newWard(t *testing.T, o options) *ward {
	t.Helper()
	if testing.Short() {
		t.Skip("needs real services; run without -short")
	}
	o.tables, o.views = []string{"public.parcels"}, map[string][]byte{"parcels": []byte(wardView)}
	if o.database == nil {
		o.database = devstack.Postgres(t)
	}
	o.database.Exec(`CREATE TABLE IF NOT EXISTS parcels (id int PRIMARY KEY, state text)`,
		`INSERT INTO parcels SELECT i, 'packed' FROM generate_series(1, 200) i ON CONFLICT DO NOTHING`)
	return &ward{installation: install(t, o)}
}

// begin runs the daemon until everything is there and some changes have come by the stream.
func (w *ward) begin() {
	w.t.Helper()
	w.d = w.start()
	w.d.ready()
	w.database.Exec(`UPDATE parcels SET state = 'sent' WHERE id <= 20`, `DELETE FROM parcels WHERE id = 21`, `INSERT INTO parcels VALUES (1001, 'new')`)
	w.d.reach()
}

// meanwhile makes changes that a gap would hide: a row that changes, one that goes, one that comes.
func (w *ward) meanwhile() {
	w.t.Helper()
	w.database.Exec(`UPDATE parcels SET state = 'lost' WHERE id = 5`, `DELETE FROM parcels WHERE id = 6`, `INSERT INTO parcels SELECT max(id) + 1000, 'late' FROM parcels`)
}

// right waits until both sinks show exactly the rows of the source, and sees to it that nothing was parked.
func (w *ward) right() {
	w.t.Helper()
	w.d.reach()
	want := w.rows()
	for sink, documents := range map[string]documents{"Elasticsearch": w.searchDocuments("parcels"), "Redis": w.cacheDocuments("parcels")} {
		got := map[string]string{}
		for id, body := range documents {
			var doc struct{ State string }
			if err := json.Unmarshal(body, &doc); err != nil {
				w.t.Fatalf("%s, document %s: %v", sink, id, err)
			}
			got[id] = doc.State
		}
		for id, state := range want {
			if got[id] != state {
				w.t.Errorf("%s: document %s is %q, want %q", sink, id, got[id], state)
			}
		}
		for id := range got {
			if _, ok := want[id]; !ok {
				w.t.Errorf("%s: document %s should be gone", sink, id)
			}
		}
	}
	w.d.nothingParked()
}

// rows are the source's, by id.
func (w *ward) rows() map[string]string {
	w.t.Helper()
	conn := w.database.Conn(w.t.Context())
	defer conn.Close(context.WithoutCancel(w.t.Context()))
	rows, err := conn.Query(w.t.Context(), `SELECT id::text, state FROM parcels`)
	if err != nil {
		w.t.Fatal(err)
	}
	all := map[string]string{}
	var id, state string
	if _, err := pgx.ForEachRow(rows, []any{&id, &state}, func() error { all[id] = state; return nil }); err != nil {
		w.t.Fatal(err)
	}
	return all
}

// refuses sees to it that nothing starts, that every place that tells says so by the same name and with the same command, and
// that nothing was made in the source.
func (w *ward) refuses(code, command string) {
	w.t.Helper()
	before := w.slots()
	w.d = w.start()
	if exit := w.d.exit(readyWithin); exit != 2 {
		w.t.Errorf("the daemon exits with %d, want 2", exit)
	}
	w.says("run", w.d.log.text(), code, command)
	exit, stdout, _ := w.run("source", "show")
	if exit != 2 {
		w.t.Errorf("source show exits with %d, want 2", exit)
	}
	w.says("source show", stdout, code, command)
	exit, problems := w.check()
	if exit != 2 {
		w.t.Errorf("check exits with %d, want 2", exit)
	}
	expect(w.t, problems, []expected{{"identity", []string{code + ":", command}}})
	_, _, stderr := w.run("status")
	w.says("status", stderr, code, command)
	if after := w.slots(); after != before {
		w.t.Errorf("the slots were %q, they are %q: something was made in silence", before, after)
	}
}

func (w *ward) says(who, text string, wanted ...string) {
	w.t.Helper()
	for _, part := range wanted {
		if !strings.Contains(text, part) {
			w.t.Errorf("%s does not say %q:\n%s", who, part, tail(text, 30))
		}
	}
}

// slots are the source's slots, as far as they are this installation's.
func (w *ward) slots() (text string) {
	w.t.Helper()
	conn := w.database.Conn(w.t.Context())
	defer conn.Close(context.WithoutCancel(w.t.Context()))
	if err := conn.QueryRow(w.t.Context(), `SELECT coalesce(string_agg(slot_name || ' ' || coalesce(confirmed_flush_lsn::text, '-'), ', '), '')
		FROM pg_replication_slots WHERE slot_name = $1`, w.slot).Scan(&text); err != nil {
		w.t.Fatal(err)
	}
	return text
}

// gapOf is what a gap event says.
type gapOf struct {
	Type string `json:"event_type"`
	Data struct {
		Reasons []string
		What    []string
		From    string
		To      string
		Journal string
	}
}

// accept runs the command that was printed, and sees to it that everything is right again, and that the journal tells.
func (w *ward) accept(r *faults.Result, code string) {
	w.t.Helper()
	began := time.Now()
	exit, stdout, stderr := w.run("source", "accept-gap")
	if exit != 0 || !strings.Contains(stdout, "Next: lanternist run") {
		w.t.Fatalf("accept-gap exits with %d:\n%s%s", exit, stdout, tail(stderr, 30))
	}
	if exit, stdout, stderr = w.run("source", "accept-gap"); exit != 0 || !strings.Contains(stdout, "There is no gap") {
		w.t.Errorf("accept-gap again exits with %d:\n%s%s", exit, stdout, stderr)
	}
	w.gapTold(code)
	w.d = w.start()
	w.d.ready()
	w.right()
	r.Recovered(time.Since(began))
	w.database.Exec(`UPDATE parcels SET state = 'after' WHERE id = 7`)
	w.right()
	w.d.stop()
	// It is over: nobody asks for it again.
	w.d = w.start()
	w.d.ready()
	w.right()
}

// gapTold sees to it that the journal has the gap exactly once, with its reason.
func (w *ward) gapTold(code string) {
	w.t.Helper()
	exit, stdout, stderr := w.run("journal", "dump", "--events", "--json")
	if exit != 0 {
		w.t.Fatalf("journal dump exits with %d: %s", exit, stderr)
	}
	var gaps []gapOf
	for line := range strings.Lines(stdout) {
		var g gapOf
		if err := json.Unmarshal([]byte(line), &g); err != nil {
			w.t.Fatalf("%s: %v", line, err)
		}
		if g.Type == "gap" {
			gaps = append(gaps, g)
		}
	}
	if len(gaps) != 1 || len(gaps[0].Data.Reasons) == 0 || gaps[0].Data.Reasons[0] != code || gaps[0].Data.To == "" || len(gaps[0].Data.What) == 0 {
		w.t.Errorf("the journal has gaps %+v, want one for %s", gaps, code)
	}
}

const acceptGap = "lanternist source accept-gap"

// data is a folder of the installation's state.
func (w *ward) data(name string) string { return filepath.Join(w.dir, "data", name) }

// copyOf copies a folder of the installation's state beside it, while no daemon runs.
func (w *ward) copyOf(name string) string {
	w.t.Helper()
	to := w.data(name) + ".copy"
	if err := os.CopyFS(to, os.DirFS(w.data(name))); err != nil {
		w.t.Fatal(err)
	}
	return to
}

// replace puts a copy into the place of a folder; "" removes it.
func (w *ward) replace(name, with string) {
	w.t.Helper()
	if err := os.RemoveAll(w.data(name)); err != nil {
		w.t.Fatal(err)
	}
	if with == "" {
		return
	}
	if err := os.Rename(with, w.data(name)); err != nil {
		w.t.Fatal(err)
	}
}

// gapCase is a fault that is resolved by accepting a gap.
type gapCase struct {
	faults.Fault
	code string
	// cause causes it; the daemon does not run.
	cause func(w *ward)
	// options are of the installation; optional.
	options func(t *testing.T) options
	// prepare is called while the daemon has not run yet, or between two runs; optional.
	prepare func(w *ward)
}

// run causes it and judges.
func (c gapCase) run(t *testing.T) {
	t.Parallel()
	r := faults.Cause(t, c.Fault)
	o := options{}
	if c.options != nil {
		o = c.options(t)
	}
	w := newWard(t, o)
	w.begin()
	w.d.stop()
	if c.prepare != nil {
		c.prepare(w)
	}
	c.cause(w)
	w.meanwhile()
	w.refuses(c.code, acceptGap)
	w.accept(r, c.code)
}

const (
	promiseGap = "The daemon does not start and makes no new slot; run, check, status and `source show` name the case, the positions between which changes are missing, and the command. After it the gap is an event in the journal, and the views are right again, without what vanished meanwhile."
	answerGap  = "`lanternist source accept-gap`, then `lanternist run`"
)

func TestFaultSlotDropped(t *testing.T) {
	gapCase{code: "slot-missing", Fault: faults.Fault{ID: "slot-dropped", Area: "Source",
		Fault: "Somebody drops the replication slot while the daemon is stopped, and writes.", Promise: promiseGap, Answer: answerGap},
		cause: func(w *ward) { w.database.Exec(`SELECT pg_drop_replication_slot('` + w.slot + `')`) },
	}.run(t)
}

func TestFaultSlotRecreated(t *testing.T) {
	gapCase{code: "slot-recreated", Fault: faults.Fault{ID: "slot-recreated", Area: "Source", Heavy: true,
		Fault: "Somebody drops the replication slot, writes, and creates one of the same name.", Promise: promiseGap, Answer: answerGap},
		cause: func(w *ward) {
			w.database.Exec(`SELECT pg_drop_replication_slot('`+w.slot+`')`, `UPDATE parcels SET state = 'unseen' WHERE id = 9`,
				`SELECT pg_create_logical_replication_slot('`+w.slot+`', 'pgoutput')`)
		},
	}.run(t)
}

func TestFaultSlotMovedByAnotherReader(t *testing.T) {
	gapCase{code: "slot-ahead", Fault: faults.Fault{ID: "slot-ahead", Area: "Source", Heavy: true,
		Fault: "Another reader takes changes from our slot, which is then ahead of the journal.", Promise: promiseGap, Answer: answerGap},
		cause: func(w *ward) {
			w.database.Exec(`UPDATE parcels SET state = 'stolen' WHERE id = 10`,
				`SELECT count(*) FROM pg_logical_slot_get_binary_changes('`+w.slot+`', NULL, NULL, 'proto_version', '1', 'publication_names', '`+w.slot+`')`)
		},
	}.run(t)
}

func TestFaultPublicationRecreated(t *testing.T) {
	gapCase{code: "publication-recreated", Fault: faults.Fault{ID: "publication-recreated", Area: "Source", Heavy: true,
		Fault: "Somebody drops the publication, writes, and creates it again.", Promise: promiseGap, Answer: answerGap},
		cause: func(w *ward) {
			w.database.Exec(`DROP PUBLICATION `+w.slot, `UPDATE parcels SET state = 'unseen' WHERE id = 9`, `CREATE PUBLICATION `+w.slot+` FOR TABLE parcels`)
		},
	}.run(t)
}

func TestFaultPublicationDropped(t *testing.T) {
	gapCase{code: "publication-missing", Fault: faults.Fault{ID: "publication-dropped", Area: "Source", Heavy: true,
		Fault: "Somebody drops the publication and writes.", Promise: promiseGap, Answer: answerGap},
		cause: func(w *ward) { w.database.Exec(`DROP PUBLICATION ` + w.slot) },
	}.run(t)
}

func TestFaultControlStoreDeleted(t *testing.T) {
	gapCase{code: "control-lost", Fault: faults.Fault{ID: "control-store-deleted", Area: "Journal", Heavy: true,
		Fault: "The control store's folder is deleted, journal and mirror are not.", Promise: promiseGap, Answer: "restore the folder, or " + answerGap},
		cause: func(w *ward) { w.replace("control", "") },
	}.run(t)
}

func TestFaultJournalDeleted(t *testing.T) {
	gapCase{code: "journal-lost", Fault: faults.Fault{ID: "journal-deleted", Area: "Journal", Heavy: true,
		Fault: "The journal's folder is deleted.", Promise: promiseGap, Answer: "restore the folder, or " + answerGap},
		cause: func(w *ward) { w.replace("journal", "") },
	}.run(t)
}

func TestFaultJournalRestoredFromAnOlderCopy(t *testing.T) {
	var old string
	gapCase{code: "journal-older", Fault: faults.Fault{ID: "journal-older-copy", Area: "Journal", Heavy: true,
		Fault: "The journal's folder is restored from an older copy.", Promise: promiseGap, Answer: "restore the newer copy, or " + answerGap},
		prepare: func(w *ward) {
			old = w.copyOf("journal")
			w.d = w.start()
			w.d.ready()
			w.database.Exec(`UPDATE parcels SET state = 'seen' WHERE id BETWEEN 30 AND 40`)
			w.d.reach()
			w.d.stop()
		},
		cause: func(w *ward) { w.replace("journal", old) },
	}.run(t)
}

func TestFaultJournalOfAnotherDeployment(t *testing.T) {
	gapCase{code: "journal-other", Fault: faults.Fault{ID: "journal-of-another", Area: "Journal", Heavy: true,
		Fault: "journal.dir is another deployment's.", Promise: promiseGap, Answer: "point journal.dir back, or " + answerGap},
		cause: func(w *ward) {
			other := newWard(w.t, options{})
			other.begin()
			other.d.stop()
			w.replace("journal", other.copyOf("journal"))
		},
	}.run(t)
}

// TestFaultWithJetStream is what is another matter when journal and control store are on a NATS server.
func TestFaultWithJetStream(t *testing.T) {
	for _, c := range []struct {
		gapCase
		remove string // what is deleted on the server
	}{
		{gapCase{code: "slot-missing", Fault: faults.Fault{ID: "jetstream-slot-dropped", Area: "Source",
			Fault: "Journal in JetStream: somebody drops the replication slot while the daemon is stopped, and writes."}}, ""},
		{gapCase{code: "journal-lost", Fault: faults.Fault{ID: "jetstream-stream-deleted", Area: "Journal",
			Fault: "Journal in JetStream: the stream is deleted, the bucket is not."}}, "wards"},
		{gapCase{code: "control-lost", Fault: faults.Fault{ID: "jetstream-bucket-deleted", Area: "Journal",
			Fault: "Journal in JetStream: the bucket of the control store is deleted, the stream is not."}}, "KV_wards"},
	} {
		t.Run(c.ID, func(t *testing.T) {
			if testing.Short() {
				t.Skip("needs real services; run without -short")
			}
			var server *natstest.Server
			c.Heavy, c.Promise, c.Answer = true, promiseGap, answerGap
			c.options = func(t *testing.T) options {
				server = natstest.Start(t, 8<<20)
				return options{journal: `{url: "` + server.URL() + `", stream: wards}`}
			}
			c.cause = func(w *ward) {
				if c.remove == "" {
					w.database.Exec(`SELECT pg_drop_replication_slot('` + w.slot + `')`)
				} else {
					deleteStream(t, server.URL(), c.remove)
				}
			}
			c.run(t)
		})
	}
}

func deleteStream(t *testing.T, url, name string) {
	t.Helper()
	conn, err := nats.Connect(url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	js, err := jetstream.New(conn)
	if err == nil {
		err = js.DeleteStream(t.Context(), name)
	}
	if err != nil {
		t.Fatal(err)
	}
}
