package cdc

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/jackc/pglogrepl"

	"github.com/lanternist/lanternist/event"
	"github.com/lanternist/lanternist/row"
)

// assembler makes deliveries of messages: it groups changes into transactions, leaves out what has been
// delivered before, and cuts at the bounds. It belongs to one goroutine and outlives connections.
type assembler struct {
	maxBytes   int
	maxChanges int
	resolve    func(ctx context.Context, definition []byte) (*row.Schema, error)
	deliver    func(ctx context.Context, d *Delivery) error

	position Start         // of what has been delivered
	reached  pglogrepl.LSN // the highest WALEnd or EndLSN that has been delivered

	tables map[uint32]*described // by the connection's Relation messages

	// What the next Delivery is made of: closed transactions, whose changes come first, then the changes of
	// the open one.
	closed  []Transaction // Changes are filled in when the Delivery is made
	lengths []int         // how many changes each of them has
	changes []Change
	bytes   int           // of changes, all together
	hint    int           // how many changes the last Delivery had
	walEnd  pglogrepl.LSN // 0, or that of the last keepalive outside of a transaction
	urgent  bool          // the server asked for an answer to it

	open *openTransaction // nil outside of a transaction
	room openTransaction  // what open points to
}

// described is a table that the server described. It is resolved when its first change comes, because partitions
// are described, too, although their changes come as those of the partitioned table.
type described struct {
	definition []byte
	schema     *row.Schema
}

// openTransaction is a transaction whose end has not been read.
type openTransaction struct {
	event.Transaction
	skip      bool   // all of it has been delivered
	delivered uint32 // how many of its changes have been, when skip is false
	resumed   bool   // some part of it has been delivered
	ordinal   uint32 // of the next change
	waiting   int    // how many of assembler.changes are its
	bytes     int    // of those
}

// connected forgets what belonged to the connection before.
func (a *assembler) connected() {
	a.tables = map[uint32]*described{}
	a.closed, a.lengths, a.changes, a.bytes, a.walEnd, a.urgent, a.open = nil, nil, nil, 0, 0, false, nil
}

// message takes one decoded message in. size is the length of what it was decoded from, sent the server's clock
// when it was sent, in microseconds since 2000.
func (a *assembler) message(ctx context.Context, m *message, size int, sent int64) error {
	switch m.kind {
	case kindInsert:
		return a.change(ctx, event.Insert, m, size)
	case kindUpdate:
		return a.change(ctx, event.Update, m, size)
	case kindDelete:
		return a.change(ctx, event.Delete, m, size)
	case kindBegin:
		return a.begin(event.Transaction{XID: m.xid, CommitLSN: m.lsn, CommitTime: microsToTime(m.micros)})
	case kindCommit:
		return a.commit(m.lsn, m.endLSN)
	case kindRelation:
		a.tables[m.relation] = &described{definition: bytes.Clone(m.definition)}
	case kindTruncate:
		return a.truncate(ctx, m.relations, size)
	case kindMessage:
		return a.logicalMessage(ctx, m, size, microsToTime(sent))
	}
	return nil
}

func (a *assembler) begin(tx event.Transaction) error {
	if a.open != nil {
		return fmt.Errorf("%w: transaction %d begins inside transaction %d", ErrProtocol, tx.XID, a.open.XID)
	}
	skip, delivered := a.position.has(tx.CommitLSN)
	resumed := !skip && tx.CommitLSN == a.position.CommitLSN
	a.room = openTransaction{Transaction: tx, skip: skip, delivered: delivered, resumed: resumed}
	a.open = &a.room
	return nil
}

func (a *assembler) commit(commit, end pglogrepl.LSN) error {
	tx := a.open
	if tx == nil || tx.CommitLSN != commit {
		return fmt.Errorf("%w: commit at %s of a transaction that did not begin", ErrProtocol, commit)
	}
	a.open = nil
	if tx.skip {
		return nil
	}
	if tx.resumed && tx.ordinal < tx.delivered {
		return fmt.Errorf("%w: transaction %d at %s has %d changes, but %d were received before",
			ErrProtocol, tx.XID, commit, tx.ordinal, tx.delivered)
	}
	if tx.ordinal == 0 && !tx.resumed {
		a.walEnd = max(a.walEnd, end) // without changes of captured tables: only progress
		return nil
	}
	tx.EndLSN = end
	a.close(tx)
	return nil
}

// close moves a transaction that has ended to the closed ones.
func (a *assembler) close(tx *openTransaction) {
	first := tx.ordinal - uint32(tx.waiting)
	a.closed = append(a.closed, Transaction{Transaction: tx.Transaction, First: first, Last: true})
	a.lengths = append(a.lengths, tx.waiting)
}

func (a *assembler) change(ctx context.Context, op event.Op, m *message, size int) error {
	table, err := a.table(ctx, m.relation)
	if err != nil {
		return err
	}
	for _, r := range [2]row.Row{m.before, m.after} {
		if r != nil && r.Len() != len(table.Columns) {
			return fmt.Errorf("%w: row of %d columns for %s, which has %d", ErrProtocol, r.Len(), table.QualifiedName(), len(table.Columns))
		}
	}
	return a.add(ctx, Change{Op: op, Schema: table, Before: m.before, After: m.after}, size)
}

func (a *assembler) truncate(ctx context.Context, relations []byte, size int) error {
	for at := 0; at < len(relations); at += 4 {
		table, err := a.table(ctx, binary.BigEndian.Uint32(relations[at:]))
		if err != nil {
			return err
		}
		if err := a.add(ctx, Change{Op: event.Truncate, Schema: table}, size); err != nil {
			return err
		}
		size = 0
	}
	return nil
}

func (a *assembler) logicalMessage(ctx context.Context, m *message, size int, sent time.Time) error {
	change := Change{Op: event.Message, Prefix: string(m.prefix), Content: m.content}
	if m.transactional || a.open != nil {
		return a.add(ctx, change, size)
	}
	// Outside of a transaction the message is its own. Its record's end is not sent; the position after its
	// first byte is past it all the same, because the server compares the start of the record.
	err := a.begin(event.Transaction{CommitLSN: m.lsn, CommitTime: sent})
	if err != nil {
		return err
	}
	if err := a.add(ctx, change, size); err != nil {
		return err
	}
	return a.commit(m.lsn, m.lsn+1)
}

func (a *assembler) table(ctx context.Context, oid uint32) (_ *row.Schema, err error) {
	table := a.tables[oid]
	if table == nil {
		return nil, fmt.Errorf("%w: change of table %d, which was not described", ErrProtocol, oid)
	}
	if table.schema == nil {
		if table.schema, err = a.resolve(ctx, table.definition); err != nil {
			return nil, err
		}
	}
	return table.schema, nil
}

// add appends a change to the open transaction, and delivers when a bound is reached.
func (a *assembler) add(ctx context.Context, c Change, size int) error {
	tx := a.open
	if tx == nil {
		return fmt.Errorf("%w: change %q outside of a transaction", ErrProtocol, byte(c.Op))
	}
	ordinal := tx.ordinal
	tx.ordinal++
	if tx.skip || ordinal < tx.delivered {
		return nil
	}
	if a.changes == nil {
		a.changes = make([]Change, 0, max(1, a.hint)) // as many as last time
	}
	a.changes = append(a.changes, c)
	tx.waiting++
	tx.bytes += size
	a.bytes += size
	for len(a.changes) >= a.maxChanges || a.bytes >= a.maxBytes {
		if err := a.flush(ctx, len(a.closed) == 0); err != nil {
			return err
		}
	}
	return nil
}

// keepalive takes in how far the server has read its log.
func (a *assembler) keepalive(walEnd pglogrepl.LSN, urgent bool) {
	if a.open == nil {
		a.walEnd = max(a.walEnd, walEnd)
		a.urgent = a.urgent || urgent
	}
}

// flush delivers the closed transactions, and what is there of the open one when cut is true.
// Without anything new to say it does nothing.
func (a *assembler) flush(ctx context.Context, cut bool) error {
	if !cut && len(a.closed) == 0 && a.walEnd <= a.reached && !a.urgent {
		return nil
	}
	d := &Delivery{Transactions: a.closed, WALEnd: a.walEnd, AcknowledgeNow: a.urgent}
	from := 0
	for i, n := range a.lengths {
		d.Transactions[i].Changes = a.changes[from : from+n : from+n]
		from += n
	}
	rest := a.changes[from:]
	if cut {
		tx := a.open
		d.Transactions = append(d.Transactions, Transaction{
			Transaction: tx.Transaction, First: tx.ordinal - uint32(tx.waiting), Changes: rest,
		})
		tx.waiting, tx.bytes, tx.resumed = 0, 0, true
		tx.delivered = tx.ordinal
		rest = nil
	}
	if d.WALEnd <= a.reached && !a.urgent {
		d.WALEnd = 0
	}
	a.restart(rest)
	if err := a.deliver(ctx, d); err != nil {
		return err
	}
	a.delivered(d)
	return nil
}

// restart begins the next Delivery with the changes that wait for the end of their transaction.
func (a *assembler) restart(rest []Change) {
	a.closed, a.lengths, a.walEnd, a.urgent, a.bytes = nil, a.lengths[:0], 0, false, 0
	a.hint = max(len(a.changes), 2*len(rest))
	a.changes = nil
	if len(rest) > 0 {
		a.changes = append(make([]Change, 0, a.hint), rest...)
		a.bytes = a.open.bytes
	}
}

// delivered moves the position behind d.
func (a *assembler) delivered(d *Delivery) {
	a.reached = max(a.reached, d.WALEnd)
	if len(d.Transactions) == 0 {
		return
	}
	for i := len(d.Transactions) - 1; i >= 0; i-- {
		if tx := &d.Transactions[i]; tx.Last {
			a.position.EndLSN = tx.EndLSN
			break
		}
	}
	last := &d.Transactions[len(d.Transactions)-1]
	a.position.CommitLSN = last.CommitLSN
	a.position.Ordinal = last.First + uint32(len(last.Changes))
	a.position.Complete = last.Last
	a.reached = max(a.reached, a.position.EndLSN)
}
