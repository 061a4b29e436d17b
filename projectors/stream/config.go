package stream

import (
	"errors"
	"fmt"
	"time"

	"github.com/lanternist/lanternist/backoff"
	"github.com/lanternist/lanternist/event"
)

// Config is how a Projector works. Zero fields have their defaults.
type Config struct {
	// Name names the projector in status, logs and dead letters, its checkpoint and its claim on the journal. Required, unique.
	Name string
	// Start is where to begin when there is no checkpoint. Default: the beginning of what the journal and its archive hold.
	Start Position
	// Filter says which events are handed on. Default: all.
	Filter Filter

	// BatchEvents is how many events a slice has at most. Default 1,000.
	BatchEvents int
	// BatchBytes is the size of events, in bytes, at which a slice has enough. One event may exceed it. Default 4 MiB.
	BatchBytes int
	// CheckpointInterval is the least time between two checkpoints. It bounds what is handed on again after a crash.
	// Default 250ms.
	CheckpointInterval time.Duration
	// StopTimeout bounds the last checkpoint when the projector stops. Default 5s.
	StopTimeout time.Duration
	// Backoff spaces repeated attempts. Default 50ms to 15s.
	Backoff backoff.Config

	// OnRefusal is what is done about an event that the handler refuses for good. Default Stop.
	OnRefusal Refusal
	// MaxAttempts is how often an event is offered that is to be parked. Default 3.
	MaxAttempts int
	// HoldEvents is how many events may be held at once, those that were refused and those that wait behind them. When there are more the
	// projector stops, until some were redriven or discarded. Default 10,000.
	HoldEvents int
	// Key is what an event concerns: of two events with the same one the first is handed on first, also when it is refused. "" is
	// nothing. Default: the row, before and after the change; of a TRUNCATE, and of events of tables without a key, the whole table.
	Key func(*event.Event) string
	// Source names the database in the payloads of dead letters.
	Source event.Source
}

// Refusal is what is done about an event that is refused for good.
type Refusal uint8

// What can be done about a refused event.
const (
	// Stop stops the projector before it. The event and all after it are handed on when it runs again.
	Stop Refusal = iota
	// Park keeps it as a dead letter and goes on, also with later events of the same row. It is for handlers to whom that
	// order means nothing.
	Park
	// Hold keeps it as a dead letter, and every later event of the same row behind it, until it is redriven or discarded. The events of
	// other rows go on.
	Hold
)

func (c Config) withDefaults() Config {
	set(&c.BatchEvents, 1000)
	set(&c.BatchBytes, 4<<20)
	set(&c.CheckpointInterval, 250*time.Millisecond)
	set(&c.StopTimeout, 5*time.Second)
	set(&c.MaxAttempts, 3)
	set(&c.HoldEvents, 10_000)
	return c
}

func set[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// validate names every problem at once.
func (c Config) validate() error {
	var errs []error
	if c.Name == "" {
		errs = append(errs, errors.New("projector has no name"))
	}
	if c.OnRefusal > Hold {
		errs = append(errs, fmt.Errorf("on refusal: there is no way %d", c.OnRefusal))
	}
	for _, bound := range []struct {
		name  string
		value int64
	}{
		{"batch events", int64(c.BatchEvents)}, {"batch bytes", int64(c.BatchBytes)}, {"max attempts", int64(c.MaxAttempts)}, {"hold events", int64(c.HoldEvents)},
		{"checkpoint interval", int64(c.CheckpointInterval)}, {"stop timeout", int64(c.StopTimeout)},
	} {
		if bound.value < 0 {
			errs = append(errs, fmt.Errorf("%s is negative: %d", bound.name, bound.value))
		}
	}
	return errors.Join(append(errs, c.Filter.Validate())...)
}
