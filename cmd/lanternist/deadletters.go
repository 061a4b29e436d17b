package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"time"

	"github.com/lanternist/lanternist/config"
	"github.com/lanternist/lanternist/control"
	"github.com/lanternist/lanternist/deadletter"
	"github.com/lanternist/lanternist/event"
)

type deadlettersCmd struct {
	List    deadlettersListCmd    `cmd:"" help:"List them, without payloads."`
	Show    deadlettersShowCmd    `cmd:"" help:"Show one with its payload."`
	Redrive deadlettersRedriveCmd `cmd:"" help:"Try them again, in the order of their offsets: one, those of a filter, or all."`
	Discard deadlettersDiscardCmd `cmd:"" help:"Remove them: one, those of a filter, or all. The sink keeps what it has."`
	Watch   deadlettersWatchCmd   `cmd:"" help:"Print what becomes of dead letters, as it happens, until it is interrupted."`
}

// letterFilter chooses letters: those for which all that is given holds.
type letterFilter struct {
	Projector string    `help:"Only of this projector." placeholder:"NAME"`
	View      string    `help:"Only of this view." placeholder:"NAME"`
	Document  string    `help:"Only of this document, or event." placeholder:"ID"`
	Class     string    `help:"Only of this class: permanent, or waiting." placeholder:"CLASS"`
	Reason    string    `help:"Only with this text in the reason." placeholder:"TEXT"`
	Since     time.Time `help:"Only those parked then or later: 2026-01-31T12:00:00Z." placeholder:"TIME"`
	Until     time.Time `help:"Only those parked then or before." placeholder:"TIME"`
}

// query is the filter as the API takes it.
func (f *letterFilter) query() url.Values {
	q := url.Values{}
	setQuery(q, "projector", f.Projector)
	setQuery(q, "view", f.View)
	setQuery(q, "document", f.Document)
	setQuery(q, "class", f.Class)
	setQuery(q, "reason", f.Reason)
	for name, t := range map[string]time.Time{"since": f.Since, "until": f.Until} {
		if !t.IsZero() {
			q.Set(name, t.Format(time.RFC3339Nano))
		}
	}
	return q
}

func (f *letterFilter) filter() deadletter.Filter {
	return deadletter.Filter{
		Projector: f.Projector, View: f.View, DocumentID: f.Document, Class: f.Class, Reason: f.Reason, Since: f.Since, Until: f.Until,
	}
}

type deadlettersListCmd struct {
	configFlag
	letterFilter
	Limit int  `default:"100" help:"At most so many."`
	JSON  bool `help:"Print as JSON."`
}

type deadlettersShowCmd struct {
	configFlag
	JSON bool   `help:"Print as JSON, which is what it does anyway."`
	ID   string `arg:"" help:"The letter's id, as list prints it."`
}

// letter is a dead letter as the commands print it, wherever it was read.
type letter struct {
	ID          string          `json:"id"`
	Projector   string          `json:"projector"`
	View        string          `json:"view,omitempty"`
	Generation  int             `json:"generation,omitempty"`
	DocumentID  string          `json:"document_id"`
	Offset      event.Offset    `json:"offset"`
	Keys        []string        `json:"keys,omitempty"`
	Reason      string          `json:"reason"`
	Class       string          `json:"class"`
	Attempts    int             `json:"attempts"`
	Time        time.Time       `json:"time"`
	Last        time.Time       `json:"last,omitzero"`
	PayloadSize int             `json:"payload_size"`
	Payload     json.RawMessage `json:"payload,omitempty"`
}

func letterOf(l deadletter.Letter) letter {
	out := letter{ID: l.ID, Projector: l.Projector, View: l.View, Generation: l.Generation, DocumentID: l.DocumentID, Offset: l.Offset,
		Keys: l.Keys, Reason: l.Reason, Class: l.Class, Attempts: l.Attempts, Time: l.Time, Last: l.Last, PayloadSize: l.PayloadSize}
	if json.Valid(l.Payload) {
		out.Payload = l.Payload
	}
	return out
}

// Run lists letters: of the running daemon, or else from its folder.
func (c *deadlettersListCmd) Run(a *app) error {
	cfg, err := c.load()
	if err != nil {
		return err
	}
	letters, err := c.letters(a.ctx, cfg)
	if err != nil {
		return lettersError(err)
	}
	if c.JSON {
		return printJSON(a.stdout, letters)
	}
	if len(letters) == 0 {
		fmt.Fprintln(a.stdout, "There are no dead letters.")
		return nil
	}
	rows := make([][]string, len(letters))
	for i, l := range letters {
		rows[i] = []string{l.ID, l.Projector, l.DocumentID, l.Offset.String(), l.Class, strconv.Itoa(l.Attempts), l.Time.Local().Format(time.DateTime), clip(l.Reason, 80)}
	}
	if err := table(a.stdout, []string{"ID", "PROJECTOR", "DOCUMENT", "OFFSET", "CLASS", "ATTEMPTS", "PARKED", "REASON"}, rows); err != nil {
		return err
	}
	fmt.Fprintf(a.stdout, "\nOne of them with its payload: lanternist deadletters show %s\nTry them again: lanternist deadletters redrive --all\n", letters[0].ID)
	return nil
}

func (c *deadlettersListCmd) letters(ctx context.Context, cfg *config.Config) ([]letter, error) {
	client, err := newClient(cfg)
	if err != nil {
		return nil, badInput(err)
	}
	letters := []letter{}
	query := c.query()
	for len(letters) < c.Limit {
		query.Set("limit", strconv.Itoa(min(c.Limit-len(letters), 1000)))
		var page struct {
			Letters []letter `json:"letters"`
			Cursor  string   `json:"cursor"`
		}
		err := client.get(ctx, "/v1/deadletters", query, &page)
		if errors.Is(err, errNoDaemon) {
			return c.stored(ctx, cfg)
		}
		if err != nil {
			return nil, err
		}
		letters = append(letters, page.Letters...)
		if page.Cursor == "" {
			break
		}
		query.Set("cursor", page.Cursor)
	}
	return letters, nil
}

// errEnough ends a listing.
var errEnough = errors.New("enough")

func (c *deadlettersListCmd) stored(ctx context.Context, cfg *config.Config) ([]letter, error) {
	letters := []letter{}
	err := withLetters(ctx, cfg, func(store *deadletter.Store) error {
		return store.List(ctx, c.filter(), func(l deadletter.Letter) error {
			if len(letters) == c.Limit {
				return errEnough
			}
			letters = append(letters, letterOf(l))
			return nil
		})
	})
	if errors.Is(err, errEnough) {
		err = nil
	}
	return letters, err
}

// withLetters opens the store of a daemon that is not running.
func withLetters(ctx context.Context, cfg *config.Config, use func(*deadletter.Store) error) (err error) {
	kv, err := openStoredControl(ctx, cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, kv.Close()) }()
	store, err := deadletter.Open(ctx, kv)
	if err != nil {
		return err
	}
	return use(store)
}

// openStoredControl opens the control store of a daemon that is not running, if there is one.
func openStoredControl(ctx context.Context, cfg *config.Config) (control.Store, error) {
	if cfg.Journal.URL.IsZero() && !stateExists(cfg) {
		return nil, badInput(fmt.Errorf("%s does not exist: nothing has run with %s yet; start with: lanternist run --config %s",
			cfg.Path(cfg.Control.Dir), cfg.File, cfg.File))
	}
	return openControl(ctx, cfg, quiet)
}

// Run shows one letter.
func (c *deadlettersShowCmd) Run(a *app) error {
	cfg, client, err := c.connect()
	if err != nil {
		return err
	}
	var l letter
	err = client.get(a.ctx, "/v1/deadletters/"+url.PathEscape(c.ID), nil, &l)
	if errors.Is(err, errNoDaemon) {
		err = withLetters(a.ctx, cfg, func(store *deadletter.Store) error {
			stored, ok, err := store.Get(a.ctx, c.ID)
			if err == nil && !ok {
				err = badInput(fmt.Errorf("there is no dead letter %s; see: lanternist deadletters list", c.ID))
			}
			l = letterOf(stored)
			return err
		})
	}
	if err != nil {
		return lettersError(err)
	}
	return printJSON(a.stdout, l)
}

func setQuery(q url.Values, name, value string) {
	if value != "" {
		q.Set(name, value)
	}
}

// clip is the beginning of a text in one line.
func clip(text string, most int) string {
	r := []rune(text)
	for i := range r {
		if r[i] < ' ' {
			r[i] = ' '
		}
	}
	if len(r) > most {
		return string(r[:most-1]) + "…"
	}
	return string(r)
}
