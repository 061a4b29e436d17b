package projectors

import (
	"context"
	"testing"

	"github.com/jackc/pglogrepl"

	"github.com/lanternist/lanternist/mirror"
	"github.com/lanternist/lanternist/views"
)

// What tests beside this package need, which may use sinks that import it.
type Source = source

func NewSource(t testing.TB, used ...*views.View) *Source { return newSource(t, used...) }

func Compile(t testing.TB, text string) *views.View { return compile(t, text) }

func (s *source) Mirror() *mirror.Mirror { return s.mirror }

func (s *source) Run(r *Runner) (stop func() error) { return s.run(r) }

func (s *source) Runner(v *views.View, store Store, adjust ...func(*Config)) *Runner {
	return s.runner(v, store, adjust...)
}

// PutOrder commits an order.
func (s *source) PutOrder(id, customer, status string) pglogrepl.LSN {
	return s.commit(update(orders, id, customer, status))
}

// AddOrder commits an order that is new.
func (s *source) AddOrder(id, customer, status string) pglogrepl.LSN {
	return s.commit(insert(orders, id, customer, status))
}

// Claims are the names under which the journal is kept.
func (s *source) Claims() (names []string) {
	for name := range s.journal.Stats(context.Background()).Readers {
		names = append(names, name)
	}
	return names
}

// Following says that the runner follows a generation.
func Following(r *Runner) bool {
	live, _ := r.following.Load().(liveContext)
	return live.ctx != nil
}
