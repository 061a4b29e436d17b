package asof

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pglogrepl"

	"github.com/lanternist/lanternist/event"
	"github.com/lanternist/lanternist/journal"
	"github.com/lanternist/lanternist/projectors"
)

// made makes a view, and removes it again.
func (w *world) made(at Moment) (*View, map[string]string) {
	w.t.Helper()
	plan, err := w.Plan(w.t.Context(), w.view, at, "then")
	check(w.t, err)
	v, err := w.Make(w.t.Context(), plan, nil)
	check(w.t, err)
	if !w.store.info.Live || w.store.checkpoint == nil || w.store.checkpoint.LSN != v.LSN || !w.store.checkpoint.Served {
		w.t.Errorf("as of %s: the sink holds %+v, %+v", at, w.store.info, w.store.checkpoint)
	}
	documents := maps.Clone(w.store.documents)
	check(w.t, w.Drop(w.t.Context(), "then", nil))
	return v, documents
}

// refused wants a moment to be refused, for a reason.
func (w *world) refused(at Moment, class error, reasons ...string) {
	w.t.Helper()
	_, err := w.Plan(w.t.Context(), w.view, at, "then")
	if !errors.Is(err, class) {
		w.t.Fatalf("as of %s: %v", at, err)
	}
	for _, reason := range reasons {
		if !strings.Contains(err.Error(), reason) {
			w.t.Errorf("as of %s: %q is not said: %v", at, reason, err)
		}
	}
}

func same(t *testing.T, what string, got, want map[string]string) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("%s: %d documents, want %d", what, len(got), len(want))
	}
	for id, text := range want {
		var g, w any
		if json.Unmarshal([]byte(got[id]), &g) != nil || json.Unmarshal([]byte(text), &w) != nil || !reflect.DeepEqual(g, w) {
			t.Errorf("%s: document %s is %s, want %s", what, id, got[id], text)
		}
	}
}

// committed is a transaction and what the tables were after it.
type committed struct {
	event.Transaction
	after map[string]string
}

// TestEveryMoment makes a view as of each transaction of a random history: of its position, of the one just after it, and of its
// time. Transactions share batches or span several, clocks go back, a column comes, copies of the mirror are made in between.
func TestEveryMoment(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	w := newWorld(t, journal.Retention{})
	w.load(customers)
	w.load(ordersThen)
	w.load(stray)
	w.copy()
	transactions := 50
	if testing.Short() {
		transactions = 15
	}
	now := model{map[string]string{}, map[string]order{}}
	history := []committed{{event.Transaction{}, now.documents(t)}}
	for n := range transactions {
		schema := ordersThen
		if n > transactions/2 {
			schema = orders
		}
		w.clock = w.clock.Add(time.Duration(r.IntN(4)-1) * time.Microsecond) // it may stand still or go back
		if n == 1 {
			w.clock = w.clock.Add(time.Second) // but not to before the first transaction: of that time nothing is known
		}
		var changes []event.Event
		for range 1 + r.IntN(6) {
			changes = append(changes, now.change(r, schema))
		}
		limit := 100
		if r.IntN(4) == 0 {
			limit = 1 + r.IntN(3)
		}
		history = append(history, committed{w.commit(limit, changes...), now.documents(t)})
		if r.IntN(3) > 0 {
			w.flush()
		}
		if r.IntN(8) == 0 {
			w.flush()
			w.copy()
		}
	}
	w.flush()
	w.clock = w.clock.Add(time.Second)
	for i, c := range history[1:] {
		v, got := w.made(Moment{LSN: c.CommitLSN + 1})
		same(t, fmt.Sprintf("after transaction %d", i), got, c.after)
		if v.LSN != c.CommitLSN+1 || v.Last == nil && i > 0 {
			t.Errorf("transaction %d: it promises %s, of %+v", i, v.LSN, v.Last)
		}
		if i%3 == 0 {
			_, got = w.made(Moment{LSN: c.CommitLSN})
			same(t, fmt.Sprintf("before transaction %d", i), got, history[i].after)
		}
		if i%3 == 1 {
			_, got = w.made(Moment{Time: c.CommitTime})
			same(t, fmt.Sprintf("at the time of transaction %d", i), got, atTime(history, c.CommitTime))
		}
	}
}

// atTime is what the tables were before the first transaction with a later time.
func atTime(history []committed, at time.Time) map[string]string {
	for i, c := range history[1:] {
		if c.CommitTime.After(at) {
			return history[i].after
		}
	}
	return history[len(history)-1].after
}

func TestUnavailable(t *testing.T) {
	w := newWorld(t, journal.Retention{})
	w.refused(Moment{LSN: 1}, ErrUnavailable, "there is no mirror checkpoint yet", "lanternist mirror checkpoint")
	w.load(customers)
	w.copy()
	w.commit(9, insert(customers, "1", "a"))
	w.flush()
	w.refused(Moment{LSN: w.lsn}, ErrUnavailable, "not captured then: public.orders")
	w.load(orders)
	loaded := w.lsn
	w.refused(Moment{LSN: w.lsn}, ErrUnavailable, "not captured then: public.orders")
	w.lsn += 100
	w.Mirror.Advance(w.lsn)
	first := w.copy()
	w.commit(9, insert(orders, "1", "1", "new"))
	w.flush()

	// Before the table was loaded nothing is known of it, though no transaction was captured in between.
	w.refused(Moment{LSN: loaded - 1}, ErrUnavailable, "not captured yet: public.orders", "the oldest moment that can be had: lanternist rebuild order --as-of "+first.LSN.String())
	w.refused(Moment{Time: w.clock.Add(-time.Hour)}, ErrUnavailable, "oldest moment that can be had: lanternist rebuild order --as-of 20")
	if _, got := w.made(Moment{LSN: loaded}); len(got) != 0 {
		t.Errorf("got %v", got)
	}
	if _, got := w.made(Moment{LSN: w.lsn}); len(got) != 1 {
		t.Errorf("got %v", got)
	}

	// What has not been.
	w.refused(Moment{LSN: w.lsn + 1}, ErrFuture)
	w.refused(Moment{Time: w.clock.Add(time.Second)}, ErrFuture)
	w.refused(Moment{LSN: w.lsn, Epoch: "other"}, ErrUnavailable, "epoch other")

	// A table that was loaded again: between the copy before the moment and the next one it may have had gaps.
	between := w.lsn
	w.commit(9, insert(customers, "2", "b"))
	w.flush()
	w.load(orders)
	w.commit(9, insert(orders, "2", "2", "again"))
	w.flush()
	w.refused(Moment{LSN: w.lsn}, ErrUnavailable, "loaded again", "public.orders")
	w.copy()
	w.refused(Moment{LSN: between + 1}, ErrUnavailable, "loaded again", "public.orders")
	// Unless it is known that it was captured all the time, though the mirror was loaded anew.
	since := map[uint32]pglogrepl.LSN{orders.OID: first.LSN, customers.OID: 0}
	w.Since = func(context.Context) (map[uint32]pglogrepl.LSN, error) { return since, nil }
	if _, got := w.made(Moment{LSN: between + 1}); len(got) != 1 {
		t.Errorf("got %v", got)
	}
	since[orders.OID] = first.LSN + 1
	w.refused(Moment{LSN: between + 1}, ErrUnavailable, "loaded again", "public.orders")
	if _, got := w.made(Moment{LSN: w.lsn}); len(got) != 1 {
		t.Errorf("got %v", got)
	}
}

func TestNames(t *testing.T) {
	w := newWorld(t, journal.Retention{})
	w.load(customers)
	w.load(orders)
	w.copy()
	at := Moment{LSN: w.lsn}
	for _, name := range []string{"order", "Then", "", "a-b"} {
		if _, err := w.Plan(t.Context(), w.view, at, name); !errors.Is(err, ErrName) {
			t.Errorf("%q: %v", name, err)
		}
	}
	plan, err := w.Plan(t.Context(), w.view, at, "then")
	check(t, err)
	// What somebody else has in the sink is not touched.
	w.store.info = &projectors.Info{Number: 1, Live: true}
	if _, err := w.Make(t.Context(), plan, nil); !errors.Is(err, ErrName) || w.store.info == nil {
		t.Errorf("%v, %+v", err, w.store.info)
	}
	w.store.info = nil
	_, err = w.Make(t.Context(), plan, nil)
	check(t, err)
	if _, err := w.Make(t.Context(), plan, nil); !errors.Is(err, ErrName) || w.store.info == nil {
		t.Errorf("a second one: %v", err)
	}
	if err := w.Drop(t.Context(), "other", nil); !errors.Is(err, ErrUnknown) || !strings.Contains(err.Error(), "then") {
		t.Errorf("drop: %v", err)
	}
}

// TestDamaged: a copy of the mirror that is damaged is named; an older one leads to the same.
func TestDamaged(t *testing.T) {
	w := newWorld(t, journal.Retention{})
	w.load(customers)
	w.load(orders)
	w.commit(9, insert(orders, "0", "1", strings.Repeat("old ", 20)))
	w.flush()
	w.copy()
	old := w.stored()
	w.commit(9, insert(orders, "1", "1", "new"))
	w.flush()
	newest := w.copy()
	w.flip(old)
	v, got := w.made(Moment{LSN: w.lsn})
	if len(got) != 2 || v.Checkpoint == newest.Name() {
		t.Errorf("from %s: %v", v.Checkpoint, got)
	}
	w.flip(nil)
	plan, err := w.Plan(t.Context(), w.view, Moment{LSN: w.lsn}, "then")
	check(t, err)
	_, err = w.Make(t.Context(), plan, nil)
	if !errors.Is(err, ErrUnavailable) || strings.Count(err.Error(), "is damaged: file ") != 2 {
		t.Errorf("got %v", err)
	}
	w.nothing()
}

// stored are the objects that there are.
func (w *world) stored() map[string]bool {
	w.t.Helper()
	all := map[string]bool{}
	check(w.t, filepath.WalkDir(filepath.Join(w.dir, "archive"), func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && strings.Contains(path, "objects") {
			all[path] = true
		}
		return err
	}))
	return all
}

// flip changes a byte of all objects but these.
func (w *world) flip(but map[string]bool) {
	w.t.Helper()
	for path := range w.stored() {
		text, err := os.ReadFile(path)
		check(w.t, err)
		if but[path] || len(text) == 0 {
			continue
		}
		text[0]++ // flipped twice it is still another one
		check(w.t, os.WriteFile(path, text, 0o600))
	}
}

// nothing wants nothing of a view to be left.
func (w *world) nothing() {
	w.t.Helper()
	records, err := Records(context.Background(), w.Control)
	check(w.t, err)
	if len(records) > 0 || w.store.info != nil {
		w.t.Errorf("left are %+v, %+v", records, w.store.info)
	}
	if left, err := filepath.Glob(filepath.Join(w.dir, "mirror-asof", "*")); err != nil || len(left) > 0 {
		w.t.Errorf("left are %v, %v", left, err)
	}
}

// TestFailed: when a sink stops the making, nothing is left.
func TestFailed(t *testing.T) {
	w := newWorld(t, journal.Retention{})
	w.load(customers)
	w.load(orders)
	w.commit(9, insert(orders, "1", "1", "new"))
	w.flush()
	w.copy()
	plan, err := w.Plan(t.Context(), w.view, Moment{LSN: w.lsn}, "then")
	check(t, err)
	w.store.refuse = projectors.Fatalf("", "no")
	if _, err := w.Make(t.Context(), plan, nil); err == nil {
		t.Fatal("it was made")
	}
	w.nothing()
	w.store.refuse = errors.New("away") // tried again for ever
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := w.Make(ctx, plan, nil)
		ended <- err
	}()
	if err := w.Drop(t.Context(), "then", nil); err == nil {
		t.Error("what is being made was dropped")
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	w.nothing()
}

// TestOpen: what is whole is there after a restart, what was cut off is removed.
func TestOpen(t *testing.T) {
	w := newWorld(t, journal.Retention{})
	w.load(customers)
	w.load(orders)
	w.commit(9, insert(orders, "1", "1", "new"))
	w.flush()
	w.copy()
	plan, err := w.Plan(t.Context(), w.view, Moment{LSN: w.lsn}, "then")
	check(t, err)
	_, err = w.Make(t.Context(), plan, nil)
	check(t, err)

	again := New(w.cfg, w.Parts, w.log)
	whole, err := again.Open(t.Context())
	check(t, err)
	check(t, again.CleanUp(t.Context()))
	if len(whole) != 1 || whole[0].Name != "then" || whole[0].View != "order" || whole[0].LSN != w.lsn || whole[0].Definition.Name() != "then" || w.store.info == nil {
		t.Fatalf("opened are %+v", whole)
	}
	for _, state := range []State{Making, Dropping} {
		r := whole[0].Record
		r.State = state
		check(t, again.save(t.Context(), &r))
		again = New(w.cfg, w.Parts, w.log)
		if opened, err := again.Open(t.Context()); err != nil || len(opened) != 0 {
			t.Errorf("%s: opened are %v, %v", state, opened, err)
		}
		check(t, again.CleanUp(t.Context()))
		w.nothing()
	}
}

func TestParseMoment(t *testing.T) {
	when := time.Date(2026, 1, 31, 12, 0, 0, 500_000_000, time.UTC)
	for text, want := range map[string]Moment{
		"0/16B3748":                       {LSN: 0x16B3748},
		"0/16B3748@7301234567890123456-1": {LSN: 0x16B3748, Epoch: "7301234567890123456-1"},
		"2026-01-31T12:00:00.5Z":          {Time: when},
		"2026-01-31T13:00:00.5+01:00":     {Time: when},
		"2026-01-31 12:00:00.5+00":        {Time: when},
	} {
		got, err := ParseMoment(text)
		if err != nil || got.LSN != want.LSN || got.Epoch != want.Epoch || !got.Time.Equal(want.Time) {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
		if again, err := ParseMoment(got.String()); err != nil || again != got {
			t.Errorf("%q is printed as %s: %+v, %v", text, got, again, err)
		}
	}
	for _, text := range []string{"", "0/0", "now", "2026-01-31", "2026-01-31T12:00:00", "16B3748", "x/y"} {
		if got, err := ParseMoment(text); err == nil {
			t.Errorf("%q: %+v", text, got)
		}
	}
}
