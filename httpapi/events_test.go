package httpapi

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pglogrepl"

	"github.com/lanternist/lanternist/event"
	"github.com/lanternist/lanternist/journal"
	"github.com/lanternist/lanternist/row"
)

var commitTime = time.Date(2026, 11, 20, 23, 4, 12, 0, time.UTC)

// appendOrders appends batches of one transaction with three events each. The transactions commit at 0/1000, 0/2000, …
func appendOrders(t *testing.T, w *world, batches int) {
	t.Helper()
	for n := 1; n <= batches; n++ {
		appendOrder(t, w, n)
	}
}

// appendOrder appends the n-th of them.
func appendOrder(t *testing.T, w *world, n int) {
	t.Helper()
	schema, err := w.registry.Register(t.Context(), ordersSchema)
	must(t, err)
	tx := event.Transaction{
		XID: uint32(700 + n), CommitLSN: pglogrepl.LSN(n * 0x1000), EndLSN: pglogrepl.LSN(n*0x1000 + 0x30),
		CommitTime: commitTime.Add(time.Duration(n) * time.Minute),
	}
	part := journal.Part{Transaction: tx, Complete: true}
	for i := range 3 {
		id := fmt.Sprint(n, "-", i)
		part.Events = append(part.Events, event.Event{
			Transaction: &tx, Ordinal: uint32(i), Op: event.Insert, Schema: schema, After: row.Of(&id, nil, nil),
		})
	}
	_, err = w.journal.Append(t.Context(), []journal.Part{part})
	must(t, err)
}

// allEvents reads pages until there is nothing new and returns the offsets.
func allEvents(t *testing.T, w *world, query string) []event.Offset {
	t.Helper()
	var offsets []event.Offset
	for from := ""; ; {
		path := "/v1/events?" + query
		if from != "" {
			path = "/v1/events?limit=2&from=" + from
		}
		body := into[eventsBody](t, w.get(path).want(t, 200))
		for _, raw := range body.Events {
			var envelope struct {
				Offset event.Offset
				Type   string
			}
			must(t, json.Unmarshal(raw, &envelope))
			if envelope.Type != "orders.created" {
				t.Errorf("got %s", raw)
			}
			offsets = append(offsets, envelope.Offset)
		}
		if len(body.Events) == 0 {
			if body.Next != from && from != "" {
				t.Errorf("next moved from %s to %s without events", from, body.Next)
			}
			return offsets
		}
		from = body.Next
	}
}

func TestEvents(t *testing.T) {
	w := newWorld(t, nil)
	if got := allEvents(t, w, ""); len(got) != 0 {
		t.Fatalf("events of an empty journal: %v", got)
	}
	appendOrders(t, w, 3)
	all := allEvents(t, w, "limit=2")
	if len(all) != 9 {
		t.Fatalf("got %d events, want 9: %v", len(all), all)
	}
	for i := range all[1:] {
		if all[i] >= all[i+1] {
			t.Errorf("out of order: %v", all)
		}
	}
	for query, want := range map[string]int{
		fmt.Sprintf("from=%d", all[4]):         4,
		"from=0/2000":                          6,
		"from=0/2001":                          3,
		"from=2026-11-20T23:07:00Z":            3, // the transaction of 23:07:12
		fmt.Sprintf("from=%d&limit=1", all[7]): 1,
	} {
		if got := allEvents(t, w, query); len(got) != want {
			t.Errorf("%s: got %d events, want %d", query, len(got), want)
		}
	}
	if got := allEvents(t, w, fmt.Sprintf("from=%d", all[8])); len(got) != 0 {
		t.Errorf("events after the last one: %v", got)
	}
	for _, from := range []string{"yesterday", "-1", "1.5", "99999999999999999999", fmt.Sprint(uint64(event.NewOffset(1000, 0)))} {
		p := w.get("/v1/events?from="+from).want(t, 422).problem(t)
		if len(p.Errors) != 1 || !strings.Contains(p.Errors[0].Location, "from") {
			t.Errorf("%s: %+v", from, p)
		}
	}
	w.get("/v1/events?limit=1001").want(t, 422)
}
