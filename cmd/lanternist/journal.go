package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strconv"

	"github.com/lanternist/lanternist/config"
	"github.com/lanternist/lanternist/event"
	"github.com/lanternist/lanternist/journal"
	"github.com/lanternist/lanternist/journal/segments"
	"github.com/lanternist/lanternist/schemas"
)

type journalCmd struct {
	Dump    journalDumpCmd    `cmd:"" help:"Print batches, or with --events the events. The daemon may be running."`
	Archive journalArchiveCmd `cmd:"" help:"Archive everything up to the journal's end now."`
	Verify  journalVerifyCmd  `cmd:"" help:"Check every byte of archive and journal. The daemon may be running."`
	Restore journalRestoreCmd `cmd:"" help:"Fill an empty journal from the archive."`
}

type journalDumpCmd struct {
	configFlag
	From   uint64 `help:"First batch. Default: the oldest retained." placeholder:"SEQUENCE"`
	To     uint64 `help:"Last batch. Default: the newest." placeholder:"SEQUENCE"`
	Events bool   `help:"Print the events, not only the batches."`
	JSON   bool   `help:"Print JSON lines."`
}

// Run prints batches from where they are stored. Events need the tables' definitions as well, which only one process
// can have open: while the daemon runs they are read through its API.
func (c *journalDumpCmd) Run(a *app) error {
	cfg, err := c.load()
	if err != nil {
		return err
	}
	if !c.Events {
		return c.dumpBatches(a, cfg)
	}
	client, err := newClient(cfg)
	if err != nil {
		return badInput(err)
	}
	err = c.dumpRunning(a, client)
	if errors.Is(err, errNoDaemon) {
		return c.dumpStored(a, cfg)
	}
	return err
}

// dumpBatches prints batches without opening the journal for writing.
func (c *journalDumpCmd) dumpBatches(a *app, cfg *config.Config) (err error) {
	var engine journal.Log
	if cfg.Journal.URL.IsZero() {
		engine, err = segments.OpenView(cfg.Path(cfg.Journal.Dir))
	} else {
		engine, err = openEngine(a.ctx, cfg, quiet)
	}
	if err != nil {
		return fmt.Errorf("open journal: %w", err)
	}
	defer func() { err = errors.Join(err, engine.Close()) }()
	return journal.Dump(a.ctx, a.stdout, engine, nil, journal.DumpOptions{From: c.From, To: c.To, JSON: c.JSON})
}

// dumpRunning prints the events that the API has.
func (c *journalDumpCmd) dumpRunning(a *app, client *client) error {
	from, until := event.Offset(0), event.Offset(1<<63-1)
	if c.From > 0 {
		from = event.NewOffset(c.From, 0) - 1
	}
	if c.To > 0 {
		until = event.NewOffset(c.To+1, 0) - 1
	}
	query := url.Values{"limit": {"1000"}}
	if from > 0 {
		query.Set("from", strconv.FormatUint(uint64(from), 10))
	}
	for {
		var page struct {
			Events []json.RawMessage `json:"events"`
			Next   string            `json:"next"`
		}
		if err := client.get(a.ctx, "/v1/events", query, &page); err != nil {
			return err
		}
		for _, ev := range page.Events {
			past, err := c.printEnvelope(a, ev, until)
			if err != nil || past {
				return err
			}
		}
		if len(page.Events) == 0 {
			return nil
		}
		query.Set("from", page.Next)
	}
}

// printEnvelope prints one event of the API, unless it is past the end that was asked for.
func (c *journalDumpCmd) printEnvelope(a *app, raw json.RawMessage, until event.Offset) (past bool, err error) {
	var e struct {
		Offset    event.Offset `json:"offset,string"`
		Type      string       `json:"event_type"`
		Version   int          `json:"event_version"`
		Subject   string       `json:"subject"`
		Timestamp string       `json:"timestamp"`
	}
	if err := json.Unmarshal(raw, &e); err != nil {
		return false, fmt.Errorf("read event: %w", err)
	}
	if e.Offset > until {
		return true, nil
	}
	if c.JSON {
		_, err = fmt.Fprintf(a.stdout, "%s\n", raw)
		return false, err
	}
	_, err = fmt.Fprintf(a.stdout, "%-14s %-32s %s v%d  %s\n", e.Offset, e.Timestamp, e.Type, e.Version, e.Subject)
	return false, err
}

func (c *journalDumpCmd) dumpStored(a *app, cfg *config.Config) (err error) {
	kv, err := openStoredControl(a.ctx, cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, kv.Close()) }()
	registry, err := schemas.Open(a.ctx, kv)
	if err != nil {
		return err
	}
	engine, err := openEngine(a.ctx, cfg, quiet)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, engine.Close()) }()
	return journal.Dump(a.ctx, a.stdout, engine, registry, journal.DumpOptions{From: c.From, To: c.To, Events: true, JSON: c.JSON})
}
