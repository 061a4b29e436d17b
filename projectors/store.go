package projectors

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pglogrepl"

	"github.com/lanternist/lanternist/event"
	"github.com/lanternist/lanternist/views"
)

// ErrNoGeneration is returned by Store.Open for a number that the store does not hold.
var ErrNoGeneration = errors.New("no such generation")

// ErrLost in the chain of an error of a Generation says that the sink no longer holds what was written to it: it was
// emptied, or is now an older copy of itself. The runner opens its store again, and goes on from the checkpoint that it finds
// there, or builds a new generation.
var ErrLost = errors.New("the sink lost documents")

// Info describes a generation: one complete copy of a view's documents in a sink.
type Info struct {
	// Number is the generation's number, from 1. The runner gives the next one; it is never used twice.
	Number int `json:"number"`
	// Hash is views.View.Hash of the definition that the documents were composed by.
	Hash string `json:"hash"`
	// Definition is the text of that definition, views.View.Source: by it the generation is followed, or gone back to, when the
	// view has another one. Generations that an older version made have none.
	Definition string `json:"definition,omitempty"`
	// Live says that readers are sent to this generation. At most one of a store is. Create ignores it.
	Live bool `json:"live"`
	// Epoch is the source's epoch (system identifier and timeline) when the generation was created.
	Epoch string `json:"epoch"`
	// Deployment is the name of the deployment that made it. Generations that an older version made have none.
	Deployment string `json:"deployment,omitempty"`
	// Created is when Create was called.
	Created time.Time `json:"created"`
}

// Checkpoint is how far a generation has come. It is kept in the sink, beside the documents that it speaks of, so
// that a restored backup of the sink restores the checkpoint that belongs to it.
//
// It covers only what was applied or parked. It may lag behind what was applied; it never leads. A sink keeps and returns
// all its fields (as JSON, say) and looks into none.
type Checkpoint struct {
	// Offset is where to go on: every event up to it was applied as seen from Round, or parked.
	Offset event.Offset `json:"offset"`
	// Round is where the round ends in which the checkpoint was saved. It is Offset, or greater when the round was not yet
	// over: then documents show a state between Offset and Round, and no promise can be made before a round has reached Round.
	Round event.Offset `json:"round"`
	// LSN is the promise: documents show at least every transaction that committed before it.
	LSN       pglogrepl.LSN `json:"lsn"`
	JournalID string        `json:"journal_id"` // the journal that the offsets belong to
	// Served says that readers have seen the generation. One newer than the live one without it is half built; one with it
	// was gone back from, and stays.
	Served bool      `json:"served,omitempty"`
	Time   time.Time `json:"time"` // when it was saved
}

// Store is the home of one view in one sink. Its methods may be called concurrently.
//
// Errors are classified by Class; what is not wrapped otherwise is transient.
type Store interface {
	// Generations lists what the store holds, live or not, whole or half built, in ascending order of Number.
	Generations(ctx context.Context) ([]Info, error)
	// Create makes an empty generation that no reader sees. It replaces what a crashed Create of the same number left.
	Create(ctx context.Context, info Info) (Generation, error)
	// Open returns an existing generation, or ErrNoGeneration.
	Open(ctx context.Context, number int) (Generation, error)
	// Promote sends readers to the generation, and away from every other one, in one atomic step. Promoting the live
	// generation changes nothing.
	Promote(ctx context.Context, number int) error
	// Retire removes a generation with its documents and checkpoint. It refuses the live one with an error; one that is
	// gone already is no error.
	Retire(ctx context.Context, number int) error
}

// Generation is one complete copy of a view's documents, written by one runner at a time. Its methods may be called
// concurrently, except that SaveCheckpoint is never called at the same time as itself. Several Writes at once have the
// same version, and the same body should they name the same document.
type Generation interface {
	// Write puts each document whose Body is not nil, and deletes each whose Body is nil, with its lookups, unless the
	// sink holds a newer version of it: a stale write is a success that changes nothing. It names each document
	// that was refused; all the others were applied. An error speaks of the whole call: nothing is known of any document,
	// and the same call may be repeated. The documents may not be used after Write has returned.
	Write(ctx context.Context, version event.Offset, docs []views.Document) ([]Failure, error)
	// Checkpoint is the checkpoint saved last; false when there was none.
	Checkpoint(ctx context.Context) (Checkpoint, bool, error)
	// SaveCheckpoint is as durable as the documents of every Write that returned before it was called.
	SaveCheckpoint(ctx context.Context, cp Checkpoint) error
	// IDs visits the id of every document that was written before IDs was called and not deleted, in any order. Documents
	// written or deleted meanwhile may or may not be visited, and a document may be visited twice. visit may call Write.
	// An error of visit ends the visit and is returned.
	IDs(ctx context.Context, visit func(id string) error) error
}

// Preparer may be implemented by a Store for which a promotion is shorter when it was prepared. A generation that was prepared
// need not be promoted.
type Preparer interface {
	Prepare(ctx context.Context, number int) error
}

// Readable is implemented by a Generation of which documents can be read back, whether readers see it or not. One that does not
// implement it is promoted as it is.
type Readable interface {
	// Documents reads the documents with these ids, in their order.
	Documents(ctx context.Context, ids []string) ([]Held, error)
	// Count is how many documents there are; false when that cannot be told.
	Count(ctx context.Context) (int64, bool, error)
}

// Held is what a sink holds under one id.
type Held struct {
	Body []byte // JSON, or what else is there; nil is nothing
	// Expired says that there is nothing, and that the sink may have let the document go by its time to live.
	Expired bool
}

// Failure is one document that a Write could not apply. Class(Err) says what happens to it: a transient failure is tried
// again until it succeeds, a permanent one is tried Config.MaxAttempts times and then parked, a fatal one stops the runner.
type Failure struct {
	Index int // into the documents given to Write
	Err   error
}
