package main

import (
	"os"
	"strings"
	"testing"
)

func TestUsage(t *testing.T) {
	seconds, err := parseStat("42 (a (b) c) S 1 42 42 0 -1 4194560 1 2 3 4 150 25 7 8 20 0 9 0 100 200 300")
	if err != nil || seconds != 1.75 {
		t.Errorf("CPU time %v, %v", seconds, err)
	}
	peak, err := parseStatus("Name:\tx\nVmPeak:\t  999 kB\nVmHWM:\t   2048 kB\nVmRSS:\t 1 kB\n")
	if err != nil || peak != 2<<20 {
		t.Errorf("peak %v, %v", peak, err)
	}
	for _, text := range []string{"", "42 (x) S 1", "42 (x) S 1 42 42 0 -1 4194560 1 2 3 4 a 25"} {
		if _, err := parseStat(text); err == nil {
			t.Errorf("%q is no error", text)
		}
	}
	for _, text := range []string{"", "VmHWM:\tmuch kB\n"} {
		if _, err := parseStatus(text); err == nil {
			t.Errorf("%q is no error", text)
		}
	}
	u, err := usageOf(os.Getpid())
	if err != nil || u.PeakBytes < 1<<20 {
		t.Errorf("usage of this process: %+v, %v", u, err)
	}
	if _, err := usageOf(-1); err == nil || !strings.Contains(err.Error(), "CPU time") {
		t.Errorf("usage of no process: %v", err)
	}
}
