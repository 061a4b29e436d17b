package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/lanternist/lanternist/examples/shop"
	"github.com/lanternist/lanternist/internal/faults"
	"github.com/lanternist/lanternist/verify"
)

// TestFaultTamperedDocuments tampers with documents in both sinks by hand: verify finds exactly those, and mends them.
func TestFaultTamperedDocuments(t *testing.T) {
	faults.Cause(t, faults.Fault{
		ID: "documents-tampered-with", Area: "Sinks", Fault: "Somebody changes, deletes and adds documents in Elasticsearch and Redis by hand",
		Promise: "verify names exactly those, against the mirror and against the source, also under traffic, and mends them.",
		Answer:  "`lanternist verify VIEW --repair`",
	})
	in := installShop(t, options{}, small)
	const view = "order_summary"
	// Without a time to live, what is gone from Redis did not expire.
	in.write("views/"+view+".yaml", bytes.Replace(shop.Definition(view), []byte("ttl: 24h, "), nil, 1))
	d := in.start()
	d.ready()

	// A healthy view, also while it changes.
	tr := in.startTraffic(randomSource(t).Uint64(), 100)
	for _, against := range []string{"mirror", "source"} {
		code, result := in.verify(view, "--against", against)
		if code != 0 {
			t.Errorf("a healthy view under traffic, against the %s: exit code %d", against, code)
		}
		for _, s := range result.Sinks {
			if s.Missing+s.Extra+s.Different > 0 || s.Compared < int64(small.Orders) {
				t.Errorf("a healthy view under traffic, against the %s: %+v", against, s)
			}
		}
	}
	tr.stop()
	if code, result := in.verify(view, "--sample", "50", "--rate", "1000"); code != 0 || result.Sinks[0].Compared != 50 || result.Seed == 0 {
		t.Errorf("a sample of 50: exit code %d, %+v", code, result)
	}

	// The traffic may have deleted or hidden the documents that are tampered with.
	in.database.Exec(`INSERT INTO orders (id, customer_id, status) SELECT i, (SELECT min(id) FROM customers), 'placed' FROM generate_series(1, 3) i
		ON CONFLICT (id) DO UPDATE SET status = 'placed'`)
	d.reach()
	for _, against := range []string{"mirror", "source"} {
		in.tamper(view)
		code, result := in.verify(view, "--against", against)
		if code != 3 {
			t.Errorf("tampered with, against the %s: exit code %d, want 3", against, code)
		}
		wantFindings(t, result, false)
		code, result = in.verify(view, "--against", against, "--repair")
		if code != 0 {
			t.Errorf("repaired, against the %s: exit code %d", against, code)
		}
		wantFindings(t, result, true)
		if code, result = in.verify(view, "--against", against); code != 0 {
			t.Errorf("after the repair, against the %s: exit code %d, %+v", against, code, result)
		}
	}
	d.nothingParked()
	d.stop()
	if code, _, stderr := in.run("verify", view); code != 1 || !strings.Contains(stderr, "lanternist run") {
		t.Errorf("without a daemon: exit code %d, %s", code, stderr)
	}
}

// verify runs the command and returns what it found.
func (in *installation) verify(view string, args ...string) (int, *verify.Result) {
	in.t.Helper()
	code, stdout, stderr := in.run(append([]string{"verify", view, "--json"}, args...)...)
	var answer struct {
		Result *verify.Result `json:"result"`
	}
	if err := json.Unmarshal([]byte(stdout), &answer); err != nil || answer.Result == nil || len(answer.Result.Sinks) != 2 {
		in.t.Fatalf("verify %v: exit code %d, %v\n%s\n%s", args, code, err, stdout, stderr)
	}
	return code, answer.Result
}

// tamper changes document 1, removes 2, and makes 900001, in both sinks; in Redis it also puts something else in place of 3.
func (in *installation) tamper(view string) {
	in.t.Helper()
	index := in.search + "/" + in.searchPrefix + view
	var found struct {
		Source map[string]any `json:"_source"`
		Index  string         `json:"_index"`
	}
	in.elasticsearch(http.MethodGet, index+"/_doc/1", nil, &found)
	index = in.search + "/" + found.Index
	found.Source["status"] = "tampered"
	delete(found.Source, "items")
	in.elasticsearch(http.MethodPut, index+"/_doc/1", found.Source, nil)
	in.elasticsearch(http.MethodDelete, index+"/_doc/2", nil, nil)
	found.Source["id"] = 900001
	in.elasticsearch(http.MethodPut, index+"/_doc/900001", found.Source, nil)

	ctx := in.t.Context()
	opts, err := redis.ParseURL(in.cache)
	if err != nil {
		in.t.Fatal(err)
	}
	opts.Protocol, opts.DisableIdentity = 2, true
	db := redis.NewClient(opts)
	defer db.Close()
	begin := in.cachePrefix + "{" + view + "}:"
	live, err := db.Get(ctx, begin+"live").Result()
	if err != nil {
		in.t.Fatal(err)
	}
	number, _, _ := strings.Cut(live, ":")
	begin += "g" + number + ":d:"
	value, err := db.Get(ctx, begin+"1").Result()
	if err != nil {
		in.t.Fatal(err)
	}
	body, _, err := cachedBody(value)
	if err != nil {
		in.t.Fatal(err)
	}
	var document map[string]any
	if err := json.Unmarshal(body, &document); err != nil {
		in.t.Fatal(err)
	}
	document["status"] = "tampered"
	delete(document, "items")
	text, err := json.Marshal(document)
	if err != nil {
		in.t.Fatal(err)
	}
	changed := strings.TrimSuffix(value, string(body)) + string(text)
	for key, value := range map[string]string{"1": changed, "3": "not a document", "900001": changed} {
		if err := db.Set(ctx, begin+key, value, 0).Err(); err != nil {
			in.t.Fatal(err)
		}
	}
	if n, err := db.Del(ctx, begin+"2").Result(); n != 1 || err != nil {
		in.t.Fatalf("remove document 2 from Redis: %d, %v", n, err)
	}
}

// wantFindings checks that exactly what tamper did was found.
func wantFindings(t *testing.T, result *verify.Result, repaired bool) {
	t.Helper()
	for _, s := range result.Sinks {
		got := fmt.Sprintf("%d missing, %d extra, %d different, %d repaired, %d unsettled:", s.Missing, s.Extra, s.Different, s.Repaired, s.Unsettled)
		for _, d := range s.Differences {
			got += fmt.Sprintf(" %s %s", d.ID, d.Kind)
			for _, f := range d.Fields {
				got += "[" + f.Path + "]"
				if f.Path == "status" && string(f.Got) != `"tampered"` || f.Path == "items" && (f.Got != nil || f.Want == nil) {
					t.Errorf("%s: document %s: %s: got %s, want %s", s.Sink, d.ID, f.Path, f.Got, f.Want)
				}
			}
			if d.Repaired != repaired {
				t.Errorf("%s: document %s: repaired is %t", s.Sink, d.ID, d.Repaired)
			}
		}
		mended := 0
		want := map[string]string{
			"search": "1 missing, 1 extra, 1 different, %d repaired, 0 unsettled: 1 different[items][status] 2 missing 900001 extra",
			"cache":  "1 missing, 1 extra, 2 different, %d repaired, 0 unsettled: 1 different[items][status] 2 missing 3 different 900001 extra",
		}[s.Sink]
		if repaired {
			mended = map[string]int{"search": 3, "cache": 4}[s.Sink]
		}
		if want = fmt.Sprintf(want, mended); got != want {
			t.Errorf("%s:\n got %s\nwant %s", s.Sink, got, want)
		}
	}
}
