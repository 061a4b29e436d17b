// Package search keeps documents of views in Elasticsearch and reads them.
//
// It is the Elasticsearch home of package projectors' Store and Generation, and the search behind the query API.
//
// A generation of view v is the index <prefix>v-g<N>. Readers go through the alias <prefix>v, writers through the alias
// <index>-w with require_alias, so that an index deleted under us is an error and is never created again by a
// write. The index's _meta says what it holds. The checkpoint is a document of the index, hidden by both aliases: whatever is
// restored, copied or deleted, documents and checkpoint stay together.
//
// Invariants:
//   - A write carries the journal offset as an external version (external_gte): an older write changes nothing, and a deleted
//     document does not come back while index.gc_deletes remembers it. Store.Remembers tells package projectors how long that is: nobody
//     writes who has not been the journal's only writer for that long.
//   - A document that Elasticsearch refuses is named with the reason. Nothing else of the call is lost by it.
//   - A reader that asks for an offset (Refresh) sees every write up to it.
//   - What a reader asks is checked against the view's mapping before Elasticsearch sees it; sizes, clauses and open points in time
//     are bounded.
//
// Retrying with backoff, parking and the order of writes are left to package projectors; tokens and waiting to package httpapi.
package search
