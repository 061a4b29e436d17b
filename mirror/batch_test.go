package mirror

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pglogrepl"

	"github.com/lanternist/lanternist/event"
	"github.com/lanternist/lanternist/row"
)

var byCustomer = Index{OID: 1, Columns: []string{"customer"}}

// orders is a mirror with one complete, empty, indexed table of columns id, customer, note.
func orders(t *testing.T) (*Mirror, *registry, *row.Schema) {
	t.Helper()
	r := &registry{}
	s := r.define(1, "orders", "id", "customer", "note")
	m := open(t, r)
	must(t, m.EnsureIndexes(t.Context(), []Index{byCustomer}))
	loadAll(t, m, s)
	return m, r, s
}

func want(t *testing.T, what string, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: got %q, want %q", what, got, want)
	}
}

func TestUnchangedValuesAndBeforeImagesAreFilledIn(t *testing.T) {
	m, _, s := orders(t)
	commit(t, m, 1, insert(s, 10, "1", "7", "a long note"))
	up := update(s, 20, "1", "8", unchanged)
	again := update(s, 20, "1", "9", unchanged) // sees what the same batch did
	del := remove(s, 20, "1")
	commit(t, m, 2, up, again, del)
	want(t, "after", show(up.After), []string{"1", "8", "a long note"})
	want(t, "before", show(up.Before), []string{"1", "7", "a long note"})
	want(t, "second after", show(again.After), []string{"1", "9", "a long note"})
	want(t, "second before", show(again.Before), []string{"1", "8", "a long note"})
	want(t, "deleted", show(del.Before), []string{"1", "9", "a long note"})
	if !up.BeforeComplete || !again.BeforeComplete || !del.BeforeComplete {
		t.Error("a before image is not complete")
	}
	want(t, "table", dump(t, m, 1), nil)
	for _, customer := range []string{"7", "8", "9"} {
		want(t, "index", lookup(t, m, byCustomer, customer), nil)
	}
}

func TestWhatTheBatchPutIntoEventsOutlivesIt(t *testing.T) {
	m, _, s := orders(t)
	commit(t, m, 1, insert(s, 10, "1", "7", "first"))
	up := update(s, 20, "1", "8", unchanged)
	commit(t, m, 2, up)
	for i := range 50 {
		commit(t, m, event.Offset(3+i), update(s, 30, "1", "9", "other"), update(s, 30, "1", "9", unchanged))
	}
	want(t, "before", show(up.Before), []string{"1", "7", "first"})
	want(t, "after", show(up.After), []string{"1", "8", "first"})
}

func TestKeyChangeMovesTheRowAndItsIndexEntry(t *testing.T) {
	m, _, s := orders(t)
	commit(t, m, 1, insert(s, 10, "1", "7", "x"))
	ev := rekey(s, 20, "1", "2", "7", unchanged)
	commit(t, m, 2, ev)
	want(t, "after", show(ev.After), []string{"2", "7", "x"})
	want(t, "before", show(ev.Before), []string{"1", "7", "x"})
	want(t, "index", lookup(t, m, byCustomer, "7"), []string{`"2"`})
	want(t, "table", dump(t, m, 1), []string{`"2": ["2" "7" "x"]`})
}

func TestKeysSwappedThroughAThird(t *testing.T) {
	m, _, s := orders(t)
	commit(t, m, 1, insert(s, 10, "a", "7", "of a"), insert(s, 10, "b", "8", "of b"))
	commit(t, m, 2, rekey(s, 20, "a", "tmp", "7", unchanged), rekey(s, 20, "b", "a", "8", unchanged), rekey(s, 20, "tmp", "b", "7", unchanged))
	want(t, "table", dump(t, m, 1), []string{`"a": ["a" "8" "of b"]`, `"b": ["b" "7" "of a"]`})
	want(t, "index", lookup(t, m, byCustomer, "7"), []string{`"b"`})
}

func TestKeyValueStoredOutOfLine(t *testing.T) {
	m, _, s := orders(t)
	commit(t, m, 1, insert(s, 10, "a very long key", "7", "x"))
	ev := update(s, 20, unchanged, "8", unchanged)
	ev.Before = keyTuple(s, "a very long key")
	commit(t, m, 2, ev)
	want(t, "after", show(ev.After), []string{"a very long key", "8", "x"})
}

func TestTruncateInsideABatch(t *testing.T) {
	m, _, s := orders(t)
	commit(t, m, 1, insert(s, 10, "1", "7", "x"), insert(s, 10, "2", "7", "x"))
	commit(t, m, 2, insert(s, 20, "3", "7", "x"), truncate(s, 20), insert(s, 20, "1", "8", "new"), insert(s, 20, "4", null, "y"))
	want(t, "table", dump(t, m, 1), []string{`"1": ["1" "8" "new"]`, `"4": ["4" "\x00null" "y"]`})
	want(t, "old value", lookup(t, m, byCustomer, "7"), nil)
	want(t, "new value", lookup(t, m, byCustomer, "8"), []string{`"1"`})
	snap := snapshot(t, m)
	defer snap.Close()
	if n, err := snap.Count(1); err != nil || n != 2 {
		t.Errorf("count %d, %v, want 2", n, err)
	}
}

func TestTruncateLeavesNeighboursAlone(t *testing.T) {
	r := &registry{}
	m := open(t, r)
	var tables []*row.Schema
	var indexes []Index
	for _, oid := range []uint32{1, 2, 3, 255, 256, 1<<32 - 1} {
		s := r.define(oid, "t", "id", "ref")
		tables = append(tables, s)
		indexes = append(indexes, Index{OID: oid, Columns: []string{"ref"}})
		loadAll(t, m, s)
	}
	must(t, m.EnsureIndexes(t.Context(), indexes))
	offset := event.Offset(0)
	for i, s := range tables {
		for _, other := range tables {
			offset++
			commit(t, m, offset, insert(other, 10, "k", "r"))
		}
		offset++
		commit(t, m, offset, truncate(s, 20))
		for j, other := range tables {
			rows := 1
			if i == j {
				rows = 0
			}
			if got := len(dump(t, m, other.OID)); got != rows {
				t.Errorf("after truncate of %d: table %d has %d rows, want %d", s.OID, other.OID, got, rows)
			}
			if got := len(lookup(t, m, indexes[j], "r")); got != rows {
				t.Errorf("after truncate of %d: index of %d has %d entries, want %d", s.OID, other.OID, got, rows)
			}
		}
	}
}

func TestFullIdentityTellsTheOldRowItself(t *testing.T) {
	r := &registry{}
	s := r.define(1, "orders", "id", "customer", "note")
	s.Identity = 'f'
	m := open(t, r)
	must(t, m.StartLoad(s, make([]LoadRange, 1))) // the row has not been loaded yet
	ev := change(event.Update, s, 20, rowOf("1", "7", "long"), rowOf("1", "8", unchanged))
	commit(t, m, 1, ev)
	want(t, "after", show(ev.After), []string{"1", "8", "long"})
	if !ev.BeforeComplete {
		t.Error("before is not complete")
	}
}

func TestColumnsGoByNameOverVersions(t *testing.T) {
	m, r, s := orders(t)
	commit(t, m, 1, insert(s, 10, "1", "7", "long"))
	wide := r.define(1, "orders", "id", "added", "note", "customer")
	ev := update(wide, 20, "1", "new", unchanged, "8")
	commit(t, m, 2, ev)
	want(t, "after", show(ev.After), []string{"1", "new", "long", "8"})
	want(t, "before", show(ev.Before), []string{"1", null, "long", "7"})
	want(t, "old entry", lookup(t, m, byCustomer, "7"), nil)
	want(t, "new entry", lookup(t, m, byCustomer, "8"), []string{`"1"`})

	narrow := r.define(1, "orders", "id", "note")
	commit(t, m, 3, update(narrow, 30, "1", unchanged))
	want(t, "entry of a dropped column", lookup(t, m, byCustomer, "8"), nil)
	want(t, "table", dump(t, m, 1), []string{`"1": ["1" "long"]`})
}

// TestTablesThatCannotBeFollowedAreForsaken has changes come that cannot be applied as the table is defined now.
func TestTablesThatCannotBeFollowedAreForsaken(t *testing.T) {
	for name, make := range map[string]func(r *registry, s *row.Schema) (*event.Event, error){
		"value of a new column": func(r *registry, _ *row.Schema) (*event.Event, error) {
			return update(r.define(1, "orders", "id", "customer", "note", "rewritten"), 20, "1", "7", "x", unchanged), ErrUnknownValue
		},
		"value of an unknown row": func(_ *registry, s *row.Schema) (*event.Event, error) {
			return update(s, 20, "2", "7", unchanged), ErrUnknownValue
		},
		"null key": func(_ *registry, s *row.Schema) (*event.Event, error) { return insert(s, 20, null, "7", "x"), ErrNoKey },
		"delete without a key": func(_ *registry, s *row.Schema) (*event.Event, error) {
			return change(event.Delete, s, 20, nil, nil), ErrNoKey
		},
		"old key not sent": func(_ *registry, s *row.Schema) (*event.Event, error) {
			return change(event.Update, s, 20, rowOf(null, "7", null), rowOf("1", "7", "x")), ErrNoKey
		},
		"no key any more": func(r *registry, _ *row.Schema) (*event.Event, error) {
			keyless := r.define(1, "orders", "id", "customer", "note")
			keyless.Key = nil
			return insert(keyless, 20, "5", "7", "x"), ErrNoKey
		},
		"other key columns": func(r *registry, _ *row.Schema) (*event.Event, error) {
			other := r.define(1, "orders", "id", "customer", "note")
			other.Key = []int{1}
			return insert(other, 20, "1", "7", "x"), ErrKeyChanged
		},
	} {
		t.Run(name, func(t *testing.T) {
			m, r, s := orders(t)
			other := r.define(2, "others", "id")
			commit(t, m, 1, insert(s, 10, "1", "7", "x"), insert(other, 10, "1"))
			ev, why := make(r, s)
			commit(t, m, 2, ev, insert(other, 20, "2"), insert(s, 20, "9", "7", "x"))
			if reason := m.Forsaken()[1]; !strings.HasPrefix(reason, why.Error()) || m.Loaded(1) {
				t.Errorf("forsaken because of %q, want %q; loaded: %v", reason, why, m.Loaded(1))
			}
			commit(t, m, 3, truncate(s, 30), insert(other, 30, "3"))
			want(t, "the other table", dump(t, m, 2), []string{`"1": ["1"]`, `"2": ["2"]`, `"3": ["3"]`})
			if err := m.StartLoad(s, []LoadRange{{}}); !errors.Is(err, ErrForsaken) {
				t.Errorf("a load began: %v", err)
			}
			must(t, m.DropTable(1))
			loadAt(t, m, s, 35)
			commit(t, m, 4, insert(s, 40, "1", "8", "y"))
			want(t, "the table", dump(t, m, 1), []string{`"1": ["1" "8" "y"]`})
			if len(m.Forsaken()) > 0 || !m.Loaded(1) {
				t.Errorf("still forsaken: %v", m.Forsaken())
			}
		})
	}
}

// loadAt completes the load of a table from an empty snapshot.
func loadAt(t *testing.T, m *Mirror, s *row.Schema, point pglogrepl.LSN) {
	t.Helper()
	must(t, m.StartLoad(s, []LoadRange{{}}))
	must(t, m.FinishRange(s.OID, 0, point, 0))
	m.Advance(point)
	must(t, m.FinishLoad(t.Context(), s.OID))
}

// TestColumnsGoByNumber renames, drops and adds columns whose numbers are known.
func TestColumnsGoByNumber(t *testing.T) {
	m, r, _ := orders(t)
	numbered := func(width int16, columns ...row.Column) *row.Schema {
		s := r.define(7, "numbered")
		s.Columns, s.Width = columns, width
		for i := range s.Columns {
			s.Columns[i].Type = row.Type{Name: "text", Class: row.String}
		}
		return s
	}
	blue := "blue"
	first := numbered(3, row.Column{Name: "id", Number: 1}, row.Column{Name: "a", Number: 2}, row.Column{Name: "b", Number: 3})
	renamed := numbered(4, row.Column{Name: "id", Number: 1}, row.Column{Name: "b", Number: 2}, row.Column{Name: "a", Number: 3},
		row.Column{Name: "colour", Number: 4, Missing: &blue})
	again := numbered(5, row.Column{Name: "key", Number: 1}, row.Column{Name: "b", Number: 2}, row.Column{Name: "a", Number: 5}, row.Column{Name: "colour", Number: 4})
	commit(t, m, 1, insert(first, 10, "1", "two", "three"), insert(first, 10, "2", "zwei", "drei"))
	ev := update(renamed, 20, "1", unchanged, "3", unchanged)
	commit(t, m, 2, ev)
	want(t, "after", show(ev.After), []string{"1", "two", "3", "blue"})
	want(t, "before", show(ev.Before), []string{"1", "two", "three", "blue"})
	ev = update(again, 30, "2", unchanged, "new", "red")
	commit(t, m, 3, ev)
	want(t, "after", show(ev.After), []string{"2", "zwei", "new", "red"})
	want(t, "before", show(ev.Before), []string{"2", "zwei", null, null})
	if reasons := m.Forsaken(); len(reasons) > 0 {
		t.Error(reasons)
	}
}

func TestUnknownSchemasAreRefused(t *testing.T) {
	m, _, s := orders(t)
	commit(t, m, 1, insert(s, 10, "1", "7", "x"))
	unregistered := &row.Schema{OID: 3, Name: "unregistered", Key: []int{0}}
	for name, c := range map[string]struct {
		ev   *event.Event
		want error
	}{
		"schema not in the regis…": {change(event.Insert, unregistered, 20, nil, rowOf("1")), ErrUnknownSchema},
	} {
		b := m.Begin()
		if err := b.Apply(c.ev); !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", name, err, c.want)
		}
		if err := b.Apply(insert(s, 20, "5", "7", "x")); !errors.Is(err, ErrDone) {
			t.Errorf("%s: apply after an error: got %v, want %v", name, err, ErrDone)
		}
		if err := b.Commit(2, 21, true); !errors.Is(err, ErrDone) || !errors.Is(err, c.want) {
			t.Errorf("%s: commit after an error: got %v, want %v", name, err, c.want)
		}
	}
	want(t, "table", dump(t, m, 1), []string{`"1": ["1" "7" "x"]`})
}

func TestDiscardLeavesNothing(t *testing.T) {
	m, _, s := orders(t)
	commit(t, m, 1, insert(s, 10, "1", "7", "x"))
	b := m.Begin()
	must(t, b.Apply(truncate(s, 20)))
	must(t, b.Apply(insert(s, 20, "2", "8", "y")))
	b.Discard()
	b.Discard()
	if err := b.Apply(insert(s, 20, "2", "8", "y")); !errors.Is(err, ErrDone) {
		t.Errorf("apply after discard: got %v, want %v", err, ErrDone)
	}
	ev := update(s, 20, "1", "8", unchanged)
	commit(t, m, 2, ev)
	want(t, "table", dump(t, m, 1), []string{`"1": ["1" "8" "x"]`})
	want(t, "index", lookup(t, m, byCustomer, "8"), []string{`"1"`})
}

func TestPositionNeverGoesBack(t *testing.T) {
	m, _, s := orders(t)
	commit(t, m, 5, insert(s, 10, "1", "7", "x"))
	b := m.Begin()
	must(t, b.Apply(insert(s, 20, "2", "7", "x")))
	if err := b.Commit(4, 21, true); !errors.Is(err, ErrOrder) {
		t.Errorf("got %v, want %v", err, ErrOrder)
	}
	want(t, "table", dump(t, m, 1), []string{`"1": ["1" "7" "x"]`})
	if m.Position() != 5 {
		t.Errorf("position %d, want 5", m.Position())
	}
}

func TestMessagesChangeNothing(t *testing.T) {
	m, _, _ := orders(t)
	b := m.Begin()
	must(t, b.Apply(&event.Event{Op: event.Message, Transaction: &event.Transaction{CommitLSN: 10}}))
	must(t, b.Commit(1, 11, true))
	if p, _ := m.Progress(); p != (Progress{Offset: 1, LSN: 11}) {
		t.Errorf("progress %v", p)
	}
}
