package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/lanternist/lanternist/config"
	"github.com/lanternist/lanternist/event"
	"github.com/lanternist/lanternist/projectors/stream"
)

type eventsCmd struct {
	Export eventsExportCmd `cmd:"" help:"Print stored events as JSON lines, in order, from journal and archive. The daemon may be running."`
	Tail   eventsTailCmd   `cmd:"" help:"Print events as they come, until it is interrupted."`
}

// eventsFilter says which events a command is about.
type eventsFilter struct {
	configFlag
	Table []string `help:"Only events of this table: schema.table, or schema.* for all of a schema. May be repeated." placeholder:"TABLE"`
	Type  []string `help:"Only events of this type: orders.created, or orders.* for all of a table. May be repeated." placeholder:"TYPE"`
}

func (f *eventsFilter) filter() stream.Filter { return stream.Filter{Tables: f.Table, Types: f.Type} }

// query is the filter as the API takes it.
func (f *eventsFilter) query() url.Values {
	return url.Values{"limit": {"1000"}, "table": f.Table, "type": f.Type}
}

type eventsExportCmd struct {
	eventsFilter
	From string `help:"The first event: its offset, or the position (0/16B3748) or time (2026-01-31T12:00:00Z) of its commit. Default: the oldest." placeholder:"OFFSET|LSN|TIME"`
	To   string `help:"The last event, in the same way, with the rest of its transaction. Default: the newest." placeholder:"OFFSET|LSN|TIME"`
}

type eventsTailCmd struct {
	eventsFilter
	From string `help:"Begin in the past, as export does. Default: with what comes from now on." placeholder:"OFFSET|LSN|TIME"`
	JSON bool   `help:"Print JSON lines."`
}

// eventsAnswer is a page of the API.
type eventsAnswer struct {
	Events []json.RawMessage `json:"events"`
	Next   string            `json:"next"`
	Head   string            `json:"head"`
	Done   bool              `json:"done"`
}

// Run asks the running daemon, and reads what is stored when there is none.
func (c *eventsExportCmd) Run(a *app) error {
	r := stream.Range{To: stream.End()}
	var err error
	if c.From != "" {
		if r.From, err = stream.ParsePosition(c.From); err != nil {
			return badInput(fmt.Errorf("--from: %w", err))
		}
		if r.From == stream.End() {
			return badInput(errors.New("--from: nothing that is stored is after the end; see: lanternist events tail"))
		}
	}
	if c.To != "" {
		if r.To, err = stream.ParsePosition(c.To); err != nil {
			return badInput(fmt.Errorf("--to: %w", err))
		}
	}
	if err := c.filter().Validate(); err != nil {
		return badInput(err)
	}
	cfg, client, err := c.connect()
	if err != nil {
		return err
	}
	out := bufio.NewWriterSize(a.stdout, 64<<10)
	err = c.ask(a.ctx, client, r, out)
	if errors.Is(err, errNoDaemon) {
		err = c.stored(a.ctx, cfg, r, out)
	}
	return errors.Join(eventsError(err), out.Flush())
}

// eventsError tells what a person asked for that cannot be had from what did not work.
func eventsError(err error) error {
	if refused, ok := errors.AsType[*answerError](err); ok && refused.status == http.StatusUnprocessableEntity {
		return badInput(err)
	}
	return err
}

// ask prints what the API has, up to where the journal ended at the beginning.
func (c *eventsExportCmd) ask(ctx context.Context, client *client, r stream.Range, out io.Writer) error {
	query := c.query()
	setFrom(query, c.From)
	query.Set("to", r.To.String())
	for {
		var page eventsAnswer
		if err := client.get(ctx, "/v1/events", query, &page); err != nil {
			return err
		}
		for _, raw := range page.Events {
			if _, err := fmt.Fprintf(out, "%s\n", raw); err != nil {
				return err
			}
		}
		if page.Done {
			return nil
		}
		query.Set("cursor", page.Next)
		if r.To == stream.End() { // not what comes meanwhile: else it might never end
			query.Set("to", page.Head)
			r.To = stream.Position{}
		}
	}
}

// setFrom has the API begin with the event of an offset; it begins after the one that is named.
func setFrom(query url.Values, from string) {
	if n, err := strconv.ParseUint(from, 10, 63); err == nil && n > 0 {
		from = strconv.FormatUint(n-1, 10)
	}
	if from != "" && from != stream.Beginning().String() {
		query.Set("from", from)
	}
}

// stored prints what journal and archive have, while no daemon has them open.
func (c *eventsExportCmd) stored(ctx context.Context, cfg *config.Config, r stream.Range, out io.Writer) error {
	return withStoredJournal(ctx, cfg, func(s storedJournal) error {
		span, err := stream.Resolve(ctx, s.journal, r)
		if err != nil {
			return err
		}
		if n, err := strconv.ParseUint(c.From, 10, 63); err == nil && n > 0 {
			span.After = max(span.After, event.Offset(n-1)) // the event, not its whole transaction
		}
		reader := stream.NewReader(s.journal, span, c.filter())
		var line []byte
		for {
			events, err := reader.Read(ctx, stream.Bounds{Events: 1000, Bytes: 4 << 20, Batches: 64})
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err == nil && len(events) == 0 {
				err = context.Cause(ctx)
			}
			if err != nil {
				return err
			}
			for i := range events {
				line = append(event.AppendEnvelope(line[:0], &events[i], s.source), '\n')
				if _, err := out.Write(line); err != nil {
					return err
				}
			}
		}
	})
}

// Run follows the journal of the running daemon.
func (c *eventsTailCmd) Run(a *app) error {
	if c.From != "" {
		if _, err := stream.ParsePosition(c.From); err != nil {
			return badInput(fmt.Errorf("--from: %w", err))
		}
	}
	if err := c.filter().Validate(); err != nil {
		return badInput(err)
	}
	cfg, client, err := c.connect()
	if err != nil {
		return err
	}
	err = c.follow(a, client, min(10*time.Second, cfg.HTTP.MaxWait.D()))
	switch {
	case a.ctx.Err() != nil:
		return nil //nolint:nilerr // a person ended it, as is meant
	case errors.Is(err, errNoDaemon):
		return fmt.Errorf("%w; what is stored can be had with: lanternist events export", err)
	}
	return eventsError(err)
}

func (c *eventsTailCmd) follow(a *app, client *client, wait time.Duration) error {
	query := c.query()
	setFrom(query, c.From)
	if c.From == "" || c.From == stream.End().String() {
		var page eventsAnswer
		if err := client.get(a.ctx, "/v1/events", url.Values{"limit": {"1"}}, &page); err != nil {
			return err
		}
		query.Set("from", page.Head)
	}
	query.Set("wait", wait.String())
	for {
		var page eventsAnswer
		if err := client.get(a.ctx, "/v1/events", query, &page); err != nil {
			return err
		}
		for _, raw := range page.Events {
			if err := c.print(a.stdout, raw); err != nil {
				return err
			}
		}
		query.Set("cursor", page.Next)
	}
}

func (c *eventsTailCmd) print(w io.Writer, raw json.RawMessage) error {
	if c.JSON {
		_, err := fmt.Fprintf(w, "%s\n", raw)
		return err
	}
	var e struct {
		Offset    event.Offset `json:"offset,string"`
		Type      string       `json:"event_type"`
		Subject   string       `json:"subject"`
		Timestamp string       `json:"timestamp"`
		Data      struct {
			Changed []string `json:"changed"`
		} `json:"data"`
	}
	if err := json.Unmarshal(raw, &e); err != nil {
		return fmt.Errorf("read event: %w", err)
	}
	text := fmt.Sprintf("%s  %-14d %-28s %s", e.Timestamp, uint64(e.Offset), e.Type, e.Subject)
	if len(e.Data.Changed) > 0 {
		text += fmt.Sprintf("  %v", e.Data.Changed)
	}
	_, err := fmt.Fprintln(w, text)
	return err
}
