package e2e

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/lanternist/lanternist/event"
	"github.com/lanternist/lanternist/journal"
)

// findings is what a place holds that it should not, or lacks, by kind.
type findings struct {
	place    string
	compared int
	counts   map[string]int
	first    []string
}

// The kinds of findings.
const (
	missing    = "missing"    // was committed, is not there
	extra      = "extra"      // was deleted, is still there
	stale      = "stale"      // is older than what was committed last
	phantom    = "phantom"    // was never committed
	duplicated = "duplicated" // is there twice
	reordered  = "reordered"  // is there, in another order than that of the commits
)

func (f *findings) add(kind, format string, args ...any) {
	if f.counts == nil {
		f.counts = map[string]int{}
	}
	f.counts[kind]++
	if len(f.first) < 10 {
		f.first = append(f.first, kind+": "+fmt.Sprintf(format, args...))
	}
}

// report fails the test when there is any.
func (f *findings) report(t testing.TB) {
	t.Helper()
	if len(f.counts) > 0 {
		t.Errorf("%s: %v of %d\n%s", f.place, f.counts, f.compared, strings.Join(f.first, "\n"))
	}
}

// rows compares the rows that a place holds with the record. Nothing may be written meanwhile.
func (l *ledger) rows(place string, held map[int64]int64) *findings {
	f := &findings{place: place}
	for _, w := range l.workers {
		w.mu.Lock()
		for id, want := range w.now {
			got, there := held[id]
			f.compared++
			switch {
			case want == 0 && !there, there && got == want:
			case w.never[got] || got > w.serial:
				f.add(phantom, "row %d has serial %d, which never committed; want %d", id, got, want)
			case want == 0:
				f.add(extra, "row %d has serial %d, was deleted", id, got)
			case !there:
				f.add(missing, "row %d, serial %d", id, want)
			case got < want:
				f.add(stale, "row %d has serial %d, want %d", id, got, want)
			default:
				f.add(phantom, "row %d has serial %d, want %d", id, got, want)
			}
		}
		w.mu.Unlock()
	}
	for id, serial := range held {
		if w, _ := l.writerOf(strconv.FormatInt(id, 10)); w == nil {
			f.add(phantom, "row %d, serial %d, is nobody's", id, serial)
		} else if _, known := w.now[id]; !known {
			f.add(phantom, "row %d, serial %d, never was", id, serial)
		}
	}
	return f
}

// heldDocuments are rows as a sink's documents show them. A document whose parts do not belong together is none that ever was.
func heldDocuments(f *findings, docs documents) map[int64]int64 {
	held := map[int64]int64{}
	for id, body := range docs {
		var doc struct {
			ID, Serial int64
			Body       string
		}
		if err := json.Unmarshal(body, &doc); err != nil || strconv.FormatInt(doc.ID, 10) != id || doc.Body != ledgerBody(doc.ID, doc.Serial) {
			f.add(phantom, "document %s is %s, %v", id, body, err)
			continue
		}
		held[doc.ID] = doc.Serial
	}
	return held
}

// history compares the values that each row has had, in the order of a journal, with the record.
func (l *ledger) history(got map[int64][]int64) *findings {
	f := &findings{place: "journal, row by row"}
	for _, w := range l.workers {
		for id, want := range w.past {
			f.compared += len(want)
			compareHistory(f, id, want, got[id], w.never)
		}
	}
	for id, values := range got {
		if w, _ := l.writerOf(strconv.FormatInt(id, 10)); w == nil || w.past[id] == nil {
			f.add(phantom, "row %d had %v, never was", id, values)
		}
	}
	return f
}

func compareHistory(f *findings, id int64, want, got []int64, never map[int64]bool) {
	if slices.Equal(want, got) {
		return
	}
	seen := map[int64]int{}
	for _, serial := range got {
		if serial != 0 {
			seen[serial]++
		}
	}
	before := len(f.first) + len(f.counts)
	for _, serial := range want {
		if serial != 0 && seen[serial] == 0 {
			f.add(missing, "row %d, serial %d", id, serial)
		}
	}
	for serial, n := range seen {
		switch {
		case never[serial] || !slices.Contains(want, serial):
			f.add(phantom, "row %d, serial %d", id, serial)
		case n > 1:
			f.add(duplicated, "row %d, serial %d, %d times", id, serial, n)
		}
	}
	if len(f.first)+len(f.counts) == before {
		f.add(reordered, "row %d had %v, want %v", id, got, want)
	}
}

// ledgerHistory are the values that each row of the ledger has had, in the order of the stopped daemon's journal; 0 is its
// deletion.
func (in *installation) ledgerHistory() map[int64][]int64 {
	t := in.t
	t.Helper()
	all := map[int64][]int64{}
	in.eachBatch(func(b *journal.Batch) {
		for i := range b.Parts {
			for k := range b.Parts[i].Events {
				e := &b.Parts[i].Events[k]
				if e.Schema == nil || e.Schema.Name != "ledger" {
					continue
				}
				values := e.After
				if e.Op == event.Delete {
					values = e.Before
				}
				id, err := strconv.ParseInt(string(values.Column(0).Text), 10, 64)
				if err != nil {
					t.Fatalf("event %v: %v", e.Offset, err)
				}
				serial := int64(0)
				if e.Op != event.Delete {
					if serial, err = strconv.ParseInt(string(values.Column(1).Text), 10, 64); err != nil {
						t.Fatalf("event %v: %v", e.Offset, err)
					}
				}
				all[id] = append(all[id], serial)
			}
		}
	})
	return all
}

// TestFindings tests the tests' own judgement.
func TestFindings(t *testing.T) {
	l := newLedger(nil, 1, 1, 1)
	w := l.workers[0]
	id := w.first
	for serial := range int64(3) {
		w.record([]change{{id, serial + 1}})
	}
	w.forget([]change{{id, 4}})
	w.record([]change{{id + 1, 5}})
	w.record([]change{{id + 1, 0}})
	w.serial = 5
	for kind, held := range map[string]map[int64]int64{
		"":      {id: 3},
		missing: {},
		stale:   {id: 2},
		extra:   {id: 3, id + 1: 5},
		phantom: {id: 4},
	} {
		if f := l.rows("here", held); f.counts[kind] != min(1, len(kind)) || len(f.counts) != min(1, len(kind)) {
			t.Errorf("%s: %+v", kind, f)
		}
	}
	for _, id := range []int64{id + 7, 5} {
		if f := l.rows("here", map[int64]int64{w.first: 3, id: 1}); f.counts[phantom] != 1 {
			t.Errorf("a row that never was: %+v", f)
		}
	}
	for kind, got := range map[string][]int64{
		"":         {1, 2, 3},
		missing:    {1, 3},
		duplicated: {1, 2, 2, 3},
		reordered:  {2, 1, 3},
		phantom:    {1, 2, 4, 3},
	} {
		if f := l.history(map[int64][]int64{id: got, id + 1: {5, 0}}); f.counts[kind] != min(1, len(kind)) || len(f.counts) != min(1, len(kind)) {
			t.Errorf("history %s: %+v", kind, f)
		}
	}
	f := &findings{}
	if held := heldDocuments(f, documents{"1": []byte(`{"id":1,"serial":2,"body":"of another value"}`)}); len(held) != 0 || f.counts[phantom] != 1 {
		t.Errorf("%v %+v", held, f)
	}
}
