package ingest

import (
	"context"
	"fmt"

	"github.com/lanternist/lanternist/row"
)

// captures says which tables are captured, and remembers it. Only the holder of the pump's turn asks.
type captures struct {
	of    func(*row.Schema) bool // nil: all
	known map[uint32]bool        // by schema ID
}

func (c *captures) has(s *row.Schema) bool {
	if c.of == nil {
		return true
	}
	yes, known := c.known[s.ID]
	if !known {
		yes = c.of(s)
		c.known[s.ID] = yes
	}
	return yes
}

// SetCaptures makes the pump take the tables that of says, nil: all, from the next delivery on; called within Do, from
// that moment on.
func (p *Pump) SetCaptures(of func(*row.Schema) bool) {
	p.captures.Store(&captures{of: of, known: map[uint32]bool{}})
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
