// Package deadletter keeps what a sink could never accept, with its payload, its reason and its offset, so that a
// projector can go on without losing it.
//
// A letter belongs to one projector and one document (or, of a stream, one event). Parking is durable before
// Park returns, so a checkpoint may pass the offset of a parked letter: a checkpoint covers only what was applied
// or parked. A later version of the document that the sink accepts resolves the letter.
//
// The letters live in the control store, ordered by projector and offset; see DESIGN.md for how. In memory is only how many there
// are, of which projector and class, and a sketch of fixed size, so that a projector can ask after every write, at the
// price of a look into it, whether there is anything to resolve.
//
// What a permanent failure is, and how often it is tried first, is decided by package projectors, and so is how a letter is tried
// again. Package deadletter/alert tells somebody.
package deadletter
