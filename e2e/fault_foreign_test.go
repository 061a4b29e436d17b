package e2e

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/lanternist/lanternist/examples/shop"
	"github.com/lanternist/lanternist/internal/devstack"
	"github.com/lanternist/lanternist/internal/faults"
)

const (
	foreignDefault = 5 * time.Minute
	foreignEvery   = 250 * time.Millisecond
	foreignBytes   = 512 << 10 // each time
	// foreignBehind is how far the slot may stay behind what others write.
	foreignBehind = 16 << 20
)

// TestFaultForeignTraffic has others write heavily to tables that are not captured, while nobody writes to those that are: the slot
// follows, and a reader's token is answered.
func TestFaultForeignTraffic(t *testing.T) {
	t.Parallel()
	result := faults.Cause(t, faults.Fault{
		ID: "quiet-tables-foreign-traffic", Area: "Source", Heavy: true,
		Fault:   "The captured tables are quiet for 5 minutes while others write heavily to other tables of the server",
		Promise: "The slot follows within 16 MiB, so the disk of the source does not fill up, and every view's watermark moves on (I4): tokens are answered.",
		Answer:  "nothing: `lanternist status` shows the slot's lag",
	})
	long := foreignDefault
	if text := os.Getenv("LANTERNIST_E2E_FOREIGN"); text != "" {
		var err error
		if long, err = time.ParseDuration(text); err != nil {
			t.Fatalf("LANTERNIST_E2E_FOREIGN: %v", err)
		}
	}
	server := devstack.PostgresServer(t, devstack.PostgresOptions{})
	in := installShop(t, options{database: server.Database()}, small)
	in.database.Exec("CREATE TABLE elsewhere (id bigint GENERATED ALWAYS AS IDENTITY, body text)",
		"ALTER TABLE elsewhere ALTER body SET STORAGE EXTERNAL")
	d := in.start()
	d.ready()
	first := in.slotState()
	conn := in.database.Conn(context.WithoutCancel(t.Context()))
	var behind, most int64
	tick := time.NewTicker(foreignEvery)
	defer tick.Stop()
	for n, end := 1, time.Now().Add(long); time.Now().Before(end); n++ {
		<-tick.C // the rate of what others write
		if _, err := conn.Exec(t.Context(), "INSERT INTO elsewhere (body) SELECT repeat('x', 8000) FROM generate_series(1, $1)", foreignBytes/8000); err != nil {
			t.Fatal(err)
		}
		if n%4 > 0 {
			continue
		}
		err := conn.QueryRow(t.Context(), "SELECT pg_current_wal_lsn() - confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name = $1", in.slot).Scan(&behind)
		if err != nil {
			t.Fatal(err)
		}
		most = max(most, behind)
		if n%64 == 0 {
			if _, err := conn.Exec(t.Context(), "TRUNCATE elsewhere"); err != nil {
				t.Fatal(err)
			}
			d.reach()
		}
	}
	last := in.slotState()
	began := time.Now()
	d.reach()
	result.Recovered(time.Since(began))
	written := last.confirmed - first.confirmed
	result.Notef("%d MiB written by others in %v, slot at most %d KiB behind, %d documents compared",
		written>>20, long, most>>10, in.compare(shop.Truth))
	if most > foreignBehind {
		t.Errorf("the slot was up to %d bytes behind, want at most %d", most, int64(foreignBehind))
	}
	if written < int64(long/foreignEvery)*foreignBytes/4 {
		t.Errorf("others wrote %d bytes only", written)
	}
	d.nothingParked()
	d.stop()
}
