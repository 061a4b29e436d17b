// Package cache keeps the documents of views in Redis and reads them back: by id, and by declared lookups such as
// "all orders of a customer".
//
// Invariants:
//   - A document is only replaced by one of the same or a newer version. A deletion leaves a tombstone with its
//     version, for a time, so that this also holds for deleted documents.
//   - A document and its places in the lookups change in one step.
//   - Nothing is said to be absent because Redis does not have it: a key may have expired or been evicted. A Reader
//     composes what is missing anew. Only a tombstone, or the source, says that a document does not exist.
//   - Data that Redis has lost is never taken for the truth. Redis counts the writes of a generation, this
//     process remembers the count it has seen, and a Redis that counts less has been emptied, restored or failed over to
//     an older copy: reads answer ErrUnavailable and writes projectors.ErrLost until what was lost is there
//     again.
//
// A Client is a connection to Redis, a Store the home of one view in it (projectors.Store), a Reader its read side.
// What the documents are is decided by package views, when they are written by package projectors.
package cache
