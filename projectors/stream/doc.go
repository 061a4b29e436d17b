// Package stream hands the journal's events, in their order, to a handler: what relays to brokers, processes and a user's own
// projectors are made of.
//
// A Projector reads from its checkpoint, which it keeps in the control store, hands on what is waiting in bounded slices, and
// saves the checkpoint afterwards: each event is handed on at least once, and in the order of the journal. It may start in the
// past: at the beginning of what there is, an offset, a position or a time. Replay runs a range of stored events through the
// same handler again, without the checkpoint, and tells the handler so.
//
// Invariants:
//   - Events are handed on in journal order. One that was handed on is handed on again only together with all that follow it,
//     after a crash or an error, or by a Replay.
//   - The checkpoint never passes an event that is neither handled nor parked. The journal drops nothing after it for as long as
//     the projector exists, running or not.
//   - A Replay gives exactly the transactions of its range, all of each. What cannot be read ends it; nothing after that is
//     handed on.
//   - Live events and replayed ones never share a call of the handler, and calls never overlap.
//   - An error repeats the slice, parks the event or stops the projector. Nothing is dropped.
//   - With Hold, an event is handed on only when every earlier one of its key was taken or given up. What waits is a dead letter of
//     class waiting, durable before the checkpoint passes it; at Config.HoldEvents of them the projector stops.
//
// What the events are sent to, and what they look like there, is the handler's. What classes of errors there are, package
// projectors says.
package stream
