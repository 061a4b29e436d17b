package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"

	"github.com/lanternist/lanternist/examples/shop"
	"github.com/lanternist/lanternist/internal/faults"
)

// replayed is what the command prints.
type replayed struct {
	State     string `json:"state"`
	Events    int    `json:"events"`
	Touching  int    `json:"touching"`
	Documents int    `json:"documents"`
	Deleted   int    `json:"deleted"`
	Parked    int    `json:"parked"`
}

// replay runs the command through the projector of customer profiles in Elasticsearch.
func (in *installation) replay(args ...string) (r replayed) {
	in.t.Helper()
	code, stdout, stderr := in.run(append([]string{"replay", "customer_profile.search", "--json"}, args...)...)
	if code != 0 {
		in.t.Fatalf("replay %v exited with %d:\n%s%s", args, code, stdout, stderr)
	}
	if err := json.Unmarshal([]byte(stdout), &r); err != nil {
		in.t.Fatalf("replay %v: %v:\n%s", args, err, stdout)
	}
	return r
}

// A person deletes documents from Elasticsearch. Running the events again that made them brings them back, and leaves the
// other projectors alone.
func TestFaultDeletedDocumentsReplayed(t *testing.T) {
	t.Parallel()
	faults.Cause(t, faults.Fault{
		ID: "documents-deleted-by-hand", Area: "Sinks", Fault: "Somebody deletes documents from Elasticsearch by hand",
		Promise: "Running the events again that made them brings them back and leaves the other projectors alone.",
		Answer:  "`lanternist replay VIEW.search --from TIME`",
	})
	in := installShop(t, options{}, small)
	d := in.start()
	d.ready()
	conn := in.database.Conn(t.Context())
	defer conn.Close(t.Context())

	create := func(id int) (lsn, at string) {
		now := `SELECT pg_current_wal_flush_lsn()::text, to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')`
		if err := conn.QueryRow(t.Context(), now).Scan(&lsn, &at); err != nil {
			t.Fatal(err)
		}
		in.database.Exec(fmt.Sprintf(`INSERT INTO customers (id, email, name, country) VALUES (%[1]d, '%[1]d@replay.example', 'Client', 'NO')`, id))
		return lsn, at
	}
	lsn, _ := create(-1)
	_, at := create(-2)
	third, _ := create(-3)
	d.reach()
	offset := in.offsetAt(third)
	for id := -3; id < 0; id++ {
		in.elasticsearch(http.MethodDelete, fmt.Sprintf("%s/%scustomer_profile/_doc/%d", in.search, in.searchPrefix, id), nil, nil)
	}
	// What is captured from now on has newer versions than the deletions by hand.
	in.database.Exec(`UPDATE orders SET note = 'later' WHERE id = 1`)
	d.reach()
	held := func() (ids []string) {
		all := in.searchDocuments("customer_profile")
		for _, id := range []string{"-1", "-2", "-3"} {
			if all[id] != nil {
				ids = append(ids, id)
			}
		}
		return ids
	}
	if ids := held(); len(ids) != 0 {
		t.Fatalf("still there: %v", ids)
	}
	before := in.status()

	if r := in.replay("--from", lsn, "--dry-run"); r.Touching < 3 || r.Documents < 3 || r.State != "done" || len(held()) != 0 {
		t.Errorf("dry run: %+v, %v are there", r, held())
	}
	number := strconv.FormatUint(offset, 10)
	if r := in.replay("--from", number, "--to", number); r.Events != 1 || r.Documents != 1 || fmt.Sprint(held()) != "[-3]" {
		t.Errorf("by offset: %+v, %v are there", r, held())
	}
	if r := in.replay("--from", at); r.Documents < 2 || r.Parked+r.Deleted != 0 || fmt.Sprint(held()) != "[-2 -3]" {
		t.Errorf("by time: %+v, %v are there", r, held())
	}
	if r := in.replay("--from", lsn); r.Documents < 3 || len(held()) != 3 {
		t.Errorf("by position: %+v, %v are there", r, held())
	}
	for i, p := range in.status().Projectors {
		if was := before.Projectors[i]; p.Projector != "customer_profile.search" && p.Documents != was.Documents || p.Generation != was.Generation {
			t.Errorf("%s has written %d documents in generation %d, before %d in %d", p.Projector, p.Documents, p.Generation, was.Documents, was.Generation)
		}
	}
	in.compare(shop.Truth)
	d.nothingParked()

	code, _, stderr := in.run("replay", "customer_profile.disk", "--from", lsn)
	if code != 2 || !strings.Contains(stderr, "customer_profile.search") {
		t.Errorf("an unknown projector: %d\n%s", code, stderr)
	}
	code, _, stderr = in.run("replay", "customer_profile.search", "--from", "yesterday")
	if code != 2 || !strings.Contains(stderr, "from: want an offset") {
		t.Errorf("a bad range: %d\n%s", code, stderr)
	}
	d.stop()
	code, _, stderr = in.run("replay", "customer_profile.search", "--from", lsn)
	if code != 1 || !strings.Contains(stderr, "no daemon is running") || !strings.Contains(stderr, "lanternist run") {
		t.Errorf("without a daemon: %d\n%s", code, stderr)
	}
}

// offsetAt is the offset of the first event of what committed at a position or after.
func (in *installation) offsetAt(lsn string) uint64 {
	in.t.Helper()
	var page struct {
		Events []struct {
			Offset uint64 `json:"offset,string"`
		} `json:"events"`
	}
	if err := in.get("/v1/events?"+url.Values{"from": {lsn}, "limit": {"1"}}.Encode(), &page); err != nil {
		in.t.Fatal(err)
	}
	if len(page.Events) != 1 || page.Events[0].Offset == 0 {
		in.t.Fatalf("no event from %s on: %+v", lsn, page)
	}
	return page.Events[0].Offset
}
