package httpapi

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/jackc/pglogrepl"

	"github.com/lanternist/lanternist/backoff"
)

// Outcome is what became of a transaction.
type Outcome uint8

// The outcomes of a transaction.
const (
	InProgress Outcome = iota
	Committed          // or so old that nobody remembers: then what it committed is old, too
	Aborted
	Unborn // no transaction has this id yet
)

// errUnresolved means that nothing is known of a transaction, and there is nobody to ask.
var errUnresolved = errors.New("the transaction is not known")

// resolver finds the position of a transaction: a committed one shows at every position from lsn on.
type resolver interface {
	resolve(ctx context.Context, xid uint64) (Outcome, pglogrepl.LSN, error)
}

// resolve is the position to wait for. It waits for a transaction that is in progress. Its error is a Problem.
func (s *Server) resolve(ctx context.Context, p Projector, token Token) (pglogrepl.LSN, error) {
	if token.XID == 0 {
		return token.LSN, nil
	}
	waits := backoff.New(backoff.Config{Min: 2 * time.Millisecond, Max: 50 * time.Millisecond})
	for {
		outcome, lsn, err := s.transactions.resolve(ctx, token.XID)
		switch {
		case ctx.Err() != nil:
			return 0, s.unfinished(ctx, p, token)
		case errors.Is(err, errUnresolved):
			return 0, badQuery("after", token.String(), "transaction %d is not known here; use a position", token.XID)
		case err != nil:
			s.log.Debug("transaction not resolved", "xid", token.XID, "error", err)
			return 0, problem(http.StatusServiceUnavailable, "the source cannot be asked about transaction %d now", token.XID).retryAfter(time.Second)
		case outcome == Committed:
			return lsn, nil
		case outcome == Aborted:
			gone := problem(http.StatusConflict, "transaction %d was rolled back: there is nothing to wait for", token.XID)
			gone.Wanted = token.String()
			return 0, gone
		case outcome == Unborn:
			return 0, badQuery("after", token.String(), "there has been no transaction %d", token.XID)
		}
		if waits.Wait(ctx) != nil {
			return 0, s.unfinished(ctx, p, token)
		}
	}
}

// unfinished is the problem of a transaction that was still open when the time was out.
func (s *Server) unfinished(ctx context.Context, p Projector, token Token) error {
	if !errors.Is(context.Cause(ctx), context.DeadlineExceeded) {
		return problem(statusClientGone, "the client has gone")
	}
	progress, _ := p.Watermark()
	pos := s.position(p, progress)
	late := problem(http.StatusGatewayTimeout, "transaction %d has not ended in time", token.XID)
	late.Wanted, late.Reached = token.String(), Token{LSN: pos.lsn, Epoch: s.cfg.Epoch}.String()
	return late.at(s, pos).retryAfter(time.Second)
}
