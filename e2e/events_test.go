package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"
)

// exported is what a line of events says.
type exported struct {
	ID      string `json:"event_id"`
	Type    string `json:"event_type"`
	Subject string `json:"subject"`
}

// Events are exported in order, the same with and without a daemon, and followed as they come. Long commands tell their
// progress as JSON when they are asked for JSON.
func TestEventsAreExportedAndFollowed(t *testing.T) {
	t.Parallel()
	in := installShop(t, options{}, small)
	d := in.start()
	d.ready()
	conn := in.database.Conn(t.Context())
	defer conn.Close(t.Context())
	var before, after string
	now := `SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')`
	change := func(id int) {
		in.database.Exec(fmt.Sprintf(`INSERT INTO customers (id, email, name, country) VALUES (%[1]d, '%[1]d@events.example', '<A&B>', 'NO')`, id))
	}
	change(-1)
	if err := conn.QueryRow(t.Context(), now).Scan(&before); err != nil {
		t.Fatal(err)
	}
	tailed := in.tail("--table", "public.customers", "--from", before)
	for id := -2; id >= -9; id-- {
		change(id)
		in.database.Exec(`UPDATE orders SET note = 'events' WHERE id = 1`)
	}
	if err := conn.QueryRow(t.Context(), now).Scan(&after); err != nil {
		t.Fatal(err)
	}
	change(-10)
	d.reach()

	export := func(args ...string) (lines []string) {
		t.Helper()
		code, stdout, stderr := in.run(append([]string{"events", "export"}, args...)...)
		if code != 0 {
			t.Fatalf("export %v exited with %d: %s", args, code, stderr)
		}
		return strings.Split(strings.TrimSpace(stdout), "\n")
	}
	lines := export("--from", before, "--to", after)
	var subjects []string
	for _, line := range lines {
		var e exported
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		subjects = append(subjects, e.Type+" "+e.Subject)
	}
	var want []string
	for id := -2; id >= -9; id-- {
		want = append(want, fmt.Sprintf("customers.created public.customers/%d", id), "orders.updated public.orders/1")
	}
	if !slices.Equal(subjects, want) {
		t.Errorf("exported %q, want %q", subjects, want)
	}
	orders := export("--from", before, "--to", after, "--type", "orders.updated")
	if len(orders) != 8 {
		t.Errorf("%d changes of orders: %q", len(orders), orders)
	}
	all := export()
	if lines := tailed(9); !slices.Equal(lines[:8], export("--from", before, "--to", after, "--table", "public.*", "--type", "customers.*")) {
		t.Errorf("followed %q", lines)
	}

	// A rebuild as a script runs it.
	code, stdout, stderr := in.run("rebuild", "customer_profile", "--json")
	if code != 0 || !json.Valid([]byte(stdout)) {
		t.Fatalf("rebuild exited with %d: %s%s", code, stdout, stderr)
	}
	for line := range strings.Lines(stderr) {
		var p struct {
			Kind, Subject, Unit string
			Done, Total         int64
			Percent             float64
		}
		if err := json.Unmarshal([]byte(line), &p); err != nil || p.Kind != "rebuild" || p.Subject != "customer_profile" || p.Unit != "documents" {
			t.Errorf("progress %s: %+v, %v", line, p, err)
		}
	}
	if n := strings.Count(stderr, "\n"); n < 2 || !strings.Contains(stderr, `"percent":100`) {
		t.Errorf("%d lines of progress: %s", n, stderr)
	}
	var jobs struct {
		Jobs []struct{ Kind, Subject, State string }
	}
	if err := in.get("/v1/jobs", &jobs); err != nil || !strings.Contains(fmt.Sprint(jobs), "{rebuild customer_profile done}") {
		t.Errorf("jobs: %+v %v", jobs, err)
	}

	d.stop()
	stored := export()
	if !slices.Equal(stored[:len(all)], all) {
		t.Errorf("%d events are stored, %d were exported by the daemon, and they differ", len(stored), len(all))
	}
	if again := export("--from", before, "--to", after); !slices.Equal(again, lines) {
		t.Errorf("stored are %q, not %q", again, lines)
	}
	code, _, stderr = in.run("events", "export", "--from", "yesterday")
	if code != 2 || !strings.Contains(stderr, "want an offset") {
		t.Errorf("a bad range: %d %s", code, stderr)
	}
	code, _, stderr = in.run("events", "tail")
	if code != 1 || !strings.Contains(stderr, "events export") {
		t.Errorf("nobody to follow: %d %s", code, stderr)
	}
}

// tail follows events in a process of its own. What it returns reads so many lines, and then ends it as a person does.
func (in *installation) tail(args ...string) func(n int) []string {
	t := in.t
	t.Helper()
	path, err := binaryPath()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, path, append([]string{"events", "tail", "--json", "--config", in.file}, args...)...)
	cmd.Env, cmd.SysProcAttr = in.environment, child()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return func(n int) (lines []string) {
		t.Helper()
		scanner := bufio.NewScanner(out)
		for len(lines) < n && scanner.Scan() {
			lines = append(lines, scanner.Text())
		}
		_ = cmd.Process.Signal(os.Interrupt)
		if err := cmd.Wait(); err != nil || len(lines) < n {
			t.Fatalf("tail ended with %v after %d lines", err, len(lines))
		}
		return lines
	}
}
