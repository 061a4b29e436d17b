// Package views turns declared views into documents.
//
// A view names a root table, the fields of its documents, joins to other tables (to any depth, and through link
// tables), aggregates over joined rows, and fields and a filter in CEL. Parse reads definitions, Compile checks
// them against the tables and reports every problem at once. A View then answers two questions, both from a
// snapshot of the mirror and never from the source: which root rows does a change affect (Affected), and what is
// the document of a root row (Composer).
//
// Invariants: a document equals its definition evaluated at the snapshot's one point in commit order; it depends
// on nothing but the rows of View.Tables. When a document differs between two points, the events between them
// name its root key through Affected, asked with a snapshot at the later point.
//
// Writing documents to sinks, versions, retries and the order of work are left to package projectors.
//
// # Definitions
//
//	view: order_summary              # lower-case letters, digits, _
//	from: public.orders              # the root table; "public." may be left out
//	fields:
//	  id:                            # the column of that name
//	  status: {as: keyword}          # with a type for the search sink
//	  placed_at: {column: created_at}
//	  customer: {one: public.customers, on: {id: customer_id}, fields: {name: }}
//	  items:
//	    many: public.order_items
//	    on: {order_id: id}           # column of the joined table: column of this one; several pairs are and-ed
//	    where: "row.qty > 0"         # CEL over the joined row
//	    order_by: [-price, line_no]  # "-" is descending; nulls last; then by primary key
//	    limit: 100
//	    fields: {sku: , qty: , price: }
//	  tags: {many: public.tags, through: public.order_tags, on: {order_id: id}, to: {id: tag_id}, value: name}
//	  shipments: {many: public.shipments, on: {order_id: id}, hidden: true}
//	  parcels: {count: shipments}
//	  total: {sum: items.price}      # also min and max
//	  big: {cel: "has(doc.total) && doc.total > 1000"}
//	where: "doc.status != 'draft'"   # no document for other rows
//	search: {settings: {}, mappings: {}, analysis: {}, dynamic: strict}
//	cache: {ttl: 24h, lookups: [customer_id, [status, customer.name]]}
//
// A one join gives an object, or null when there is no row. When its columns are not a key, it takes the first row by
// order_by, else the one with the lowest primary key. A many join gives a list, empty when there is no row. With value
// in place of fields either gives the values of one column. Through a link table, on is between the link table and
// this one, to between the joined table and the link table; a row that several links lead to is there once.
//
// Rows are sorted as Postgres sorts them, text in collation "C" and enums by label.
//
// An aggregate is over the rows of a join declared beside it, those that its where lets through, before its limit.
// "items.price" is the join's field price if that is a column, else the table's column. As in SQL nulls are passed
// over, count of nothing is 0, and sum, min and max of nothing are null. Sums of integers and numerics are exact.
//
// In CEL, row has the columns of the table and doc the fields of the object that the expression stands in: all but
// expressions further down. A column may be null: has(row.x) says that it is not, and row.x == null that it is; to
// calculate with null is an error, which stops the document and not the view (ErrEvaluate). Integers are int,
// numerics and floats double, dates and timestamps timestamp, json and arrays dyn, and all else string.
//
// A lookup is a field of the document, by its path through one joins, or else a column of the root table.
package views
