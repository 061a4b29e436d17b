package httpapi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/lanternist/lanternist/backoff"
	"github.com/lanternist/lanternist/event"
	"github.com/lanternist/lanternist/journal"
)

// transactions knows where transactions committed: the newest ones from the journal, others by asking the source.
type transactions struct {
	journal *journal.Journal
	url     string // of the source; "" when it is not to be asked
	log     *slog.Logger

	mu     sync.RWMutex
	ends   map[uint32]pglogrepl.LSN // EndLSN by xid
	recent []uint32                 // a ring of the keys of ends
	next   int

	asking chan struct{} // held by who uses conn
	conn   *pgx.Conn
}

// transactionsKept is how many of the newest transactions are known without asking. It is far fewer than there are
// 32-bit ids, so that none of them is taken for an older one.
const transactionsKept = 1 << 16

// sourceTimeout bounds one question to the source.
const sourceTimeout = 5 * time.Second

func newTransactions(j *journal.Journal, url string, log *slog.Logger) *transactions {
	return &transactions{
		journal: j, url: url, log: log,
		ends: map[uint32]pglogrepl.LSN{}, recent: make([]uint32, transactionsKept), asking: make(chan struct{}, 1),
	}
}

// run reads the journal as it grows until ctx is done. Nothing depends on it but the speed of answers: the source knows the
// same, so what cannot be read is passed by.
func (t *transactions) run(ctx context.Context) {
	defer t.disconnect()
	waits := backoff.New(backoff.Config{Min: 100 * time.Millisecond, Max: 10 * time.Second})
	at := t.journal.Head().Offset
	for ctx.Err() == nil {
		batch, err := t.journal.Next(ctx, at)
		if err != nil {
			if ctx.Err() == nil {
				t.log.Debug("transactions not read from the journal", "after", at, "error", err)
			}
			if waits.Wait(ctx) != nil {
				return
			}
			at = t.journal.Head().Offset
			continue
		}
		waits.Reset()
		at = t.note(batch)
	}
}

// note remembers the transactions that end in a batch and returns the batch's last offset.
func (t *transactions) note(b *journal.Batch) event.Offset {
	t.mu.Lock()
	defer t.mu.Unlock()
	events := 0
	for i := range b.Parts {
		p := &b.Parts[i]
		events += len(p.Events)
		if !p.Complete {
			continue
		}
		delete(t.ends, t.recent[t.next])
		t.recent[t.next] = p.XID
		t.next = (t.next + 1) % len(t.recent)
		t.ends[p.XID] = p.EndLSN
	}
	return event.NewOffset(b.Sequence, max(0, events-1))
}

// resolve implements resolver.
func (t *transactions) resolve(ctx context.Context, xid uint64) (Outcome, pglogrepl.LSN, error) {
	t.mu.RLock()
	end, ok := t.ends[uint32(xid)]
	t.mu.RUnlock()
	if ok {
		return Committed, end, nil
	}
	if t.url == "" {
		return 0, 0, errUnresolved
	}
	select {
	case t.asking <- struct{}{}:
		defer func() { <-t.asking }()
	case <-ctx.Done():
		return 0, 0, context.Cause(ctx)
	}
	ctx, cancel := context.WithTimeout(ctx, sourceTimeout)
	defer cancel()
	outcome, lsn, err := t.ask(ctx, xid)
	if err != nil && t.conn != nil && t.conn.IsClosed() {
		t.conn = nil
		outcome, lsn, err = t.ask(ctx, xid)
	}
	return outcome, lsn, err
}

// statusQuery asks, in this order, for a transaction's state and then for the end of the log. A commit is in the flushed log
// before it can be seen, unless commits do not wait for the flush: then it is only known to be in the log.
const statusQuery = `
SELECT pg_xact_status($1::text::xid8),
       CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn()
            WHEN current_setting('synchronous_commit') = 'off' THEN pg_current_wal_insert_lsn()
            ELSE pg_current_wal_flush_lsn() END::text,
       CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_flush_lsn() END::text`

const nextXIDQuery = `SELECT pg_snapshot_xmax(pg_current_snapshot())::text`

// ask asks the source. The caller holds asking.
func (t *transactions) ask(ctx context.Context, xid uint64) (Outcome, pglogrepl.LSN, error) {
	if err := t.connect(ctx); err != nil {
		return 0, 0, err
	}
	if xid>>32 == 0 {
		var text string
		if err := t.conn.QueryRow(ctx, nextXIDQuery).Scan(&text); err != nil {
			return 0, 0, fmt.Errorf("ask for the newest transaction: %w", err)
		}
		next, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			return 0, 0, fmt.Errorf("ask for the newest transaction: %w", err)
		}
		xid = widen(uint32(xid), next)
	}
	var status *string
	var lsnText, flushedText string
	err := t.conn.QueryRow(ctx, statusQuery, strconv.FormatUint(xid, 10)).Scan(&status, &lsnText, &flushedText)
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok && pgErr.Code == "22023" { // "transaction ID … is in the future"
		return Unborn, 0, nil
	}
	if err != nil {
		return 0, 0, fmt.Errorf("ask for transaction %d: %w", xid, err)
	}
	lsn, err := parseLSN(lsnText)
	if err != nil {
		return 0, 0, fmt.Errorf("ask for transaction %d: %w", xid, err)
	}
	flushed, err := parseLSN(flushedText)
	if err != nil {
		return 0, 0, fmt.Errorf("ask for transaction %d: %w", xid, err)
	}
	return outcomeOf(status), logEnd(lsn, flushed), nil
}

// outcomeOf reads pg_xact_status. Null is a transaction too old for it.
func outcomeOf(status *string) Outcome {
	switch {
	case status == nil, *status == "committed":
		return Committed
	case *status == "aborted":
		return Aborted
	}
	return InProgress
}

// widen is the newest 64-bit id below next with these 32 bits.
func widen(xid uint32, next uint64) uint64 {
	wide := next&^0xffffffff | uint64(xid)
	if wide >= next && wide>>32 > 0 {
		wide -= 1 << 32
	}
	return wide
}

// logEnd is lsn, unless only the header of a page is between what is flushed and it: nothing is in there, and a quiet
// source would never flush it.
func logEnd(lsn, flushed pglogrepl.LSN) pglogrepl.LSN {
	const page, headerMax = 8192, 40
	if lsn > flushed && lsn-flushed <= headerMax && flushed%page == 0 {
		return flushed
	}
	return lsn
}

func (t *transactions) connect(ctx context.Context) error {
	if t.conn != nil && !t.conn.IsClosed() {
		return nil
	}
	conf, err := pgx.ParseConfig(t.url)
	if err != nil {
		return fmt.Errorf("connect to the source: %w", err)
	}
	conf.RuntimeParams["application_name"] = "lanternist: tokens"
	conn, err := pgx.ConnectConfig(ctx, conf)
	if err != nil {
		return fmt.Errorf("connect to the source: %w", err)
	}
	t.conn = conn
	return nil
}

// disconnect closes the connection, once the question that is being asked is answered.
func (t *transactions) disconnect() {
	t.asking <- struct{}{}
	defer func() { <-t.asking }()
	if t.conn == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), sourceTimeout)
	defer cancel()
	if err := t.conn.Close(ctx); err != nil {
		t.log.Debug("connection to the source not closed in order", "error", err)
	}
	t.conn = nil
}
