package httpapi

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/jackc/pglogrepl"

	"github.com/lanternist/lanternist/event"
	"github.com/lanternist/lanternist/mirror"
	"github.com/lanternist/lanternist/projectors"
)

// Freshness is what a request says about how new its answer must be.
type Freshness struct {
	After string `query:"after" maxLength:"96" doc:"A token: the answer reflects everything that committed before it. A position (pg_current_wal_flush_lsn() after the commit, or a header Lanternist-Position), or xid: and a transaction id (pg_current_xact_id() in the transaction)." example:"0/16B3748"`
	Wait  string `query:"wait" maxLength:"16" doc:"How long to wait for it: 500ms, 2s. When it takes longer the answer is 504." example:"2s"`
}

// How often a waiting request asks for a keepalive when the watermark does not move. The reader turns requests that come while
// one is under way into one.
const (
	nudgeIntervalMin = time.Millisecond
	nudgeIntervalMax = 100 * time.Millisecond
)

// goal is what a request waits for.
type goal struct {
	lsn    pglogrepl.LSN
	offset event.Offset
}

func (g goal) reached(p mirror.Progress) bool { return p.LSN >= g.lsn && p.Offset >= g.offset }

// reach waits until the view shows what the request asks for and returns the position that it shows then. Its error is a
// Problem.
func (s *Server) reach(ctx context.Context, p Projector, f Freshness, minVersion event.Offset) (position, error) {
	wait, err := s.waitTime(f.Wait)
	if err != nil {
		return position{}, err
	}
	if frozen, ok := p.(*Frozen); ok {
		ctx, cancel := context.WithTimeout(ctx, wait)
		defer cancel()
		return s.reachFrozen(ctx, frozen, f, minVersion)
	}
	if f.After == "" && minVersion == 0 {
		progress, _ := p.Watermark()
		return s.position(p, progress), nil
	}
	ctx, drained := s.untilDrained(ctx)
	defer drained()
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	want := goal{offset: minVersion}
	if f.After != "" {
		token, err := s.token(f.After)
		if err != nil {
			return position{}, err
		}
		if want.lsn, err = s.resolve(ctx, p, token); err != nil {
			return position{}, err
		}
	}
	progress, err := s.await(ctx, p, want)
	pos := s.position(p, progress)
	if err == nil {
		return pos, nil
	}
	return pos, s.waitProblem(ctx, p, want, pos, err)
}

// waitTime reads wait=.
func (s *Server) waitTime(text string) (time.Duration, error) {
	if text == "" {
		return s.cfg.Wait, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 {
		return 0, badQuery("wait", text, "want a duration such as 500ms or 2s")
	}
	if d > s.cfg.MaxWait {
		return 0, badQuery("wait", text, "want at most %v", s.cfg.MaxWait)
	}
	return d, nil
}

// token reads after= and refuses tokens of another epoch.
func (s *Server) token(text string) (Token, error) {
	token, err := ParseToken(text)
	if err != nil {
		return Token{}, badQuery("after", text, "%v", err)
	}
	if token.Epoch != "" && token.Epoch != s.cfg.Epoch {
		p := problem(http.StatusGone, "the token is of epoch %s, the source is at epoch %s: forget the token", token.Epoch, s.cfg.Epoch)
		p.Wanted = text
		return Token{}, p
	}
	return token, nil
}

// errBusy means that too many requests wait.
var errBusy = errors.New("too many requests are waiting")

// await waits until the watermark has reached the goal. It asks the source for keepalives meanwhile: on a quiet source
// nothing else would move the watermark.
func (s *Server) await(ctx context.Context, p Projector, want goal) (mirror.Progress, error) {
	progress, changed := p.Watermark()
	if want.reached(progress) {
		return progress, nil
	}
	select {
	case s.waiters <- struct{}{}:
		defer func() { <-s.waiters }()
	default:
		return progress, errBusy
	}
	began := time.Now()
	defer func() { s.metrics.waits.Observe(time.Since(began).Seconds()) }()
	interval := nudgeIntervalMin
	timer := time.NewTimer(interval)
	defer timer.Stop()
	for !want.reached(progress) {
		s.source.RequestKeepalive()
		select {
		case <-changed:
		case <-timer.C:
			interval = min(2*interval, nudgeIntervalMax)
			timer.Reset(interval)
		case <-ctx.Done():
			return progress, context.Cause(ctx)
		}
		progress, changed = p.Watermark()
	}
	return progress, nil
}

// waitProblem says why the wait was in vain.
func (s *Server) waitProblem(ctx context.Context, p Projector, want goal, pos position, err error) error {
	status := p.Status()
	var problemOf *Problem
	switch {
	case errors.Is(err, errBusy):
		problemOf = problem(http.StatusServiceUnavailable, "%d requests are waiting already", s.cfg.MaxWaiters)
	case errors.Is(err, errEnding):
		problemOf = problem(http.StatusServiceUnavailable, "the daemon is stopping")
	case ctx.Err() != nil && !errors.Is(err, context.DeadlineExceeded):
		problemOf = problem(statusClientGone, "the client has gone")
	case status.State == projectors.StateStopped:
		problemOf = problem(http.StatusServiceUnavailable, "projector %s has stopped", status.Projector)
	case want.lsn > pos.lsn:
		problemOf = problem(http.StatusGatewayTimeout, "view %s has not reached the position in time", status.View)
	default:
		problemOf = problem(http.StatusGatewayTimeout, "view %s has not reached version %d in time", status.View, want.offset)
	}
	if want.lsn > 0 {
		problemOf.Wanted = Token{LSN: want.lsn, Epoch: s.cfg.Epoch}.String()
	}
	problemOf.Reached = Token{LSN: pos.lsn, Epoch: s.cfg.Epoch}.String()
	return problemOf.at(s, pos).retryAfter(time.Second)
}
