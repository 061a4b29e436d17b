package views

import (
	"bytes"
	"sync"

	"github.com/lanternist/lanternist/event"
	"github.com/lanternist/lanternist/mirror"
	"github.com/lanternist/lanternist/row"
)

// climber walks from a changed row up to the root rows, through the mirror. Its memory is reused.
type climber struct {
	snapshot *mirror.Snapshot
	emit     func([]byte) error

	before, after []row.Value    // of the event; nil when it has no such row
	values        [2][]row.Value // their memory
	old, new      []row.Value    // the slots of one object in them
	levels        []*level
}

// level is one step of a climb. Its functions are made once, so that a climb allocates nothing.
type level struct {
	climber *climber
	depth   int
	object  *object // whose parent rows are being read
	seek    []byte
	row     []row.Value
	values  []row.Value
	onRow   func(key []byte, rec mirror.Record) error
}

var climbers = sync.Pool{New: func() any { return &climber{} }}

func (w *climber) begin(s *mirror.Snapshot, emit func([]byte) error, ev *event.Event) {
	w.snapshot, w.emit = s, emit
	w.before, w.after = nil, nil
	if ev.Before != nil {
		w.values[0] = ev.Before.Values(w.values[0][:0])
		w.before = w.values[0]
	}
	if ev.After != nil {
		w.values[1] = ev.After.Values(w.values[1][:0])
		w.after = w.values[1]
	}
}

func (w *climber) release() {
	w.snapshot, w.emit = nil, nil
	climbers.Put(w)
}

// level is the memory for a depth.
func (w *climber) level(depth int) *level {
	for len(w.levels) <= depth {
		l := &level{climber: w, depth: len(w.levels)}
		l.onRow = l.parentRow
		w.levels = append(w.levels, l)
	}
	return w.levels[depth]
}

// climb emits the root keys above a row of o, of which values are the slots.
func (w *climber) climb(o *object, values []row.Value, depth int) error {
	l := w.level(depth)
	if o.parent == nil {
		l.seek = l.seek[:0]
		for _, i := range o.keySlots {
			if values[i].Kind != row.Text {
				return nil
			}
			l.seek = append(append(l.seek, values[i].Text...), 0)
		}
		return w.emit(l.seek)
	}
	var ok bool
	if l.seek, ok = o.up.appendValues(l.seek[:0], values); !ok {
		return nil
	}
	l.object = o
	if o.parent.parent == nil {
		switch o.up.kind {
		case byKey: // the values are the root key; whether that row is there shows when it is composed
			return w.emit(l.seek)
		case byIndex:
			return w.snapshot.LookupKeys(o.up.index, l.seek, w.emit)
		}
	}
	return readAccess(w.snapshot, &o.up, l.seek, l.onRow)
}

// parentRow goes on with a row of the parent.
func (l *level) parentRow(key []byte, rec mirror.Record) error {
	if l.object.up.kind == byPrefix && !bytes.HasPrefix(key, l.seek) {
		return mirror.ErrStop
	}
	parent := l.object.parent
	if parent.parent == nil {
		return l.climber.emit(key)
	}
	if err := parent.knows(rec.Schema); err != nil {
		return err
	}
	l.row = rec.Row.Values(l.row[:0])
	l.values = parent.appendSlots(l.values[:0], l.row, rec.Schema)
	return l.climber.climb(parent, l.values, l.depth+1)
}
