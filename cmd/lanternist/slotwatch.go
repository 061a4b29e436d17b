package main

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/lanternist/lanternist/cdc"
	"github.com/lanternist/lanternist/httpapi"
)

const (
	// slotLookEvery is how often the server is asked what its slot keeps.
	slotLookEvery = 5 * time.Second
	// slotHolderAge is how long a transaction must have been open before it is named.
	slotHolderAge = 10 * time.Second
	// slotWarnBytes and slotWarnAge say when a transaction that holds the slot is worth a line in the log.
	slotWarnBytes = 256 << 20
	slotWarnAge   = 10 * time.Minute
)

// slotWatch knows what the slot keeps on the server, and who is the reason.
type slotWatch struct {
	latest atomic.Pointer[httpapi.SlotStatus]
}

// status is what was seen last; nil before that.
func (w *slotWatch) status() *httpapi.SlotStatus { return w.latest.Load() }

// run looks until ctx ends. A server that does not answer is the reader's matter.
func (w *slotWatch) run(ctx context.Context, source cdc.Config, warn func(*cdc.SlotHolder, uint64)) error {
	tick := time.NewTicker(slotLookEvery)
	defer tick.Stop()
	var conn *pgx.Conn
	defer func() { closeQuietly(conn) }()
	warned := uint32(0)
	for {
		use, err := w.look(ctx, source, &conn)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil:
			closeQuietly(conn)
			conn = nil
			if errors.Is(err, cdc.ErrSlotMissing) {
				w.latest.Store(nil)
			}
		default:
			h := use.Holder
			if h != nil && h.XID != warned && use.Retained >= slotWarnBytes && h.Age >= slotWarnAge {
				warned = h.XID
				warn(h, use.Retained)
			}
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}

// look asks the server once.
func (w *slotWatch) look(ctx context.Context, source cdc.Config, conn **pgx.Conn) (*cdc.SlotUse, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*slotLookEvery)
	defer cancel()
	if *conn == nil {
		c, err := cdc.Connect(ctx, source)
		if err != nil {
			return nil, err
		}
		*conn = c
	}
	use, err := cdc.ReadSlotUse(ctx, *conn, source.Slot, slotHolderAge)
	if err != nil {
		return nil, err
	}
	s := &httpapi.SlotStatus{Restart: use.RestartLSN.String(), RetainedBytes: use.Retained, WALStatus: use.WALStatus, Seen: time.Now().UTC()}
	if h := use.Holder; h != nil {
		s.Holder = &httpapi.SlotHolder{
			PID: h.PID, Prepared: h.Prepared, XID: h.XID, Database: h.Database, User: h.User, Application: h.Application,
			State: h.State, Seconds: h.Age.Seconds(), Text: h.String(),
		}
	}
	w.latest.Store(s)
	return use, nil
}

// closeQuietly closes a connection that is not needed any more, or is broken.
func closeQuietly(conn *pgx.Conn) {
	if conn == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	_ = conn.Close(ctx) // either way it is gone
}
