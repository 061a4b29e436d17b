package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alecthomas/kong"

	"github.com/lanternist/lanternist/httpapi"
	"github.com/lanternist/lanternist/internal/meter"
)

// work does so many seconds' work, 100 per second, and tells so often that it is shown only now and then.
func work(p *progress, seconds int) {
	total := int64(seconds * 100)
	for done := int64(0); done <= total; done += 5 {
		p.set(done, total)
		<-time.After(50 * time.Millisecond)
	}
	p.finish()
}

func TestProgressAsJSON(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		a := &app{stderr: &out, json: true}
		p := a.newProgress("rebuild order_summary", "documents")
		began := time.Now()
		work(p, 4)
		var lines []map[string]any
		for decoder := json.NewDecoder(&out); decoder.More(); {
			var line map[string]any
			if err := decoder.Decode(&line); err != nil {
				t.Fatal(err)
			}
			lines = append(lines, line)
		}
		if len(lines) != 6 { // at once, each second, and at the end
			t.Fatalf("%d lines: %v", len(lines), lines)
		}
		for i, line := range lines {
			at, err := time.Parse(time.RFC3339Nano, line["time"].(string))
			if err != nil || i < 5 && at.Sub(began).Round(time.Second) != time.Duration(i)*time.Second {
				t.Errorf("line %d at %v: %v", i, at, err)
			}
			if line["kind"] != "rebuild" || line["subject"] != "order_summary" || line["unit"] != "documents" || line["total"] != 400.0 {
				t.Errorf("line %d: %v", i, line)
			}
		}
		if two := lines[2]; two["done"] != 200.0 || two["percent"] != 50.0 || two["rate"] != 100.0 || two["left_seconds"] != 2.0 {
			t.Errorf("in the middle: %v", two)
		}
		if last := lines[5]; last["done"] != 400.0 || last["percent"] != 100.0 || last["left_seconds"] != 0.0 {
			t.Errorf("at the end: %v", last)
		}
		// What is over at once is told, too: that it began, and that it ended.
		out.Reset()
		p.describe("rebuild order_summary (cache: filling)")
		p.set(1, 1)
		p.finish()
		p.finish()
		if n := strings.Count(out.String(), "\n"); n != 2 || strings.Count(out.String(), `"step":"(cache: filling)"`) != 2 {
			t.Errorf("short work: %s", out.String())
		}
	})
}

func TestProgressAsText(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		a := &app{stderr: &out}
		work(a.newProgress("verify customers", "documents"), 9)
		if out.Len() > 0 {
			t.Errorf("nobody wants to know: %s", out.String())
		}
		work(a.newProgress("verify customers", "documents"), 25)
		want := []string{
			"verify customers: 1,000 of 2,500 documents (40.0%), 100/s, 15s left",
			"verify customers: 2,000 of 2,500 documents (80.0%), 100/s, 5s left",
			"verify customers: 2,500 of 2,500 documents (100.0%), 100/s",
		}
		if got := strings.Split(strings.TrimSpace(out.String()), "\n"); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("got %q", got)
		}
		out.Reset()
		p := a.newProgress("load tables", "rows")
		p.set(0, 0)
		<-time.After(11 * time.Second)
		p.set(22_000, 0)
		if got := out.String(); got != "load tables: 22,000 rows, 2,000/s\n" {
			t.Errorf("without a total: %q", got)
		}
	})
}

func TestProgressInTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		log := slog.New(slog.NewTextHandler(&out, nil))
		work((&app{stderr: &out}).logProgress(log, "load tables", "rows"), 12)
		if n := strings.Count(out.String(), `msg="load progressed"`); n != 2 || !strings.Contains(out.String(), "done=1000 total=1200 unit=rows percent=83.33 rate=100 left=2s") {
			t.Errorf("got %s", out.String())
		}
	})
}

func TestNoProgress(*testing.T) {
	var p progress
	p.describe("nothing")
	p.set(1, 2)
	p.finish()
}

func TestJSONIsAskedFor(t *testing.T) {
	for _, c := range []struct {
		args []string
		want bool
	}{{[]string{"status", "--json"}, true}, {[]string{"status"}, false}, {[]string{"version"}, false}} {
		var cmds commands
		parser, err := kong.New(&cmds)
		if err != nil {
			t.Fatal(err)
		}
		kctx, err := parser.Parse(c.args)
		if err != nil {
			t.Fatal(err)
		}
		if got := wantsJSON(kctx); got != c.want {
			t.Errorf("%q: %t", c.args, got)
		}
	}
}

func TestStatusShowsJobs(t *testing.T) {
	var out bytes.Buffer
	left := 3.2
	printJobs(&out, []httpapi.Job{
		{Kind: "verify", Subject: "customers", State: httpapi.JobDone, Unit: "documents"},
		{Kind: "rebuild", Subject: "order_summary", State: httpapi.JobRunning, Unit: "documents",
			Reading: meter.Reading{Done: 12_000, Total: 48_000, Percent: 25, Rate: 11_893.4, Left: &left}},
	})
	if want := "running  rebuild order_summary: 12,000 of 48,000 documents (25.0%), 11,893/s, 3s left\n"; out.String() != want {
		t.Errorf("got %q, want %q", out.String(), want)
	}
}
