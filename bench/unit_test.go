package main

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pglogrepl"
	"pgregory.net/rapid"
)

func TestOptions(t *testing.T) {
	for line, want := range map[string]string{
		"":                                "",
		"-changes 2000 -rows 102 -runs 3": "",
		"-only journal,redis":             "",
		"-changes 30":                     "-changes 30: want a multiple of 20",
		"-changes 0":                      "-changes 0: want",
		"-changes 2000 -rows 101":         "-rows 101: the backlog deletes 100 rows",
		"-runs 0":                         "-runs 0",
		"-only journal,kafka -changes 1":  `no workload "kafka"`,
		"-changes 1 -only kafka":          "-changes 1: want",
		"-json now":                       "unexpected arguments: now",
		"-speed 9":                        "not defined",
	} {
		_, err := parseOptions(strings.Fields(line), io.Discard)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", line, err, want)
		}
	}
	o := options{only: []string{"journal"}}
	if o.needs(sinkRedis) || len(o.chosen()) != 1 || !(options{}).needs(sinkElasticsearch) {
		t.Error("the services that chosen workloads need")
	}
	names := workloadNames()
	if slices.Sort(names); len(slices.Compact(names)) != len(workloads) {
		t.Error("two workloads have one name")
	}
}

func TestExitCodes(t *testing.T) {
	for line, want := range map[string]int{"-h": 0, "-runs 0": 2, "-worker nothing": 1} {
		var stderr bytes.Buffer
		if code := realMain(t.Context(), strings.Fields(line), io.Discard, &stderr); code != want || stderr.Len() == 0 {
			t.Errorf("%q: exit code %d, want %d: %s", line, code, want, stderr.String())
		}
	}
}

func TestStrideVisitsEverything(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 5000).Draw(t, "n")
		documents := make([]document, n)
		for i := range documents {
			documents[i].id = fmt.Sprint(i)
		}
		seen := map[string]int{}
		for _, d := range operations(documents, 2*n) {
			seen[d.id]++
		}
		if len(seen) != n {
			t.Fatalf("%d of %d documents", len(seen), n)
		}
		for id, times := range seen {
			if times != 2 {
				t.Fatalf("document %s %d times", id, times)
			}
		}
	})
	if s := strideFor(90_000); s != 48_271 {
		t.Errorf("stride %d for the default", s)
	}
}

func TestShares(t *testing.T) {
	for _, n := range []int{0, 1, 3, 1000} {
		at := 0
		for w := range 4 {
			from, to := share(n, w, 4)
			if from != at || to < from {
				t.Errorf("share %d of %d: %d to %d", w, n, from, to)
			}
			at = to
		}
		if at != n {
			t.Errorf("shares of %d end at %d", n, at)
		}
	}
}

func TestLook(t *testing.T) {
	message := func(body ...byte) []byte { return append(append([]byte{'w'}, make([]byte, 24)...), body...) }
	commit := append([]byte{'C', 0}, make([]byte, 24)...)
	binary.BigEndian.PutUint64(commit[2:], 7)
	binary.BigEndian.PutUint64(commit[10:], 9)
	for _, c := range []struct {
		data   []byte
		change int
		end    pglogrepl.LSN
	}{
		{nil, 0, 0},
		{append([]byte{'k'}, make([]byte, 30)...), 0, 0},
		{message(), 0, 0},
		{message('I', 1), 1, 0}, {message('U', 1), 1, 0}, {message('D', 1), 1, 0},
		{message('B', 1), 0, 0}, {message('R', 1), 0, 0},
		{message('C', 1), 0, 0}, // cut off
		{message(commit...), 0, 9},
	} {
		if change, end := look(c.data); change != c.change || end != c.end {
			t.Errorf("%q: %d, %v, want %d, %v", c.data, change, end, c.change, c.end)
		}
	}
}

func TestBulk(t *testing.T) {
	documents := []document{{"1", `{"a":1}`}, {"2", `{"a":"` + strings.Repeat("x", bulkBytes) + `"}`}, {"3", `{}`}}
	bodies := bulkBodies(documents, 10)
	if len(bodies) != 2 {
		t.Fatalf("%d requests", len(bodies))
	}
	lines := bytes.Split(bytes.TrimSpace(bytes.Join(bodies, nil)), []byte("\n"))
	for i, d := range documents {
		var action struct {
			Index struct {
				ID      string `json:"_id"`
				Version int
			}
		}
		if err := json.Unmarshal(lines[2*i], &action); err != nil {
			t.Fatal(err)
		}
		if action.Index.ID != d.id || action.Index.Version != 11+i || string(lines[2*i+1]) != d.body {
			t.Errorf("document %d: %s", i, lines[2*i])
		}
	}
	for answer, want := range map[string]string{
		`{"errors":false}`: "",
		`{"errors":true,"items":[{"index":{"error":{"type":"version_conflict_engine_exception"}}}]}`:                                  "",
		`{"errors":true,"items":[{"index":{"error":{"type":"version_conflict_engine_exception"}}},{"index":{"error":{"type":"x"}}}]}`: "refused: x",
		`<html>`: "bulk:",
	} {
		if err := checkBulk([]byte(answer), http.StatusOK); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", answer, err, want)
		}
	}
	if checkBulk([]byte(`{"errors":false}`), http.StatusTooManyRequests) == nil {
		t.Error("a refused request is no error")
	}
}

func TestLogLines(t *testing.T) {
	var also bytes.Buffer
	l := newLogLines(&also)
	fmt.Fprint(l, "level=INFO msg=\"stream sta")
	select {
	case <-l.streaming:
		t.Error("too early")
	default:
	}
	fmt.Fprintln(l, "rted\" from=0/1")
	fmt.Fprintln(l, `msg="stream started" again`)
	<-l.streaming
	if also.String() != l.text() || !strings.HasSuffix(l.text(), "again\n") {
		t.Errorf("the log: %q", l.text())
	}
	if got := tail(l.text(), 1); got != `msg="stream started" again` {
		t.Errorf("tail: %q", got)
	}
}

func TestStatus(t *testing.T) {
	var s status
	text := `{"ready":true,"projectors":[{"state":"running","lsn":"1/A0","documents":3,"deletes":2}]}`
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		t.Fatal(err)
	}
	if p := s.Projectors[0]; !s.Ready || p.LSN != 1<<32+0xa0 || p.Documents != 3 || p.Deletes != 2 {
		t.Errorf("%+v", s)
	}
}
