package e2e

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/lanternist/lanternist/internal/devstack"
	"github.com/lanternist/lanternist/internal/faults"
	"github.com/lanternist/lanternist/internal/natsconn/natstest"
)

// TestFaultLateOldWrite has a daemon that was paused and replaced wake up with a write to make: of a document that was deleted
// meanwhile, so long ago that Elasticsearch does not remember it.
func TestFaultLateOldWrite(t *testing.T) {
	t.Parallel()
	result := faults.Cause(t, faults.Fault{
		ID: "late-old-write", Area: "Sinks", Heavy: true,
		Fault: "A daemon that was replaced while it was paused wakes up with an old write to make, and the document was deleted longer ago than index.gc_deletes",
		Promise: "The document does not come back: whoever has not been the journal's only writer for a quarter of that time asks the journal before it writes, " +
			"and stops when somebody else has appended.",
		Answer: "nothing: stop the first for good, `systemctl disable --now lanternist` on its machine",
	})
	if testing.Short() {
		t.Skip("needs real services; run without -short")
	}
	server := devstack.PostgresServer(t, devstack.PostgresOptions{Settings: map[string]string{"wal_sender_timeout": senderTimeout.String()}})
	database := server.Database()
	database.Exec(ledgerTable, "INSERT INTO ledger VALUES (1, 1, 'first'), (2, 1, 'stays')")
	cluster := devstack.Elasticsearch(t)
	source, proxy := proxyTo(t, database.URL()), proxyTo(t, cluster.URL())
	in := install(t, options{
		database: database, source: throughProxy(t, database.URL(), source),
		nats: natstest.Start(t, 8<<20).URL(), toSearch: throughProxy(t, cluster.URL(), proxy),
		tables: []string{"public.ledger"},
		views:  map[string][]byte{"ledger": []byte(strings.Replace(ledgerView, "search:\n", "search: {settings: {gc_deletes: 1s}}\n", 1))},
	})
	first := in.start()
	first.ready()

	// The first daemon has a write to make and cannot; then it stands still.
	if err := proxy.Refuse(); err != nil {
		t.Fatal(err)
	}
	database.Exec("UPDATE ledger SET serial = 2, body = 'late' WHERE id = 1")
	first.reachIn("/v1/views/ledger/none", in.position())
	first.signal(syscall.SIGSTOP)
	if err := source.Refuse(); err != nil { // nor does the slot tell it
		t.Fatal(err)
	}

	elsewhere := in.elsewhere()
	elsewhere.environment = append(slices.Clone(in.environment), "DATABASE_URL="+database.URL())
	elsewhere.replace(proxy.Address(), strings.TrimPrefix(cluster.URL(), "http://"))
	second := elsewhere.start()
	second.ready()
	second.reach()
	if docs := elsewhere.searchDocuments("ledger"); !strings.Contains(string(docs["1"]), "late") {
		t.Fatalf("the document is %s", docs["1"])
	}
	database.Exec("DELETE FROM ledger WHERE id = 1")
	second.reach()
	elsewhere.forget()

	if err := proxy.Heal(); err != nil {
		t.Fatal(err)
	}
	woke := time.Now()
	first.signal(syscall.SIGCONT)
	if !first.log.find(readyWithin, "another process has taken this one's place") {
		t.Errorf("the first daemon goes on writing:\n%s", tail(first.log.text(), 20))
	}
	result.Notef("refused %v after it woke", time.Since(woke).Round(time.Millisecond))
	if docs := elsewhere.searchDocuments("ledger"); docs["1"] != nil || docs["2"] == nil {
		t.Errorf("the deleted document is %s, the other %s", docs["1"], docs["2"])
	}
	if n := elsewhere.compare(func(string) string { return ledgerTruth }); n == 0 {
		t.Error("nothing was compared")
	}
	first.kill()
	second.nothingParked()
	second.stop()
}

// replace replaces a text in the configuration.
func (in *installation) replace(text, by string) {
	in.t.Helper()
	content, err := os.ReadFile(in.file)
	if err != nil {
		in.t.Fatal(err)
	}
	if !strings.Contains(string(content), text) {
		in.t.Fatalf("%s is not in %s", text, content)
	}
	in.write(filepath.Base(in.file), []byte(strings.ReplaceAll(string(content), text, by)))
}

// forget waits until Elasticsearch does not remember deletions of the ledger any more: an older write than a deletion of now is
// taken then.
func (in *installation) forget() {
	in.t.Helper()
	document := in.search + "/" + in.searchPrefix + "ledger-g1/_doc/probe?version_type=external&version="
	body := map[string]any{"id": -1}
	in.elasticsearch(http.MethodPut, document+"5", body, nil)
	in.elasticsearch(http.MethodDelete, document+"6", nil, nil)
	devstack.Eventually(in.t, time.Minute, func() error {
		in.elasticsearch(http.MethodPost, in.search+"/"+in.searchPrefix+"ledger-g1/_refresh", nil, nil)
		req, err := http.NewRequestWithContext(in.t.Context(), http.MethodPut, document+"4", strings.NewReader(`{"id":-1}`))
		if err != nil {
			return err
		}
		req.Header.Set("Content-Type", "application/json")
		res, err := client.Do(req)
		if err != nil {
			return err
		}
		if err := res.Body.Close(); err != nil || res.StatusCode >= 300 {
			return fmt.Errorf("an older write than a deletion: %s %w", res.Status, err)
		}
		return nil
	})
	in.elasticsearch(http.MethodDelete, document+"7", nil, nil)
}
