package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func readFile(t *testing.T, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// lanternist runs a command line in this process.
func lanternist(args ...string) (code int, stdout, stderr string) {
	var out, errs bytes.Buffer
	code = realMain(args, &out, &errs)
	return code, out.String(), errs.String()
}

func TestExitCodes(t *testing.T) {
	dir := t.TempDir()
	bad := filepath.Join(dir, "bad.yaml")
	if err := os.WriteFile(bad, []byte("sorce: {}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	good := filepath.Join(dir, "good.yaml")
	text := "source: {url: postgres://localhost/shop, tables: [public.orders]}\nhttp: {listen: \"127.0.0.1:1\"}\nviews: [v.yaml]\n"
	if err := os.WriteFile(good, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args           []string
		code           int
		stdout, stderr string
	}{
		{[]string{"--help"}, exitOK, "Exit codes", ""},
		{[]string{"version"}, exitOK, "lanternist", ""},
		{[]string{"nonsense"}, exitBadInput, "", "lanternist --help"},
		{[]string{"run", "--config", filepath.Join(dir, "none.yaml")}, exitBadInput, "", "lanternist init"},
		{[]string{"run", "--config", bad}, exitBadInput, "", `did you mean "source"?`},
		{[]string{"config", "--config", good}, exitOK, "postgres://localhost/shop", ""},
		{[]string{"status", "--config", good}, exitFailed, "", "lanternist run"},
		{[]string{"status", "--check", "--config", good}, exitFailed, "", ""},
		{[]string{"verify", "orders", "--config", good}, exitFailed, "", "lanternist run"},
		{[]string{"verify", "orders", "--sample=-1", "--config", good}, exitBadInput, "", "negative"},
		{[]string{"verify", "orders", "--sample=9", "--full", "--config", good}, exitBadInput, "", "--full"},
		{[]string{"deadletters", "list", "--config", good}, exitBadInput, "", "lanternist run"},
		{[]string{"journal", "dump", "--events", "--config", good}, exitBadInput, "", "lanternist run"},
	} {
		code, stdout, stderr := lanternist(c.args...)
		if code != c.code || !strings.Contains(stdout, c.stdout) || !strings.Contains(stderr, c.stderr) {
			t.Errorf("%v: exit %d, want %d\nstdout: %s\nstderr: %s", c.args, code, c.code, stdout, stderr)
		}
	}
}

func TestPrinting(t *testing.T) {
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567", -1234: "-1,234", -123: "-123"} {
		if got := thousands(n); got != want {
			t.Errorf("thousands(%d) = %q, want %q", n, got, want)
		}
	}
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1536: "1.5 KiB", 5 << 30: "5.0 GiB"} {
		if got := bytesText(n); got != want {
			t.Errorf("bytesText(%d) = %q, want %q", n, got, want)
		}
	}
	for d, want := range map[time.Duration]string{1234567 * time.Nanosecond: "1.23ms", 12345 * time.Millisecond: "12.35s", 1234 * time.Nanosecond: "1.2µs"} {
		if got := short(d); got != want {
			t.Errorf("short(%d) = %q, want %q", d, got, want)
		}
	}
	if got := clip("a\nbcdef", 4); got != "a b…" {
		t.Errorf("clip = %q", got)
	}
	var out bytes.Buffer
	if err := table(&out, []string{"A", "B"}, [][]string{{"long", "1"}, {"x", "2"}}); err != nil || out.String() != "A     B\nlong  1\nx     2\n" {
		t.Errorf("table = %q, %v", out.String(), err)
	}
}
