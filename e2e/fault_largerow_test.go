package e2e

import (
	"bytes"
	"crypto/md5" //nolint:gosec // what Postgres has to compare long texts by
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/lanternist/lanternist/internal/faults"
	"github.com/lanternist/lanternist/internal/natsconn/natstest"
)

var paperViews = map[string][]byte{
	"paper": []byte(`view: paper
from: public.papers
fields: {id: , title: {as: keyword}, body: }
search: {settings: {number_of_shards: 1}, mappings: {body: {type: keyword, index: false, doc_values: false}}}
cache:
`),
	"paper_head": []byte(`view: paper_head
from: public.papers
fields: {id: , title: {as: keyword}}
search: {settings: {number_of_shards: 1}}
cache:
`),
}

// largeRow is how many bytes the body of the large row has: 60 MiB.
const largeRow = 60 << 20

// paper is a row, or the document of it.
type paper struct {
	ID    int    `json:"id"`
	Title string `json:"title"`
	Body  string `json:"body"`
}

func (p paper) sum() string {
	sum := md5.Sum([]byte(p.Body)) //nolint:gosec // as above
	return fmt.Sprintf("%s %d %s", p.Title, len(p.Body), hex.EncodeToString(sum[:]))
}

// paperSums are the papers of the source.
func (in *installation) paperSums() map[string]string {
	in.t.Helper()
	conn := in.database.Conn(in.t.Context())
	defer conn.Close(in.t.Context())
	rows, err := conn.Query(in.t.Context(), `SELECT id::text, title || ' ' || length(body) || ' ' || md5(body) FROM papers`)
	if err != nil {
		in.t.Fatal(err)
	}
	sums := map[string]string{}
	for rows.Next() {
		var id, sum string
		if err := rows.Scan(&id, &sum); err != nil {
			in.t.Fatal(err)
		}
		sums[id] = sum
	}
	if rows.Err() != nil {
		in.t.Fatal(rows.Err())
	}
	return sums
}

// papersAre compares a sink's papers with those of the source, less the large one where the sink does not take it.
func (in *installation) papersAre(sink string, got documents, want map[string]string, without string) {
	in.t.Helper()
	n := 0
	for id, sum := range want {
		if id == without {
			continue
		}
		n++
		var p paper
		if err := json.Unmarshal(got[id], &p); err != nil || p.sum() != sum {
			in.t.Errorf("%s: paper %s is %q, want %q; %v", sink, id, p.sum(), sum, err)
		}
	}
	if len(got) != n {
		in.t.Errorf("%s has %d papers, want %d", sink, len(got), n)
	}
}

// showPapers waits until everything committed is shown, or parked, and compares all. It returns the letter of the large one, if
// Elasticsearch did not take it.
func (d *daemon) showPapers() (letter *deadLetter) {
	in := d.in
	in.t.Helper()
	d.reach()
	code, stdout, stderr := in.run("deadletters", "list", "--json")
	var letters []deadLetter
	if err := json.Unmarshal([]byte(stdout), &letters); code != 0 || err != nil || len(letters) > 1 {
		in.t.Fatalf("exit code %d, %v, letters %s%s", code, err, stdout, stderr)
	}
	without := ""
	if len(letters) == 1 {
		letter, without = &letters[0], "1"
		if letter.DocumentID != "1" || !strings.HasPrefix(letter.ID, "paper=2Esearch") || letter.Class != "permanent" {
			in.t.Errorf("the letter is %+v", letter)
		}
	}
	want := in.paperSums()
	in.papersAre("Redis", in.cacheDocuments("paper"), want, "")
	in.papersAre("Elasticsearch", in.searchDocuments("paper"), want, without)
	for _, sink := range []documents{in.cacheDocuments("paper_head"), in.searchDocuments("paper_head")} {
		if len(sink) != len(want) {
			in.t.Errorf("%d heads, want %d", len(sink), len(want))
		}
		for id, sum := range want {
			title, _, _ := strings.Cut(sum, " ")
			if !bytes.Contains(sink[id], []byte(`"`+title+`"`)) {
				in.t.Errorf("the head of %s is %s, want %s", id, sink[id], title)
			}
		}
	}
	if sum, there := want["1"]; there {
		a, err := in.ask(http.MethodGet, "/v1/views/paper/1", nil)
		var p struct {
			Document paper `json:"document"`
		}
		if err == nil {
			err = json.Unmarshal(a.body, &p)
		}
		if err != nil || a.status != http.StatusOK {
			in.t.Fatalf("the API answers %d, %v: %.200s", a.status, err, a.body)
		}
		got := p.Document
		if got.ID == 0 {
			err = json.Unmarshal(a.body, &got)
		}
		if err != nil || got.sum() != sum {
			in.t.Errorf("the API has %q, want %q; %v; %.200s", got.sum(), sum, err, a.body)
		}
	}
	return letter
}

// largeRowPasses writes a row of 60 MiB, changes it without its large value, changes that, restarts the daemon in the middle, and deletes it.
func largeRowPasses(t *testing.T, o options, fault faults.Fault) {
	result := faults.Cause(t, fault)
	o.tables, o.views = []string{"public.papers"}, paperViews
	in := install(t, o)
	in.database.Exec(`CREATE TABLE papers (id int PRIMARY KEY, title text NOT NULL, body text NOT NULL)`,
		`ALTER TABLE papers ALTER body SET STORAGE EXTERNAL`,
		`INSERT INTO papers SELECT i, 'p' || i, repeat(md5(i::text), 100) FROM generate_series(2, 20) i`)
	a := in.startAudit(o.tables)
	d := in.start()
	d.ready()
	in.database.Exec(fmt.Sprintf(`INSERT INTO papers VALUES (1, 'large', repeat(md5('1'), %d))`, largeRow/32))
	in.database.Exec(`INSERT INTO papers VALUES (21, 'beside', 'small')`)
	began := time.Now()
	letter := d.showPapers()
	result.Recovered(time.Since(began))
	if letter != nil {
		result.Parked(1)
		t.Logf("parked after %d attempts: %s", letter.Attempts, letter.Reason)
		if letter.Attempts != 3 || !strings.Contains(letter.Reason, "lasticsearch") || len(letter.Reason) > 2000 {
			t.Errorf("the letter is %+v", letter)
		}
	}
	in.database.Exec(`UPDATE papers SET title = 'changed' WHERE id = 1`, `UPDATE papers SET title = 'as-well' WHERE id = 3`)
	d.showPapers()
	in.database.Exec(fmt.Sprintf(`UPDATE papers SET body = repeat(md5('2'), %d) WHERE id = 1`, largeRow/32))
	d.kill()
	in.database.Exec(`UPDATE papers SET title = 'again' WHERE id IN (1, 4)`)
	d = in.start()
	d.ready()
	d.showPapers()
	in.database.Exec(`UPDATE papers SET body = 'small now' WHERE id = 1`)
	if letter := d.showPapers(); letter != nil {
		t.Errorf("a small row has a letter: %+v", letter)
	}
	in.database.Exec(fmt.Sprintf(`UPDATE papers SET body = repeat(md5('3'), %d) WHERE id = 1`, largeRow/32), `DELETE FROM papers WHERE id = 1`)
	if letter := d.showPapers(); letter != nil {
		t.Errorf("a deleted row has a letter: %+v", letter)
	}
	result.Notef("at most %d MiB resident", d.peakMemory()>>20)
	d.stop()
	a.compare()
}

func TestFaultLargeRow(t *testing.T) {
	largeRowPasses(t, options{}, faults.Fault{
		ID: "row-of-60-mib", Area: "Source", Heavy: true,
		Fault: "A row of 60 MiB is written, changed without its large value, changed in full, and deleted; the daemon is killed in between",
		Promise: "It passes through journal and mirror into Redis and the API; where it is more than Elasticsearch takes it is parked there with the reason, " +
			"its other documents and all other rows flow, and the letter goes when the row is small again or deleted",
		Answer: "`lanternist deadletters list` has its size; raise the heap of Elasticsearch, or leave the column out of the view",
	})
}

func TestFaultLargeRowJetStream(t *testing.T) {
	largeRowPasses(t, options{nats: natstest.Start(t, 1<<20).URL()}, faults.Fault{
		ID: "row-of-60-mib-jetstream", Area: "Journal", Heavy: true,
		Fault:   "A row of 60 MiB comes while the journal is on a NATS server that takes messages of 1 MiB",
		Promise: "Its batch is stored in pieces before its claim check, and read back whole, also after a kill; nothing stalls, and each change is there once",
		Answer:  "nothing: the pieces are trimmed with the entries that they belong to",
	})
}
