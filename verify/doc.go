// Package verify compares the documents that sinks hold with what a view's definition yields, and mends them when asked.
//
// What the definition yields is composed at a Point: the mirror as it is (Mirror), or a copy of the view's tables
// taken from the source under one exported snapshot (Source). Both are points in commit order. A sink is read after its
// projector's watermark has reached the point, so it shows that point or a later one.
//
// Invariants: a document counts as missing, extra or different only when it was not as it should be at two points in a
// row between which what it should be did not change. Traffic therefore causes no alarm: a document that was changed
// meanwhile is looked at again at newer points, and counted as unsettled when it never stood still. Nothing is written
// but through Projector.Refresh, so the rules of versions and of the single writer hold for repairs.
//
// It leaves to others: writing documents (projectors), who may ask (httpapi), how it is shown (cmd).
package verify
