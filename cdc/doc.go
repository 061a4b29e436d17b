// Package cdc reads what a Postgres database commits: it prepares the database (publication, slot), follows the
// slot, and hands over committed transactions in commit order, in bounded deliveries, each transaction exactly
// once per process.
//
// The parts, in the order in which a daemon uses them: [Preflight] lists every problem of a source with its fix,
// [Setup] creates what is missing, [LoadCatalog] describes the captured tables, a [Session] copies what is in
// them already, and a [Reader] follows what happens to them.
//
// Invariants:
//   - A Delivery's transactions are in commit order and none is left out or handed over twice, whatever happens
//     to the connection; changes of one transaction keep their ordinals on every re-delivery by Postgres.
//   - Only positions passed to [Reader.Acknowledge] are reported to the server, so the slot is never ahead of
//     what its caller made durable.
//   - The server hears from the reader in time, however long a delivery takes.
//   - Memory is bounded: a transaction larger than a delivery is handed over in parts, and what is waiting to be
//     decoded has a limit, behind which the server waits.
//   - Values keep Postgres' text form, written under the same session settings on every connection, so the row
//     that a Session copied and the row that the Reader receives agree byte for byte.
//
// What a change means (events, their types and versions), and what is done with it, is left to others.
package cdc
