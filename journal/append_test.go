package journal_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/lanternist/lanternist/event"
	"github.com/lanternist/lanternist/journal"
)

// TestAppendedIsRead appends random batches and reads them from memory and, after reopening, from the engine.
func TestAppendedIsRead(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	dir := t.TempDir()
	j := open(t, dir, journal.Config{MinSequence: 500})
	var want []string
	var last event.Offset
	for n := 1; n < 300; n += 5 {
		parts := journal.RandomParts(r, n)
		offset, err := j.Append(t.Context(), parts)
		if err != nil {
			t.Fatal(err)
		}
		if offset <= last {
			t.Fatalf("offset %s after %s", offset, last)
		}
		last = offset
		index := 0
		for i := range parts {
			for k := range parts[i].Events {
				if got := parts[i].Events[k].Offset; got != event.NewOffset(offset.Sequence(), index) {
					t.Fatalf("event %d of batch %d was told the offset %s", index, offset.Sequence(), got)
				}
				index++
			}
		}
		want = append(want, journal.Describe(parts))
	}
	check := func(j opened) {
		t.Helper()
		var after event.Offset
		if b, err := j.Next(t.Context(), after); err != nil || len(b.Parts) != 0 || b.Sequence != 500 {
			t.Fatalf("first batch: %+v, %v", b, err)
		} else {
			after = b.Last()
		}
		for n, parts := range want {
			b, err := j.Next(t.Context(), after)
			if err != nil {
				t.Fatal(err)
			}
			if got := journal.Describe(b.Parts); got != parts || b.Sequence != uint64(501+n) {
				t.Fatalf("batch %d holds\n%s\nwant\n%s", b.Sequence, got, parts)
			}
			if direct, err := j.Read(t.Context(), b.Sequence); err != nil || journal.Describe(direct.Parts) != parts {
				t.Fatalf("read batch %d: %v", b.Sequence, err)
			}
			after = b.Last()
		}
		if head := j.Head(); after != head.Offset {
			t.Fatalf("read up to %s, the head is %s", after, head.Offset)
		}
	}
	check(j)
	head, identity := j.Head(), j.Identity()
	j = cold(t, j, dir, journal.Config{MinSequence: 502})
	if got := j.Head(); got != head || j.Identity() != identity {
		t.Fatalf("head %+v of %s after reopening, want %+v of %s", got, j.Identity(), head, identity)
	}
	check(j)
	if j.engine.reads < len(want) {
		t.Errorf("only %d entries were read from the engine", j.engine.reads)
	}
}

func TestHeadFollowsALargeTransaction(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, journal.Config{})
	if head := j.Head(); !head.Complete || head.CommitLSN != 0 || head.EndLSN != 0 || head.Offset != event.NewOffset(1, 0) {
		t.Fatalf("a new journal ends at %+v", head)
	}
	steps := []struct {
		parts                       []journal.Part
		commit, end, xid, ordinal   int
		complete                    bool
		offsetSequence, offsetIndex int
	}{
		{[]journal.Part{journal.Transaction(1, 3)}, 1000, 1050, 1, 3, true, 2, 2},
		{[]journal.Part{journal.Transaction(2, 1), journal.PartOf(3, 0, 4, false)}, 3000, 2050, 3, 4, false, 3, 4},
		{[]journal.Part{journal.PartOf(3, 4, 2, false)}, 3000, 2050, 3, 6, false, 4, 1},
		{[]journal.Part{journal.PartOf(3, 6, 0, true)}, 3000, 3050, 3, 6, true, 5, 0},
		{[]journal.Part{journal.Transaction(4, 0)}, 4000, 4050, 4, 0, true, 6, 0},
	}
	for n, s := range steps {
		if _, err := j.Append(t.Context(), s.parts); err != nil {
			t.Fatal(err)
		}
		for _, where := range []string{"after the append", "after reopening"} {
			h := j.Head()
			if int(h.CommitLSN) != s.commit || int(h.EndLSN) != s.end || int(h.XID) != s.xid || int(h.Ordinal) != s.ordinal ||
				h.Complete != s.complete || h.Offset != event.NewOffset(uint64(s.offsetSequence), s.offsetIndex) {
				t.Fatalf("step %d, %s: head %+v, want %+v", n, where, h, s)
			}
			j = cold(t, j, dir, journal.Config{})
		}
	}
}

// TestRefusesWhatIsNotNext: each event of each transaction once, in commit order, and nothing else.
func TestRefusesWhatIsNotNext(t *testing.T) {
	complete := func(*testing.T, opened) {}
	inside := func(t *testing.T, j opened) { // transaction 5 is in the journal up to ordinal 4
		if _, err := j.Append(t.Context(), []journal.Part{journal.PartOf(5, 0, 4, false)}); err != nil {
			t.Fatal(err)
		}
	}
	changed := func(p journal.Part, change func(*journal.Part)) journal.Part {
		change(&p)
		return p
	}
	tests := map[string]struct {
		given func(*testing.T, opened)
		parts []journal.Part
	}{
		"a transaction again":              {complete, []journal.Part{journal.Transaction(3, 2)}},
		"a transaction before the last":    {complete, []journal.Part{journal.Transaction(2, 2)}},
		"twice in one batch":               {complete, []journal.Part{journal.Transaction(5, 1), journal.Transaction(5, 1)}},
		"backwards in one batch":           {complete, []journal.Part{journal.Transaction(6, 1), journal.Transaction(5, 1)}},
		"a part again":                     {inside, []journal.Part{journal.PartOf(5, 0, 4, false)}},
		"a part that overlaps":             {inside, []journal.Part{journal.PartOf(5, 3, 2, true)}},
		"another before the end":           {inside, []journal.Part{journal.Transaction(6, 1)}},
		"another one's rest":               {inside, []journal.Part{changed(journal.PartOf(5, 4, 1, true), func(p *journal.Part) { p.XID = 9 })}},
		"an ordinal twice":                 {complete, []journal.Part{changed(journal.Transaction(5, 2), func(p *journal.Part) { p.Events[1].Ordinal = 0 })}},
		"an ordinal before the part":       {complete, []journal.Part{changed(journal.PartOf(5, 1, 1, true), func(p *journal.Part) { p.Events[0].Ordinal = 0 })}},
		"complete without an end":          {complete, []journal.Part{changed(journal.Transaction(5, 1), func(p *journal.Part) { p.EndLSN = 0 })}},
		"an end before the commit":         {complete, []journal.Part{changed(journal.Transaction(5, 1), func(p *journal.Part) { p.EndLSN = p.CommitLSN })}},
		"a bad part after a good one":      {complete, []journal.Part{journal.Transaction(5, 1), journal.Transaction(3, 1)}},
		"the end of a finished one, again": {complete, []journal.Part{journal.PartOf(3, 2, 0, true)}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			j := open(t, t.TempDir(), journal.Config{})
			fill(t, j, 1, 3)
			test.given(t, j)
			before := j.Head()
			if _, err := j.Append(t.Context(), test.parts); !errors.Is(err, journal.ErrOutOfOrder) {
				t.Fatalf("append: %v", err)
			}
			if after := j.Head(); after != before {
				t.Fatalf("the head moved from %+v to %+v", before, after)
			}
			if _, last, err := j.engine.Bounds(t.Context()); err != nil || last != before.Offset.Sequence() {
				t.Fatalf("the engine ends with %d, %v; the journal with %s", last, err, before.Offset)
			}
			next := []journal.Part{journal.Transaction(10, 1)}
			if !before.Complete {
				next = []journal.Part{journal.PartOf(5, 4, 1, true)}
			}
			if _, err := j.Append(t.Context(), next); err != nil {
				t.Fatalf("append of what is next: %v", err)
			}
		})
	}
}

func TestRefusesWhatCouldNotBeRead(t *testing.T) {
	j := open(t, t.TempDir(), journal.Config{})
	unknown := journal.Transaction(1, 1)
	s := *journal.Orders
	s.ID = 99
	unknown.Events[0].Schema = &s
	if _, err := j.Append(t.Context(), []journal.Part{unknown}); !errors.Is(err, journal.ErrUnknownSchema) {
		t.Errorf("unknown schema: %v", err)
	}
	torn := journal.Transaction(1, 1)
	torn.Events[0].After = torn.Events[0].After[:5]
	if _, err := j.Append(t.Context(), []journal.Part{torn}); !errors.Is(err, journal.ErrMalformed) {
		t.Errorf("torn row: %v", err)
	}
	if _, err := j.Append(t.Context(), nil); err == nil {
		t.Error("a batch without parts was taken")
	}
	j.engine.most = 64 << 10
	large := journal.Transaction(1, 1)
	large.Events[0].After = journal.Text("1", strings.Repeat("x", 70<<10), "2")
	if _, err := j.Append(t.Context(), []journal.Part{large}); !errors.Is(err, journal.ErrTooLarge) {
		t.Errorf("large row: %v", err)
	}
	j.engine.most = 0
	many := journal.Transaction(1, event.MaxBatchEvents+1)
	if _, err := j.Append(t.Context(), []journal.Part{many}); !errors.Is(err, journal.ErrTooLarge) {
		t.Errorf("many events: %v", err)
	}
	most := journal.Transaction(1, event.MaxBatchEvents)
	offset, err := j.Append(t.Context(), []journal.Part{most})
	if err != nil || offset.Index() != event.MaxBatchEvents-1 {
		t.Errorf("as many events as there may be: %s, %v", offset, err)
	}
	fill(t, j, 2, 2)
	if b, err := j.Next(t.Context(), offset); err != nil || b.Sequence != offset.Sequence()+1 {
		t.Errorf("after the last event of a full batch comes %+v, %v", b, err)
	}
}

func TestUnknownOutcomeStopsTheWriter(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, journal.Config{})
	fill(t, j, 1, 2)
	broken := errors.New("the disk does not answer")
	j.engine.append = func(uint64) error { return broken }
	if _, err := j.Append(t.Context(), []journal.Part{journal.Transaction(3, 1)}); !errors.Is(err, broken) {
		t.Fatalf("append: %v", err)
	}
	j.engine.append = nil
	if _, err := j.Append(t.Context(), []journal.Part{journal.Transaction(3, 1)}); !errors.Is(err, journal.ErrBroken) {
		t.Fatalf("append after an unknown outcome: %v", err)
	}
	j = cold(t, j, dir, journal.Config{})
	fill(t, j, 3, 4)
}

func TestFencedWriterStops(t *testing.T) {
	j := open(t, t.TempDir(), journal.Config{})
	fill(t, j, 1, 1)
	if err := j.engine.Log.Append(t.Context(), 3, []byte("someone else")); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := j.Append(t.Context(), []journal.Part{journal.Transaction(2, 1)}); !errors.Is(err, journal.ErrFenced) {
			t.Fatalf("append: %v", err)
		}
	}
}

func TestSequencesBeginWhereTheyAreTold(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, journal.Config{MinSequence: 1 << 40})
	if got := j.Head().Offset; got != event.NewOffset(1<<40, 0) || j.First() != 1<<40 {
		t.Fatalf("a new journal begins at %s", got)
	}
	fill(t, j, 1, 3)
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := tryOpen(t, dir, journal.Config{MinSequence: 1<<40 + 5}); !errors.Is(err, journal.ErrBehind) {
		t.Fatalf("a journal that ends before what was seen: %v", err)
	}
	j = open(t, dir, journal.Config{MinSequence: 1<<40 + 4})
	fill(t, j, 4, 4)
	other := open(t, t.TempDir(), journal.Config{})
	if other.Identity() == j.Identity() || len(j.Identity()) != 36 {
		t.Errorf("identities %s and %s", j.Identity(), other.Identity())
	}
}

func TestConfigTellsAllItsErrors(t *testing.T) {
	_, err := journal.Open(t.Context(), nil, nil, journal.Config{
		Retention: journal.Retention{Age: -1, Size: 5}, CacheBytes: -1, MinSequence: 1 << 50,
	}, nil)
	if err == nil || strings.Count(err.Error(), "\n") != 3 {
		t.Fatalf("%v", err)
	}
}

func TestClosedJournal(t *testing.T) {
	j := open(t, t.TempDir(), journal.Config{})
	fill(t, j, 1, 1)
	waiting := make(chan error, 1)
	head := j.Head().Offset
	go func() {
		_, err := j.Next(context.Background(), head)
		waiting <- err
	}()
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-waiting; !errors.Is(err, journal.ErrClosed) {
		t.Errorf("next: %v", err)
	}
	if _, err := j.Append(t.Context(), []journal.Part{journal.Transaction(2, 1)}); !errors.Is(err, journal.ErrClosed) {
		t.Errorf("append: %v", err)
	}
	if _, err := j.Read(t.Context(), 1); !errors.Is(err, journal.ErrClosed) {
		t.Errorf("read: %v", err)
	}
	if err := j.Trim(t.Context()); !errors.Is(err, journal.ErrClosed) {
		t.Errorf("trim: %v", err)
	}
	if err := j.Close(); err != nil {
		t.Errorf("second close: %v", err)
	}
}

func TestAloneUntilSomebodyElseAppends(t *testing.T) {
	t.Parallel()
	j := open(t, t.TempDir(), journal.Config{})
	for n := range 2 { // empty, and not
		if err := j.Alone(t.Context()); err != nil {
			t.Fatal(err)
		}
		fill(t, j, n+1, n+1)
	}
	if err := j.engine.Log.Append(t.Context(), 4, []byte("someone else")); err != nil {
		t.Fatal(err)
	}
	if err := j.Alone(t.Context()); !errors.Is(err, journal.ErrFenced) {
		t.Errorf("with another writer: %v", err)
	}
}
