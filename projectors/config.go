package projectors

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/jackc/pglogrepl"

	"github.com/lanternist/lanternist/backoff"
	"github.com/lanternist/lanternist/event"
)

// Config is how a Runner works. Zero fields have their defaults.
type Config struct {
	// Name names the projector in status, metrics, logs and dead letters, and its claim on the journal:
	// "order_summary.search". Required, unique.
	Name string
	// Sink names the kind of sink: "search", "cache". Only shown. Required.
	Sink string
	// Epoch is the source's epoch: system identifier and timeline. A generation of another epoch is built anew, unless the epoch
	// is an earlier one of the same history.
	Epoch string
	// Epochs are earlier ones of the source's history, each with the position where the source left it. Default none.
	Epochs map[string]pglogrepl.LSN
	// Gap is the offset of the last gap in the journal. A generation with an older checkpoint is built anew. Default 0: none.
	Gap event.Offset
	// Deployments are the names under which generations may be known to be this deployment's, the present one first. A live
	// generation of another deployment is never replaced unless a Rebuild asks for that. Default none: anyone's is ours.
	Deployments []string

	// Compile makes a Definition of the text that a generation holds of its own (Info.Definition), by the tables as they are
	// now, and has the mirror keep the indexes that it needs. Default: none can be made, and a generation of another definition
	// is neither followed nor gone back to.
	Compile func(ctx context.Context, definition string) (Definition, error)
	// Serving is told at once when readers see documents of another definition than before: after a promotion, or when the runner
	// has found which one is live. It must not wait for the runner. Default: nobody is told.
	Serving func(Definition)
	// RebuildOnRequest leaves a definition that has changed while the runner did not run to a Rebuild. Default: the runner builds
	// it by itself.
	RebuildOnRequest bool

	// PieceDocuments is how many documents one Write has at most. Default 1,000.
	PieceDocuments int
	// PieceBytes is the size of bodies, in bytes, at which a Write has enough documents. One document may exceed it. It has fewer
	// when Memory has no room. Default 4 MiB.
	PieceBytes int
	// Workers is how many pieces are composed and written at once. Documents in flight are at most Workers times
	// PieceDocuments. Default: the number of processors, at most 4.
	Workers int
	// RoundKeys is how many keys a round remembers so as not to compose a document twice. When there are more, the
	// oldest are forgotten, and composed again should another event touch them. Default 10,000.
	RoundKeys int
	// StallMax is how long a piece of a round may fail before the round is given up and begun again from a newer
	// snapshot, so that an outage of the sink does not pin an old one. Default 30s.
	StallMax time.Duration

	// MaxAttempts is how often a document is offered that the sink refuses for good, before it is parked. Default 3.
	MaxAttempts int
	// StopOnPermanent stops the runner where it would park a document.
	StopOnPermanent bool
	// RetryFatal has Serve run the runner again, after a pause, when a fatal error has stopped it.
	RetryFatal bool
	// Backoff spaces repeated attempts, of whole calls and of single documents. Default 50ms to 15s.
	Backoff backoff.Config

	// CheckpointInterval is the least time between two checkpoints while documents are being written. It bounds what is
	// written again after a crash. Default 250ms.
	CheckpointInterval time.Duration
	// CheckpointIdle is the least time between two checkpoints while no event touches the view. Default 1m.
	CheckpointIdle time.Duration
	// CheckpointEvents is how many events may pass without a checkpoint, whatever the intervals are. A long round saves one
	// after as many, too. Default 65,536.
	CheckpointEvents int

	// VerifySample is how many documents of a new generation, spread over its keys, are read back from the sink and compared with
	// what the definition yields, before readers see it. Their number is compared, too. Default 1,000; negative compares nothing.
	VerifySample int

	// Congestion is shared by the runners of one sink in this process. Default one of its own: then only the live generation of the
	// same view holds a fill back.
	Congestion *Congestion
	// Circuit is shared by the runners of one sink in this process, and by its readers. Default one of its own, whose pauses are
	// those of Backoff.
	Circuit *Circuit
	// Memory is shared by the runners of one sink in this process. Default one of its own, of 64 MiB.
	Memory *Memory
	// RebuildRate is how many documents per second a new generation is filled with at most. Default 0: as many as go without
	// making live generations late.
	RebuildRate int

	// KeepGenerations is how many other generations stay after a promotion, so that a person can go back. They are not
	// written any more, and the journal keeps nothing for them: one can be gone back to for as long as the journal happens
	// to reach back to its checkpoint. Default 1; negative keeps none.
	KeepGenerations int
	// StopTimeout bounds the last checkpoint when the runner stops. Default 5s.
	StopTimeout time.Duration
}

// withDefaults is the configuration with defaults for zero fields.
func (c Config) withDefaults() Config {
	set(&c.PieceDocuments, 1000)
	set(&c.PieceBytes, 4<<20)
	set(&c.Workers, min(runtime.GOMAXPROCS(0), 4))
	set(&c.RoundKeys, 10_000)
	set(&c.StallMax, 30*time.Second)
	set(&c.MaxAttempts, 3)
	set(&c.CheckpointInterval, 250*time.Millisecond)
	set(&c.CheckpointIdle, time.Minute)
	set(&c.CheckpointEvents, 65_536)
	set(&c.VerifySample, 1000)
	set(&c.KeepGenerations, 1)
	if c.Congestion == nil {
		c.Congestion = &Congestion{}
	}
	if c.Circuit == nil {
		c.Circuit = NewCircuit(CircuitConfig{Pauses: c.Backoff})
	}
	if c.Memory == nil {
		c.Memory = NewMemory(64 << 20)
	}
	set(&c.StopTimeout, 5*time.Second)
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
	if c.Sink == "" {
		errs = append(errs, errors.New("projector has no sink"))
	}
	for _, bound := range []struct {
		name  string
		value int64
	}{
		{"piece documents", int64(c.PieceDocuments)}, {"piece bytes", int64(c.PieceBytes)}, {"workers", int64(c.Workers)},
		{"round keys", int64(c.RoundKeys)}, {"max attempts", int64(c.MaxAttempts)}, {"stall max", int64(c.StallMax)},
		{"checkpoint interval", int64(c.CheckpointInterval)}, {"checkpoint idle", int64(c.CheckpointIdle)},
		{"checkpoint events", int64(c.CheckpointEvents)}, {"stop timeout", int64(c.StopTimeout)}, {"rebuild rate", int64(c.RebuildRate)},
	} {
		if bound.value < 0 {
			errs = append(errs, fmt.Errorf("%s is negative: %d", bound.name, bound.value))
		}
	}
	return errors.Join(errs...)
}
