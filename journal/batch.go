package journal

import (
	"time"

	"github.com/lanternist/lanternist/event"
)

// Part is a transaction, or a part of one that is too large for one batch.
type Part struct {
	event.Transaction
	// First is the ordinal of the part's first change; where an earlier part ended when First is not 0.
	First uint32
	// Complete says that the transaction ends with this part; EndLSN is then known.
	Complete bool
	// Events are in the order of their ordinals, which are at least First. There may be none: a part without
	// events closes a transaction.
	Events []event.Event
}

// Batch is one entry of the journal. Its rows share the entry's memory; nothing of it may be changed.
type Batch struct {
	Sequence uint64
	Time     time.Time // when it was appended, microseconds; never before that of an earlier batch
	Parts    []Part

	header header
	memory int64 // that the entry and its decoded form take, in bytes
}

// Last is the offset of the batch's last event; of index 0 when it has no events.
func (b *Batch) Last() event.Offset { return b.header.last() }

// Len is the number of events.
func (b *Batch) Len() int { return int(b.header.events) }

// Size is the batch's size in the journal, in bytes.
func (b *Batch) Size() int { return int(b.header.length) }
