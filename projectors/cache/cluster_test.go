package cache

import (
	"os"
	"testing"

	"github.com/lanternist/lanternist/projectors"
)

// TestCluster runs against a cluster that is given, as redis+cluster://host:port. Its keys are removed at the end.
func TestCluster(t *testing.T) {
	url := os.Getenv("LANTERNIST_REDIS_CLUSTER_URL")
	if testing.Short() || url == "" {
		t.Skip("LANTERNIST_REDIS_CLUSTER_URL names no cluster")
	}
	c := clientOf(t, url, "lanternist-test:", nil)
	must(t, c.Check(t.Context()))
	s, g := liveStore(t, c, orders)
	other, g2 := liveStore(t, c, otherView{orders})
	mustWrite(t, g, 1, order("1", "7", "", "1"), order("2", "7", "", "2"))
	mustWrite(t, g2, 1, order("1", "8", "", "3"))
	wantDocument(t, s, "1", "1 @1")
	wantDocument(t, other, "1", "3 @1")
	wantLookup(t, s, byCustomer, "7", "1", "2")
	must(t, g.SaveCheckpoint(t.Context(), projectors.Checkpoint{Offset: 1}))
	if ids := idsOf(t, g); len(ids) != 2 {
		t.Errorf("ids %q", ids)
	}
	for _, store := range []*Store{s, other} {
		_, err := store.Create(t.Context(), projectors.Info{Number: 2})
		must(t, err)
		must(t, store.Promote(t.Context(), 2))
		must(t, store.Retire(t.Context(), 1))
		must(t, c.redis.Del(t.Context(), store.liveKey()).Err())
		must(t, store.Retire(t.Context(), 2))
	}
}
