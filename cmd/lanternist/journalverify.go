package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"gocloud.dev/blob"
	"gocloud.dev/blob/memblob"

	"github.com/lanternist/lanternist/config"
	"github.com/lanternist/lanternist/journal"
	"github.com/lanternist/lanternist/journal/archive"
	"github.com/lanternist/lanternist/journal/segments"
)

type journalVerifyCmd struct {
	configFlag
	Journal string `help:"Identity of the journal. Default: the one in the journal's folder or stream, else the only one that the archive has." placeholder:"ID"`
	JSON    bool   `help:"Print the outcome as JSON."`
}

// verifiedJournal is the outcome as --json prints it.
type verifiedJournal struct {
	Journal string          `json:"journal"`
	Files   int             `json:"files"`
	Batches uint64          `json:"batches"`
	Events  uint64          `json:"events"`
	Bytes   uint64          `json:"bytes"`
	First   uint64          `json:"first_batch"`
	Last    uint64          `json:"last_batch"`
	Damage  []journalDamage `json:"damage"`
}

type journalDamage struct {
	File  string `json:"file,omitempty"` // "" is the journal itself
	From  uint64 `json:"from_batch"`
	To    uint64 `json:"to_batch"`
	Error string `json:"error"`
}

// Run reads every byte of archive and journal. The daemon may be running.
func (c *journalVerifyCmd) Run(a *app) error {
	cfg, err := c.load()
	if err != nil {
		return err
	}
	bar := a.newProgress("verify journal", "bytes")
	id, v, err := c.verify(a.ctx, cfg, bar)
	bar.finish()
	if err != nil {
		return err
	}
	if err := c.print(a.stdout, id, &v); err != nil {
		return err
	}
	if len(v.Damage) > 0 {
		return &exitError{code: exitDifferent}
	}
	return nil
}

func (c *journalVerifyCmd) verify(ctx context.Context, cfg *config.Config, bar *progress) (id journal.ID, v archive.Verified, err error) {
	engine, err := viewEngine(ctx, cfg)
	if err != nil {
		return id, v, err
	}
	if engine != nil {
		defer func() { err = errors.Join(err, engine.Close()) }()
	}
	if id, err = c.which(ctx, cfg, engine); err != nil {
		return id, v, err
	}
	stored, done, err := c.archive(ctx, cfg, id)
	if err != nil {
		return id, v, err
	}
	defer func() { err = errors.Join(err, done()) }()
	v, err = stored.Verify(ctx, engine, bar.set)
	return id, v, err
}

// viewEngine looks at the journal without opening it for writing; nil when there is none.
func viewEngine(ctx context.Context, cfg *config.Config) (journal.Log, error) {
	if !cfg.Journal.URL.IsZero() {
		return openEngine(ctx, cfg, quiet)
	}
	view, err := segments.OpenView(cfg.Path(cfg.Journal.Dir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open journal: %w", err)
	}
	return view, nil
}

// which is the journal that is meant.
func (c *journalVerifyCmd) which(ctx context.Context, cfg *config.Config, engine journal.Log) (journal.ID, error) {
	if c.Journal == "" && engine != nil {
		id, found, err := journalID(ctx, engine)
		if err != nil || found {
			return id, err
		}
	}
	if cfg.Archive == nil {
		return journal.ID{}, badInput(errors.New("there is no journal yet, and the configuration has no archive"))
	}
	return archivedID(ctx, cfg, c.Journal)
}

// archive is the journal's archive; an empty one when the configuration has none.
func (c *journalVerifyCmd) archive(ctx context.Context, cfg *config.Config, id journal.ID) (*archive.Archive, func() error, error) {
	if cfg.Archive != nil {
		stored, store, err := storedArchive(ctx, cfg, id)
		if err != nil {
			return nil, nil, err
		}
		return stored, store.Close, nil
	}
	empty := memblob.OpenBucket(nil)
	none := archive.New(func(context.Context) (*blob.Bucket, error) { return empty, nil }, id, quiet)
	return none, empty.Close, none.Load(ctx)
}

func (c *journalVerifyCmd) print(w io.Writer, id journal.ID, v *archive.Verified) error {
	if c.JSON {
		out := verifiedJournal{
			Journal: id.String(), Files: v.Files, Batches: v.Batches, Events: v.Events, Bytes: v.Bytes,
			First: v.First, Last: v.Last, Damage: []journalDamage{},
		}
		for _, d := range v.Damage {
			out.Damage = append(out.Damage, journalDamage{d.File, d.From, d.To, d.Err.Error()})
		}
		return printJSON(w, out)
	}
	for _, d := range v.Damage {
		if _, err := fmt.Fprintln(w, d.Error()); err != nil {
			return err
		}
	}
	word := "every batch is as it was appended"
	if len(v.Damage) > 0 {
		word = "DAMAGED, see above; the rest is as it was appended"
	}
	_, err := fmt.Fprintf(w, "journal %s, batches %s to %s: %s batches with %s events (%s) in %s archive files and the journal: %s\n",
		id, thousands(v.First), thousands(v.Last), thousands(v.Batches), thousands(v.Events), bytesText(int64(v.Bytes)), thousands(v.Files), word)
	return err
}
