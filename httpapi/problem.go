package httpapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/lanternist/lanternist/projectors"
	"github.com/lanternist/lanternist/projectors/cache"
	"github.com/lanternist/lanternist/projectors/search"
)

// Problem is the body of an error: RFC 9457, with what a waiting client wants to know.
type Problem struct {
	huma.ErrorModel
	Wanted  string `json:"wanted,omitempty" doc:"The position that the answer had to reflect."`
	Reached string `json:"reached,omitempty" doc:"The position that the view has reached."`

	headers http.Header
}

// GetHeaders implements huma.HeadersError.
func (p *Problem) GetHeaders() http.Header { return p.headers }

func problem(status int, format string, args ...any) *Problem {
	return &Problem{
		ErrorModel: huma.ErrorModel{Status: status, Title: http.StatusText(status), Detail: fmt.Sprintf(format, args...)},
		headers:    http.Header{},
	}
}

// badQuery is the problem of one query parameter.
func badQuery(name string, value any, format string, args ...any) *Problem {
	p := problem(http.StatusUnprocessableEntity, "validation failed")
	p.Errors = []*huma.ErrorDetail{{Location: "query." + name, Value: value, Message: fmt.Sprintf(format, args...)}}
	return p
}

// retryAfter says when it is worth asking again.
func (p *Problem) retryAfter(d time.Duration) *Problem {
	p.headers.Set("Retry-After", strconv.Itoa(max(1, int(d.Round(time.Second)/time.Second))))
	return p
}

// at says which position the answer reflects.
func (p *Problem) at(s *Server, pos position) *Problem {
	for name, value := range pos.headers(s.cfg.Epoch).all() {
		p.headers.Set(name, value)
	}
	return p
}

// statusClientGone is what is counted when nobody waits for the answer any more.
const statusClientGone = 499

// sinkProblem is the problem of a read that failed. What the sink said goes to the log: it may name hosts. A projector
// is told when its sink seems to have lost data.
func (s *Server) sinkProblem(ctx context.Context, v *View, p Projector, err error) error {
	if already, ok := errors.AsType[*Problem](err); ok {
		return already
	}
	_, frozen := p.(*Frozen)
	open, refused := errors.AsType[*projectors.OpenError](err)
	switch {
	case refused:
		s.log.Debug("sink was not asked", "view", v.name(), "error", err)
		return problem(http.StatusServiceUnavailable, "the sink of view %s has not answered since %s", v.name(), open.Since.UTC().Format(time.RFC3339)).
			retryAfter(open.RetryAfter)
	case frozen && (errors.Is(err, cache.ErrUnavailable) || errors.Is(err, search.ErrNotReady)):
		return problem(http.StatusServiceUnavailable, "the sink does not hold view %s any more; it was made as of a moment, and is not made again by itself; "+
			"remove it with: lanternist rebuild --drop %s", v.name(), v.name())
	case errors.Is(err, search.ErrBadQuery):
		return problem(http.StatusUnprocessableEntity, "%v", err)
	case errors.Is(err, search.ErrCursorExpired):
		return problem(http.StatusGone, "the cursor has expired: begin with the first page")
	case errors.Is(err, cache.ErrUnavailable), errors.Is(err, search.ErrNotReady):
		p.Recheck()
		return problem(http.StatusServiceUnavailable, "view %s is being built", v.name()).retryAfter(time.Second)
	case errors.Is(err, cache.ErrNoLookup):
		return problem(http.StatusServiceUnavailable, "view %s is being rebuilt with this lookup", v.name()).retryAfter(5 * time.Second)
	case ctx.Err() != nil && !errors.Is(context.Cause(ctx), context.DeadlineExceeded):
		return problem(statusClientGone, "the client has gone")
	case errors.Is(err, context.DeadlineExceeded):
		s.log.Debug("sink did not answer in time", "view", v.name(), "error", err)
		return problem(http.StatusGatewayTimeout, "the sink of view %s did not answer in time", v.name()).retryAfter(time.Second)
	case projectors.Class(err) == projectors.Transient:
		s.log.Debug("read failed", "view", v.name(), "error", err)
		return problem(http.StatusServiceUnavailable, "the sink of view %s cannot be read now", v.name()).retryAfter(time.Second)
	}
	s.log.Error("read failed", "view", v.name(), "error", err, "hint", projectors.Hint(err))
	return problem(http.StatusInternalServerError, "the sink of view %s cannot be read; see the log", v.name())
}
