package e2e

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/lanternist/lanternist/examples/shop"
	"github.com/lanternist/lanternist/internal/devstack"
	"github.com/lanternist/lanternist/internal/faults"
)

const (
	outageDefault = 15 * time.Second
	// retainedMax is how much WAL a dead sink may make the source keep.
	retainedMax = 64 << 20
)

// TestFaultDeadElasticsearchHoldsNobodyBack stops Elasticsearch under traffic: the source's slot advances, Redis is kept up
// to date and is read, and afterwards all documents are right.
func TestFaultDeadElasticsearchHoldsNobodyBack(t *testing.T) {
	t.Parallel()
	result := faults.Cause(t, faults.Fault{
		ID: "elasticsearch-dead", Area: "Sinks", Fault: "Elasticsearch is dead for a while, under traffic",
		Promise: "The slot advances and the source keeps no WAL for it; Redis is kept up to date and read with tokens; afterwards Elasticsearch is caught up.",
		Answer:  "`lanternist status` names what it waits for; start Elasticsearch",
	})
	outage := outageDefault
	if text := os.Getenv("LANTERNIST_E2E_OUTAGE"); text != "" {
		var err error
		if outage, err = time.ParseDuration(text); err != nil {
			t.Fatalf("LANTERNIST_E2E_OUTAGE: %v", err)
		}
	}
	// The server is the test's own, because other tests' transactions make WAL, too, and hold a slot back.
	server := devstack.PostgresServer(t, devstack.PostgresOptions{})
	stack := devstack.PrivateStack(t, devstack.Options{Elasticsearch: &devstack.ElasticsearchOptions{}})
	in := installShop(t, options{database: server.Database(), search: stack.Elasticsearch()}, small)
	// Traffic picks ids from 1 on.
	in.database.Exec(`INSERT INTO customers (id, email, name, country) VALUES (-1, 'outage@shop.example', 'Outage', 'NO')`)
	random := randomSource(t)
	d := in.start()
	d.ready()
	tr := in.startTraffic(random.Uint64(), busyRate)

	if err := stack.KillElasticsearch(); err != nil {
		t.Fatal(err)
	}
	before := in.slotState()
	var worst slotState
	var waits []time.Duration
	conn := in.database.Conn(t.Context())
	for round, end := 0, time.Now().Add(outage); time.Now().Before(end); round++ {
		waits = append(waits, d.writeAndReadCache(conn, round))
		worst = worst.worse(in.slotState())
	}
	after := in.slotState()
	t.Logf("Elasticsearch away for %v: slot advanced by %d bytes, at most %d bytes of WAL retained; %d rounds against Redis, wait p50 %v, p99 %v",
		outage, after.confirmed-before.confirmed, worst.retained, len(waits), percentile(waits, 0.5), percentile(waits, 0.99))
	if after.confirmed <= before.confirmed {
		t.Errorf("confirmed_flush_lsn stayed at %d", before.confirmed)
	}
	if worst.retained >= retainedMax {
		t.Errorf("%d bytes of WAL were retained, want less than %d", worst.retained, retainedMax)
	}
	if !retrying(in.status()) {
		t.Error("no projector says that Elasticsearch is away")
	}

	if err := stack.StartElasticsearch(t.Context()); err != nil {
		t.Fatal(err)
	}
	back := time.Now()
	tr.stop()
	d.reach()
	result.Recovered(time.Since(back))
	result.Notef("away for %v, at most %d KiB of WAL retained, %d documents compared", outage, worst.retained>>10, in.compare(shop.Truth))
	d.nothingParked()
	result.Parked(0)
	d.stop()
}

func retrying(s status) bool {
	for _, p := range s.Projectors {
		if p.State == "retrying" && p.Error != "" {
			return true
		}
	}
	return false
}

// writeAndReadCache changes an order that the traffic leaves alone and reads it from Redis. It returns how long the
// answer took.
func (d *daemon) writeAndReadCache(conn *pgx.Conn, round int) time.Duration {
	t := d.in.t
	t.Helper()
	ctx := t.Context()
	note := fmt.Sprintf("outage round %d", round)
	_, err := conn.Exec(ctx, `INSERT INTO orders (id, customer_id, status, note) VALUES (-1, -1, 'placed', $1)
		ON CONFLICT (id) DO UPDATE SET note = excluded.note`, note)
	if err != nil {
		t.Fatal(err)
	}
	var token string
	if err := conn.QueryRow(ctx, "SELECT pg_current_wal_flush_lsn()::text").Scan(&token); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	a, err := d.in.readAfter("/v1/views/order_summary/-1", token, nil)
	took := time.Since(began)
	if err != nil || a.status != http.StatusOK {
		t.Fatalf("round %d: status %d %s %v", round, a.status, a.body, err)
	}
	if got := a.field(t, "note"); got != note {
		t.Fatalf("round %d: the note is %q, want %q", round, got, note)
	}
	return took
}

// slotState is how the source and the daemon's slot stand.
type slotState struct {
	confirmed int64 // bytes
	retained  int64 // bytes
}

func (s slotState) worse(other slotState) slotState {
	if other.retained > s.retained {
		return other
	}
	return s
}

func (in *installation) slotState() (s slotState) {
	in.t.Helper()
	ctx := context.WithoutCancel(in.t.Context())
	conn := in.database.Conn(ctx)
	defer conn.Close(ctx)
	err := conn.QueryRow(ctx, `SELECT (confirmed_flush_lsn - '0/0')::bigint, (pg_current_wal_lsn() - restart_lsn)::bigint
		FROM pg_replication_slots WHERE slot_name = $1`, in.slot).Scan(&s.confirmed, &s.retained)
	if err != nil {
		in.t.Fatal(err)
	}
	return s
}
