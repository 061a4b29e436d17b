package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/jackc/pglogrepl"

	"github.com/lanternist/lanternist/cdc"
	"github.com/lanternist/lanternist/control"
	"github.com/lanternist/lanternist/event"
	"github.com/lanternist/lanternist/identity"
	"github.com/lanternist/lanternist/ingest"
	"github.com/lanternist/lanternist/journal/jetstream"
)

// keyPending is where a gap is kept that was accepted and is not in the journal yet.
const keyPending = "identity/gap"

// pendingGap is a gap that somebody has accepted. Each step of what follows from that looks at what there is, so that a process
// that ends in between leaves nothing that the next one does not finish.
type pendingGap struct {
	Info event.GapInfo `json:"info"`
	// Anew says that a new journal is begun; Journal is the one that is given up then, "" when there is none.
	Anew    bool   `json:"anew"`
	Journal string `json:"journal"`
	// Before is the lowest sequence that a new journal may begin with.
	Before uint64 `json:"before"`
	// SameDatabase says that tables are known by the same OIDs.
	SameDatabase bool `json:"same_database"`
	// Point is where the new slot begins; 0 until it was made.
	Point pglogrepl.LSN `json:"point"`
}

func readPending(ctx context.Context, store control.Store) (*pendingGap, error) {
	text, ok, err := store.Get(ctx, keyPending)
	if err != nil || !ok {
		return nil, wrap("read accepted gap", err)
	}
	p := &pendingGap{}
	return p, wrap("read accepted gap", json.Unmarshal(text, p))
}

func (p *pendingGap) write(ctx context.Context, store control.Store) error {
	text, err := json.Marshal(p)
	if err == nil {
		err = store.Put(ctx, keyPending, text)
	}
	return wrap("write accepted gap", err)
}

// newPending is the gap that resolves findings.
func newPending(facts *identity.Facts, findings identity.Findings) *pendingGap {
	p := &pendingGap{Journal: facts.Journal.ID, SameDatabase: true}
	_, p.Anew = findings.Gap()
	p.Info = event.GapInfo{Accepted: time.Now().UTC().Truncate(time.Second), From: pglogrepl.LSN(0).String()}
	for _, f := range findings {
		if f.Heals {
			continue
		}
		p.Info.Reasons, p.Info.What = append(p.Info.Reasons, string(f.Code)), append(p.Info.What, f.What)
	}
	if len(p.Info.Reasons) == 0 {
		p.Info.Reasons, p.Info.What = []string{string(identity.SlotLost)}, []string{"the slot was lost before anything was read from it"}
	}
	if known := max(facts.Journal.CommitLSN, facts.Journal.EndLSN, facts.Acknowledged); known != 0 {
		p.Info.From = known.String()
	}
	if r := facts.Record; r != nil {
		p.Info.Before = r.Source.Epoch()
		p.SameDatabase = r.Source.SystemID == facts.Source.SystemID && r.Source.DatabaseOID == facts.Source.DatabaseOID
	}
	p.Before = max(facts.Journal.Head.Sequence(), facts.Mirror.Offset.Sequence())
	if r := facts.Record; r != nil {
		p.Before = max(p.Before, r.Journal.Head.Sequence())
	}
	p.Before++
	if p.Anew {
		p.Info.Journal = p.Journal
	}
	return p
}

// acceptGap carries out what follows from a gap that was accepted: a new slot, and, where the journal cannot go on, a new
// journal and mirror. That the journal gets the gap, and everything else is forgotten that no longer holds, is for finishGap.
func (d *deployment) acceptGap(ctx context.Context, facts *identity.Facts, findings identity.Findings, p *pendingGap) (err error) {
	for _, f := range findings {
		if !f.Heals && !f.Gap {
			return badInput(findings) // accepting a gap does not resolve all of them
		}
	}
	if p == nil {
		p = newPending(facts, findings)
		if err := p.write(ctx, d.control); err != nil {
			return err
		}
		for _, what := range p.Info.What {
			d.log.Warn("gap accepted", "what", what)
		}
	}
	source := sourceConfig(d.cfg)
	if slot := facts.Source.Slot; slot == nil || slot.Lost() || slot.ConfirmedFlush > p.Point {
		p.Point = 0 // what was made for the gap is gone as well
	}
	if p.Point == 0 {
		if err := cdc.DropSlot(ctx, source); err != nil {
			return fmt.Errorf("accept gap: %w", err)
		}
		source.CreateSlot = true
	}
	if d.source, err = cdc.Setup(ctx, source); err != nil {
		return fmt.Errorf("accept gap: set up the source: %w", err)
	}
	if p.Point == 0 {
		p.Point = d.source.ConfirmedFlush
		p.Info.To, p.Info.Epoch = p.Point.String(), d.epoch()
		if err := p.write(ctx, d.control); err != nil {
			return err
		}
		d.log.Warn("slot created anew", "slot", source.Slot, "from", p.Point.String())
	}
	if p.Anew && p.Journal != "" && facts.Journal.ID == p.Journal {
		if err := d.layJournalAside(ctx, p.Journal); err != nil {
			return fmt.Errorf("accept gap: %w", err)
		}
	}
	d.identity, d.gap = facts.Record, p
	if d.identity == nil {
		d.identity = &identity.Record{}
	}
	if p.Anew {
		d.identity.Epochs = nil
	}
	return d.noteSource(ctx)
}

// layJournalAside makes room for a new journal. A folder is kept under another name; of a stream, the archive has what it had.
func (d *deployment) layJournalAside(ctx context.Context, id string) error {
	if err := d.engine.Close(); err != nil {
		return fmt.Errorf("close journal: %w", err)
	}
	d.engine = nil
	if url := d.cfg.Journal.URL.Reveal(); url != "" {
		if err := jetstream.Remove(ctx, url, d.cfg.Journal.Stream, d.log); err != nil {
			return err
		}
		d.log.Warn("journal removed", "stream", d.cfg.Journal.Stream, "journal", id)
	} else {
		dir := d.cfg.Path(d.cfg.Journal.Dir)
		aside := dir + ".before-" + time.Now().UTC().Format("20060102T150405")
		if err := os.Rename(dir, aside); err != nil {
			return fmt.Errorf("lay journal aside: %w", err)
		}
		d.log.Warn("journal laid aside; remove it when nobody needs it", "folder", aside, "journal", id)
	}
	engine, err := openEngine(ctx, d.cfg, d.log)
	if err != nil {
		return err
	}
	d.engine = engine
	return nil
}

// finishGap writes an accepted gap into the open journal, and has everything begin there: the capture, the mirror, the sinks.
func (d *deployment) finishGap(ctx context.Context) error {
	p := d.gap
	if p == nil {
		return nil
	}
	offset, err := ingest.AppendGap(ctx, d.journal, p.Point, p.Info)
	if err != nil {
		return err
	}
	if err := ingest.StartAfterGap(ctx, d.control, p.Point, p.SameDatabase); err != nil {
		return err
	}
	if p.Anew {
		was, err := d.mirror.JournalID()
		if err != nil {
			return fmt.Errorf("open mirror: %w", err)
		}
		if was != "" && was != d.journal.Identity() {
			if err := d.renewMirror(); err != nil {
				return err
			}
		}
	}
	d.identity.Gap = offset
	d.log.Warn("gap written into the journal", "offset", offset.String(), "from", p.Info.From, "to", p.Info.To)
	return nil
}

// settleIdentity writes the record of what is open now. From then on an accepted gap is done with.
func (d *deployment) settleIdentity(ctx context.Context) error {
	if err := d.saveIdentity(ctx); err != nil {
		return err
	}
	if d.gap == nil {
		return nil
	}
	if err := d.control.Delete(ctx, keyPending); err != nil {
		return fmt.Errorf("end accepted gap: %w", err)
	}
	return nil
}
