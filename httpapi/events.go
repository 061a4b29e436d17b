package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/lanternist/lanternist/event"
	"github.com/lanternist/lanternist/journal"
)

type eventsInput struct {
	From  string `query:"from" maxLength:"96" doc:"After which event to begin: its offset, as \"next\" of the page before; or from which position (0/16B3748) or time (2026-01-31T12:00:00Z) on. Default: the oldest event retained." example:"0"`
	Limit int    `query:"limit" minimum:"0" doc:"The most events to answer. 0 or none: the server's page size."`
}

type eventsOutput struct {
	Body eventsBody
}

type eventsBody struct {
	Events []json.RawMessage `json:"events" doc:"Envelopes, in commit order."`
	Next   string            `json:"next" doc:"from= of the next page. It does not change when there are no more events yet."`
	Head   string            `json:"head" doc:"Offset of the newest event in the journal."`
}

func (s *Server) registerEvents(api huma.API) {
	huma.Register(api, get("list-events", "/v1/events", "events", "Read a page of the journal and of its archive", 410), s.listEvents)
}

// eventsPageBytes bounds a page, in bytes of JSON; a page has at least one event.
const eventsPageBytes = 4 << 20

func (s *Server) listEvents(ctx context.Context, in *eventsInput) (*eventsOutput, error) {
	limit, err := s.pageSize(in.Limit)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.ReadTimeout)
	defer cancel()
	after, err := s.seek(ctx, in.From)
	if err != nil {
		return nil, s.journalProblem(ctx, in.From, err)
	}
	out := &eventsOutput{}
	after, out.Body.Events, err = s.eventsPage(ctx, after, limit)
	if err != nil {
		return nil, s.journalProblem(ctx, in.From, err)
	}
	out.Body.Next = strconv.FormatUint(uint64(after), 10)
	out.Body.Head = strconv.FormatUint(uint64(s.journal.Head().Offset), 10)
	return out, nil
}

// seek reads from=.
func (s *Server) seek(ctx context.Context, from string) (event.Offset, error) {
	if from == "" {
		return event.NewOffset(s.journal.First(), 0) - 1, nil
	}
	if n, err := strconv.ParseUint(from, 10, 63); err == nil && isDigits(from) {
		if head := s.journal.Head().Offset; event.Offset(n) > head {
			return 0, badQuery("from", from, "the journal ends at %d", head)
		}
		return event.Offset(n), nil
	}
	if lsn, err := parseLSN(from); err == nil {
		return s.journal.SeekLSN(ctx, lsn)
	}
	if t, err := time.Parse(time.RFC3339Nano, from); err == nil {
		return s.journal.SeekTime(ctx, t)
	}
	return 0, badQuery("from", from, "want an offset such as 53215233, a position such as 0/16B3748, or a time such as 2026-01-31T12:00:00Z")
}

// eventsPage reads at most limit events after an offset, without waiting for any, and returns where it ended.
func (s *Server) eventsPage(ctx context.Context, after event.Offset, limit int) (event.Offset, []json.RawMessage, error) {
	events := []json.RawMessage{}
	bytes := 0
	for s.journal.Head().Offset > after {
		batch, err := s.journal.Next(ctx, after)
		if err != nil {
			return after, nil, err
		}
		last := event.NewOffset(batch.Sequence, 0)
		for p := range batch.Parts {
			for i := range batch.Parts[p].Events {
				ev := &batch.Parts[p].Events[i]
				last = ev.Offset
				if ev.Offset <= after {
					continue
				}
				envelope, err := s.envelope(nil, ev)
				if err != nil {
					return after, nil, err
				}
				bytes += len(envelope)
				if len(events) == limit || (len(events) > 0 && bytes > eventsPageBytes) {
					return after, events, nil
				}
				events, after = append(events, envelope), ev.Offset
			}
		}
		after = max(after, last)
	}
	return after, events, nil
}

// journalProblem is the problem of events that cannot be read.
func (s *Server) journalProblem(ctx context.Context, from string, err error) error {
	if already, ok := errors.AsType[*Problem](err); ok {
		return already
	}
	trimmed, isTrimmed := errors.AsType[*journal.TrimmedError](err)
	switch {
	case isTrimmed:
		return problem(http.StatusGone, "the events after %s are not retained any more; the oldest are those after %d",
			from, event.NewOffset(trimmed.First, 0)-1)
	case errors.Is(err, journal.ErrCorrupt):
		s.log.Error("journal is damaged", "from", from, "error", err)
		return problem(http.StatusInternalServerError, "%v; see: lanternist journal verify", err)
	case errors.Is(err, journal.ErrArchiveAway):
		return problem(http.StatusServiceUnavailable, "the events of %s are not in the journal any more: %v", from, err).retryAfter(10 * time.Second)
	case errors.Is(err, journal.ErrBehind):
		return badQuery("from", from, "the journal ends at %d", s.journal.Head().Offset)
	case errors.Is(err, context.DeadlineExceeded):
		return problem(http.StatusGatewayTimeout, "the journal did not answer in time").retryAfter(time.Second)
	case ctx.Err() != nil:
		return problem(statusClientGone, "the client has gone")
	}
	s.log.Error("events not read", "from", from, "error", err)
	return problem(http.StatusInternalServerError, "the journal cannot be read; see the log")
}
