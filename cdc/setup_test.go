package cdc_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/lanternist/lanternist/cdc"
	"github.com/lanternist/lanternist/internal/devstack"
)

func (s *source) published() string {
	s.t.Helper()
	var tables string
	err := s.conn.QueryRow(s.t.Context(), `SELECT coalesce(string_agg(tablename, ' ' ORDER BY tablename), '')
		FROM pg_publication_tables WHERE pubname = $1`, s.cfg.Publication).Scan(&tables)
	if err != nil {
		s.t.Fatal(err)
	}
	return tables
}

func TestSetupCreatesWhatIsMissingAndNothingElse(t *testing.T) {
	s := newSource(t, devstack.Postgres(t), `CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY); CREATE TABLE c (id int PRIMARY KEY)`)
	s.cfg.Tables = []string{"a"}
	first := s.setup()
	if !first.Created || s.published() != "a" {
		t.Errorf("Setup = %+v, published %q", first, s.published())
	}
	s.cfg.Tables = []string{"public.b", "public.a"}
	second := s.setup()
	if second.Created || s.published() != "a b" || second.ConfirmedFlush != first.ConfirmedFlush {
		t.Errorf("again: Setup = %+v, published %q", second, s.published())
	}
	if second.SystemID != first.SystemID || second.Database != s.Name() || second.ServerVersion < 130000 || second.WALSenderTimeout <= 0 {
		t.Errorf("Setup = %+v, before %+v", second, first)
	}
	s.cfg.Tables, s.cfg.CreatePublication = []string{"c"}, false
	if _, err := cdc.Setup(t.Context(), s.cfg); err == nil || !strings.Contains(err.Error(), `ALTER PUBLICATION "lanternist" ADD TABLE ONLY "public"."c"`) {
		t.Errorf("without create_publication: %v, want the SQL to run", err)
	}
	s.cfg.Tables, s.cfg.Slot, s.cfg.CreateSlot = []string{"a"}, s.cfg.Slot+"_x", false
	if _, err := cdc.Setup(t.Context(), s.cfg); !errors.Is(err, cdc.ErrSlotMissing) {
		t.Errorf("without create_slot: %v, want ErrSlotMissing", err)
	}
	s.cfg.Tables = []string{"orderz", "b", "d", "nothing.*"}
	_, err := cdc.Setup(t.Context(), s.cfg)
	for _, want := range []string{`table public.orderz does not exist`, `table public.d does not exist (did you mean "public.a"?)`, "schema nothing has no tables"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("unknown tables: %v, want %q in it", err, want)
		}
	}
}

// Creating a slot waits for open transactions. The wait ends, names who is waited for, and leaves no slot.
func TestSetupNamesTheTransactionThatHoldsItUp(t *testing.T) {
	s := newSource(t, devstack.Postgres(t), plainTable)
	holder := s.Conn(t.Context())
	tx, err := holder.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `INSERT INTO t VALUES (1, 'open')`); err != nil {
		t.Fatal(err)
	}
	s.Exec(`CREATE PUBLICATION lanternist FOR TABLE ONLY t`)
	s.cfg.CreateTimeout = 300 * time.Millisecond
	_, err = cdc.Setup(t.Context(), s.cfg)
	if want := fmt.Sprintf("pid %d", holder.PgConn().PID()); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("Setup = %v, want it to name %s", err, want)
	}
	if _, err := cdc.OpenSession(t.Context(), s.cfg); err == nil || !strings.Contains(err.Error(), "waits for open transactions") {
		t.Errorf("OpenSession = %v, want that it waits for open transactions", err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errStop)
	if _, err := cdc.Setup(ctx, s.cfg); err == nil {
		t.Error("Setup went on after its context was done")
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	devstack.Eventually(t, patience, func() error {
		var n int
		if err := s.conn.QueryRow(t.Context(), `SELECT count(*) FROM pg_replication_slots WHERE database = current_database()`).Scan(&n); err != nil {
			return err
		}
		if n != 0 {
			return fmt.Errorf("%d slots are left behind", n)
		}
		return nil
	})
	s.cfg.CreateTimeout = patience
	if got := s.setup(); !got.Created {
		t.Errorf("Setup = %+v, want a new slot", got)
	}
}

func TestConfigValidateNamesEveryError(t *testing.T) {
	cfg := cdc.DefaultConfig()
	cfg.Slot, cfg.Tables, cfg.BatchBytes = "Not-A-Slot", []string{"a.b.c", `"open`, "ok"}, -1
	err := cfg.Validate()
	for _, want := range []string{"url: missing", "slot:", `table "a.b.c"`, `table "\"open"`, "batch_bytes: negative"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Validate = %v, want %q in it", err, want)
		}
	}
	cfg = cdc.DefaultConfig()
	cfg.URL, cfg.Tables = "postgres://u:secret@localhost/db?sslmode=disable", []string{`"Odd.Name"."T"""`, "orders", "sales.*"}
	if err := cfg.Validate(); err != nil {
		t.Errorf("Validate = %v", err)
	}
	cfg.URL = "postgres://u:secret@localhost:nope/db"
	if err := cfg.Validate(); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("Validate = %v, want an error without the password", err)
	}
	if _, err := cdc.NewReader(cdc.Config{}, nil, nil); err == nil {
		t.Error("a Reader was made without configuration")
	}
}
