package e2e

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/lanternist/lanternist/examples/shop"
)

// small is a shop that is loaded quickly, and in which everything has neighbours.
var small = shop.Size{Customers: 300, Products: 100, Orders: 500}

// installShop makes an installation of the shop.
func installShop(t *testing.T, o options, size shop.Size) *installation {
	t.Helper()
	o.tables = shop.Tables()
	o.views = map[string][]byte{}
	for table, view := range o.extra {
		o.tables = append(o.tables, table)
		o.views[strings.TrimPrefix(table, "public.")] = []byte(view)
	}
	for _, v := range shop.Views() {
		o.views[v] = shop.Definition(v)
	}
	in := install(t, o)
	conn := in.database.Conn(t.Context())
	defer conn.Close(t.Context())
	if err := shop.Create(t.Context(), conn, size); err != nil {
		t.Fatal(err)
	}
	return in
}

// traffic is traffic on a shop that runs beside the test.
type traffic struct {
	*shop.Traffic
	in   *installation
	stop func()
}

// startTraffic makes traffic until stop is called, or the test ends.
func (in *installation) startTraffic(seed uint64, rate int) *traffic {
	in.t.Helper()
	pool, err := pgxpool.New(in.t.Context(), in.database.URL())
	if err != nil {
		in.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	tr := &traffic{Traffic: &shop.Traffic{Pool: pool, Workers: 3, Rate: rate, Seed: seed}, in: in}
	ended := make(chan error, 1)
	go func() { ended <- tr.Run(ctx) }()
	stopped := false
	tr.stop = func() {
		in.t.Helper()
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
			in.t.Errorf("traffic: %v", err)
		}
		pool.Close()
		c := tr.Counts()
		in.t.Logf("traffic: %d transactions committed, %d rolled back, %d conflicts", c.Committed, c.RolledBack, c.Conflicts)
		if c.Committed == 0 {
			in.t.Error("there was no traffic")
		}
	}
	in.t.Cleanup(tr.stop)
	return tr
}
