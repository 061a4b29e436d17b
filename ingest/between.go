package ingest

import (
	"context"
	"fmt"
	"math"

	"github.com/jackc/pglogrepl"

	"github.com/lanternist/lanternist/row"
)

// captures says which transactions of which tables are captured, and remembers it. Only the holder of the pump's turn asks.
type captures struct {
	of    func(*row.Schema) (bool, pglogrepl.LSN) // whether it is, and since when; nil: all
	known map[uint32]pglogrepl.LSN                // by schema ID, since when; never for those that are not
}

// never is later than every transaction.
const never = pglogrepl.LSN(math.MaxUint64)

// has says whether the changes of a table are captured that a transaction, committed at lsn, has made.
func (c *captures) has(s *row.Schema, lsn pglogrepl.LSN) bool {
	if c.of == nil {
		return true
	}
	since, known := c.known[s.ID]
	if !known {
		var yes bool
		if yes, since = c.of(s); !yes {
			since = never
		}
		c.known[s.ID] = since
	}
	return lsn >= since
}

// SetCaptures makes the pump take the tables that of says, nil: all, from the next delivery on; called within Do, from
// that moment on. A table's transactions that were committed before the position that of returns with it are left out.
func (p *Pump) SetCaptures(of func(*row.Schema) (captured bool, since pglogrepl.LSN)) {
	p.captures.Store(&captures{of: of, known: map[uint32]pglogrepl.LSN{}})
}

// Do runs f between two deliveries: everything that was delivered before is in journal and mirror, nothing comes while f
// runs, and the mirror has no batch under way. It may be within a large transaction. It need not wait for the source to
// send something, and works before Run and while the source is away. f must be quick, and not call Do.
//
// After a delivery that did not succeed there is no such moment, and Do refuses.
func (p *Pump) Do(ctx context.Context, f func(ctx context.Context) error) error {
	select {
	case p.turn <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { <-p.turn }()
	if p.failed != nil {
		return fmt.Errorf("the stream has ended: %w", p.failed)
	}
	return f(ctx)
}
