package stream

import (
	"errors"
	"fmt"
	"strings"

	"github.com/lanternist/lanternist/event"
	"github.com/lanternist/lanternist/row"
)

// Filter says which events are wanted. The zero value wants all of them. An event must be of one of the tables, when any are
// named, and of one of the types, when any are. Gaps are wanted always.
type Filter struct {
	// Tables are schema.table, or schema.* for all of a schema. Logical messages are of no table.
	Tables []string
	// Types are of events: orders.created, sales.orders.deleted, message; or orders.* for all of a table.
	Types []string
}

// Validate says what is wrong with the filter.
func (f Filter) Validate() error {
	var errs []error
	for _, t := range f.Tables {
		if namespace, name, ok := strings.Cut(t, "."); !ok || namespace == "" || name == "" {
			errs = append(errs, fmt.Errorf("table %q: want schema.table, or schema.*", t))
		}
	}
	for _, t := range f.Types {
		if t == "" || t == "*" {
			errs = append(errs, fmt.Errorf("event type %q: want orders.created, or orders.*", t))
		}
	}
	return errors.Join(errs...)
}

// selection is a filter that remembers what it said of each table definition and kind of change. It is not safe for concurrent
// use.
type selection struct {
	filter Filter
	known  map[selected]bool
}

type selected struct {
	schema *row.Schema
	op     event.Op
}

func newSelection(f Filter) *selection { return &selection{filter: f, known: map[selected]bool{}} }

// wants says whether the event is wanted. A gap always is: whoever follows events must know that some are missing.
func (s *selection) wants(ev *event.Event) bool {
	if ev.Op == event.Gap {
		return true
	}
	if len(s.filter.Tables) == 0 && len(s.filter.Types) == 0 {
		return true
	}
	key := selected{ev.Schema, ev.Op}
	wanted, ok := s.known[key]
	if !ok {
		if len(s.known) > 1<<12 {
			clear(s.known)
		}
		wanted = s.filter.wants(ev)
		s.known[key] = wanted
	}
	return wanted
}

func (f *Filter) wants(ev *event.Event) bool {
	if len(f.Tables) > 0 {
		if ev.Schema == nil || !among(f.Tables, ev.Schema.QualifiedName()) {
			return false
		}
	}
	return len(f.Types) == 0 || among(f.Types, ev.Type())
}

// among says whether a name is among patterns, of which those that end in .* stand for everything under a name.
func among(patterns []string, name string) bool {
	for _, p := range patterns {
		if p == name {
			return true
		}
		if all, ok := strings.CutSuffix(p, "*"); ok && strings.HasSuffix(all, ".") && strings.HasPrefix(name, all) {
			return true
		}
	}
	return false
}
