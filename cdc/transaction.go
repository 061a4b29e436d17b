package cdc

import (
	"context"

	"github.com/jackc/pglogrepl"

	"github.com/lanternist/lanternist/event"
	"github.com/lanternist/lanternist/row"
)

// Change is one change of one row, one TRUNCATE of one table (a TRUNCATE of n tables is n changes), or one
// logical message.
type Change struct {
	Op     event.Op
	Schema *row.Schema // as the SchemaRegistrar gave it; nil for a Message
	// Before is what the server sent of the row as it was: the columns of the replica identity when they
	// changed or the row was deleted (the others null), the whole row under REPLICA IDENTITY FULL, else nil.
	Before row.Row
	// After is the row as it is; nil for Delete, Truncate and Message. Values of TOASTed columns that an
	// update did not touch are row.Unchanged.
	After   row.Row
	Prefix  string // of a Message
	Content []byte // of a Message
}

// Transaction is a committed transaction, or one bounded part of one that is larger than a Delivery. A logical
// message that was sent outside of its transaction is a Transaction of its own with XID 0; its CommitTime is the
// server's clock when it was sent. A transaction without changes of captured tables is not delivered.
type Transaction struct {
	event.Transaction          // EndLSN is 0 unless Last
	First             uint32   // ordinal of Changes[0] in the transaction
	Changes           []Change // may be empty in the last part
	Last              bool     // the transaction ends with this part
}

// Delivery is what was waiting when it was made, bounded by Config.BatchBytes and BatchChanges. Its rows share
// memory that is never reused, so it may be kept for as long as it is needed.
type Delivery struct {
	Transactions []Transaction // in commit order; only the last may lack its end
	// WALEnd, unless 0: everything committed before it has been delivered, up to and with this Delivery.
	WALEnd pglogrepl.LSN
	// AcknowledgeNow: the server asks for word. Until WALEnd is acknowledged it cannot shut down, so a caller
	// that acknowledges the end of an idle log only now and then should do it at once.
	AcknowledgeNow bool
}

// Start is the place from which a Reader goes on: the head of what its caller has made durable. The zero Start
// is the slot's own position.
type Start struct {
	CommitLSN pglogrepl.LSN // of the last transaction that is durable, in whole or in part
	Ordinal   uint32        // how many of its changes are durable; says nothing when Complete
	Complete  bool          // its end is durable
	// EndLSN is the end of the last complete transaction, or a later position that was acknowledged because
	// nothing before it was missing. The stream starts there. A slot that is ahead of it is refused
	// (ErrSlotAhead), so every position passed to Acknowledge must be durable first.
	EndLSN pglogrepl.LSN
}

// has says whether everything of the transaction at commit is durable already, else how many changes are.
func (s Start) has(commit pglogrepl.LSN) (all bool, changes uint32) {
	switch {
	case commit < s.CommitLSN:
		return true, 0
	case commit > s.CommitLSN:
		return false, 0
	case s.Complete:
		return true, 0
	default:
		return false, s.Ordinal
	}
}

// SchemaRegistrar gives a table definition its ID and version. Register is called when a table's changes are
// first seen and whenever its definition changes, before the Delivery with the first such change. It must not
// modify s.
type SchemaRegistrar interface {
	Register(ctx context.Context, s *row.Schema) (*row.Schema, error)
}
