package verify

import (
	"context"

	"github.com/jackc/pglogrepl"

	"github.com/lanternist/lanternist/mirror"
	"github.com/lanternist/lanternist/projectors"
)

// Sink is a view in one sink.
type Sink struct {
	Name      string // "search", "cache"
	Documents Documents
	Projector Projector
}

// Documents reads what a sink holds of a view, in its live generation. It is called from several goroutines.
type Documents interface {
	Get(ctx context.Context, id string) (Held, error)
	// IDs visits the id of every document; see projectors.Generation.
	IDs(ctx context.Context, visit func(id string) error) error
}

// Held is what a sink holds under one id. Its zero value is: nothing.
type Held struct {
	Body []byte // JSON
	// Expired says that the sink has nothing, and may have let the document go by its time to live.
	Expired bool
	// Foreign says what is there in place of a document, when it is none that the projector wrote; else "".
	Foreign string
}

// Projector is what verify needs of a *projectors.Runner.
type Projector interface {
	Status() projectors.Status
	Wait(ctx context.Context, lsn pglogrepl.LSN) (mirror.Progress, error)
	// Refresh has documents written as they should be.
	Refresh(ctx context.Context, ids []string) error
}
