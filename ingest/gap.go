package ingest

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pglogrepl"

	"github.com/lanternist/lanternist/control"
	"github.com/lanternist/lanternist/event"
	"github.com/lanternist/lanternist/journal"
	"github.com/lanternist/lanternist/mirror"
)

// AppendGap writes into the journal that changes are missing before the position to, from which the source is read again. A
// transaction that the journal has only a part of is closed: the rest will never come. It returns the offset of the gap, which
// is durable then. Doing so again, after a crash, changes nothing.
//
// The mirror drops its tables when it catches up across a gap, so that they are loaded anew.
func AppendGap(ctx context.Context, j *journal.Journal, to pglogrepl.LSN, info event.GapInfo) (event.Offset, error) {
	head := j.Head()
	if head.EndLSN == to && head.CommitLSN == gapLSN(to) {
		return head.Offset, nil
	}
	if head.CommitLSN >= gapLSN(to) {
		return 0, fmt.Errorf("append gap: %w: the journal has transactions up to %s, the source is read again from %s", journal.ErrOutOfOrder, head.CommitLSN, to)
	}
	gap, err := event.NewGap(info)
	if err != nil {
		return 0, err
	}
	parts := []journal.Part{{
		Transaction: event.Transaction{CommitLSN: gapLSN(to), EndLSN: to, CommitTime: time.Now().UTC().Truncate(time.Microsecond)},
		Complete:    true, Events: []event.Event{gap},
	}}
	if !head.Complete && head.CommitLSN != 0 {
		cut := journal.Part{First: head.Ordinal, Complete: true, Transaction: event.Transaction{
			XID: head.XID, CommitLSN: head.CommitLSN, EndLSN: head.CommitLSN + 1, CommitTime: head.Time,
		}}
		parts = append([]journal.Part{cut}, parts...)
	}
	for i := range parts {
		for k := range parts[i].Events {
			parts[i].Events[k].Transaction = &parts[i].Transaction
		}
	}
	offset, err := j.Append(ctx, parts)
	if err != nil {
		return 0, fmt.Errorf("append gap: %w", err)
	}
	return offset, nil
}

// gapLSN is a commit position for a gap: after every transaction that was before it, and before every one that the source sends
// from to on. No record begins there.
func gapLSN(to pglogrepl.LSN) pglogrepl.LSN { return to - 1 }

// StartAfterGap has the capture begin anew at a position: nothing that was committed before is taken, and what is durable is as
// if it had been acknowledged up to there. With another database nothing is known of what was captured.
func StartAfterGap(ctx context.Context, store control.Store, at pglogrepl.LSN, sameDatabase bool) error {
	captured, known, err := openCaptured(ctx, store)
	if err != nil {
		return err
	}
	for oid := range captured.since {
		if sameDatabase {
			err = captured.put(ctx, oid, at)
		} else {
			err = captured.remove(ctx, oid)
		}
		if err != nil {
			return err
		}
	}
	if known && !sameDatabase {
		if err := store.Delete(ctx, keyCapturedKnown); err != nil {
			return fmt.Errorf("write captured tables: %w", err)
		}
	}
	if !sameDatabase {
		if err := control.DeleteAll(ctx, store, keyShape); err != nil {
			return fmt.Errorf("forget the tables' shapes: %w", err)
		}
	}
	return SetAcknowledged(ctx, store, at)
}

// Acknowledged is the position that was acknowledged beyond the journal's last transaction; 0 when there was none.
func Acknowledged(ctx context.Context, store control.Store) (pglogrepl.LSN, error) {
	text, ok, err := store.Get(ctx, keyAcknowledged)
	if err != nil || !ok {
		return 0, wrapped("read acknowledged position", err)
	}
	lsn, err := pglogrepl.ParseLSN(string(text))
	return lsn, wrapped(fmt.Sprintf("read acknowledged position %q", text), err)
}

// SetAcknowledged makes another position the acknowledged one: a lower one, where the source has left what came after it.
func SetAcknowledged(ctx context.Context, store control.Store, lsn pglogrepl.LSN) error {
	return wrapped(fmt.Sprintf("write acknowledged position %v", lsn), store.Put(ctx, keyAcknowledged, []byte(lsn.String())))
}

func wrapped(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}

// crossGap has the mirror forget its tables before it takes a batch with a gap: rows that changed meanwhile are not known.
func crossGap(m *mirror.Mirror, b *journal.Batch) error {
	for i := range b.Parts {
		for k := range b.Parts[i].Events {
			if b.Parts[i].Events[k].Op != event.Gap {
				continue
			}
			for _, t := range m.Tables() {
				if err := m.DropTable(t.OID); err != nil {
					return err
				}
			}
			return nil
		}
	}
	return nil
}
