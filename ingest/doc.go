// Package ingest moves committed transactions from Postgres into the two durable things, journal and mirror, and
// loads tables into the mirror for the first time.
//
// The order of one batch is the heart of Lanternist:
//
//  1. the mirror's batch completes the changes (unchanged TOAST values, before-images) and stages them;
//  2. the journal appends the events, durably;
//  3. the mirror commits the staged rows at the journal's new offset;
//  4. the source is told that it may forget the transactions.
//
// Invariants: what is acknowledged to the source is durable in the journal (I1); the mirror is never ahead of the
// journal (I3), and catches up from it at start; an idle source still advances the mirror's progress by
// keepalives (I4).
//
// It does not decode (cdc), decide what a batch looks like on disk (journal), or look at views.
package ingest
