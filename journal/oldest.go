package journal

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pglogrepl"

	"github.com/lanternist/lanternist/event"
)

// Oldest is where what is retained begins: its first event, and the transaction that the event belongs to. Of a long
// transaction the first event retained may be one in its middle.
type Oldest struct {
	Offset     event.Offset
	CommitLSN  pglogrepl.LSN
	CommitTime time.Time // by the source's clock
}

// String names the three ways in which a reader can ask for it.
func (o Oldest) String() string {
	return fmt.Sprintf("offset %d, position %s, committed at %s", uint64(o.Offset), o.CommitLSN, o.CommitTime.UTC().Format(time.RFC3339Nano))
}

// Oldest finds the first event retained; false when the journal holds no event.
func (j *Journal) Oldest(ctx context.Context) (Oldest, bool, error) {
	for sequence := j.First(); sequence <= j.Head().Offset.Sequence(); sequence++ {
		batch, err := j.Read(ctx, sequence)
		if err != nil {
			return Oldest{}, false, fmt.Errorf("find the oldest event: %w", err)
		}
		for i := range batch.Parts {
			if part := &batch.Parts[i]; len(part.Events) > 0 {
				return Oldest{part.Events[0].Offset, part.CommitLSN, part.CommitTime}, true, nil
			}
		}
	}
	return Oldest{}, false, nil
}

// Retains says whether the journal still holds every event from an offset on. A TrimmedError says where what it holds
// begins.
func (j *Journal) Retains(from event.Offset) error {
	j.mu.RLock()
	first := j.first
	j.mu.RUnlock()
	// Nothing was ever before the first batch of all.
	if from.Sequence() >= first.sequence || first.previousSequence == 0 {
		return nil
	}
	past, reaches, err := j.past()
	switch {
	case err != nil:
		return err
	case reaches && (past.Beginning || from.Sequence() >= past.First):
		return nil
	}
	return j.trimmed()
}
