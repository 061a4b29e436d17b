package cdc_test

import (
	"strings"
	"testing"

	"github.com/lanternist/lanternist/cdc"
	"github.com/lanternist/lanternist/internal/devstack"
)

// TestSlotIsKeptOnStandbys: from Postgres 17 on it is created so, and one that was not is altered; before, a note tells.
func TestSlotIsKeptOnStandbys(t *testing.T) {
	s := newSource(t, devstack.Postgres(t, devstack.Version("17")), plainTable)
	s.setup()
	if !s.slot().Failover {
		t.Error("the slot is not kept on standbys")
	}
	s.Exec(`SELECT pg_drop_replication_slot('`+s.cfg.Slot+`')`, `SELECT pg_create_logical_replication_slot('`+s.cfg.Slot+`', 'pgoutput')`)
	if notes := preflight(t, s.cfg).Notes; len(notes) != 1 || !strings.Contains(notes[0].What, "is not kept on standbys") {
		t.Errorf("notes %+v", notes)
	}
	if s.setup(); !s.slot().Failover {
		t.Error("the slot was not altered")
	}
	if notes := preflight(t, s.cfg).Notes; len(notes) != 0 {
		t.Errorf("notes %+v", notes)
	}
	if err := cdc.DropSlot(t.Context(), s.cfg); err != nil {
		t.Error(err)
	}
	if err := cdc.DropSlot(t.Context(), s.cfg); err != nil {
		t.Errorf("drop what is not there: %v", err)
	}
	older := newSource(t, devstack.Postgres(t, devstack.Version("16")), plainTable)
	if notes := preflight(t, older.cfg).Notes; len(notes) != 1 || !strings.Contains(notes[0].Fix, "lanternist source accept-gap") {
		t.Errorf("notes on 16: %+v", notes)
	}
}
