package ingest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/jackc/pglogrepl"

	"github.com/lanternist/lanternist/cdc"
	"github.com/lanternist/lanternist/control"
	"github.com/lanternist/lanternist/event"
	"github.com/lanternist/lanternist/internal/faultpoint"
	"github.com/lanternist/lanternist/internal/sabotage"
	"github.com/lanternist/lanternist/journal"
	"github.com/lanternist/lanternist/mirror"
	"github.com/lanternist/lanternist/row"
)

// keyAcknowledged is where the position is kept that was acknowledged beyond the journal's last transaction.
const keyAcknowledged = "ingest/acknowledged"

// An idle source's position is made durable and acknowledged when it has moved this far, or after this long,
// so that waiting readers, who make the source speak thousands of times a second, do not cause a disk write each.
const (
	idleAckBytes = 1 << 20
	idleAckEvery = 10 * time.Second
)

// PumpConfig says what a pump takes and how much at once.
type PumpConfig struct {
	// Slot is the position that the slot had confirmed when it was looked at: where a journal without transactions begins.
	Slot pglogrepl.LSN
	// MaxBatch bounds one journal batch, in bytes. A single larger event goes into a batch of its own.
	MaxBatch int
	// Captures says whether a table is captured: a publication may have others. nil captures all.
	Captures func(*row.Schema) bool
}

// Pump is the only writer of journal and mirror while the daemon runs.
type Pump struct {
	cfg     PumpConfig
	reader  *cdc.Reader
	journal *journal.Journal
	mirror  *mirror.Mirror
	control control.Store
	log     *slog.Logger

	turn     chan struct{} // held by a delivery, or by what is done between two
	failed   error         // of a delivery; guarded by turn
	captures atomic.Pointer[captures]
	forsaken func() // is called when the mirror has forsaken a table; nil before there is anyone who cares

	acknowledged pglogrepl.LSN
	idleSince    time.Time
	events       atomic.Uint64
}

// NewPump is a pump over open parts.
func NewPump(cfg PumpConfig, reader *cdc.Reader, j *journal.Journal, m *mirror.Mirror, c control.Store, log *slog.Logger) *Pump {
	p := &Pump{cfg: cfg, reader: reader, journal: j, mirror: m, control: c, log: log, turn: make(chan struct{}, 1)}
	p.SetCaptures(nil)
	if cfg.Captures != nil {
		p.SetCaptures(func(s *row.Schema) (bool, pglogrepl.LSN) { return cfg.Captures(s), 0 })
	}
	return p
}

// Events is how many events were appended to the journal since the pump was made.
func (p *Pump) Events() uint64 { return p.events.Load() }

// Run catches the mirror up with the journal, then follows the source until ctx ends or it cannot go on.
// It returns the cause.
func (p *Pump) Run(ctx context.Context) error {
	var start cdc.Start
	err := p.Do(ctx, func(ctx context.Context) (err error) {
		if err := CatchUp(ctx, p.journal, p.mirror); err != nil {
			return err
		}
		start, err = p.start(ctx)
		return err
	})
	if err != nil {
		return err
	}
	p.log.Info("stream started", "from", start.EndLSN.String(), "journal", p.journal.Head().Offset.String())
	return p.reader.Run(ctx, start, p.deliver)
}

// start is where the source has to go on: after what the journal holds.
func (p *Pump) start(ctx context.Context) (cdc.Start, error) {
	if sabotage.Off(sabotage.Resume) {
		return cdc.Start{EndLSN: p.cfg.Slot}, nil
	}
	head := p.journal.Head()
	start := cdc.Start{CommitLSN: head.CommitLSN, Ordinal: head.Ordinal, Complete: head.Complete, EndLSN: head.EndLSN}
	var err error
	if p.acknowledged, err = Acknowledged(ctx, p.control); err != nil {
		return start, err
	}
	start.EndLSN = max(start.EndLSN, p.acknowledged)
	if start.EndLSN == 0 {
		// Nothing was ever read: the tables are loaded from snapshots that are newer than the slot.
		start.EndLSN = p.cfg.Slot
	}
	return start, nil
}

// deliver makes one delivery durable. The reader calls it from one goroutine.
func (p *Pump) deliver(ctx context.Context, d *cdc.Delivery) error {
	return p.Do(ctx, func(ctx context.Context) error {
		p.failed = p.take(ctx, d)
		return p.failed
	})
}

// take is deliver for the holder of turn.
func (p *Pump) take(ctx context.Context, d *cdc.Delivery) error {
	txs := d.Transactions
	// The part of a large transaction goes alone, so that what is complete before it is visible at once.
	if n := len(txs); n > 1 && !txs[n-1].Last {
		if err := p.write(ctx, txs[:n-1]); err != nil {
			return err
		}
		txs = txs[n-1:]
	}
	if len(txs) > 0 {
		if err := p.write(ctx, txs); err != nil {
			return err
		}
	}
	if d.WALEnd != 0 {
		return p.idle(ctx, d.WALEnd, d.AcknowledgeNow)
	}
	return nil
}

// write takes the four steps of the package's order for transactions of which all, or the only one, are complete.
func (p *Pump) write(ctx context.Context, txs []cdc.Transaction) error {
	last := &txs[len(txs)-1]
	parts := p.parts(txs)
	if len(parts) == 0 {
		return p.idle(ctx, last.EndLSN, false)
	}
	batch, forsook := p.mirror.Begin(), p.mirror.Forsook()
	for i := range parts {
		for k := range parts[i].Events {
			if err := batch.Apply(&parts[i].Events[k]); err != nil {
				batch.Discard()
				return fmt.Errorf("stage change %d of transaction %d at %v: %w", parts[i].First+uint32(k), parts[i].XID, parts[i].CommitLSN, err)
			}
		}
	}
	faultpoint.Hit("ingest", "staged")
	if sabotage.Off(sabotage.AppendFirst) && last.Last {
		p.reader.Acknowledge(last.EndLSN)
	}
	faultpoint.Hit("ingest", "append")
	var offset event.Offset
	for _, some := range split(parts, p.cfg.MaxBatch) {
		var err error
		if offset, err = p.journal.Append(ctx, some); err != nil {
			batch.Discard()
			return fmt.Errorf("append transactions up to %d at %v: %w", last.XID, last.CommitLSN, err)
		}
	}
	faultpoint.Hit("ingest", "journaled")
	if err := batch.Commit(offset, last.EndLSN, last.Last); err != nil {
		return fmt.Errorf("move mirror to %v: %w", offset, err)
	}
	faultpoint.Hit("ingest", "mirrored")
	if p.forsaken != nil && p.mirror.Forsook() != forsook {
		p.forsaken()
	}
	for i := range parts {
		p.events.Add(uint64(len(parts[i].Events)))
	}
	if !last.Last {
		return nil
	}
	durable := parts[len(parts)-1].EndLSN
	faultpoint.Hit("ingest", "acknowledge")
	p.reader.Acknowledge(durable)
	faultpoint.Hit("ingest", "acknowledged")
	if durable < last.EndLSN { // what came after it is not captured, and not in the journal
		return p.idle(ctx, last.EndLSN, false)
	}
	return nil
}

// idle moves on to a position before which there is nothing that is not in the journal. It is durable before it is
// acknowledged: at the next start a slot that is ahead of both the journal and this position has lost something.
func (p *Pump) idle(ctx context.Context, lsn pglogrepl.LSN, now bool) error {
	if !sabotage.Off(sabotage.Keepalives) {
		p.mirror.Advance(lsn)
	}
	head := p.journal.Head()
	behind := max(p.acknowledged, head.EndLSN)
	if lsn <= behind || head.CommitLSN != 0 && !head.Complete {
		return nil
	}
	if at := time.Now(); now || lsn-behind >= idleAckBytes || at.Sub(p.idleSince) >= idleAckEvery {
		p.idleSince = at
	} else {
		return nil
	}
	if !sabotage.Off(sabotage.IdleDurable) {
		if err := p.control.Put(ctx, keyAcknowledged, []byte(lsn.String())); err != nil {
			return fmt.Errorf("write acknowledged position %v: %w", lsn, err)
		}
	}
	faultpoint.Hit("ingest", "idle")
	p.acknowledged = lsn
	p.reader.Acknowledge(lsn)
	return nil
}

// parts turns transactions into journal parts, without the tables that are not captured and without transactions that
// hold nothing else. The events share memory with the changes, and keep their ordinals.
func (p *Pump) parts(txs []cdc.Transaction) []journal.Part {
	parts := make([]journal.Part, 0, len(txs))
	captured := p.captures.Load()
	for i := range txs {
		tx := &txs[i]
		parts = append(parts, journal.Part{Transaction: tx.Transaction, First: tx.First, Complete: tx.Last})
		part := &parts[len(parts)-1]
		part.Events = make([]event.Event, 0, len(tx.Changes))
		for k := range tx.Changes {
			c := &tx.Changes[k]
			if c.Schema != nil && !captured.has(c.Schema, tx.CommitLSN) {
				continue
			}
			part.Events = append(part.Events, event.Event{
				Transaction: &part.Transaction, Ordinal: tx.First + uint32(k), Op: c.Op, Schema: c.Schema,
				Before: c.Before, After: c.After, Prefix: c.Prefix, Content: c.Content,
			})
		}
		if len(part.Events) == 0 && part.First == 0 && part.Complete {
			parts = parts[:len(parts)-1]
		}
	}
	return parts
}

// ErrJournalBehind means that the mirror has what the journal does not: the journal is older than it should be.
var ErrJournalBehind = errors.New("journal is behind the mirror")

// ErrMirrorBehind means that the mirror needs batches that the journal no longer has.
var ErrMirrorBehind = errors.New("mirror is behind the journal's first batch")

// CatchUp applies to the mirror what the journal has and the mirror does not. A new mirror starts at the
// journal's head: its tables are loaded from the source.
func CatchUp(ctx context.Context, j *journal.Journal, m *mirror.Mirror) error {
	head, at := j.Head(), m.Position()
	switch {
	case head.Offset == at:
		return nil
	case head.Offset < at:
		return fmt.Errorf("%w: journal ends at %v, mirror is at %v; restore the journal that belongs to it, or remove the mirror's folder to load it again", ErrJournalBehind, head.Offset, at)
	case at == 0:
		if err := m.Begin().Commit(head.Offset, head.EndLSN, head.Complete); err != nil {
			return fmt.Errorf("start mirror at %v: %w", head.Offset, err)
		}
		return nil
	}
	// Events of the batch it is at are applied, so it needs the next one.
	switch err := j.Retains(event.NewOffset(at.Sequence()+1, 0)); {
	case errors.Is(err, journal.ErrTrimmed):
		return fmt.Errorf("%w: mirror is at %v, journal begins with batch %d; remove the mirror's folder to load it again", ErrMirrorBehind, at, j.First())
	case err != nil:
		return fmt.Errorf("catch mirror up from %v: %w", at, err)
	}
	for seq := at.Sequence() + 1; seq <= head.Offset.Sequence(); seq++ {
		b, err := j.Read(ctx, seq)
		if err != nil {
			return fmt.Errorf("catch mirror up: %w", err)
		}
		if err := crossGap(m, b); err != nil {
			return fmt.Errorf("catch mirror up with batch %d: %w", seq, err)
		}
		if err := apply(m, b); err != nil {
			return fmt.Errorf("catch mirror up with batch %d: %w", seq, err)
		}
	}
	return nil
}

func apply(m *mirror.Mirror, b *journal.Batch) error {
	batch := m.Begin()
	offset, whole, lsn := event.NewOffset(b.Sequence, 0), true, pglogrepl.LSN(0)
	for i := range b.Parts {
		part := &b.Parts[i]
		for k := range part.Events {
			if err := batch.Apply(&part.Events[k]); err != nil {
				batch.Discard()
				return fmt.Errorf("event %v: %w", part.Events[k].Offset, err)
			}
			offset = part.Events[k].Offset
		}
		whole, lsn = part.Complete, part.EndLSN
	}
	return batch.Commit(offset, lsn, whole)
}
