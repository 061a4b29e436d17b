package cdc_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"

	"github.com/lanternist/lanternist/cdc"
	"github.com/lanternist/lanternist/event"
	"github.com/lanternist/lanternist/internal/devstack"
	"github.com/lanternist/lanternist/row"
)

const patience = 20 * time.Second

// registrar numbers definitions in the order in which they come.
type registrar struct {
	mu    sync.Mutex
	given []*row.Schema
}

func (r *registrar) Register(_ context.Context, s *row.Schema) (*row.Schema, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	with := *s
	with.ID, with.Version = uint32(len(r.given)+1), 1
	r.given = append(r.given, &with)
	return &with, nil
}

// source is a database with its configuration, set up for one test.
type source struct {
	*devstack.Database
	t    testing.TB
	cfg  cdc.Config
	conn *pgx.Conn
}

func newSource(t testing.TB, db *devstack.Database, schema ...string) *source {
	t.Helper()
	db.Exec(schema...)
	cfg := cdc.DefaultConfig()
	cfg.URL, cfg.Slot, cfg.Tables = db.URL(), db.Name(), []string{"public.*"}
	cfg.ReconnectDelayMin = 10 * time.Millisecond
	return &source{Database: db, t: t, cfg: cfg, conn: db.Conn(t.Context())}
}

func (s *source) setup() *cdc.Source {
	s.t.Helper()
	got, err := cdc.Setup(s.t.Context(), s.cfg)
	if err != nil {
		s.t.Fatalf("Setup: %v", err)
	}
	return got
}

func (s *source) slot() *cdc.Slot {
	s.t.Helper()
	slot, err := cdc.ReadSlot(s.t.Context(), s.conn, s.cfg.Slot)
	if err != nil {
		s.t.Fatalf("ReadSlot: %v", err)
	}
	return slot
}

func (s *source) eventuallySlot(check func(*cdc.Slot) error) {
	s.t.Helper()
	devstack.Eventually(s.t, patience, func() error { return check(s.slot()) })
}

// runUntilItEnds runs a reader that is expected to end by itself.
func (s *source) runUntilItEnds(from cdc.Start) error {
	s.t.Helper()
	reader, err := cdc.NewReader(s.cfg, &registrar{}, testLog(s.t))
	if err != nil {
		s.t.Fatalf("NewReader: %v", err)
	}
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	return reader.Run(ctx, from, func(context.Context, *cdc.Delivery) error { return nil })
}

func (s *source) flushLSN() pglogrepl.LSN {
	s.t.Helper()
	return s.lsn("SELECT pg_current_wal_flush_lsn()::text")
}

func (s *source) lsn(sql string, args ...any) (lsn pglogrepl.LSN) {
	s.t.Helper()
	if err := s.conn.QueryRow(s.t.Context(), sql, args...).Scan(&lsn); err != nil {
		s.t.Fatalf("%s: %v", sql, err)
	}
	return lsn
}

// stream is a running reader and everything it delivered.
type stream struct {
	t          testing.TB
	reader     *cdc.Reader
	schemas    *registrar
	stopReader context.CancelCauseFunc
	done       chan struct{}
	err        error

	mu         sync.Mutex
	deliveries []*cdc.Delivery
	walEnd     pglogrepl.LSN
	changed    chan struct{}
	block      chan struct{} // when not nil, deliver waits for it
}

var errStop = errors.New("test is over")

func (s *source) follow(from cdc.Start) *stream {
	s.t.Helper()
	st := &stream{t: s.t, schemas: &registrar{}, done: make(chan struct{}), changed: make(chan struct{}), walEnd: from.EndLSN}
	st.run(s, from)
	return st
}

func (st *stream) run(s *source, from cdc.Start) {
	st.t.Helper()
	reader, err := cdc.NewReader(s.cfg, st.schemas, testLog(st.t))
	if err != nil {
		st.t.Fatalf("NewReader: %v", err)
	}
	st.reader = reader
	ctx, stop := context.WithCancelCause(context.Background())
	st.stopReader = stop
	go func() {
		defer close(st.done)
		st.err = reader.Run(ctx, from, st.deliver)
	}()
	st.t.Cleanup(func() { st.stop() })
}

func (st *stream) deliver(_ context.Context, d *cdc.Delivery) error {
	st.mu.Lock()
	block := st.block
	st.mu.Unlock()
	if block != nil {
		<-block
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	st.deliveries = append(st.deliveries, d)
	st.walEnd = max(st.walEnd, d.WALEnd)
	for _, tx := range d.Transactions {
		st.walEnd = max(st.walEnd, tx.EndLSN)
	}
	close(st.changed)
	st.changed = make(chan struct{})
	if d.AcknowledgeNow {
		st.reader.Acknowledge(d.WALEnd)
	}
	return nil
}

func (st *stream) hold() (release func()) {
	block := make(chan struct{})
	st.mu.Lock()
	st.block = block
	st.mu.Unlock()
	return sync.OnceFunc(func() {
		st.mu.Lock()
		st.block = nil
		st.mu.Unlock()
		close(block)
	})
}

func (st *stream) stop() error {
	st.stopReader(errStop)
	<-st.done
	return st.err
}

// wait waits until check is true of what was delivered.
func (st *stream) wait(what string, check func(all []cdc.Transaction, walEnd pglogrepl.LSN) bool) []cdc.Transaction {
	st.t.Helper()
	timeout := time.After(patience)
	for {
		st.mu.Lock()
		var all []cdc.Transaction
		for _, d := range st.deliveries {
			all = append(all, d.Transactions...)
		}
		walEnd, changed := st.walEnd, st.changed
		st.mu.Unlock()
		if check(all, walEnd) {
			return all
		}
		select {
		case <-changed:
		case <-st.done:
			st.t.Fatalf("waiting for %s: reader ended: %v", what, st.err)
		case <-timeout:
			st.t.Fatalf("waiting for %s: only %s, WAL end %s, %+v", what, describeAll(all), walEnd, st.reader.Stats())
		}
	}
}

// transactions waits for n parts of transactions.
func (st *stream) transactions(n int) []cdc.Transaction {
	st.t.Helper()
	return st.wait(fmt.Sprintf("%d transactions", n), func(all []cdc.Transaction, _ pglogrepl.LSN) bool { return len(all) >= n })
}

// caughtUp waits until everything committed before lsn was delivered.
func (st *stream) caughtUp(lsn pglogrepl.LSN) []cdc.Transaction {
	st.t.Helper()
	st.reader.RequestPosition(lsn)
	return st.wait("position "+lsn.String(), func(_ []cdc.Transaction, walEnd pglogrepl.LSN) bool { return walEnd >= lsn })
}

// say writes changes like "I orders {1,a} T orders", a transaction in brackets.
func say(tx cdc.Transaction) string {
	var b strings.Builder
	b.WriteString("[")
	for i, c := range tx.Changes {
		if i > 0 {
			b.WriteString(" ")
		}
		b.WriteByte(byte(c.Op))
		if c.Op == event.Message {
			fmt.Fprintf(&b, " %s:%s", c.Prefix, c.Content)
			continue
		}
		b.WriteString(" " + c.Schema.Name)
		if c.Before != nil {
			b.WriteString(" " + sayRow(c.Before) + "->")
		}
		if c.After != nil {
			b.WriteString(" " + sayRow(c.After))
		}
	}
	b.WriteString("]")
	return b.String()
}

func sayRow(r row.Row) string {
	var parts []string
	for _, v := range r.Values(nil) {
		switch v.Kind {
		case row.Null:
			parts = append(parts, "NULL")
		case row.Unchanged:
			parts = append(parts, "SAME")
		default:
			text := string(v.Text)
			if len(text) > 30 {
				text = text[:10] + "…"
			}
			parts = append(parts, text)
		}
	}
	return "{" + strings.Join(parts, ",") + "}"
}

func describeAll(all []cdc.Transaction) string {
	var b strings.Builder
	for _, tx := range all[max(0, len(all)-8):] {
		b.WriteString(say(tx))
	}
	return fmt.Sprintf("%d: %s", len(all), b.String())
}

func expect(t testing.TB, got []cdc.Transaction, want ...string) {
	t.Helper()
	var lines []string
	for _, tx := range got {
		lines = append(lines, say(tx))
	}
	if g, w := strings.Join(lines, "\n"), strings.Join(want, "\n"); g != w {
		t.Fatalf("got\n%s\nwant\n%s", g, w)
	}
}

func testLog(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(testWriter{t}, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

type testWriter struct{ t testing.TB }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Logf("%s", strings.TrimSpace(string(p)))
	return len(p), nil
}

var _ io.Writer = testWriter{}
