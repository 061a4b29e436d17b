// Package asof makes views as they were: a copy of a view's documents, under a name of its own, as the source was at one
// moment in commit order, that stays until it is removed.
//
// A moment is a time or a position. It stands for a set of transactions that is an end in commit order: of a position, those that
// committed before it, like with a token; of a time, those that come, in commit order, before the first one that committed
// after it, by the source's clock. Postgres takes a commit's time a little before its place in the order, so two transactions of the same
// microseconds may have times the other way round; what counts is the order, and the same moment yields the same
// documents whenever it is asked for.
//
// The newest checkpoint of the mirror that is not after the moment is restored to a folder of its own, the journal's events up to the
// moment are applied to it, and every document is composed from that.
//
// Invariants:
//   - The documents are the definition evaluated on the tables as they were after those transactions and no others, or nothing is
//     made: what is not known (a table that was not captured then, events that are gone) is refused, by name.
//   - A view that is being made, or being removed, is not shown. A crash leaves a record that says so, and the next start
//     removes what it left.
//   - What a sink held before under the name is never touched.
//
// A column that did not exist yet shows what the table says now of rows that are older than it: its default, or null. The definition of the view is
// the present one, as is that of the tables that it was compiled against; both are kept with the view.
package asof
