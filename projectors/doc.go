// Package projectors follows the journal and keeps a view's documents in a sink equal to the view's definition.
//
// A Runner belongs to one view in one sink. It works in rounds: it takes a snapshot of the mirror at M, works out which
// documents the journal's events after the last round and up to M affect, composes each of them once from the snapshot and
// writes it with M's offset as its version. When all of them are written or parked, and not before, the watermark is M.
//
// Invariants:
//   - The watermark never passes an event of which an affected document is neither written nor parked. It is the
//     promise that a reader's token is compared with.
//   - A checkpoint may lag behind the watermark, never lead it. After a crash the events between are applied again,
//     which changes nothing: every write carries its version.
//   - Memory is bounded whatever a transaction, a TRUNCATE or a lookup row touches: documents pass in pieces.
//   - Nothing is dropped: an error repeats the operation, parks the document or stops the runner (Class).
//
// The documents live in a generation. A new one is built from a snapshot when there is none, when the view's definition
// has changed (at a start, or by Redefine), when the journal is another one, or when a person asks (Rebuild). It is filled
// while the live one goes on serving and following by its own definition, catches up, and is promoted in one step.
//
// Sinks implement Store and Generation (search, cache). What is affected and what a document is, views decides; what is
// kept of a parked document, deadletter.
package projectors
