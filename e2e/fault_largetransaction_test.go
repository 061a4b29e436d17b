package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lanternist/lanternist/internal/devstack"
	"github.com/lanternist/lanternist/internal/faults"
	"github.com/lanternist/lanternist/journal"
)

// memoryMax is the memory that the daemon may have resident while it takes a transaction of any size.
const memoryMax = 300 << 20

// sensors is how many sensors the measurements of a large transaction are of.
const sensors = 1000

// largeRows is how many rows a large transaction has.
func largeRows(t *testing.T) int {
	t.Helper()
	text := os.Getenv("LANTERNIST_E2E_LARGE_ROWS")
	if text == "" {
		return 2_000_000
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < sensors {
		t.Fatalf("LANTERNIST_E2E_LARGE_ROWS: %q", text)
	}
	return n
}

var measurementViews = map[string][]byte{
	"measurement": []byte(`view: measurement
from: public.measurements
fields: {id: , sensor_id: , value: , note: {as: keyword}}
search: {settings: {number_of_shards: 1}}
cache:
`),
	"sensor_summary": []byte(`view: sensor_summary
from: public.sensors
fields:
  id:
  name: {as: keyword}
  newest: {many: public.measurements, on: {sensor_id: id}, order_by: -id, limit: 3, fields: {id: , value: }}
  measured: {count: newest}
  highest: {max: newest.value}
search: {settings: {number_of_shards: 1}}
cache:
`),
}

const sensorTruth = `SELECT s.id::text AS id, jsonb_build_object('id', s.id, 'name', s.name,
	'newest', coalesce((SELECT jsonb_agg(jsonb_build_object('id', m.id, 'value', m.value) ORDER BY m.id DESC)
		FROM (SELECT * FROM measurements WHERE sensor_id = s.id ORDER BY id DESC LIMIT 3) m), '[]'),
	'measured', (SELECT count(*) FROM measurements WHERE sensor_id = s.id),
	'highest', (SELECT max(value) FROM measurements WHERE sensor_id = s.id)) AS document FROM sensors s`

// installMeasurements makes an installation with sensors and no measurement.
func installMeasurements(t *testing.T, o options) *installation {
	t.Helper()
	o.tables, o.views = []string{"public.sensors", "public.measurements"}, measurementViews
	in := install(t, o)
	in.database.Exec(
		`CREATE TABLE sensors (id int PRIMARY KEY, name text NOT NULL)`,
		`CREATE TABLE measurements (id bigint PRIMARY KEY, sensor_id int NOT NULL, value int NOT NULL, note text NOT NULL)`,
		fmt.Sprintf(`INSERT INTO sensors SELECT i, 'sensor ' || i FROM generate_series(1, %d) i`, sensors))
	return in
}

// measure writes n measurements in one transaction.
func (in *installation) measure(n int) (took time.Duration) {
	in.t.Helper()
	began := time.Now()
	conn := in.database.Conn(in.t.Context())
	defer conn.Close(in.t.Context())
	if _, err := conn.Exec(in.t.Context(), `INSERT INTO measurements SELECT i, 1 + i % $2, i % 977, 'measured in the hall, number ' || i
		FROM generate_series(1, $1::int) i`, n, sensors); err != nil {
		in.t.Fatal(err)
	}
	return time.Since(began)
}

// countMeasurements sees to it that both sinks have every measurement, and that Elasticsearch adds up to what the source does.
func (in *installation) countMeasurements(n int) {
	t := in.t
	t.Helper()
	var sum int64
	conn := in.database.Conn(t.Context())
	defer conn.Close(t.Context())
	if err := conn.QueryRow(t.Context(), `SELECT sum(value::bigint * (id % 1009)) FROM measurements`).Scan(&sum); err != nil {
		t.Fatal(err)
	}
	alias := in.search + "/" + in.searchPrefix + "measurement"
	in.elasticsearch(http.MethodPost, alias+"/_refresh", nil, nil)
	var counted struct{ Count int }
	in.elasticsearch(http.MethodGet, alias+"/_count", nil, &counted)
	if counted.Count != n {
		t.Errorf("Elasticsearch has %d measurements, want %d", counted.Count, n)
	}
	var added struct {
		Aggregations struct{ Values, IDs struct{ Value float64 } }
	}
	in.elasticsearch(http.MethodPost, alias+"/_search", map[string]any{"size": 0, "aggs": map[string]any{
		"Values": map[string]any{"sum": map[string]string{"field": "value"}}, "IDs": map[string]any{"sum": map[string]string{"field": "id"}},
	}}, &added)
	if want := float64(n) * float64(n+1) / 2; added.Aggregations.IDs.Value != want {
		t.Errorf("the ids in Elasticsearch add up to %v, want %v", added.Aggregations.IDs.Value, want)
	}
	if cached, cachedSum := in.cachedMeasurements(); cached != n || cachedSum != sum {
		t.Errorf("Redis has %d measurements with the sum %d, want %d with %d", cached, cachedSum, n, sum)
	}
}

// cachedMeasurements counts the measurements in Redis, and adds up something of each.
func (in *installation) cachedMeasurements() (count int, sum int64) {
	t, ctx := in.t, in.t.Context()
	t.Helper()
	opts, err := redis.ParseURL(in.cache)
	if err != nil {
		t.Fatal(err)
	}
	opts.Protocol, opts.DisableIdentity = 2, true
	db := redis.NewClient(opts)
	defer db.Close()
	begin := in.cachePrefix + "{measurement}:"
	live, err := db.Get(ctx, begin+"live").Result()
	if err != nil {
		t.Fatal(err)
	}
	number, _, _ := strings.Cut(live, ":")
	begin += "g" + number + ":d:"
	seen := map[string]bool{} // a scan may give a key twice
	for cursor, first := uint64(0), true; first || cursor != 0; first = false {
		var keys []string
		if keys, cursor, err = db.Scan(ctx, cursor, begin+"*", 5000).Result(); err != nil {
			t.Fatal(err)
		}
		if len(keys) == 0 {
			continue
		}
		values, err := db.MGet(ctx, keys...).Result()
		if err != nil {
			t.Fatal(err)
		}
		for i, key := range keys {
			if seen[key] {
				continue
			}
			seen[key] = true
			text, _ := values[i].(string)
			body, exists, err := cachedBody(text)
			if err != nil || !exists {
				t.Fatalf("%s: exists %t, %v", key, exists, err)
			}
			var m struct{ ID, Value int64 }
			if err := json.Unmarshal(body, &m); err != nil {
				t.Fatal(err)
			}
			count++
			sum += m.Value * (m.ID % 1009)
		}
	}
	return count, sum
}

// compareSensors compares every document of the sensors in both sinks with the source.
func (in *installation) compareSensors() {
	in.t.Helper()
	all := in.views
	in.views = []string{"sensor_summary"}
	in.t.Logf("%d documents compared", in.compare(func(string) string { return sensorTruth }))
	in.views = all
}

func TestFaultTransactionOfTwoMillionRows(t *testing.T) {
	result := faults.Cause(t, faults.Fault{
		ID: "transaction-two-million-rows", Area: "Source",
		Fault:   "One transaction writes 2,000,000 rows while two views in both sinks follow.",
		Promise: "The daemon stays under 300 MiB of memory, no view shows a part of the transaction, and afterwards every row is in the journal once and in every document.",
		Answer:  "nothing: it takes as long as its size; see how far it is with `lanternist status`.",
		Heavy:   true,
	})
	rows := largeRows(t)
	in := installMeasurements(t, options{})
	audit := in.startAudit([]string{"public.sensors", "public.measurements"})
	d := in.start()
	d.ready()
	wrote := in.measure(rows)
	began := time.Now()
	d.reachLarge()
	took := time.Since(began)
	peak := d.peakMemory()
	t.Logf("%d rows: written in %v, in all documents %v later; at most %d MiB resident", rows, wrote, took, peak>>20)
	if peak > memoryMax {
		t.Errorf("the daemon had %d MiB resident, want at most %d", peak>>20, memoryMax>>20)
	}
	in.countMeasurements(rows)
	in.compareSensors()
	d.nothingParked()
	d.stop()
	audit.compare()
	result.Recovered(took)
	result.Notef("%d rows, at most %d MiB resident", rows, peak>>20)
}

func TestFaultKilledInsideALargeTransaction(t *testing.T) {
	result := faults.Cause(t, faults.Fault{
		ID: "killed-inside-large-transaction", Area: "Source",
		Fault:   "The daemon is killed twice while it journals one transaction of 2,000,000 rows.",
		Promise: "It goes on inside the transaction where the journal ends: each row is journaled once, in order, no view shows a part, and memory stays under 300 MiB.",
		Answer:  "nothing: a supervisor starts it again; see how far it is with `lanternist status`.",
		Heavy:   true,
	})
	rows := largeRows(t)
	in := installMeasurements(t, options{})
	audit := in.startAudit([]string{"public.sensors", "public.measurements"})
	d := in.start()
	d.ready()
	head := in.journalHead()
	in.measure(rows)
	peak := int64(0)
	for kill := range 2 {
		// A part of the transaction is in the journal, and its end is not.
		now := head
		devstack.Eventually(t, reachWithin, func() error {
			d.alive()
			if now = in.journalHead(); now < head+4 {
				return fmt.Errorf("the journal is at batch %d, was at %d", now, head)
			}
			return nil
		})
		head = now
		peak = max(peak, d.peakMemory())
		d.kill()
		t.Logf("kill %d at batch %d", kill, head)
		d = in.start()
		d.ready()
	}
	began := time.Now()
	d.reachLarge()
	took := time.Since(began)
	peak = max(peak, d.peakMemory())
	if peak > memoryMax {
		t.Errorf("the daemon had %d MiB resident, want at most %d", peak>>20, memoryMax>>20)
	}
	in.countMeasurements(rows)
	in.compareSensors()
	d.nothingParked()
	d.stop()
	inside := uint64(0) // the last batch that ends inside of the transaction
	in.eachBatch(func(b *journal.Batch) {
		if n := len(b.Parts); n > 0 && !b.Parts[n-1].Complete {
			inside = b.Sequence
		}
	})
	if inside < head {
		t.Errorf("the second kill came at batch %d, and the transaction's last but one is %d", head, inside)
	}
	audit.compare()
	result.Recovered(took)
	result.Notef("%d rows, at most %d MiB resident", rows, peak>>20)
}

// reachLarge is reach for what takes minutes.
func (d *daemon) reachLarge() {
	d.in.t.Helper()
	token := parseLSN(d.in.t, d.in.position())
	devstack.Eventually(d.in.t, 15*time.Minute, func() error {
		d.alive()
		var s struct {
			Projectors []struct{ Projector, LSN string }
		}
		if err := d.in.get("/v1/status", &s); err != nil {
			return err
		}
		for _, p := range s.Projectors {
			if parseLSN(d.in.t, p.LSN) < token {
				return fmt.Errorf("%s is at %s, want %s", p.Projector, p.LSN, token)
			}
		}
		return nil
	})
	d.reach()
}

// journalHead is the sequence of the journal's last batch.
func (in *installation) journalHead() uint64 {
	in.t.Helper()
	var s struct {
		Journal struct {
			Head uint64 `json:"head"`
		} `json:"journal"`
	}
	if err := in.get("/v1/status", &s); err != nil {
		in.t.Fatal(err)
	}
	return s.Journal.Head >> 16
}
