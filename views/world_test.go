package views

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sort"
	"testing"

	"github.com/jackc/pglogrepl"

	"github.com/lanternist/lanternist/event"
	"github.com/lanternist/lanternist/mirror"
	"github.com/lanternist/lanternist/row"
)

// record is a row by column name; a column that is not there is null.
type record map[string]string

// world is a real mirror, and beside it the same tables as plain maps.
type world struct {
	t        testing.TB
	mirror   *mirror.Mirror
	schemas  map[uint32]*row.Schema
	tables   map[string]map[string]record // by table and encoded key
	sequence uint64
}

func (w *world) Schema(id uint32) (*row.Schema, bool) {
	s, ok := w.schemas[id]
	return s, ok
}

// newWorld opens an empty mirror with the indexes of the views.
func newWorld(t testing.TB, list ...*View) *world {
	t.Helper()
	w := &world{t: t, schemas: map[uint32]*row.Schema{}, tables: map[string]map[string]record{}}
	for _, s := range catalog {
		w.schemas[s.ID] = s
		w.tables[s.Name] = map[string]record{}
	}
	m, err := mirror.Open(mirror.Config{Dir: t.TempDir()}, w, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	w.mirror = m
	var indexes []mirror.Index
	for _, v := range list {
		indexes = append(indexes, v.Indexes()...)
	}
	if err := m.EnsureIndexes(context.Background(), indexes); err != nil {
		t.Fatal(err)
	}
	return w
}

// tableNamed is the newest schema of a table.
func (w *world) tableNamed(name string) *row.Schema {
	var newest *row.Schema
	for _, s := range w.schemas {
		if s.Name == name && (newest == nil || s.Version > newest.Version) {
			newest = s
		}
	}
	if newest == nil {
		w.t.Fatalf("no table %s", name)
	}
	return newest
}

// encode makes a row of a record.
func encode(s *row.Schema, r record) row.Row {
	var list []*string
	for _, c := range s.Columns {
		if text, ok := r[c.Name]; ok {
			list = append(list, &text)
		} else {
			list = append(list, nil)
		}
	}
	return row.Of(list...)
}

// keyOf is the encoded key of a record.
func keyOf(s *row.Schema, r record) string {
	key, ok := s.AppendKey(nil, encode(s, r))
	if !ok {
		panic(fmt.Sprintf("no key in %v", r))
	}
	return string(key)
}

// keyTuple is what Postgres sends of an old row under the default replica identity.
func keyTuple(s *row.Schema, r record) row.Row {
	old := record{}
	for _, i := range s.Key {
		old[s.Columns[i].Name] = r[s.Columns[i].Name]
	}
	return encode(s, old)
}

// insert changes the maps and returns the event as it comes from the source; nil when there is such a row already.
func (w *world) insert(name string, r record) *event.Event {
	s := w.tableNamed(name)
	if _, there := w.tables[name][keyOf(s, r)]; there {
		return nil
	}
	w.tables[name][keyOf(s, r)] = r
	return &event.Event{Op: event.Insert, Schema: s, After: encode(s, r)}
}

// update replaces columns of the row with this key; nil when there is none, or the new key is taken.
func (w *world) update(name, key string, changes record) *event.Event {
	s := w.tableNamed(name)
	old, there := w.tables[name][key]
	if !there {
		return nil
	}
	changed := maps.Clone(old)
	maps.Copy(changed, changes)
	for column, text := range changes {
		if text == "NULL" {
			delete(changed, column)
		}
	}
	newKey := keyOf(s, changed)
	ev := &event.Event{Op: event.Update, Schema: s, After: encode(s, changed)}
	if newKey != key {
		if _, taken := w.tables[name][newKey]; taken {
			return nil
		}
		ev.Before = keyTuple(s, old)
		delete(w.tables[name], key)
	}
	w.tables[name][newKey] = changed
	return ev
}

// remove deletes the row with this key; nil when there is none.
func (w *world) remove(name, key string) *event.Event {
	s := w.tableNamed(name)
	old, there := w.tables[name][key]
	if !there {
		return nil
	}
	delete(w.tables[name], key)
	return &event.Event{Op: event.Delete, Schema: s, Before: keyTuple(s, old)}
}

// truncate empties a table.
func (w *world) truncate(name string) *event.Event {
	clear(w.tables[name])
	return &event.Event{Op: event.Truncate, Schema: w.tableNamed(name)}
}

// commit applies events as one transaction, which also completes them. Nil events are left out.
func (w *world) commit(events ...*event.Event) []*event.Event {
	w.t.Helper()
	events = slices.DeleteFunc(events, func(ev *event.Event) bool { return ev == nil })
	w.sequence++
	lsn := pglogrepl.LSN(w.sequence * 100)
	tx := &event.Transaction{XID: uint32(w.sequence), CommitLSN: lsn, EndLSN: lsn + 50}
	b := w.mirror.Begin()
	defer b.Discard()
	for i, ev := range events {
		ev.Transaction, ev.Ordinal, ev.Offset = tx, uint32(i), event.NewOffset(w.sequence, i)
		if err := b.Apply(ev); err != nil {
			w.t.Fatal(err)
		}
	}
	if err := b.Commit(event.NewOffset(w.sequence, len(events)), tx.EndLSN, true); err != nil {
		w.t.Fatal(err)
	}
	return events
}

func (w *world) snapshot() *mirror.Snapshot {
	w.t.Helper()
	s, err := w.mirror.Snapshot(context.Background())
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

// compose is the body of a root row; "" when there is no document.
func (w *world) compose(v *View, id string) string {
	w.t.Helper()
	return string(w.document(v, id).Body)
}

// document composes one document as of now.
func (w *world) document(v *View, id string) Document {
	w.t.Helper()
	key, err := v.Key(id)
	if err != nil {
		w.t.Fatal(err)
	}
	s := w.snapshot()
	defer s.Close()
	doc, err := v.Composer().Compose(s, key)
	if err != nil {
		w.t.Fatal(err)
	}
	return doc
}

// affected is the ids that the events affect, sorted, each once; or all.
func (w *world) affected(v *View, events []*event.Event) (ids []string, all bool) {
	w.t.Helper()
	s := w.snapshot()
	defer s.Close()
	seen := map[string]bool{}
	for _, ev := range events {
		whole, err := v.Affected(s, ev, func(key []byte) error {
			seen[v.ID(key)] = true
			return nil
		})
		if err != nil {
			w.t.Fatal(err)
		}
		all = all || whole
	}
	for id := range seen {
		ids = append(ids, id)
	}
	sort.Strings(ids)
	return ids, all
}
