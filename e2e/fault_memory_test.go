package e2e

import (
	"fmt"
	"net/url"
	"testing"
	"time"

	"github.com/lanternist/lanternist/internal/devstack"
	"github.com/lanternist/lanternist/internal/faultproxy"
	"github.com/lanternist/lanternist/internal/faults"
)

// What a daemon may take in these tests, by its configuration.
const (
	mib            = 1 << 20
	mirrorCache    = 32 * mib
	projectorsMost = 32 * mib
	recentEvents   = 32 * mib  // journal.Config.CacheBytes
	receiving      = 16 * mib  // a batch of 8 times source.batch_bytes, decoded and encoded
	programItself  = 120 * mib // code, runtime, stacks, connections of a hundred projectors, memtables and indexes of the stores
)

// A projector has at most so many workers.
const sinks, workers = 2, 4

// memoryBound is what follows from the configuration, as docs/operations.md has it, with what the program itself takes.
const memoryBound = 2*(projectorsMost+recentEvents+receiving) + mirrorCache + programItself

// wide is an installation with many views of one table, in both sinks.
func installWide(t *testing.T, views, rows, rowBytes int, delay time.Duration) *installation {
	t.Helper()
	database := devstack.Postgres(t)
	o := options{database: database, tables: []string{"public.wide"}, views: map[string][]byte{}}
	for i := range views {
		name := fmt.Sprintf("wide%02d", i)
		o.views[name] = fmt.Appendf(nil, `view: %s
from: public.wide
fields: {id: , body: }
search: {settings: {number_of_shards: 1}, mappings: {body: {type: keyword, index: false, doc_values: false}}}
cache: {}
`, name)
	}
	o.more = fmt.Sprintf("mirror: {cache: %d}\n", mirrorCache)
	if delay > 0 {
		cluster, space := devstack.Elasticsearch(t), devstack.Redis(t)
		o.toSearch, o.toCache = slowed(t, cluster.URL(), delay), slowed(t, space.URL(), delay)
	}
	in := install(t, o)
	in.edit("projectors: {", fmt.Sprintf("projectors: {memory: %d, ", projectorsMost))
	database.Exec(`CREATE TABLE wide (id bigint PRIMARY KEY, body text NOT NULL)`)
	database.Exec(`ALTER TABLE wide ALTER body SET STORAGE EXTERNAL`)
	in.fillWide(0, rows, rowBytes)
	return in
}

// slowed is the URL of a server behind a proxy that delays all that is sent.
func slowed(t *testing.T, server string, delay time.Duration) string {
	t.Helper()
	u, err := url.Parse(server)
	if err != nil {
		t.Fatal(err)
	}
	proxy, err := faultproxy.New(u.Host)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = proxy.Close() })
	proxy.Delay(faultproxy.Both, delay/2)
	u.Host = proxy.Address()
	return u.String()
}

// fillWide adds or changes rows.
func (in *installation) fillWide(from, rows, rowBytes int) {
	in.t.Helper()
	in.database.Exec(fmt.Sprintf(`INSERT INTO wide SELECT i, repeat(md5(random()::text), %d) FROM generate_series(%d, %d) i
		ON CONFLICT (id) DO UPDATE SET body = excluded.body`, max(1, rowBytes/32), from+1, from+rows))
}

// TestFaultMemory has everything wait for sinks, and measures what the daemon takes for it.
func TestFaultMemory(t *testing.T) {
	if !faults.Heavy() {
		t.Skip("heavy: set LANTERNIST_FAULTS=all")
	}
	const answer = "nothing: bound it with `projectors.memory` and `mirror.cache`; `lanternist status` shows who waits for memory"
	for _, c := range []struct {
		faults.Fault
		views, rows, rowBytes int
		delay                 time.Duration
	}{
		{faults.Fault{
			ID: "memory-fifty-views", Area: "Resources", Heavy: true, Fault: "Fifty views of one table, in both sinks, are built and followed at once: a hundred projectors", Answer: answer,
			Promise: "The daemon's memory stays within what follows from the configuration, whatever the number of views is",
		}, 50, 1500, 2 << 10, 0},
		{faults.Fault{
			ID: "memory-wide-rows", Area: "Resources", Heavy: true, Fault: "Six views of rows of 1 MiB are built and followed in both sinks at once", Answer: answer,
			Promise: "The daemon's memory stays within what follows from the configuration, whatever the width of rows is",
		}, 6, 80, 1 << 20, 0},
		{faults.Fault{
			ID: "memory-slow-sinks", Area: "Resources", Heavy: true, Fault: "Both sinks are a hundred times slower while twelve views fall behind", Answer: answer,
			Promise: "The daemon's memory stays within what follows from the configuration, however much waits for the sinks",
		}, 12, 1000, 8 << 10, 300 * time.Millisecond},
	} {
		t.Run(c.ID, func(t *testing.T) {
			result := faults.Cause(t, c.Fault)
			in := installWide(t, c.views, c.rows, c.rowBytes, c.delay)
			d := in.start()
			d.ready()
			built := d.peakMemory()
			for i := range 4 {
				in.fillWide(i*c.rows/4, c.rows/2, c.rowBytes)
			}
			d.reach()
			d.nothingParked()
			peak := d.peakMemory()
			// A worker may have one document that is larger than any lately: its row, composed, and in a request.
			bound := int64(memoryBound + 3*c.views*sinks*workers*c.rowBytes)
			result.Notef("%d MiB at most (%d while building), %d follow from the configuration", peak/mib, built/mib, bound/mib)
			if peak > bound {
				t.Errorf("the daemon took %d MiB, want at most %d", peak/mib, bound/mib)
			}
			in.compare(func(string) string {
				return `SELECT id::text AS id, jsonb_build_object('id', id, 'body', body) AS doc FROM wide`
			})
			d.stop()
		})
	}
}
