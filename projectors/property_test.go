package projectors

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pglogrepl"
	"pgregory.net/rapid"

	"github.com/lanternist/lanternist/event"
	"github.com/lanternist/lanternist/row"
)

// history is what every document was after every commit, to tell whether a document that was read is older than
// the watermark that was read before it.
type history struct {
	mu     sync.Mutex
	tokens []pglogrepl.LSN
	states []map[string]string
}

func (h *history) add(token pglogrepl.LSN, state map[string]string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.tokens, h.states = append(h.tokens, token), append(h.states, state)
}

// stale says whether a body read after a watermark is of no state from the watermark on.
func (h *history) stale(mark pglogrepl.LSN, id, body string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	from, found := slices.BinarySearch(h.tokens, mark)
	if !found {
		from--
	}
	for _, state := range h.states[max(from, 0):] {
		if state[id] == body {
			return false
		}
	}
	return true
}

// Whatever is changed, moved, removed and truncated, and wherever the runner is killed or its sink fails, no document is
// older than the watermark read before it, and in the end all are right.
func TestNoDocumentIsOlderThanTheWatermark(t *testing.T) {
	view := compile(t, customerView)
	rapid.Check(t, func(rt *rapid.T) {
		s, sink, past := newSource(t, view), newMemory(), &history{}
		rows := newRowSet()
		commit := func(changes ...change) pglogrepl.LSN {
			// The state is noted before the runner can promise it.
			rows.apply(changes)
			past.add(pglogrepl.LSN(s.lsn.Load()+16), rows.documents())
			return s.commit(changes...)
		}
		commit(insert(customers, "1", "a"), insert(customers, "2", "b"), insert(customers, "3", "c"))
		small := func(c *Config) {
			c.PieceDocuments, c.CheckpointEvents, c.RoundKeys = 1, rapid.IntRange(1, 5).Draw(rt, "checkpoint events"), 2
			c.StallMax = rapid.SampledFrom([]time.Duration{1, time.Minute}).Draw(rt, "stall max")
		}
		var r *Runner
		var watched sync.Mutex
		watch := func() {
			watched.Lock()
			now := r
			watched.Unlock()
			mark, _ := now.Watermark()
			if mark.LSN == 0 {
				return
			}
			for id := range 3 {
				id := fmt.Sprint(id + 1)
				if body := sink.document(id); past.stale(mark.LSN, id, body) {
					t.Errorf("watermark %s, document %s is %q", mark.LSN, id, body)
				}
			}
		}
		n := 0
		// In each turn there is room for an operation of several calls that is only repeated as a whole.
		faults := append(rapid.SliceOfN(rapid.IntRange(0, 7), 20, 20).Draw(rt, "faults"), 7, 7, 7, 7, 7, 7, 7, 7)
		fault := func(kind int, text, operation string) error {
			sink.mu.Lock()
			defer sink.mu.Unlock()
			if n++; faults[n%len(faults)] == kind {
				return fmt.Errorf("%s: %s", operation, text)
			}
			return nil
		}
		sink.before = func(operation string) error { return fault(0, "not done", operation) }
		sink.after = func(operation string) error {
			watch()
			return fault(1, "outcome unknown", operation)
		}
		restart := func(stop func() error) func() error {
			if stop != nil {
				_ = stop()
			}
			watched.Lock()
			r = s.runner(view, sink, small)
			watched.Unlock()
			return s.run(r)
		}
		stop := restart(nil)
		defer func() {
			_ = stop()
			s.close()
		}()
		for range rapid.IntRange(1, 25).Draw(rt, "commits") {
			token := commit(rows.draw(rt)...)
			switch rapid.IntRange(0, 9).Draw(rt, "then") {
			case 0:
				stop = restart(stop)
			case 1, 2:
				s.reach(r, token)
				watch()
			case 3:
				s.mirror.Advance(pglogrepl.LSN(s.lsn.Add(8)))
			}
		}
		s.reach(r, pglogrepl.LSN(s.lsn.Load()))
		watch()
		want := s.documents(view)
		wantDocuments(t, sink, want)
		for id, body := range rows.documents() {
			if want[id] != body {
				t.Errorf("the test's own model has %s for document %s, the mirror %s", body, id, want[id])
			}
		}
		if t.Failed() {
			rt.FailNow()
		}
	})
}

// rowSet is a model of the tables, and composes documents in its own way.
type rowSet struct {
	customers map[string]string    // name
	orders    map[string][2]string // customer, status
	items     map[[2]string]string // sku
	serial    int
}

func newRowSet() *rowSet {
	return &rowSet{customers: map[string]string{}, orders: map[string][2]string{}, items: map[[2]string]string{}}
}

func (m *rowSet) draw(rt *rapid.T) (changes []change) {
	next := func() string { m.serial++; return fmt.Sprint("v", m.serial) }
	one := func(label string) string { return fmt.Sprint(rapid.IntRange(1, 3).Draw(rt, label)) }
	shadow := m.clone()
	for range rapid.IntRange(1, 3).Draw(rt, "changes") {
		var c change
		customer, order, line := one("customer"), one("order"), one("line")
		switch rapid.IntRange(0, 9).Draw(rt, "kind") {
		case 0:
			c = insert(customers, customer, next())
			if _, ok := shadow.customers[customer]; ok {
				c = update(customers, customer, next())
			}
		case 1:
			if _, ok := shadow.customers[customer]; !ok {
				continue
			}
			c = remove(customers, customer)
		case 2, 3, 4:
			c = insert(orders, order, customer, next())
			if _, ok := shadow.orders[order]; ok {
				c = update(orders, order, customer, next())
			}
		case 5:
			if _, ok := shadow.orders[order]; !ok {
				continue
			}
			c = remove(orders, order)
		case 6, 7:
			c = insert(items, order, line, next())
			if _, ok := shadow.items[[2]string{order, line}]; ok {
				c = update(items, order, line, next())
			}
		case 8:
			if _, ok := shadow.items[[2]string{order, line}]; !ok {
				continue
			}
			c = remove(items, order, line)
		case 9:
			if rapid.IntRange(0, 3).Draw(rt, "rarely") > 0 {
				continue
			}
			c = truncate(rapid.SampledFrom([]*row.Schema{customers, orders, items}).Draw(rt, "table"))
		}
		shadow.apply([]change{c})
		changes = append(changes, c)
	}
	if len(changes) == 0 {
		changes = append(changes, insert(unrelated, next()))
	}
	return changes
}

func (m *rowSet) clone() *rowSet {
	c := newRowSet()
	for k, v := range m.customers {
		c.customers[k] = v
	}
	for k, v := range m.orders {
		c.orders[k] = v
	}
	for k, v := range m.items {
		c.items[k] = v
	}
	return c
}

func (m *rowSet) apply(changes []change) {
	for _, c := range changes {
		values := c.after
		if values == nil {
			values = c.before
		}
		v := func(i int) string { return string(values.Column(i).Text) }
		gone := c.op == event.Delete
		switch {
		case c.op == event.Truncate && c.schema == customers:
			clear(m.customers)
		case c.op == event.Truncate && c.schema == orders:
			clear(m.orders)
		case c.op == event.Truncate && c.schema == items:
			clear(m.items)
		case c.schema == customers && gone:
			delete(m.customers, v(0))
		case c.schema == customers:
			m.customers[v(0)] = v(1)
		case c.schema == orders && gone:
			delete(m.orders, v(0))
		case c.schema == orders:
			m.orders[v(0)] = [2]string{v(1), v(2)}
		case c.schema == items && gone:
			delete(m.items, [2]string{v(0), v(1)})
		case c.schema == items:
			m.items[[2]string{v(0), v(1)}] = v(2)
		}
	}
}

func (m *rowSet) documents() map[string]string {
	found := map[string]string{}
	for id, name := range m.customers {
		body, comma := fmt.Sprintf(`{"id":%q,"name":%q,"orders":[`, id, name), ""
		for _, order := range []string{"1", "2", "3"} {
			o, ok := m.orders[order]
			if !ok || o[0] != id {
				continue
			}
			body += fmt.Sprintf(`%s{"id":%q,"status":%q,"items":[`, comma, order, o[1])
			comma = ""
			for _, line := range []string{"1", "2", "3"} {
				if sku, ok := m.items[[2]string{order, line}]; ok {
					body += fmt.Sprintf(`%s{"line":%q,"sku":%q}`, comma, line, sku)
					comma = ","
				}
			}
			body += "]}"
			comma = ","
		}
		found[id] = body + "]}"
	}
	return found
}
