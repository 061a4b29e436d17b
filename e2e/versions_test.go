package e2e

import (
	"testing"

	"github.com/lanternist/lanternist/examples/shop"
	"github.com/lanternist/lanternist/internal/devstack"
	"github.com/lanternist/lanternist/internal/natsconn/natstest"
)

// TestPostgresVersions runs the shop on the versions of Postgres that are supported, apart from the one that all
// other tests run on.
func TestPostgresVersions(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"14", "16", "17", "18"} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			if testing.Short() {
				t.Skip("needs real services; run without -short")
			}
			smoke(t, options{database: devstack.Postgres(t, devstack.Version(version))})
		})
	}
}

func TestJetStreamJournal(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("needs real services; run without -short")
	}
	smoke(t, options{journal: `{url: "` + natstest.Start(t, 8<<20).URL() + `", stream: shop}`})
}

// smoke loads the shop, changes it, restarts in between, and compares.
func smoke(t *testing.T, o options) {
	in := installShop(t, o, small)
	tr := in.startTraffic(randomSource(t).Uint64(), busyRate)
	d := in.start()
	d.ready()
	d.kill()
	d = in.start()
	d.ready()
	d.stop()
	d = in.start()
	d.ready()
	tr.stop()
	d.reach()
	t.Logf("%d documents compared", in.compare(shop.Truth))
	d.nothingParked()
	d.stop()
}
