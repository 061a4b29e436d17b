// Package event is what Lanternist says about a change: a typed, versioned event with a place in the journal.
//
// An Event is derived from one row change (or logical message) of one committed transaction. Inside the
// process it stays in its compact form: rows in Postgres text form beside the table's schema. The envelope
// that consumers see (JSON, CloudEvents) is written at the edge.
//
// Ordering: events of the journal are ordered by Offset; that order is commit order, and the order of changes
// inside a transaction. The pair (Transaction.CommitLSN, Ordinal) names an event for ever: it is the same on
// every re-delivery by Postgres.
package event

import (
	"fmt"
	"time"

	"github.com/jackc/pglogrepl"

	"github.com/lanternist/lanternist/row"
)

// Offset is a place in the journal: the sequence of a batch shifted left by 16, plus the index of the event in
// that batch. It is the version number that sinks compare. It always fits 63 bits. Zero means "before everything".
type Offset uint64

// NewOffset is the offset of event index in batch sequence.
func NewOffset(sequence uint64, index int) Offset { return Offset(sequence<<16 | uint64(index)) }

// MaxBatchEvents is how many events one batch may hold: the index has 16 bits.
const MaxBatchEvents = 1 << 16

// Sequence is the sequence of the batch.
func (o Offset) Sequence() uint64 { return uint64(o) >> 16 }

// Index is the index inside the batch.
func (o Offset) Index() int { return int(o & 0xffff) }

// String prints sequence and index: "812.3".
func (o Offset) String() string { return fmt.Sprintf("%d.%d", o.Sequence(), o.Index()) }

// Op is the kind of a change.
type Op byte

// The kinds of changes.
const (
	Insert   Op = 'I'
	Update   Op = 'U'
	Delete   Op = 'D'
	Truncate Op = 'T'
	Message  Op = 'M' // pg_logical_emit_message
	Gap      Op = 'G' // what was committed before it, since the event before it, is not in the journal
)

// Transaction is what Postgres says of the transaction that an event belongs to.
type Transaction struct {
	XID        uint32
	CommitLSN  pglogrepl.LSN // Begin.FinalLSN: where the commit record starts. Orders transactions.
	EndLSN     pglogrepl.LSN // where the commit record ends; 0 while the end of a large transaction has not been read
	CommitTime time.Time     // the source's clock, microseconds
}

// Event is one change of one row, one TRUNCATE of one table, one logical message, or a gap: see GapOf.
type Event struct {
	Offset      Offset       // 0 until it is in the journal
	Transaction *Transaction // shared by all events of the transaction in one batch
	Ordinal     uint32       // place in the transaction, from 0
	Op          Op
	Schema      *row.Schema // of Before and After; nil for a Message and a Gap
	// Before is the row as it was: complete when the mirror knew it, else only the columns of the replica
	// identity (the others null), else nil. BeforeComplete tells.
	Before         row.Row
	BeforeComplete bool
	// After is the row as it is; nil for Delete, Truncate and Message. A value may be row.Unchanged only
	// while the table's initial load had not yet reached the row.
	After row.Row

	Prefix  string // of a Message; GapPrefix of a Gap
	Content []byte // of a Message; of a Gap what GapOf reads
}
