package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lanternist/lanternist/deadletter/alert"
	"github.com/lanternist/lanternist/internal/devstack"
	"github.com/lanternist/lanternist/internal/faults"
)

// alarms is a webhook that takes every notice whose signature is right.
type alarms struct {
	mu    sync.Mutex
	heard []string
	wrong string
}

func (a *alarms) ServeHTTP(_ http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	var n alert.Notice
	a.mu.Lock()
	defer a.mu.Unlock()
	if err != nil || json.Unmarshal(body, &n) != nil || r.Header.Get(alert.HeaderSignature) != alert.Sign("k3y", r.Header.Get(alert.HeaderTimestamp), body) {
		a.wrong = string(body)
	}
	a.heard = append(a.heard, n.Event+" "+n.Projector)
}

func (a *alarms) want(t *testing.T, want ...string) {
	t.Helper()
	devstack.Eventually(t, readyWithin, func() error {
		a.mu.Lock()
		defer a.mu.Unlock()
		if a.wrong != "" || !slices.Equal(a.heard, want) {
			return fmt.Errorf("heard %q, want %q; wrong: %s", a.heard, want, a.wrong)
		}
		return nil
	})
}

// Elasticsearch takes no id of more than 512 bytes, whatever is done. What it refuses is parked, told of, redriven in vain, survives
// a kill, is resolved by a change of the row, and discarded.
func TestFaultDocumentRefusedByElasticsearch(t *testing.T) {
	fault := faults.Cause(t, faults.Fault{
		ID: "document-refused-by-elasticsearch", Area: "Sinks", Fault: "Elasticsearch refuses some documents for ever, while Redis takes them, and the daemon is killed meanwhile",
		Promise: "they are parked once, the others and Redis are up to date, an alarm is sent once; a redrive leaves what is still refused; a changed row resolves its letter",
		Answer:  "`lanternist deadletters list`; correct the rows, then `lanternist deadletters redrive --all`, or `lanternist deadletters discard <id>`",
		Heavy:   true,
	})
	t.Parallel()
	hook := &alarms{}
	server := httptest.NewServer(hook)
	defer server.Close()
	database := devstack.Postgres(t)
	database.Exec(`CREATE TABLE notes (id text PRIMARY KEY, body text)`)
	database.Exec(`INSERT INTO notes SELECT 'n' || i, 'note ' || i FROM generate_series(1, 50) i`)
	database.Exec(`INSERT INTO notes SELECT repeat('x', 600) || i, 'long ' || i FROM generate_series(1, 3) i`)
	in := install(t, options{
		database: database, tables: []string{"public.notes"},
		views: map[string][]byte{"notes": []byte("view: notes\nfrom: public.notes\nfields: {id: , body: }\nsearch: {}\ncache: {}\n")},
		more:  `deadletters: {alert: {url: "${HOOK_URL}", secret: "${HOOK_SECRET}", depth: 3}}` + "\n",
	})
	in.environment = append(in.environment, "HOOK_URL="+server.URL, "HOOK_SECRET=k3y")
	d := in.start()
	d.ready()
	d.reach()
	list := func(want int) (letters []deadLetter) {
		t.Helper()
		code, stdout, stderr := in.run("deadletters", "list", "--json", "--projector", "notes.search")
		if err := json.Unmarshal([]byte(stdout), &letters); code != 0 || err != nil || len(letters) != want {
			t.Fatalf("exit code %d, %v, %d letters, want %d: %s", code, err, len(letters), want, stderr)
		}
		return letters
	}
	first := list(3)
	fault.Parked(3)
	for _, l := range first {
		if l.Attempts != 3 || l.Class != "permanent" || l.Generation != 1 || !strings.Contains(l.Reason, "512") {
			t.Errorf("%+v", l)
		}
	}
	if n, m := len(in.searchDocuments("notes")), len(in.cacheDocuments("notes")); n != 50 || m != 53 {
		t.Errorf("%d documents in Elasticsearch, %d in Redis", n, m)
	}
	hook.want(t, "raised notes.search")
	if metrics := in.metrics(); !strings.Contains(metrics, `lanternist_dead_letters{class="permanent",projector="notes.search"} 3`) ||
		!strings.Contains(metrics, `lanternist_dead_letters_oldest_seconds{class="permanent",projector="notes.search"}`) {
		t.Error("the metrics do not tell of dead letters")
	}

	in.want(t, 0, "would be composed", "deadletters", "redrive", "--all", "--dry-run")
	in.want(t, 1, "refused again", "deadletters", "redrive", "--all")
	for _, l := range list(3) {
		if l.Attempts != 6 {
			t.Errorf("after a redrive in vain: %+v", l)
		}
	}
	in.want(t, 2, "--all", "deadletters", "redrive")
	in.want(t, 2, "lanternist deadletters list", "deadletters", "discard", "notes=2Esearch.00.1.00")
	in.want(t, 2, "--yes", "deadletters", "discard", "--all")

	d.kill()
	if letters := list(3); letters[0].ID == "" { // from the folder
		t.Error("no id")
	}
	in.want(t, 1, "lanternist run", "deadletters", "redrive", "--all")
	database.Exec(`UPDATE notes SET id = 'short' WHERE id LIKE 'x%1'`)
	database.Exec(`DELETE FROM notes WHERE id LIKE 'x%2'`)
	began := time.Now()
	d = in.start()
	d.ready()
	d.reach()
	fault.Recovered(time.Since(began))
	letters := list(1)
	if !strings.HasSuffix(letters[0].DocumentID, "3") {
		t.Errorf("%+v", letters[0])
	}
	hook.want(t, "raised notes.search", "cleared notes.search")
	in.want(t, 0, "would be removed", "deadletters", "discard", letters[0].ID, "--dry-run")
	in.want(t, 0, "1 dead letters discarded", "deadletters", "discard", letters[0].ID)
	list(0)
	if found := in.searchDocuments("notes"); len(found) != 51 || found["short"] == nil {
		t.Errorf("%d documents in Elasticsearch", len(found))
	}
	if found := in.cacheDocuments("notes"); len(found) != 52 || found["short"] == nil {
		t.Errorf("%d documents in Redis", len(found))
	}
	d.stop()
}

// deadLetter is one as the command prints it.
type deadLetter struct {
	ID         string `json:"id"`
	DocumentID string `json:"document_id"`
	Generation int    `json:"generation"`
	Reason     string `json:"reason"`
	Class      string `json:"class"`
	Attempts   int    `json:"attempts"`
}

// want runs a command, which must end with a code and print a text somewhere.
func (in *installation) want(t *testing.T, code int, text string, args ...string) {
	t.Helper()
	got, stdout, stderr := in.run(args...)
	if got != code || !strings.Contains(stdout+stderr, text) {
		t.Errorf("%v exited with %d, want %d and %q:\n%s%s", args, got, code, text, stdout, stderr)
	}
}

// metrics are those of the daemon.
func (in *installation) metrics() string {
	in.t.Helper()
	res, err := client.Get(in.base + "/metrics")
	if err != nil {
		in.t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		in.t.Fatal(err)
	}
	return string(text)
}
