// Package journal is the durable stream of events: what happened, in commit order. It stands between the
// replication slot and the sinks, so that a slow sink delays neither the source nor another sink.
//
// The package owns the batch format, the order of batches, their chain, retention and the memory of recent
// batches. Where bytes live is left to a Log: journal/segments on one machine, journal/jetstream beyond it; both
// pass journal/journaltest. An Archive (journal/archive) may have what the Log no longer has; readers go from one to the
// other without a seam. What rows mean is left to packages row and schemas.
//
// Invariants:
//   - A batch is durable when Append returns, and one batch follows the other without a hole.
//   - Offsets only grow, and so do (CommitLSN, ordinal): each event of each transaction is in the journal
//     once, in commit order. An event that comes again is refused with ErrOutOfOrder.
//   - Damage and holes are found when read and reported as an exact range of batches. Nothing is skipped.
//   - What an active reader still needs is not trimmed. When the size bound is reached Append waits, loudly.
//
// DESIGN.md in this folder tells the format, the assumptions about the machine and what the decisions cost.
package journal
