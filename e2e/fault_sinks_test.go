package e2e

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lanternist/lanternist/examples/shop"
	"github.com/lanternist/lanternist/internal/devstack"
	"github.com/lanternist/lanternist/internal/faultproxy"
	"github.com/lanternist/lanternist/internal/faults"
)

const (
	nothingToDo = "nothing: its projectors probe the sink and go on by themselves; `lanternist status` shows the circuit, since when, and why"
	mendTheRow  = "`lanternist deadletters list` names the documents and why; correct the rows, and the letters go away by themselves"
	allWritten  = "Nothing is lost: every document is right once the sink takes writes again. Postgres' WAL is not held, the other sink is kept up to date. " +
		"A stop of the daemon meanwhile ends in time, and a start goes on"
)

// TestFaultElasticsearch is everything that can be wrong with a cluster that is there, or not.
func TestFaultElasticsearch(t *testing.T) {
	if !faults.Heavy() {
		t.Skip("heavy: set LANTERNIST_FAULTS=all")
	}
	stack := devstack.PrivateStack(t, devstack.Options{Elasticsearch: &devstack.ElasticsearchOptions{Settings: []string{"http.max_content_length=1mb"}}})
	address, err := url.Parse(stack.Elasticsearch())
	if err != nil {
		t.Fatal(err)
	}
	proxy, err := faultproxy.New(address.Host)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = proxy.Close() })
	in := installShop(t, options{search: stack.Elasticsearch(), toSearch: "http://" + proxy.Address()}, small)
	definition := strings.Replace(string(shop.Definition("order_summary")), "number_of_shards: 1}", "number_of_shards: 1}, mappings: {note: {type: keyword}}", 1)
	in.write("views/order_summary.yaml", []byte(definition))
	in.edit(`prefix: "`+in.searchPrefix+`"}`, `prefix: "`+in.searchPrefix+`", bulk_timeout: 2s}`, "read_timeout: 60s", "read_timeout: 2s")
	const search = "/v1/views/order_summary/search"
	settings := func(x *sinkTrial, body string) {
		for _, view := range in.views {
			x.call("PUT", "/"+in.searchPrefix+view+"/_settings", body)
		}
	}
	breaker := func(limit string) func(*sinkTrial) {
		return func(x *sinkTrial) {
			x.call("PUT", "/_cluster/settings", `{"persistent":{"network.breaker.inflight_requests.limit":`+limit+`}}`)
		}
	}
	healProxy := func(x *sinkTrial) {
		if err := proxy.Heal(); err != nil {
			x.t.Error(err)
		}
		proxy.Delay(faultproxy.Both, 0)
	}
	tryFaults(t, in, stack, []sinkFault{
		{
			Fault: faults.Fault{
				ID: "elasticsearch-dead", Area: "Sinks", Heavy: true,
				Fault:   "Elasticsearch is dead for a while, and the daemon is stopped and started meanwhile",
				Promise: allWritten + ". The cluster is probed with one document at a time; reads are refused at once with 503 and Retry-After", Answer: nothingToDo,
			},
			cause: func(x *sinkTrial) { check(x.t, stack.KillElasticsearch()) },
			during: func(x *sinkTrial) {
				x.open("search", "")
				x.readsFail(search)
			},
			heal: func(x *sinkTrial) { check(x.t, stack.StartElasticsearch(context.WithoutCancel(x.t.Context()))) },
		},
		{
			Fault: faults.Fault{
				ID: "elasticsearch-hangs", Area: "Sinks", Heavy: true,
				Fault: "Elasticsearch accepts connections and does not answer (SIGSTOP), also while the daemon stops", Answer: nothingToDo,
				Promise: allWritten + ". Reads do not pile up: they are refused at once",
			},
			cause: func(x *sinkTrial) { check(x.t, stack.PauseElasticsearch()) },
			during: func(x *sinkTrial) {
				x.open("search", "")
				x.readsFail(search)
			},
			heal: func(x *sinkTrial) { check(x.t, stack.ResumeElasticsearch()) },
		},
		{
			Fault: faults.Fault{
				ID: "elasticsearch-429", Area: "Sinks", Heavy: true,
				Fault: "Elasticsearch answers 429 to all writes for a while (its circuit breaker)", Answer: nothingToDo,
				Promise: allWritten + ". Requests shrink, and the circuit opens",
			},
			cause:  breaker(`"200b"`),
			during: func(x *sinkTrial) { x.open("search", "429") },
			heal:   breaker("null"),
		},
		{
			Fault: faults.Fault{
				ID: "elasticsearch-429-large", Area: "Sinks", Heavy: true,
				Fault: "Elasticsearch answers 429 when requests together have more than 64 KiB", Answer: nothingToDo,
				Promise: allWritten + ". Requests shrink until they are taken, and grow back",
			},
			cause: breaker(`"64kb"`),
			during: func(x *sinkTrial) {
				x.exec("UPDATE orders SET note = 'large'")
				devstack.Eventually(x.t, reachWithin, func() error {
					if s := x.sink("search"); s.WriteBytes > 64<<10 {
						return fmt.Errorf("requests have %d bytes", s.WriteBytes)
					}
					return nil
				})
				x.d.reachIn(search, x.in.position())
			},
			heal: breaker("null"),
		},
		{
			Fault: faults.Fault{
				ID: "elasticsearch-times-out", Area: "Sinks", Heavy: true,
				Fault: "Elasticsearch takes writes, and the answers come after the timeout", Answer: nothingToDo,
				Promise: allWritten + ". What was written twice has the same version, and changes nothing",
			},
			cause:  func(*sinkTrial) { proxy.Delay(faultproxy.ToClient, 3*time.Second) },
			during: func(x *sinkTrial) { x.open("search", "deadline") },
			heal:   healProxy,
		},
		{
			Fault: faults.Fault{
				ID: "elasticsearch-slow", Area: "Sinks", Heavy: true,
				Fault: "Elasticsearch is a hundred times slower (0.5 s for each answer)", Answer: "nothing: raise `elasticsearch.bulk_timeout` only if `lanternist status` shows timeouts",
				Promise: allWritten + ". The projectors go on, with fewer and larger rounds",
			},
			cause: func(*sinkTrial) { proxy.Delay(faultproxy.Both, 250*time.Millisecond) },
			during: func(x *sinkTrial) {
				x.d.reachIn(search, x.in.position())
				x.flows("search")
			},
			heal: healProxy,
		},
		{
			Fault: faults.Fault{
				ID: "elasticsearch-flood-stage", Area: "Sinks", Heavy: true,
				Fault: "Elasticsearch makes its indices read-only, as it does when its disk is full (flood stage)", Answer: "free disk space on the cluster; it lifts the block by itself. `lanternist status` names it",
				Promise: allWritten + ". The projectors do not stop, nothing is parked, and what is there is found",
			},
			cause: func(x *sinkTrial) { settings(x, `{"index.blocks.read_only_allow_delete":true}`) },
			during: func(x *sinkTrial) {
				x.open("search", "block")
				x.readable(search)
			},
			heal: func(x *sinkTrial) { settings(x, `{"index.blocks.read_only_allow_delete":null}`) },
		},
		{
			Fault: faults.Fault{
				ID: "elasticsearch-write-block", Area: "Sinks", Heavy: true,
				Fault: "Somebody sets index.blocks.write", Answer: "remove the block: `lanternist status` names it",
				Promise: allWritten + ". The projectors do not stop, and nothing is parked",
			},
			cause:  func(x *sinkTrial) { settings(x, `{"index.blocks.write":true}`) },
			during: func(x *sinkTrial) { x.open("search", "block") },
			heal:   func(x *sinkTrial) { settings(x, `{"index.blocks.write":null}`) },
		},
		{
			Fault: faults.Fault{
				ID: "elasticsearch-mapping-conflict", Area: "Sinks", Heavy: true,
				Fault: "Elasticsearch refuses one document for good (mapping conflict)", Answer: mendTheRow,
				Promise: "The document is parked after three attempts, with its payload; all others are written, and go on being written",
			},
			quiet:  true,
			cause:  func(x *sinkTrial) { refuse(x, "id = 7") },
			during: func(x *sinkTrial) { x.parked("order_summary.search", 1); x.d.reachIn(search, x.in.position()) },
			heal:   func(x *sinkTrial) { x.exec("UPDATE orders SET note = 'mended' WHERE id = 7") },
		},
		{
			Fault: faults.Fault{
				ID: "elasticsearch-half-refused", Area: "Sinks", Heavy: true,
				Fault: "Elasticsearch refuses half of the documents of each bulk request for good", Answer: mendTheRow,
				Promise: "Exactly those are parked, each once; the other half is written",
			},
			quiet:  true,
			cause:  func(x *sinkTrial) { refuse(x, "id % 2 = 0 AND id <= 200") },
			during: func(x *sinkTrial) { x.parked("order_summary.search", refused(x)); x.d.reachIn(search, x.in.position()) },
			heal:   func(x *sinkTrial) { x.exec("UPDATE orders SET note = 'mended' WHERE note LIKE 'refused%'") },
		},
		{
			Fault: faults.Fault{
				ID: "elasticsearch-document-too-large", Area: "Sinks", Heavy: true,
				Fault: "A document is larger than Elasticsearch takes in one request (http.max_content_length)", Answer: mendTheRow + ", or raise http.max_content_length",
				Promise: "It is parked after three attempts, and not sent again and again in ever smaller requests; all others are written",
			},
			quiet: true,
			cause: func(x *sinkTrial) {
				x.exec("UPDATE orders SET status = 'paid', note = 'ok' WHERE id <= 50")
				x.exec("UPDATE orders SET status = 'paid', note = $1 WHERE id = 7", strings.Repeat("large ", 400_000))
				x.exec("UPDATE orders SET note = 'after' WHERE id > 50")
			},
			during: func(x *sinkTrial) { x.parked("order_summary.search", 1); x.d.reachIn(search, x.in.position()) },
			heal:   func(x *sinkTrial) { x.exec("UPDATE orders SET note = 'mended' WHERE id = 7") },
		},
	})
}

// refuse has Elasticsearch refuse the documents of some orders: their note is a keyword that is longer than those may be.
func refuse(x *sinkTrial, where string) {
	x.t.Helper()
	x.exec("UPDATE orders SET status = 'paid', note = 'refused' || repeat('!', 40000) WHERE " + where)
}

// refused is how many orders are refused.
func refused(x *sinkTrial) (n int) {
	x.t.Helper()
	conn := x.in.database.Conn(x.t.Context())
	defer conn.Close(x.t.Context())
	if err := conn.QueryRow(x.t.Context(), "SELECT count(*) FROM orders WHERE note LIKE 'refused%'").Scan(&n); err != nil {
		x.t.Fatal(err)
	}
	return n
}

// TestFaultRedis is everything that can be wrong with a Redis that still has its data.
func TestFaultRedis(t *testing.T) {
	if !faults.Heavy() {
		t.Skip("heavy: set LANTERNIST_FAULTS=all")
	}
	stack := devstack.PrivateStack(t, devstack.Options{Redis: &devstack.RedisOptions{}})
	in := installShop(t, options{cache: stack.Redis()}, small)
	in.edit(`prefix: "`+in.cachePrefix+`"}`, `prefix: "`+in.cachePrefix+`", timeout: 1s}`, "read_timeout: 60s", "read_timeout: 2s")
	opts, err := redis.ParseURL(stack.Redis())
	if err != nil {
		t.Fatal(err)
	}
	db := redis.NewClient(opts)
	t.Cleanup(func() { _ = db.Close() })
	do := func(x *sinkTrial, args ...any) {
		x.t.Helper()
		check(x.t, db.Do(context.WithoutCancel(x.t.Context()), args...).Err())
	}
	const order = "/v1/views/order_summary/none"
	tryFaults(t, in, stack, []sinkFault{
		{
			Fault: faults.Fault{
				ID: "redis-out-of-memory", Area: "Sinks", Heavy: true,
				Fault: "Redis is out of memory (maxmemory, noeviction)", Answer: "raise maxmemory; `lanternist status` names it",
				Promise: allWritten + ". What is there is read; nothing is parked",
			},
			cause: func(x *sinkTrial) { do(x, "CONFIG", "SET", "maxmemory", "1mb") },
			during: func(x *sinkTrial) {
				x.open("cache", "OOM")
				if s := x.sink("cache"); s.Circuit.Reads != "closed" {
					x.t.Errorf("reads: %+v", s)
				}
			},
			heal: func(x *sinkTrial) { do(x, "CONFIG", "SET", "maxmemory", "0") },
		},
		{
			Fault: faults.Fault{
				ID: "redis-read-only", Area: "Sinks", Heavy: true,
				Fault: "Redis has become a replica, and is read-only", Answer: "promote it, or point redis.url to the primary (redis+sentinel:// follows it by itself); `lanternist status` names it",
				Promise: allWritten + ". What is there is read",
			},
			cause: func(x *sinkTrial) { do(x, "REPLICAOF", "127.0.0.1", "1") },
			during: func(x *sinkTrial) {
				x.open("cache", "READONLY")
				if s := x.sink("cache"); s.Circuit.Reads != "closed" {
					x.t.Errorf("reads: %+v", s)
				}
			},
			heal: func(x *sinkTrial) { do(x, "REPLICAOF", "NO", "ONE") },
		},
		{
			Fault: faults.Fault{
				ID: "redis-hangs", Area: "Sinks", Heavy: true,
				Fault: "Redis accepts connections and does not answer (SIGSTOP), also while the daemon stops", Answer: nothingToDo,
				Promise: allWritten + ". Reads do not pile up: they are refused at once with 503 and Retry-After",
			},
			cause: func(x *sinkTrial) { check(x.t, stack.PauseRedis()) },
			during: func(x *sinkTrial) {
				x.open("cache", "")
				x.readsFail(order)
			},
			heal: func(x *sinkTrial) { check(x.t, stack.ResumeRedis()) },
		},
	})
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
