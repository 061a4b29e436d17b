package journal_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"regexp"
	"strings"
	"testing"

	"github.com/lanternist/lanternist/event"
	"github.com/lanternist/lanternist/journal"
	"github.com/lanternist/lanternist/journal/segments"
)

// dumped is a journal of a few batches, as a view sees it while it is open.
func dumped(t *testing.T) (opened, *segments.View) {
	t.Helper()
	dir := t.TempDir()
	j := open(t, dir, journal.Config{MinSequence: 811})
	for _, parts := range [][]journal.Part{
		{journal.Transaction(1, 2), journal.Transaction(2, 1)},
		{journal.PartOf(3, 0, 4, false)},
		{journal.PartOf(3, 4, 0, true)},
	} {
		if _, err := j.Append(t.Context(), parts); err != nil {
			t.Fatal(err)
		}
	}
	view, err := segments.OpenView(dir)
	if err != nil {
		t.Fatal(err)
	}
	return j, view
}

func TestDumpForPeople(t *testing.T) {
	_, view := dumped(t)
	var out bytes.Buffer
	if err := journal.Dump(t.Context(), &out, view, journal.Known, journal.DumpOptions{Events: true}); err != nil {
		t.Fatal(err)
	}
	got := regexp.MustCompile(`\d{4}-\d\d-\d\dT[0-9:.]+Z`).ReplaceAllString(out.String(), "TIME                       ")
	want := `BATCH      APPENDED                    COMMIT LSN              LAST XID    PARTS  EVENTS     BYTES
811        TIME                        0/0                     0               0       0       128
812        TIME                        0/3E8-0/7D0             2               2       3       285
  812.0      orders.created                 public.orders/100000  xid 1, lsn 0/3E8, index 0
  812.1      orders.updated                 public.orders/100001  xid 1, lsn 0/3E8, index 1
  812.2      orders.updated                 public.orders/200000  xid 2, lsn 0/7D0, index 0
813        TIME                        0/BB8                   3               1       4       219  (goes on)
  813.0      sales.items.deleted            sales.items/sku-300000  xid 3, lsn 0/BB8, index 0
  813.1      sales.items.truncated          sales.items  xid 3, lsn 0/BB8, index 1
  813.2      message                        audit  xid 3, lsn 0/BB8, index 2
  813.3      orders.created                 public.orders/300003  xid 3, lsn 0/BB8, index 3
814        TIME                        0/BB8                   3               1       0       135
`
	if got != want {
		t.Errorf("dumped\n%s\nwant\n%s", got, want)
	}
	out.Reset()
	if err := journal.Dump(t.Context(), &out, view, nil, journal.DumpOptions{From: 812, To: 812}); err != nil || strings.Count(out.String(), "\n") != 2 {
		t.Errorf("one batch: %v\n%s", err, out.String())
	}
}

func TestDumpForPrograms(t *testing.T) {
	j, view := dumped(t)
	var out bytes.Buffer
	opts := journal.DumpOptions{Events: true, JSON: true, Source: event.Source{SystemID: "1", Database: "shop"}}
	if err := journal.Dump(t.Context(), &out, view, journal.Known, opts); err != nil {
		t.Fatal(err)
	}
	var batches, events int
	previous := ""
	for line := range strings.Lines(out.String()) {
		var v struct {
			Batch    uint64
			Journal  string
			Checksum string
			Previous string `json:"previous_checksum"`
			EventID  string `json:"event_id"`
		}
		if err := json.Unmarshal([]byte(line), &v); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		if v.EventID != "" {
			events++
			continue
		}
		batches++
		if v.Journal != j.Identity() || previous != "" && v.Previous != previous {
			t.Errorf("%s", line)
		}
		previous = v.Checksum
	}
	if batches != 4 || events != 7 {
		t.Errorf("%d batches and %d events", batches, events)
	}
}

func TestDumpShowsDamageAndGoesOn(t *testing.T) {
	j, _ := dumped(t)
	j.engine.flip(813)
	for _, asJSON := range []bool{false, true} {
		var out bytes.Buffer
		err := journal.Dump(t.Context(), &out, j.engine, journal.Known, journal.DumpOptions{JSON: asJSON})
		if !errors.Is(err, journal.ErrMalformed) || !strings.Contains(err.Error(), "batch 813") {
			t.Errorf("dump: %v", err)
		}
		if !strings.Contains(out.String(), "checksum is") || !strings.Contains(out.String(), "814") {
			t.Errorf("dumped\n%s", out.String())
		}
	}
}

// broken is a writer that fails after some bytes.
type broken struct{ room int }

func (b *broken) Write(p []byte) (int, error) {
	if b.room -= len(p); b.room < 0 {
		return 0, errors.New("pipe is closed")
	}
	return len(p), nil
}

func TestDumpTellsOfAFailingWriter(t *testing.T) {
	_, view := dumped(t)
	for room := range 300 {
		if err := journal.Dump(t.Context(), &broken{room}, view, journal.Known, journal.DumpOptions{}); err == nil || !strings.Contains(err.Error(), "pipe is closed") {
			t.Fatalf("with room for %d bytes: %v", room, err)
		}
	}
}
