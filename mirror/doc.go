// Package mirror keeps a local copy of the captured tables on disk (Pebble): the latest row of each by primary
// key, and an index for each set of columns that a view joins on. Views compose their documents from it, so
// that no document needs a query to the source; and it gives events what Postgres did not send: the values of
// TOASTed columns that an update left alone, and the row as it was before.
//
// Invariants:
//   - What is readable is the tables after some whole number of transactions, in commit order, together with the
//     journal offset and the LSN that say which (Progress). A transaction that comes in parts is invisible to
//     snapshots until its last part.
//   - The mirror moves after the journal has made the events durable, so its offset is never ahead of the
//     journal's. It does not sync by itself: what a machine crash takes is read from the journal again.
//   - An unchanged value is never stored in a completely loaded table, and never becomes null.
//   - An index has exactly one entry for each row whose indexed columns are all there and not null.
//
// It leaves to others: what is in the journal (journal), which columns need an index (views), and reading the
// source (cdc). DESIGN.md draws the keyspaces and explains the initial load.
package mirror
