package stream

import (
	"context"

	"github.com/lanternist/lanternist/event"
)

// Handler does something with events. Its calls never overlap.
type Handler interface {
	// Handle handles events that follow each other in the journal. When it returns nil all of them are handled, durably if that
	// matters: they may never be handed on again. When it returns an error none need be, and all come again; what an error
	// means, projectors.Class says: a transient one has the same events handed on again until it goes away. The slice is only
	// valid during the call, its events and their rows for longer; nobody may change them.
	Handle(ctx context.Context, events []event.Event) error
}

// HandlerFunc is a function that is a Handler.
type HandlerFunc func(ctx context.Context, events []event.Event) error

// Handle implements Handler.
func (f HandlerFunc) Handle(ctx context.Context, events []event.Event) error { return f(ctx, events) }

type replayKey struct{}

// Replaying says, of the context that Handle is called with, whether the events are run again by a Replay. The same events may
// have been handled before, and later ones, too.
func Replaying(ctx context.Context) bool {
	replaying, _ := ctx.Value(replayKey{}).(bool)
	return replaying
}
