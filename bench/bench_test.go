package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/lanternist/lanternist/internal/devstack"
)

// TestBenchmark runs the whole benchmark, twice, with a backlog that is too small to say anything.
func TestBenchmark(t *testing.T) {
	cluster, space := devstack.Elasticsearch(t), devstack.Redis(t)
	t.Setenv("LANTERNIST_ELASTICSEARCH_URL", cluster.URL())
	t.Setenv("LANTERNIST_REDIS_URL", space.URL())
	var stdout, stderr bytes.Buffer
	args := []string{"-changes", "2000", "-rows", "1000", "-load-rows", "3000", "-runs", "2", "-json"}
	if code := realMain(t.Context(), args, &stdout, &stderr); code != 0 {
		t.Fatalf("exit code %d\n%s", code, stderr.String())
	}
	var r result
	if err := json.Unmarshal(stdout.Bytes(), &r); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"receive", "raw redis SET", "raw redis script", "raw elasticsearch new", "raw elasticsearch replace",
		"raw COPY TO STDOUT", "load", "load-redis", "load-elasticsearch", "journal", "redis", "elasticsearch",
	}
	var got []string
	for _, l := range r.Lines {
		got = append(got, l.Name)
		if l.Rate <= 0 || l.RateMin > l.Rate || l.RateMax < l.Rate {
			t.Errorf("%s: rate %v of %v to %v", l.Name, l.Rate, l.RateMin, l.RateMax)
		}
		if l.Name == "load" && (len(l.OfRaw) != 1 || l.OfReceive != 0) {
			t.Errorf("load: ratios %v, to the receiver %v", l.OfRaw, l.OfReceive)
		}
		if strings.HasPrefix(l.Name, "load-") && (len(l.OfRaw) != 2 || l.OfReceive != 0 || l.Written < 3000) {
			t.Errorf("%s: ratios %v, to the receiver %v; %d documents written", l.Name, l.OfRaw, l.OfReceive, l.Written)
		}
		if !l.Raw && !strings.HasPrefix(l.Name, "load") && l.OfReceive <= 0 {
			t.Errorf("%s: no ratio to the receiver", l.Name)
		}
		if sink := l.Name == "redis" || l.Name == "elasticsearch"; sink && (len(l.OfRaw) != 2 || l.Written < 1000) {
			t.Errorf("%s: ratios to raw writes %v, %d documents written", l.Name, l.OfRaw, l.Written)
		}
	}
	if strings.Join(got, ", ") != strings.Join(want, ", ") {
		t.Errorf("lines %q, want %q", got, want)
	}
	answer, code, err := get(t.Context(), cluster.URL()+"/lanternist-bench-*?features=aliases&expand_wildcards=all")
	if err != nil || string(answer) != "{}" {
		t.Errorf("indices are left: %d %s, %v", code, answer, err)
	}
}
