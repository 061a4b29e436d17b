// Package httpapi is the query API: documents by id, by lookup and by search, events, dead letters, status, health and
// metrics over HTTP, described by OpenAPI at /openapi.json.
//
// Invariants:
//   - An answer to a request with a token (after=) shows everything that committed before the token's position. When it
//     cannot within the time the client waits, the answer is 504 and says how far the view has come; it is never an older
//     document.
//   - Every answer from a view names a position that it reflects at least, read before the document was, and how old that
//     is. The position is a token for the next request.
//   - A token of another epoch (another server, or another timeline of it) is 410: its position means nothing here.
//   - 404 says that the document does not exist as of the position named. What is not known, because a sink is away or has
//     lost data, is 503.
//   - Bodies, headers, pages, times, waiting requests and requests in flight are bounded. Nothing is reachable beyond
//     this machine without a bearer token.
//
// Errors are problem documents (RFC 9457). The API only reads, but for POST …/rebuild.
//
// What documents are, and how far they have come, is told by packages projectors, projectors/cache and projectors/search.
package httpapi
