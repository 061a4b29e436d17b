package journal

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/lanternist/lanternist/event"
)

// DumpOptions say what of a log is shown.
type DumpOptions struct {
	From, To uint64       // sequences, inclusive; 0 is the first or the last there is
	Events   bool         // show the events, not only the batches
	JSON     bool         // one JSON object a line: batches, and events in their envelopes
	Source   event.Source // named in the envelopes
}

// Dump writes what a log holds, for people (a table) or programs (JSON lines), without changing anything. The log
// need not belong to an open journal. schemas is needed for events only. A batch that cannot be read is shown as
// such, and the rest is shown too; what was wrong is returned at the end.
func Dump(ctx context.Context, w io.Writer, log Log, schemas Schemas, opts DumpOptions) error {
	first, last, err := log.Bounds(ctx)
	if err != nil {
		return fmt.Errorf("dump journal: %w", err)
	}
	from, to := max(opts.From, first), last
	if opts.To != 0 {
		to = min(opts.To, last)
	}
	d := dumper{w: w, log: log, schemas: schemas, opts: opts}
	if !opts.JSON {
		d.printf("%-10s %-27s %-23s %-10s %6s %7s %9s\n", "BATCH", "APPENDED", "COMMIT LSN", "LAST XID", "PARTS", "EVENTS", "BYTES")
	}
	var damage error
	for sequence := from; sequence <= to && last != 0; sequence++ {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("dump journal: %w", err)
		}
		if err := d.batch(ctx, sequence); err != nil {
			damage = errors.Join(damage, fmt.Errorf("batch %d: %w", sequence, err))
			d.damaged(sequence, err)
		}
		if d.err != nil {
			return fmt.Errorf("dump journal: %w", d.err)
		}
	}
	if d.err != nil {
		return fmt.Errorf("dump journal: %w", d.err)
	}
	if damage != nil {
		return fmt.Errorf("dump journal: %w", damage)
	}
	return nil
}

// dumper writes batch after batch.
type dumper struct {
	w       io.Writer
	err     error // the first of writing
	log     Log
	schemas Schemas
	opts    DumpOptions
	line    []byte
	crc     uint32 // of the batch before
	chained bool   // the batch before could be read
}

// batch writes one batch. Nothing has been written when it returns an error.
func (d *dumper) batch(ctx context.Context, sequence uint64) error {
	entry, err := d.log.Read(ctx, sequence)
	if err != nil {
		d.chained = false
		return err
	}
	h, err := readHeader(entry)
	chained := d.chained
	d.chained = err == nil
	switch {
	case err != nil:
		return err
	case h.sequence != sequence:
		return fmt.Errorf("%w: it says it is batch %d", ErrMalformed, h.sequence)
	case chained && h.previousCRC != d.crc:
		d.crc = h.crc
		return fmt.Errorf("%w: it does not follow batch %d", ErrMalformed, sequence-1)
	}
	d.crc = h.crc
	b := &Batch{header: h}
	if d.opts.Events {
		if b, err = decodeParts(h, entry, d.schemas); err != nil {
			return err
		}
	}
	if d.opts.JSON {
		d.json(b)
	} else {
		d.table(b)
	}
	return nil
}

// table writes a batch for people.
func (d *dumper) table(b *Batch) {
	h := &b.header
	lsn := h.firstCommitLSN.String()
	if h.lastCommitLSN != h.firstCommitLSN {
		lsn += "-" + h.lastCommitLSN.String()
	}
	open := ""
	if !h.complete {
		open = "  (goes on)"
	}
	d.printf("%-10d %-27s %-23s %-10d %6d %7d %9d%s\n",
		h.sequence, h.time().Format(dumpTime), lsn, h.lastXID, h.parts, h.events, h.length, open)
	for i := range b.Parts {
		p := &b.Parts[i]
		for k := range p.Events {
			e := &p.Events[k]
			d.printf("  %-10s %-30s %s  xid %d, lsn %s, index %d\n", e.Offset, e.Type(), e.AppendSubject(nil), p.XID, p.CommitLSN, e.Ordinal)
		}
	}
}

const dumpTime = "2006-01-02T15:04:05.000000Z"

// batchLine is a batch as JSON.
type batchLine struct {
	Batch         uint64    `json:"batch"`
	Appended      time.Time `json:"appended"`
	FirstLSN      string    `json:"first_commit_lsn"`
	FirstOrdinal  uint32    `json:"first_ordinal"`
	LastLSN       string    `json:"last_commit_lsn"`
	NextOrdinal   uint32    `json:"next_ordinal"`
	EndLSN        string    `json:"end_lsn"`
	LastXID       uint32    `json:"last_xid"`
	Complete      bool      `json:"complete"`
	LowestCommit  time.Time `json:"lowest_commit_time"`
	HighestCommit time.Time `json:"highest_commit_time"`
	Parts         uint32    `json:"parts"`
	Events        uint32    `json:"events"`
	Bytes         uint32    `json:"bytes"`
	Journal       string    `json:"journal"`
	Checksum      string    `json:"checksum"`
	Previous      string    `json:"previous_checksum"`
}

// json writes a batch for programs.
func (d *dumper) json(b *Batch) {
	h := &b.header
	d.object(batchLine{
		Batch: h.sequence, Appended: h.time(), FirstLSN: h.firstCommitLSN.String(), FirstOrdinal: h.firstOrdinal,
		LastLSN: h.lastCommitLSN.String(), NextOrdinal: h.nextOrdinal, EndLSN: h.endLSN.String(), LastXID: h.lastXID,
		Complete: h.complete, LowestCommit: time.UnixMicro(h.lowestCommit).UTC(), HighestCommit: time.UnixMicro(h.highestCommit).UTC(),
		Parts: h.parts, Events: h.events, Bytes: h.length, Journal: h.id.String(),
		Checksum: fmt.Sprintf("%08x", h.crc), Previous: fmt.Sprintf("%08x", h.previousCRC),
	})
	for i := range b.Parts {
		for k := range b.Parts[i].Events {
			d.line = append(event.AppendEnvelope(d.line[:0], &b.Parts[i].Events[k], d.opts.Source), '\n')
			d.write(d.line)
		}
	}
}

// damaged writes that a batch cannot be read.
func (d *dumper) damaged(sequence uint64, err error) {
	if !d.opts.JSON {
		d.printf("%-10d unreadable: %v\n", sequence, err)
		return
	}
	d.object(struct {
		Batch uint64 `json:"batch"`
		Error string `json:"error"`
	}{sequence, err.Error()})
}

// object writes a line of JSON.
func (d *dumper) object(v any) {
	line, err := json.Marshal(v)
	if err != nil {
		d.err = errors.Join(d.err, err)
		return
	}
	d.write(append(line, '\n'))
}

func (d *dumper) printf(format string, args ...any) {
	d.line = fmt.Appendf(d.line[:0], format, args...)
	d.write(d.line)
}

// write writes unless writing has failed before.
func (d *dumper) write(b []byte) {
	if d.err == nil {
		_, d.err = d.w.Write(b)
	}
}
