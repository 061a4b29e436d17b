package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/lanternist/lanternist/event"
	"github.com/lanternist/lanternist/journal"
	"github.com/lanternist/lanternist/projectors/stream"
)

type eventsInput struct {
	From   string   `query:"from" maxLength:"96" doc:"After which event to begin: its offset, as \"next\" of the page before; or from which position (0/16B3748) or time (2026-01-31T12:00:00Z) on. Default: the oldest event retained." example:"0"`
	To     string   `query:"to" maxLength:"96" doc:"Up to which event, in the same ways: the transaction that it belongs to is read to its end. Default: no end."`
	Cursor string   `query:"cursor" maxLength:"20" doc:"next of the page before, with from and to as they were there."`
	Table  []string `query:"table,explode" maxItems:"64" doc:"Only events of these tables: schema.table, or schema.* for all of a schema."`
	Type   []string `query:"type,explode" maxItems:"64" doc:"Only events of these types: orders.created, or orders.* for all of a table."`
	Wait   string   `query:"wait" maxLength:"16" doc:"When there is nothing yet, how long to wait for it: 500ms, 2s. Default: not at all." example:"2s"`
	Limit  int      `query:"limit" minimum:"0" doc:"The most events to answer. 0 or none: the server's page size."`
}

type eventsOutput struct {
	Body eventsBody
}

type eventsBody struct {
	Events []json.RawMessage `json:"events" doc:"Envelopes, in commit order."`
	Next   string            `json:"next" doc:"from= or cursor= of the next page. It does not change when there are no more events yet. It may move without events, when none of many was wanted."`
	Done   bool              `json:"done,omitempty" doc:"There are no more events up to to=."`
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
	wait := time.Duration(0)
	if in.Wait != "" {
		if wait, err = s.waitTime(in.Wait); err != nil {
			return nil, err
		}
	}
	filter := stream.Filter{Tables: in.Table, Types: in.Type}
	if err := filter.Validate(); err != nil {
		return nil, problem(http.StatusUnprocessableEntity, "%v", err)
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.ReadTimeout+wait)
	defer cancel()
	span, err := s.eventsSpan(ctx, in)
	if err != nil {
		return nil, err
	}
	page := eventsPage{server: s, reader: stream.NewReader(s.journal, span, filter), limit: limit, until: time.Now().Add(wait)}
	out := &eventsOutput{}
	if out.Body.Events, out.Body.Done, err = page.read(ctx); err != nil {
		return nil, s.journalProblem(ctx, in.From, err)
	}
	out.Body.Done = out.Body.Done && in.To != ""
	out.Body.Next = strconv.FormatUint(uint64(page.next), 10)
	out.Body.Head = strconv.FormatUint(uint64(s.journal.Head().Offset), 10)
	return out, nil
}

// eventsSpan reads from=, to= and cursor=.
func (s *Server) eventsSpan(ctx context.Context, in *eventsInput) (span stream.Span, err error) {
	span.Last = stream.Forever
	if in.To != "" {
		to, err := stream.ParsePosition(in.To)
		if err != nil {
			return span, badQuery("to", in.To, "%v", err)
		}
		if span, err = stream.UpTo(ctx, s.journal, to); err != nil {
			return span, s.replayProblem(ctx, "to", in.To, err)
		}
	}
	span.Since = asTime(in.From)
	name, from := "from", in.From
	if in.Cursor != "" {
		name, from = "cursor", in.Cursor
		if !isDigits(from) {
			return span, badQuery(name, from, "want next of the page before")
		}
	}
	if span.After, err = s.seek(ctx, from); err != nil {
		return span, s.replayProblem(ctx, name, from, err)
	}
	return span, nil
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

// eventsPage is a page being read.
type eventsPage struct {
	server *Server
	reader *stream.Reader
	limit  int
	until  time.Time // until when events are waited for
	next   event.Offset
}

// Bounds of what one page reads without finding anything that is wanted.
const (
	scanBatches = 64
	scanTime    = 2 * time.Second
)

// read reads a page: at least one event when there is one, and none when many were read that are not wanted.
func (p *eventsPage) read(ctx context.Context) (envelopes []json.RawMessage, done bool, err error) {
	enough := time.Now().Add(scanTime)
	for {
		events, err := p.reader.Read(ctx, stream.Bounds{Events: p.limit, Bytes: eventsPageBytes, Batches: scanBatches})
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, false, err
		}
		p.next = p.reader.At()
		done = err != nil
		if len(events) > 0 || done {
			envelopes, err = p.envelopes(events)
			return envelopes, done, err
		}
		if p.reader.At() < p.server.journal.Head().Offset {
			if time.Now().After(enough) {
				return []json.RawMessage{}, false, nil
			}
			continue
		}
		if !p.wait(ctx) {
			return []json.RawMessage{}, false, nil
		}
		enough = time.Now().Add(scanTime)
	}
}

// wait waits for something to read; it is false when there was nothing in time.
func (p *eventsPage) wait(ctx context.Context) bool {
	if !time.Now().Before(p.until) {
		return false
	}
	ctx, drained := p.server.untilDrained(ctx)
	defer drained()
	ctx, cancel := context.WithDeadline(ctx, p.until)
	defer cancel()
	return p.reader.Wait(ctx) == nil // another error comes again when it is read
}

// envelopes writes events as clients see them: as many as fit, and at least one.
func (p *eventsPage) envelopes(events []event.Event) ([]json.RawMessage, error) {
	all, bytes := make([]json.RawMessage, 0, len(events)), 0
	for i := range events {
		envelope, err := p.server.envelope(nil, &events[i])
		if err != nil {
			return nil, err
		}
		if bytes += len(envelope); i > 0 && bytes > eventsPageBytes {
			p.next = events[i-1].Offset
			break
		}
		all = append(all, envelope)
	}
	return all, nil
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
