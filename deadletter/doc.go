// Package deadletter keeps what a sink could never accept, with its payload, its reason and its offset, so that a
// projector can go on without losing it.
//
// A letter belongs to one projector and one document (or, for a relay, one event key). Parking is durable before
// Park returns, so a checkpoint may pass the offset of a parked letter: a checkpoint covers only what was applied
// or parked. A later version of the document that the sink accepts resolves the letter.
//
// The letters live in the control store, ordered by projector and offset. Only their ids are held in memory, so
// that a projector can ask after every write, at the price of a map lookup, whether there is anything to resolve.
//
// What a permanent failure is, and how often it is tried first, is decided by package projectors.
package deadletter
