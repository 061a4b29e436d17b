package e2e

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/lanternist/lanternist/examples/shop"
	"github.com/lanternist/lanternist/internal/faults"
)

// kills is how often the daemon is killed.
const kills = 20

// TestFaultKilledAtRandomMoments kills the daemon at random moments under traffic: while it loads, while it
// builds views, while it starts and while it follows.
func TestFaultKilledAtRandomMoments(t *testing.T) {
	t.Parallel()
	result := faults.Cause(t, faults.Fault{
		ID: "daemon-killed-twenty-times", Area: "Process", Fault: "The daemon is killed twenty times under traffic: while it starts, loads, builds and follows",
		Promise: "Every view is right afterwards, and the journal has each transaction once, in the order of the commits, also those that are larger than a batch.",
		Answer:  "nothing: the service manager starts it again",
	})
	// Small batches: many transactions are more than one, and kills hit the daemon inside of them.
	in := installShop(t, options{batch: "16KiB"}, shop.Size{Customers: 1000, Products: 300, Orders: 3000})
	random := randomSource(t)
	audit := in.startAudit(shop.Tables())
	tr := in.startTraffic(random.Uint64(), busyRate)

	moments := map[string]int{}
	loaded := false
	for i := range kills {
		d := in.start()
		d.killAtRandom(random, i, loaded)
		text := d.log.text()
		loaded = loaded || strings.Contains(text, `msg="load finished"`)
		moments[moment(text, loaded)]++
	}
	t.Logf("killed while: %v", moments)
	for _, m := range []string{"loading", "building", "following"} {
		if moments[m] == 0 {
			t.Errorf("no kill hit the daemon while %s", m)
		}
	}

	began := time.Now()
	d := in.start()
	d.ready()
	d.reach()
	result.Recovered(time.Since(began))
	tr.stop()
	d.reach()
	n := in.compare(shop.Truth)
	d.nothingParked()
	result.Parked(0)
	d.stop()
	audit.compare()
	result.Notef("%d kills, %d documents and %d transactions compared", kills, n, audit.compared)
}

// killAtRandom kills the daemon: a quarter of the times while it loads, a quarter while it builds or opens
// generations, a quarter at any time after its start, a quarter while it follows.
func (d *daemon) killAtRandom(random *rand.Rand, kill int, loaded bool) {
	d.in.t.Helper()
	further := 2500 * time.Millisecond
	switch {
	case kill < kills/4 && !loaded:
		d.log.find(readyWithin, `msg="snapshot opened"`)
		further = 60 * time.Millisecond
	case kill < kills/2:
		d.log.find(readyWithin, `msg="generation created"`, `msg="generation opened"`)
		further = 200 * time.Millisecond
	case kill >= kills*3/4:
		d.ready()
		further = 1500 * time.Millisecond
	}
	timer := time.NewTimer(time.Duration(random.Int64N(int64(further))))
	defer timer.Stop()
	select {
	case <-timer.C: // the random moment; nothing is waited for
	case <-d.ended:
	}
	d.alive()
	d.kill()
}

// moment says from the log what the daemon was doing when it was killed. A view is built as soon as its own tables are
// loaded, so it may be building while others are loading.
func moment(log string, loaded bool) string {
	created, promoted := strings.Count(log, `msg="generation created"`), strings.Count(log, `msg="generation promoted"`)
	switch {
	case !strings.Contains(log, `msg="stream started"`):
		return "starting"
	case created > promoted:
		return "building"
	case !loaded:
		return "loading"
	default:
		return "following"
	}
}

// TestMoment tests the tests' own judgement.
func TestMoment(t *testing.T) {
	for want, log := range map[string]string{
		"starting":  ``,
		"loading":   `msg="stream started"`,
		"building":  `msg="stream started" msg="generation created" msg="generation created" msg="generation promoted"`,
		"following": `msg="stream started" msg="generation created" msg="generation promoted"`,
	} {
		if got := moment(log, want != "loading"); got != want {
			t.Errorf("moment(%q) = %s, want %s", log, got, want)
		}
	}
}
