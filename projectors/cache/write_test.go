package cache

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/lanternist/lanternist/event"
	"github.com/lanternist/lanternist/views"
)

func TestWriteKeepsTheNewest(t *testing.T) {
	s, g := liveStore(t, testClient(t, nil), orders)
	mustWrite(t, g, 10, order("1", "7", "", `"ten"`))
	wantDocument(t, s, "1", `"ten" @10`)
	mustWrite(t, g, 9, order("1", "8", "", `"nine"`), gone("1"))
	wantDocument(t, s, "1", `"ten" @10`)
	wantLookup(t, s, byCustomer, "8")
	mustWrite(t, g, 10, order("1", "7", "", `"ten again"`))
	wantDocument(t, s, "1", `"ten again" @10`)
	mustWrite(t, g, 12, gone("1"))
	wantDocument(t, s, "1", "deleted @12")
	wantLookup(t, s, byCustomer, "7")
	mustWrite(t, g, 11, order("1", "7", "", `"eleven"`))
	wantDocument(t, s, "1", "deleted @12")
	wantLookup(t, s, byCustomer, "7")
	mustWrite(t, g, 13, order("1", "7", "", `"thirteen"`))
	wantDocument(t, s, "1", `"thirteen" @13`)
	wantLookup(t, s, byCustomer, "7", "1")
	wantDocument(t, s, "2", "missing")
}

func TestVersionsAboveTheExactNumbersOfLua(t *testing.T) {
	s, g := liveStore(t, testClient(t, nil), orders)
	const high = event.Offset(1<<63 - 10)
	mustWrite(t, g, high+1, order("1", "", "", `"new"`))
	mustWrite(t, g, high, order("1", "", "", `"old"`))
	wantDocument(t, s, "1", fmt.Sprintf(`"new" @%d`, uint64(high+1)))
}

func TestLookupsFollowTheDocument(t *testing.T) {
	s, g := liveStore(t, testClient(t, nil), orders)
	mustWrite(t, g, 1, order("1", "7", "paid:DE", "1"), order("2", "7", "", "2"), order("10", "7", "paid:DE", "10"), order("3", "", "", "3"))
	wantLookup(t, s, byCustomer, "7", "1", "10", "2")
	wantLookup(t, s, byStatus, "paid:DE", "1", "10")
	mustWrite(t, g, 2, order("1", "8", "paid:DE", "1"), order("2", "7", "open:DE", "2"))
	wantLookup(t, s, byCustomer, "7", "10", "2")
	wantLookup(t, s, byCustomer, "8", "1")
	wantLookup(t, s, byStatus, "paid:DE", "1", "10")
	wantLookup(t, s, byStatus, "open:DE", "2")
	mustWrite(t, g, 3, order("1", "", "", "1"), gone("10"))
	wantLookup(t, s, byCustomer, "8")
	wantLookup(t, s, byCustomer, "7", "2")
	wantLookup(t, s, byStatus, "paid:DE")
}

func TestLargeAndManyDocuments(t *testing.T) {
	c := testClient(t, func(cfg *Config) { cfg.BatchBytes, cfg.BatchDocuments, cfg.PipelineSize = 1000, 7, 3 })
	s, g := liveStore(t, c, orders)
	var docs []views.Document
	for i := range 100 {
		docs = append(docs, order(fmt.Sprint(i), "7", "", `"`+strings.Repeat("x", i*i)+`"`))
	}
	mustWrite(t, g, 1, docs...)
	for i, d := range docs {
		wantDocument(t, s, fmt.Sprint(i), string(d.Body)+" @1")
	}
	mustWrite(t, g, 2)
}

func TestWriteWithoutTheScript(t *testing.T) {
	s, g := liveStore(t, testClient(t, nil), orders)
	mustWrite(t, g, 1, order("1", "", "", "1"))
	must(t, g.store.client.redis.ScriptFlush(t.Context()).Err())
	mustWrite(t, g, 2, order("1", "", "", "2"))
	wantDocument(t, s, "1", "2 @2")
}

func TestTimesToLive(t *testing.T) {
	view := orders
	view.options.TTL = time.Hour
	s, g := liveStore(t, testClient(t, func(cfg *Config) { cfg.TombstoneTTL = time.Minute }), view)
	mustWrite(t, g, 1, order("1", "", "", "1"), gone("2"))
	for id, most := range map[string]time.Duration{"1": time.Hour, "2": time.Minute} {
		left := s.client.redis.PTTL(t.Context(), g.keys.documents+id).Val()
		if left <= 0 || left > most {
			t.Errorf("%s lives for %v, want up to %v", id, left, most)
		}
	}
	view.options.TTL = 0
	s, g = liveStore(t, testClient(t, nil), view)
	mustWrite(t, g, 1, order("1", "", "", "1"))
	if left := s.client.redis.PTTL(t.Context(), g.keys.documents+"1").Val(); left >= 0 {
		t.Errorf("lives for %v, want for ever", left)
	}
}

func TestWritesAtOnce(t *testing.T) {
	s, g := liveStore(t, testClient(t, nil), orders)
	var all sync.WaitGroup
	errs := make(chan error, 8)
	for w := range 8 {
		all.Go(func() {
			for version := event.Offset(1); version <= 20; version++ {
				docs := []views.Document{order(fmt.Sprint(w), fmt.Sprint(uint64(version%3)), "", fmt.Sprint(uint64(version))), order("shared", "9", "", fmt.Sprint(uint64(version)))}
				if _, err := g.Write(t.Context(), version, docs); err != nil {
					errs <- err
					return
				}
			}
		})
	}
	all.Wait()
	close(errs)
	for err := range errs {
		t.Fatal(err)
	}
	for w := range 8 {
		wantDocument(t, s, fmt.Sprint(w), "20 @20")
	}
	wantDocument(t, s, "shared", "20 @20")
	wantLookup(t, s, byCustomer, "2", "0", "1", "2", "3", "4", "5", "6", "7")
	wantLookup(t, s, byCustomer, "1")
}

// TestModel writes documents in any order of versions and compares Redis with a map that does the same.
func TestModel(t *testing.T) {
	c := testClient(t, func(cfg *Config) { cfg.BatchDocuments, cfg.PipelineSize = 3, 2 })
	s := c.Store(orders)
	rapid.Check(t, func(rt *rapid.T) {
		must(t, c.redis.Del(t.Context(), s.liveKey()).Err())
		s.live.Store(nil)
		_, g := liveStore(t, c, orders)
		g.store = s
		s.remember(1, g.record, 0)
		model := map[string]views.Document{}
		versions := map[string]event.Offset{}
		names := rapid.SampledFrom([]string{"1", "2", "10", "a:b", "a%3Ab", "é"})
		values := rapid.SampledFrom([]string{"", "x", "y", "x:y"})
		for range rapid.IntRange(1, 8).Draw(rt, "writes") {
			version := event.Offset(rapid.Uint64Range(1, 9).Draw(rt, "version"))
			var docs []views.Document
			for range rapid.IntRange(0, 8).Draw(rt, "documents") {
				doc := views.Document{ID: names.Draw(rt, "id")}
				if rapid.IntRange(0, 2).Draw(rt, "deleted") > 0 {
					doc = order(doc.ID, values.Draw(rt, "customer"), values.Draw(rt, "status"), fmt.Sprintf("%q", rapid.String().Draw(rt, "body")))
				}
				docs = append(docs, doc)
				if version >= versions[doc.ID] {
					model[doc.ID], versions[doc.ID] = doc, version
				}
			}
			mustWrite(t, g, version, docs...)
		}
		for id, doc := range model {
			want := fmt.Sprintf("%s @%d", doc.Body, uint64(versions[id]))
			if doc.Body == nil {
				want = fmt.Sprintf("deleted @%d", uint64(versions[id]))
			}
			wantDocument(t, s, id, want)
		}
		for _, value := range []string{"x", "y", "x:y"} {
			var customers, statuses []string
			for _, id := range slices.Sorted(maps.Keys(model)) {
				if doc := model[id]; doc.Body != nil {
					if doc.Lookups[0] == value {
						customers = append(customers, id)
					}
					if doc.Lookups[1] == value {
						statuses = append(statuses, id)
					}
				}
			}
			wantLookup(t, s, byCustomer, value, customers...)
			wantLookup(t, s, byStatus, value, statuses...)
		}
		if t.Failed() {
			rt.FailNow()
		}
	})
}
