package httpapi

import (
	"errors"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/lanternist/lanternist/projectors/search"
	"github.com/lanternist/lanternist/views"
)

// FuzzCursor: what a client sends for a cursor is refused, or is one that this server would have made.
func FuzzCursor(f *testing.F) {
	f.Add(encodeSearchCursor(position{lsn: 7, offset: 9, at: time.UnixMilli(5)}, "inner"))
	for _, text := range []string{"", "e30", "eyJvIjotMX0", "eyJsIjoxODQ0Njc0NDA3MzcwOTU1MTYxNn0", "bnVsbA", "W10", "*", "YQ=="} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if after, err := decodeLookupCursor(text); err == nil && after == "" && len(text) > 1 {
			t.Fatalf("lookup cursor %q reads as nothing", text)
		}
		pos, inner, err := decodeSearchCursor(text)
		if err != nil {
			return
		}
		again, innerAgain, err := decodeSearchCursor(encodeSearchCursor(pos, inner))
		if err != nil || innerAgain != inner || again.lsn != pos.lsn || again.offset != pos.offset || !again.at.Equal(pos.at) {
			t.Fatalf("%q is %+v %q, and then %+v %q, %v", text, pos, inner, again, innerAgain, err)
		}
	})
}

// FuzzParameters: whatever the query of a request is, reading it ends in a value or in a problem that a client is answered.
func FuzzParameters(f *testing.F) {
	for _, query := range []string{"", "customer_id=7", "customer_id=7&status=paid", "customer_id=1&customer_id=2", "q=a&filter=b:c&sort=-d&facets=e",
		"filter=a:%22b%22c&sort=,", "after=0/16B3748%407-1&wait=2s", "after=xid:0&wait=-1s", "wait=9999999999h", "%zz=1", "id=%00"} {
		f.Add(query)
	}
	declared := []views.Lookup{{Fields: []string{"customer_id"}}, {Fields: []string{"customer_id", "status"}}}
	f.Fuzz(func(t *testing.T, query string) {
		values, err := url.ParseQuery(query)
		if err != nil {
			return
		}
		lookup, value, err := lookupOf(declared, values)
		var problem *Problem
		switch {
		case err == nil && (len(lookup.Fields) == 0 || value == ""):
			t.Fatalf("%q is lookup %v with %q", query, lookup, value)
		case err != nil && (!errors.As(err, &problem) || problem.Status != http.StatusUnprocessableEntity):
			t.Fatalf("%q: %v", query, err)
		}
		in := searchInput{Text: values.Get("q"), Filter: values.Get("filter"), Sort: values.Get("sort"), Facets: values["facets"]}
		if _, err := in.query(); err != nil && !errors.Is(err, search.ErrBadQuery) {
			t.Fatalf("%q: %v", query, err)
		}
		if token, err := ParseToken(values.Get("after")); err == nil && token.LSN == 0 && token.XID == 0 && values.Get("after") == "" {
			t.Fatal("nothing is a token")
		}
	})
}
