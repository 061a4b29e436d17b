package search

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/lanternist/lanternist/internal/faults"
	"github.com/lanternist/lanternist/projectors"
)

func TestNever(t *testing.T) {
	const refused = "rejected execution of coordinating operation [coordinating_and_primary_bytes=0, replica_bytes=0, all_bytes=0, " +
		"coordinating_operation_bytes=62914670, max_coordinating_bytes="
	for text, want := range map[string]bool{
		refused + "53687091]":  true,
		refused + "536870912]": false,
		"[parent] Data too large, data for [<http_request>] would be [62914670/60mb], which is larger than the limit of [200/200b]": false,
		"queue is full": false,
	} {
		if got := never(&statusError{status: 429, kind: "x", reason: text}); got != want {
			t.Errorf("%s: for ever %t, want %t", text, got, want)
		}
	}
}

func TestFaultOneDocumentWithoutRoom(t *testing.T) {
	faults.Cause(t, faults.Fault{
		ID: "one-document-without-room", Area: "Sinks",
		Fault:   "Elasticsearch answers 429 to one large document again and again, and takes all others",
		Promise: "While small writes are refused as well it is tried again; else it is parked after a while, and the others are not held back or sent in smaller requests",
		Answer:  "`lanternist deadletters list` has its size: raise the heap of Elasticsearch or `indexing_pressure.memory.limit`, then `lanternist deadletters redrive --all`",
	})
	t.Parallel()
	large := doc("large", `{"status":"`+strings.Repeat("x", 2<<20)+`"}`)
	for _, tc := range []struct {
		name    string
		least   int64 // requests from this size on are refused
		patient bool
		class   projectors.ErrorClass
		others  bool // are taken
	}{
		{"for long", 1 << 20, false, projectors.Permanent, true},
		{"not for long yet", 1 << 20, true, projectors.Transient, true},
		{"and nothing else is taken", 0, false, projectors.Transient, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			c := proxy(t, func(w http.ResponseWriter, r *http.Request) bool {
				if !strings.HasSuffix(r.URL.Path, "/_bulk") || r.ContentLength < tc.least {
					return false
				}
				answer(w, http.StatusTooManyRequests, map[string]any{"status": 429, "error": map[string]any{
					"type": "circuit_breaking_exception", "reason": "[parent] Data too large",
				}})
				return true
			})
			if !tc.patient {
				c.outsizePatience = 0
			}
			s, g := orders(t, c)
			size := c.WriteBytes()
			docs := append(many(5), large)
			failures, err := g.Write(t.Context(), 5, docs)
			if !tc.others {
				if err == nil || projectors.Class(err) != tc.class || errors.Is(err, projectors.ErrOthersTaken) {
					t.Errorf("write: %v", err)
				}
				return
			}
			if err != nil || len(failures) != 1 || failures[0].Index != 5 {
				t.Fatalf("write: %v, %v", failures, err)
			}
			refused := failures[0].Err
			if projectors.Class(refused) != tc.class || errors.Is(refused, projectors.ErrOthersTaken) != tc.patient || !strings.Contains(refused.Error(), "2097165 bytes") {
				t.Errorf("%v is %s", refused, projectors.Class(refused))
			}
			if got := found(t, s, Query{After: 5}).Total; got != 5 {
				t.Errorf("%d documents, want 5", got)
			}
			if now := c.WriteBytes(); now < size {
				t.Errorf("requests shrank from %d to %d bytes", size, now)
			}
		})
	}
}
