package main

import (
	"bytes"
	"testing"
	"time"
)

// runsOf are runs in which everything takes as many seconds as given, first by run.
func runsOf(seconds ...[3]float64) [][]sample {
	var runs [][]sample
	for _, s := range seconds {
		at := func(i int) phase {
			return phase{Seconds: s[i], Operations: 1000, usage: usage{CPUSeconds: s[i] / 2, PeakBytes: int64(s[i] * (1 << 20))}}
		}
		journey := at(2).sample("redis", "one view")
		journey.Sink, journey.Documents = sinkRedis, 900
		runs = append(runs, []sample{at(0).sample(lineReceive, "nothing"), at(1).rawSample(sinkRedis, redisSet, 2), journey})
	}
	return runs
}

func TestRatiosAreOfTheSameRun(t *testing.T) {
	// The ratio of the medians would be 0.5.
	r := newResult(machine{}, options{}, runsOf([3]float64{1, 1, 4}, [3]float64{2, 1, 4}, [3]float64{4, 1, 5}))
	l := r.Lines[2]
	if l.OfReceive != .5 || len(l.OfRaw) != 1 || l.OfRaw[0] != (ratio{redisSet, .25}) {
		t.Errorf("ratios %v, %v", l.OfReceive, l.OfRaw)
	}
	if l.Rate != 250 || l.RateMin != 200 || l.RateMax != 250 || l.Seconds != 4 || l.CPU != 200 || l.PeakBytes != 4<<20 || l.Written != 900 {
		t.Errorf("%+v", l)
	}
	if raw := r.Lines[1]; !raw.Raw || raw.OfReceive != 0 || raw.OfRaw != nil || raw.About != "2 writers" {
		t.Errorf("%+v", raw)
	}
	even := newResult(machine{}, options{}, runsOf([3]float64{1, 1, 1}, [3]float64{2, 1, 1}))
	if rate := even.Lines[0].Rate; rate != 750 {
		t.Errorf("median of two: %v", rate)
	}
}

func TestFaster(t *testing.T) {
	slow, fast := phase{Seconds: 2, Operations: 1}.sample("slow", ""), phase{Seconds: 1, Operations: 1}.sample("fast", "")
	if faster(sample{}, slow).Name != "slow" || faster(slow, fast).Name != "fast" || faster(fast, slow).Name != "fast" {
		t.Error("the faster one is another")
	}
}

func TestTable(t *testing.T) {
	m := machine{Date: time.Date(2026, 11, 20, 23, 4, 0, 0, time.UTC), CPUs: 2, Model: "Abacus", OS: "linux/amd64", Go: "go1", Postgres: "17.1", Fsync: "on", Redis: "7"}
	want := `2026-11-20 23:04 UTC
200,000 changes in transactions of ten, on 1,000 rows; runs: 1

2 CPUs Abacus, linux/amd64
go1, Postgres 17.1 (fsync on), Redis 7

               changes/s  of receive  of raw writes  written  CPU s/100k  peak MiB
receive            1,000        1.00                               50.00         1  nothing
raw redis SET      2,000                               1,000       25.00         1  2 writers
redis                250        0.25  0.12 SET           900      200.00         4  one view
`
	var got bytes.Buffer
	r := newResult(m, options{changes: 200_000, rows: 1000}, runsOf([3]float64{1, .5, 4}))
	if err := r.print(&got); err != nil {
		t.Fatal(err)
	}
	if got.String() != want {
		t.Errorf("got\n%s\nwant\n%s", got.String(), want)
	}
}

func TestThousands(t *testing.T) {
	for v, want := range map[float64]string{0: "0", 7: "7", 999.4: "999", 999.6: "1,000", 123456: "123,456", 1234567: "1,234,567"} {
		if got := thousands(v); got != want {
			t.Errorf("%v: %s, want %s", v, got, want)
		}
	}
}
