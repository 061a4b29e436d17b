package cdc

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgconn"
)

const (
	// acknowledgeGap is the least time between two status messages that only report progress.
	acknowledgeGap = 20 * time.Millisecond
	// statusIntervalMax bounds the time between two status messages.
	statusIntervalMax = 10 * time.Second
	// askDelayMin and askDelayMax bound the time between two questions for a position that somebody waits for.
	// The first is asked at once; each later one when the answer before it did not get there.
	askDelayMin = time.Millisecond
	askDelayMax = 50 * time.Millisecond
	// targetPatience is how long after the last request for it a position is asked for.
	targetPatience = time.Minute
)

// feedback is what the reader has to tell the server. Any goroutine may change it; one goroutine per connection
// sends it, so that the server hears from the reader whatever receiving and delivering are doing.
type feedback struct {
	acknowledged atomic.Uint64 // the highest LSN passed to Acknowledge
	wanted       atomic.Bool   // somebody waits for a keepalive that was not asked for yet
	outstanding  atomic.Bool   // a keepalive was asked for and not delivered yet
	replyNow     atomic.Bool   // the server asked for a status
	heard        atomic.Bool   // something was received since the last look
	target       atomic.Uint64 // the highest position that somebody waits for
	targetUntil  atomic.Int64  // when nobody waits for it any more, in Unix nanoseconds
	reached      atomic.Uint64 // everything before it was delivered
	changed      chan struct{} // has a token when one of these may have changed
}

func newFeedback() *feedback { return &feedback{changed: make(chan struct{}, 1)} }

// acknowledge raises the position that is reported.
func (f *feedback) acknowledge(lsn pglogrepl.LSN) {
	if raise(&f.acknowledged, uint64(lsn)) {
		signal(f.changed)
	}
}

// request asks the server for a keepalive: now, or, when it has been asked already, once more after it answered.
func (f *feedback) request() {
	if !f.wanted.Swap(true) {
		signal(f.changed)
	}
}

// requestUntil asks the server for keepalives until everything before lsn was delivered.
func (f *feedback) requestUntil(lsn pglogrepl.LSN) {
	if uint64(lsn) <= f.reached.Load() {
		return
	}
	f.targetUntil.Store(time.Now().Add(targetPatience).UnixNano())
	raise(&f.target, uint64(lsn))
	f.request()
}

// missing says whether somebody waits for a position that was not reached.
func (f *feedback) missing() bool {
	return f.target.Load() > f.reached.Load() && time.Now().UnixNano() < f.targetUntil.Load()
}

// delivered is called when everything committed before reached was delivered.
func (f *feedback) delivered(reached pglogrepl.LSN) { raise(&f.reached, uint64(reached)) }

// answered is called when a keepalive was delivered with everything received before it.
func (f *feedback) answered() {
	f.outstanding.Store(false)
	if f.wanted.Load() || f.missing() {
		signal(f.changed)
	}
}

// status answers a keepalive in which the server asked for it.
func (f *feedback) status() {
	f.replyNow.Store(true)
	signal(f.changed)
}

// run sends status messages on conn until ctx is done: at least every interval, at once when the server asked
// or somebody wants a keepalive, and soon after an acknowledgement. It returns nil when ctx is done.
func (f *feedback) run(ctx context.Context, conn *pgconn.PgConn, interval, writeTimeout time.Duration) error {
	if f.outstanding.Swap(false) { // it was asked for on a connection that is gone
		f.wanted.Store(true)
	}
	f.heard.Store(true) // of the connection, just now
	timer := time.NewTimer(0)
	defer timer.Stop()
	var (
		reported  uint64
		last      time.Time     // of the last status; the first is sent at once
		askDelay  time.Duration // between the answer that brought too little and the next question
		askAgain  = time.Now()  // not before
		statusDue = func() time.Time { return last.Add(interval) }
	)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-f.changed:
		case <-timer.C:
		}
		now := time.Now()
		due := !now.Before(statusDue())
		quiet := due && !f.heard.Swap(false) // the answer tells a quiet server from a lost one
		replyNow := f.replyNow.Swap(false)
		acknowledged := f.acknowledged.Load()
		progress := acknowledged != reported && now.Sub(last) >= acknowledgeGap
		ask := false
		if !f.outstanding.Load() {
			if f.wanted.Swap(false) {
				ask, askDelay = true, askDelayMin
			} else if f.missing() && !now.Before(askAgain) {
				ask, askDelay = true, min(2*askDelay, askDelayMax)
			}
		}
		if due || replyNow || ask || progress {
			if ask {
				f.outstanding.Store(true)
				askAgain = now.Add(askDelay)
			}
			if err := sendStatus(ctx, conn, pglogrepl.LSN(acknowledged), ask || quiet, writeTimeout); err != nil {
				return err
			}
			reported, last = acknowledged, now
		}
		wake := statusDue()
		if acknowledged != reported {
			wake = earlier(wake, last.Add(acknowledgeGap))
		}
		if !f.outstanding.Load() && f.missing() {
			wake = earlier(wake, askAgain)
		}
		timer.Reset(time.Until(wake))
	}
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// raise makes v at least n and says whether it was less.
func raise(v *atomic.Uint64, n uint64) bool {
	for {
		old := v.Load()
		if n <= old {
			return false
		}
		if v.CompareAndSwap(old, n) {
			return true
		}
	}
}

// sendStatus reports lsn as written, flushed and applied: all three, because a flush position of zero would be
// taken to mean the write position. It does nothing when ctx is done.
func sendStatus(ctx context.Context, conn *pgconn.PgConn, lsn pglogrepl.LSN, reply bool, timeout time.Duration) error {
	if err := conn.Conn().SetWriteDeadline(time.Now().Add(timeout)); err != nil {
		return fmt.Errorf("send status: %w", err)
	}
	if ctx.Err() != nil { // asked after the deadline was set: whoever ends ctx sets a nearer one next
		return nil //nolint:nilerr // nothing is to be sent any more
	}
	err := pglogrepl.SendStandbyStatusUpdate(ctx, conn, pglogrepl.StandbyStatusUpdate{
		WALWritePosition: lsn, WALFlushPosition: lsn, WALApplyPosition: lsn, ReplyRequested: reply,
	})
	if err != nil {
		return fmt.Errorf("send status: %w", err)
	}
	return nil
}
