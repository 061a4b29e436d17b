package e2e

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"

	"github.com/lanternist/lanternist/control"
	"github.com/lanternist/lanternist/event"
	"github.com/lanternist/lanternist/journal"
	"github.com/lanternist/lanternist/journal/jetstream"
	"github.com/lanternist/lanternist/journal/segments"
	"github.com/lanternist/lanternist/schemas"
)

// audit is a second reader of the source's changes: a replication slot that began at the same place as the daemon's
// and that nobody reads until the end.
type audit struct {
	in   *installation
	slot string
	seen []committed // by collect

	reached  pglogrepl.LSN // the end of the last transaction that was looked at
	compared int           // transactions
}

// committed is a transaction, as a reader has seen it.
type committed struct {
	xid     uint32
	lsn     pglogrepl.LSN // of the commit record
	changes int
}

// startAudit makes the publication and both slots while nothing changes the database.
func (in *installation) startAudit(tables []string) *audit {
	in.t.Helper()
	a := &audit{in: in, slot: in.slot + "_audit"}
	in.database.Exec(
		fmt.Sprintf("CREATE PUBLICATION %s FOR TABLE %s", in.slot, strings.Join(tables, ", ")),
		fmt.Sprintf("SELECT pg_create_logical_replication_slot('%s', 'pgoutput')", a.slot),
		fmt.Sprintf("SELECT pg_create_logical_replication_slot('%s', 'pgoutput')", in.slot))
	return a
}

// compare compares the journal of the stopped daemon with what the slot says, transaction by transaction.
func (a *audit) compare() {
	t := a.in.t
	t.Helper()
	want := append(a.seen, a.expected()...)
	got, split := a.in.journaled()
	changes := 0
	for i := range min(len(want), len(got)) {
		if want[i] != got[i] {
			t.Fatalf("transaction %d in commit order is %+v in the journal, %+v on the source", i, got[i], want[i])
		}
		changes += want[i].changes
	}
	if len(want) != len(got) {
		t.Fatalf("the journal has %d transactions, the source has committed %d", len(got), len(want))
	}
	if len(want) == 0 {
		t.Fatal("there was no transaction")
	}
	a.compared = len(want)
	t.Logf("%d transactions with %d changes are in the journal, each once, in commit order; %d of them in several batches", len(want), changes, split)
}

// collect takes what is in the slot so far, so that the source need not keep it.
func (a *audit) collect() {
	t := a.in.t
	t.Helper()
	a.seen = append(a.seen, a.expected()...)
	if a.reached == 0 {
		return
	}
	conn := a.in.database.Conn(t.Context())
	defer conn.Close(t.Context())
	if _, err := conn.Exec(t.Context(), "SELECT pg_replication_slot_advance($1, $2)", a.slot, a.reached.String()); err != nil {
		t.Fatal(err)
	}
}

// expected lists the transactions in the audit slot that changed a published table, in commit order, and are not collected.
func (a *audit) expected() []committed {
	t := a.in.t
	t.Helper()
	var last pglogrepl.LSN // a crash of the source moves the slot back
	if len(a.seen) > 0 {
		last = a.seen[len(a.seen)-1].lsn
	}
	conn := a.in.database.Conn(t.Context())
	defer conn.Close(t.Context())
	rows, err := conn.Query(t.Context(), `SELECT data FROM pg_logical_slot_peek_binary_changes($1, NULL, NULL,
		'proto_version', '1', 'publication_names', $2)`, a.slot, a.in.slot)
	if err != nil {
		t.Fatal(err)
	}
	var all []committed
	var tx committed
	var message []byte
	_, err = pgx.ForEachRow(rows, []any{&message}, func() error {
		switch message[0] {
		case 'B':
			tx = committed{lsn: pglogrepl.LSN(binary.BigEndian.Uint64(message[1:])), xid: binary.BigEndian.Uint32(message[17:])}
		case 'I', 'U', 'D':
			tx.changes++
		case 'T':
			tx.changes += int(binary.BigEndian.Uint32(message[1:]))
		case 'C':
			a.reached = pglogrepl.LSN(binary.BigEndian.Uint64(message[10:]))
			if tx.changes > 0 && tx.lsn > last {
				all = append(all, tx)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// journaled lists the transactions with changes in the journal of the stopped daemon, and sees to it that offsets have
// no holes and that each transaction is there from its first change to its last, once, after all that committed before.
// split is how many of them are in more than one batch.
func (in *installation) journaled() (all []committed, split int) { return in.walked(in.t) }

// reporter is told what is wrong with a journal, and does not return.
type reporter interface {
	Helper()
	Fatalf(format string, args ...any)
}

// walked is journaled with somebody else to tell what is wrong.
func (in *installation) walked(r reporter) (all []committed, split int) {
	in.t.Helper()
	w := walk{t: r, xids: map[uint32]bool{}}
	in.eachBatch(w.batch)
	if w.open {
		r.Fatalf("the journal ends inside of transaction %d", w.tx.xid)
	}
	return w.all, w.split
}

// eachBatch visits every batch in the journal of the stopped daemon.
func (in *installation) eachBatch(visit func(*journal.Batch)) {
	t, ctx := in.t, in.t.Context()
	t.Helper()
	quiet := slog.New(slog.DiscardHandler)
	store, engine := in.stored(quiet)
	defer store.Close()
	registry, err := schemas.Open(ctx, store)
	if err != nil {
		t.Fatal(err)
	}
	j, err := journal.Open(ctx, engine, registry, journal.Config{}, quiet)
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	last := j.Head().Offset.Sequence()
	for sequence := j.First(); sequence <= last; sequence++ {
		batch, err := j.Read(ctx, sequence)
		if err != nil {
			t.Fatal(err)
		}
		visit(batch)
	}
}

// stored opens where control state and journal are.
func (in *installation) stored(quiet *slog.Logger) (store control.Store, engine journal.Log) {
	t, ctx := in.t, in.t.Context()
	t.Helper()
	var err error
	if in.nats != "" {
		store, err = control.OpenJetStream(ctx, in.nats, natsStream, 1, quiet)
	} else {
		store, err = control.OpenPebble(filepath.Join(in.dir, "data", "control"), quiet)
	}
	if err != nil {
		t.Fatal(err)
	}
	if in.nats != "" {
		engine, err = jetstream.Open(ctx, in.nats, jetstream.Config{Stream: natsStream}, quiet)
	} else {
		engine, err = segments.Open(filepath.Join(in.dir, "data", "journal"), segments.Config{}, quiet)
	}
	if err != nil {
		t.Fatal(errors.Join(err, store.Close()))
	}
	return store, engine
}

// walk goes through a journal in order.
type walk struct {
	t    reporter
	tx   committed // the last one
	open bool      // its end has not come
	xids map[uint32]bool
	all  []committed

	split int
}

func (w *walk) batch(b *journal.Batch) {
	w.t.Helper()
	index := 0
	for i := range b.Parts {
		p := &b.Parts[i]
		w.part(p)
		for k := range p.Events {
			e := &p.Events[k]
			if want := event.NewOffset(b.Sequence, index); e.Offset != want {
				w.t.Fatalf("an event of transaction %d has offset %v, want %v", p.XID, e.Offset, want)
			}
			if int(e.Ordinal) != w.tx.changes {
				w.t.Fatalf("change %d of transaction %d comes where change %d should be", e.Ordinal, p.XID, w.tx.changes)
			}
			index++
			w.tx.changes++
		}
		if w.open = !p.Complete; w.open && p.First == 0 {
			w.split++
		}
		if !w.open && w.tx.changes > 0 {
			w.all = append(w.all, w.tx)
		}
	}
}

// part begins a transaction or goes on with the open one.
func (w *walk) part(p *journal.Part) {
	w.t.Helper()
	if w.open {
		if p.XID != w.tx.xid || p.CommitLSN != w.tx.lsn || int(p.First) != w.tx.changes {
			w.t.Fatalf("change %d of transaction %d comes where change %d of transaction %d should be", p.First, p.XID, w.tx.changes, w.tx.xid)
		}
		return
	}
	if w.xids[p.XID] || p.CommitLSN <= w.tx.lsn || p.First != 0 {
		w.t.Fatalf("transaction %d, committed at %s, comes from change %d after transaction %d, committed at %s; seen before: %t",
			p.XID, p.CommitLSN, p.First, w.tx.xid, w.tx.lsn, w.xids[p.XID])
	}
	w.xids[p.XID] = true
	w.tx = committed{xid: p.XID, lsn: p.CommitLSN}
}
