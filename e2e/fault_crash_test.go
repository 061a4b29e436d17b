package e2e

import (
	"fmt"
	"testing"
	"time"

	"github.com/lanternist/lanternist/examples/shop"
	"github.com/lanternist/lanternist/internal/faultpoint"
	"github.com/lanternist/lanternist/internal/faults"
)

// crash is a place on the path of a change at which the process ends.
type crash struct {
	faults.Fault
	place string
}

// crashes are the places, in the order of the path.
func crashes() []crash {
	const again = "nothing: the service manager starts it again"
	return []crash{{
		Fault: faults.Fault{ID: "crash-before-append", Area: "Process", Heavy: true,
			Fault:   "Crash with changes staged in the mirror's memory, before they are in the journal",
			Promise: "They were not acknowledged: the source sends them again, and they are journaled once.", Answer: again},
		place: "ingest/staged",
	}, {
		Fault: faults.Fault{ID: "crash-between-journal-and-mirror", Area: "Process",
			Fault:   "Crash between the journal's append and the mirror's commit",
			Promise: "The mirror catches up from the journal at the next start, before anything new is taken (I3: the mirror is never ahead).", Answer: again},
		place: "ingest/journaled",
	}, {
		Fault: faults.Fault{ID: "crash-between-mirror-and-acknowledgement", Area: "Process", Heavy: true,
			Fault:   "Crash between the mirror's commit and the acknowledgement to the source",
			Promise: "The source sends again what the journal has; it is recognised and not journaled twice (I1: acknowledged is never ahead of durable).", Answer: again},
		place: "ingest/mirrored",
	}, {
		Fault: faults.Fault{ID: "crash-after-acknowledgement", Area: "Process", Heavy: true,
			Fault:   "Crash right after changes were acknowledged",
			Promise: "Whatever the source has forgotten is in the journal.", Answer: again},
		place: "ingest/acknowledged",
	}, {
		Fault: faults.Fault{ID: "crash-with-idle-position", Area: "Process", Heavy: true,
			Fault:   "Crash after an idle source's position was made durable, before it was acknowledged",
			Promise: "The next start tells a slot that is behind from a journal that has lost something, and goes on.", Answer: again},
		place: "ingest/idle",
	}, {
		Fault: faults.Fault{ID: "crash-between-sink-and-checkpoint", Area: "Sinks",
			Fault:   "Crash between a write to Elasticsearch and its checkpoint",
			Promise: "The same documents are written again with their versions, which changes nothing (I2: a checkpoint never covers what was not written).", Answer: again},
		place: "order_summary.search/round/written",
	}, {
		Fault: faults.Fault{ID: "crash-between-cache-and-checkpoint", Area: "Sinks", Heavy: true,
			Fault:   "Crash between a write to Redis and its checkpoint",
			Promise: "The same documents are written again with their versions, which changes nothing.", Answer: again},
		place: "order_summary.cache/round/written",
	}, {
		Fault: faults.Fault{ID: "crash-before-checkpoint-is-saved", Area: "Sinks", Heavy: true,
			Fault:   "Crash when a checkpoint is about to be saved",
			Promise: "The projector goes on from the one before it.", Answer: again},
		place: "order_summary.search/checkpoint/saving",
	}, {
		Fault: faults.Fault{ID: "crash-after-checkpoint-was-saved", Area: "Sinks", Heavy: true,
			Fault:   "Crash right after a checkpoint was saved, before anybody was told",
			Promise: "The projector goes on from it: everything that it covers is in the sink.", Answer: again},
		place: "order_summary.search/checkpoint/saved",
	}}
}

// TestFaultCrash ends the daemon at each place on the path of a change, under traffic, and compares source, journal and sinks after
// each.
func TestFaultCrash(t *testing.T) {
	t.Parallel()
	in := installShop(t, options{batch: "16KiB"}, small)
	path, err := crashingBinary()
	if err != nil {
		t.Fatal(err)
	}
	random := randomSource(t)
	audit := in.startAudit(shop.Tables())
	d := in.start()
	d.ready()
	d.stop()
	for _, c := range crashes() {
		t.Run(c.ID, func(t *testing.T) {
			result := faults.Cause(t, c.Fault)
			in := in.within(t)
			nth := 1 + random.IntN(5)
			if c.place == "ingest/idle" {
				nth = 1 // it comes every ten seconds at most
			}
			d := in.startBinary(path, fmt.Sprintf("%s=%s#%d", faultpoint.Variable, c.place, nth))
			tr := in.startTraffic(random.Uint64(), busyRate)
			if code := d.exit(readyWithin); code != -1 {
				t.Fatalf("the daemon ended with %d at %s, it was to be killed", code, c.place)
			}
			began := time.Now()
			d = in.start()
			d.ready()
			d.reach()
			result.Recovered(time.Since(began))
			tr.stop()
			d.reach()
			n := in.compare(shop.Truth)
			d.nothingParked()
			d.stop()
			a := *audit
			a.in = in
			a.compare()
			result.Parked(0)
			result.Notef("%d documents and %d transactions compared", n, a.compared)
		})
	}
}

// within is the installation for a subtest.
func (in *installation) within(t *testing.T) *installation {
	t.Helper()
	sub := *in
	sub.t = t
	return &sub
}
