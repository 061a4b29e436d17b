package views

import (
	"bytes"
	"fmt"

	"github.com/lanternist/lanternist/event"
	"github.com/lanternist/lanternist/internal/sabotage"
	"github.com/lanternist/lanternist/mirror"
	"github.com/lanternist/lanternist/row"
)

// Affected calls emit with the encoded key of every root row whose document may be another one because of ev. The
// snapshot must be of ev or later. A key may come more than once, and may be of a row that is not there. It is
// valid only during the call. all means that every document may be affected, and that emit was not called for
// each: the view must be reconciled. That is so after a TRUNCATE, and for a row that was never known before it
// changed. Keys are emitted while the mirror is read: a row that ten thousand documents use needs no memory for
// them. Affected is safe for concurrent use.
func (v *View) Affected(s *mirror.Snapshot, ev *event.Event, emit func(rootKey []byte) error) (all bool, err error) {
	if ev.Schema == nil {
		return false, nil
	}
	objects := v.byTable[ev.Schema.OID]
	if len(objects) == 0 {
		return false, nil
	}
	if ev.Op == event.Truncate {
		return true, nil
	}
	w := climbers.Get().(*climber)
	defer w.release()
	w.begin(s, emit, ev)
	if sabotage.Off(sabotage.BeforeImage) {
		w.before = nil
	}
	for _, o := range objects {
		known, err := w.change(o, ev)
		if err != nil {
			return false, fmt.Errorf("view %s, change %s of %s: %w", v.name, ev.Offset, ev.Schema.QualifiedName(), err)
		}
		all = all || !known && !sabotage.Off(sabotage.BeforeImage)
	}
	return all, nil
}

// change climbs from both sides of a change of an object's row. It is false when the old side is not known.
func (w *climber) change(o *object, ev *event.Event) (known bool, err error) {
	if err := o.knows(ev.Schema); err != nil {
		return true, err
	}
	w.old = w.slots(w.old[:0], o, ev, w.before)
	w.new = w.slots(w.new[:0], o, ev, w.after)
	complete := ev.Op == event.Insert || ev.BeforeComplete
	if ev.Op == event.Update && complete && sameValues(w.old, w.new) {
		return true, nil
	}
	source := o.source()
	if w.before != nil {
		if err := w.climb(o, w.old, 0); err != nil {
			return true, err
		}
	}
	if w.after != nil && (w.before == nil || !sameSource(w.old, w.new, source)) {
		if err := w.climb(o, w.new, 0); err != nil {
			return true, err
		}
	}
	return w.isKnown(o, ev, complete), nil
}

// isKnown says whether the values that the object is joined by were known on both sides. Of a row that the mirror
// did not know, Postgres names at least the primary key as it was, unless that did not change; a table with
// another replica identity names something else.
func (w *climber) isKnown(o *object, ev *event.Event, complete bool) bool {
	if ev.Op == event.Delete && w.before == nil {
		return false
	}
	for _, i := range o.source() {
		if w.after != nil && w.new[i].Kind == row.Unchanged {
			return false
		}
		if complete && (w.before == nil || w.old[i].Kind != row.Unchanged) {
			continue
		}
		if ev.Schema.Identity == 'i' || !isKeyColumn(ev.Schema, o.slots[i].name) || (w.before != nil && w.old[i].Kind != row.Text) {
			return false
		}
	}
	return true
}

func isKeyColumn(s *row.Schema, name string) bool {
	for _, i := range s.Key {
		if s.Columns[i].Name == name {
			return true
		}
	}
	return false
}

// source is the slots of the values that lead to the rows above: the key of a root.
func (o *object) source() []int {
	if o.parent == nil {
		return o.keySlots
	}
	return o.up.source
}

// slots is the values of the object's slots in a row of the event; nil when there is no such row.
func (w *climber) slots(dst []row.Value, o *object, ev *event.Event, values []row.Value) []row.Value {
	if values == nil {
		return dst
	}
	return o.appendSlots(dst, values, ev.Schema)
}

// sameValues says whether all used columns are known and equal.
func sameValues(a, b []row.Value) bool {
	for i := range a {
		if a[i].Kind == row.Unchanged || b[i].Kind == row.Unchanged || !sameValue(a[i], b[i]) {
			return false
		}
	}
	return len(a) == len(b)
}

func sameSource(a, b []row.Value, source []int) bool {
	for _, i := range source {
		if !sameValue(a[i], b[i]) {
			return false
		}
	}
	return true
}

func sameValue(a, b row.Value) bool { return a.Kind == b.Kind && bytes.Equal(a.Text, b.Text) }
