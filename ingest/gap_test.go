package ingest_test

import (
	"log/slog"
	"testing"
	"time"

	"github.com/jackc/pglogrepl"

	"github.com/lanternist/lanternist/control"
	"github.com/lanternist/lanternist/event"
	"github.com/lanternist/lanternist/ingest"
	"github.com/lanternist/lanternist/journal"
	"github.com/lanternist/lanternist/journal/segments"
	"github.com/lanternist/lanternist/row"
)

type noSchemas struct{}

func (noSchemas) Schema(uint32) (*row.Schema, bool) { return nil, false }

// TestAppendGap writes a gap behind a transaction of which the rest will never come, twice, and goes on behind it.
func TestAppendGap(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	engine, err := segments.Open(t.TempDir(), segments.Config{}, log)
	if err != nil {
		t.Fatal(err)
	}
	j, err := journal.Open(t.Context(), engine, noSchemas{}, journal.Config{}, log)
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	message := func(commit pglogrepl.LSN, complete bool) journal.Part {
		p := journal.Part{Transaction: event.Transaction{XID: 7, CommitLSN: commit, CommitTime: time.Now()}, Complete: complete}
		if complete {
			p.EndLSN = commit + 8
		}
		p.Events = []event.Event{{Transaction: &p.Transaction, Op: event.Message, Prefix: "p", Content: []byte("c")}}
		return p
	}
	if _, err := j.Append(t.Context(), []journal.Part{message(100, false)}); err != nil {
		t.Fatal(err)
	}
	info := event.GapInfo{Reasons: []string{"slot-lost"}, What: []string{"lost"}, From: "0/64", To: "0/1F4", Accepted: time.Unix(1, 0).UTC()}
	if _, err := ingest.AppendGap(t.Context(), j, 50, info); err == nil {
		t.Error("a gap was written that ends before the journal does")
	}
	var at event.Offset
	for range 2 {
		if at, err = ingest.AppendGap(t.Context(), j, 500, info); err != nil {
			t.Fatal(err)
		}
	}
	head := j.Head()
	if head.Offset != at || !head.Complete || head.EndLSN != 500 {
		t.Errorf("the journal ends at %+v, the gap is at %s", head, at)
	}
	batch, err := j.Read(t.Context(), at.Sequence())
	if err != nil {
		t.Fatal(err)
	}
	if len(batch.Parts) != 2 || !batch.Parts[0].Complete || batch.Parts[0].CommitLSN != 100 || len(batch.Parts[1].Events) != 1 {
		t.Fatalf("batch %+v", batch.Parts)
	}
	gap := &batch.Parts[1].Events[0]
	got, err := event.GapOf(gap)
	if err != nil || gap.Type() != "gap" || got.From != info.From || got.To != info.To || got.Reasons[0] != "slot-lost" {
		t.Errorf("%s %+v, %v", gap.Type(), got, err)
	}
	if _, err := event.GapOf(&event.Event{Op: event.Message}); err == nil {
		t.Error("a message was read as a gap")
	}
	if _, err := j.Append(t.Context(), []journal.Part{message(500, true)}); err != nil {
		t.Errorf("what the new slot sends first: %v", err)
	}
}

// TestStartAfterGap has every table captured from the gap on, and no earlier.
func TestStartAfterGap(t *testing.T) {
	store, err := control.OpenPebble(t.TempDir(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	for key, value := range map[string]string{"ingest/captured/16": "0/10", "ingest/captured/17": "0/20", "ingest/captured-known": "1", "ingest/acknowledged": "9/0"} {
		if err := store.Put(t.Context(), key, []byte(value)); err != nil {
			t.Fatal(err)
		}
	}
	check := func(tables int, known bool) {
		t.Helper()
		since, err := ingest.CapturedSince(t.Context(), store)
		if err != nil || len(since) != tables {
			t.Fatalf("captured %v, %v", since, err)
		}
		for oid, lsn := range since {
			if lsn != 0x500 {
				t.Errorf("table %d is captured since %s", oid, lsn)
			}
		}
		if _, ok, err := store.Get(t.Context(), "ingest/captured-known"); err != nil || ok != known {
			t.Errorf("known: %t, %v", ok, err)
		}
		if at, err := ingest.Acknowledged(t.Context(), store); err != nil || at != 0x500 {
			t.Errorf("acknowledged %s, %v", at, err)
		}
	}
	if err := ingest.StartAfterGap(t.Context(), store, 0x500, true); err != nil {
		t.Fatal(err)
	}
	check(2, true)
	if err := ingest.StartAfterGap(t.Context(), store, 0x500, false); err != nil {
		t.Fatal(err)
	}
	check(0, false)
}
