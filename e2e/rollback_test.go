package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pglogrepl"

	"github.com/lanternist/lanternist/examples/shop"
)

// TestRollbackUnderTraffic goes back to the generation before a rebuild, and forward again, across a restart, while the shop is
// busy and readers watch.
func TestRollbackUnderTraffic(t *testing.T) {
	t.Parallel()
	in := installShop(t, options{}, small)
	in.database.Exec("INSERT INTO orders (id, customer_id, status, note) SELECT " + watched + ", min(id), 'paid', '' FROM customers")
	d := in.start()
	d.ready()
	first := in.status().generations()
	tr := in.startTraffic(randomSource(t).Uint64(), busyRate)
	if code, stdout, stderr := in.run("rebuild", "order_summary"); code != 0 {
		t.Fatalf("rebuild exited with %d:\n%s%s", code, stdout, stderr)
	}
	d.reach() // there are changes that the older generation has not seen
	d.rollBack(first, 0)
	d.listed("kept for rollback", "live", "g1", "g2")

	// What was left is newer than the live one. A restart takes it for what it is.
	d.kill()
	d = in.start()
	d.ready()
	d.reach()
	d.rollBack(first, 1)

	if code, stdout, stderr := in.run("rebuild", "--retire", "order_summary"); code != 0 || strings.Count(stdout, "1 older generations removed") != 2 {
		t.Errorf("retire exited with %d:\n%s%s", code, stdout, stderr)
	}
	if _, stdout, _ := in.run("rebuild", "--list", "order_summary"); strings.Contains(stdout, "kept") || strings.Count(stdout, "live") != 2 {
		t.Errorf("after a retirement there are:\n%s", stdout)
	}
	if code, _, stderr := in.run("rebuild", "--rollback", "order_summary"); code == 0 || !strings.Contains(stderr, "only the live one is held") {
		t.Errorf("rollback after a retirement exited with %d:\n%s", code, stderr)
	}

	tr.stop()
	d.reach()
	in.compare(shop.Truth)
	d.nothingParked()
	d.stop()
}

// rollBack rolls order_summary back, and wants the generation that is so many after the first one to be live then.
func (d *daemon) rollBack(first map[string]int, more int) {
	in, t := d.in, d.in.t
	t.Helper()
	reading, newer := make(chan error, 1), make(chan error, 1)
	stop := make(chan struct{})
	go func() { reading <- d.readThroughout(stop) }()
	go func() { newer <- d.neverOlder(stop) }()
	code, stdout, stderr := in.run("rebuild", "--rollback", "order_summary")
	close(stop)
	if code != 0 {
		t.Fatalf("rollback exited with %d:\n%s%s", code, stdout, stderr)
	}
	for _, ended := range []chan error{reading, newer} {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	for projector, generation := range in.status().generations() {
		want := first[projector]
		if strings.HasPrefix(projector, "order_summary.") {
			want += more
		}
		if generation != want {
			t.Errorf("%s has generation %d after the rollback, want %d", projector, generation, want)
		}
	}
}

// watched is the order that neverOlder reads. The traffic does not touch it.
const watched = "-5"

// neverOlder changes an order and reads it without a token, and with that of the change, until stop is closed. What is read never goes
// back, neither the order nor the position that an answer reflects.
func (d *daemon) neverOlder(stop <-chan struct{}) error {
	conn := d.in.database.Conn(d.in.t.Context())
	defer conn.Close(d.in.t.Context())
	const document, search = "/v1/views/order_summary/" + watched, "/v1/views/order_summary/search"
	positions, note := map[string]pglogrepl.LSN{}, ""
	for {
		select {
		case <-stop:
			return nil
		default:
		}
		written := time.Now().UTC().Format("2006-01-02T15:04:05.000000")
		if _, err := conn.Exec(d.in.t.Context(), "UPDATE orders SET note = $1 WHERE id = "+watched, written); err != nil {
			return err
		}
		var token string
		if err := conn.QueryRow(d.in.t.Context(), "SELECT pg_current_wal_flush_lsn()::text").Scan(&token); err != nil {
			return err
		}
		for _, read := range []struct{ path, token string }{{document, ""}, {search, ""}, {document, token}, {search, token}} {
			a, err := d.in.readMaybeAfter(read.path, read.token)
			if err != nil {
				return err
			}
			text, _, _ := strings.Cut(a.header.Get("Lanternist-Position"), "@")
			at, err := pglogrepl.ParseLSN(text)
			if err != nil || a.status != http.StatusOK {
				return fmt.Errorf("%s after %q: status %d %s %w", read.path, read.token, a.status, a.body, err)
			}
			if at < positions[read.path] {
				return fmt.Errorf("%s reflects %s after it reflected %s", read.path, at, positions[read.path])
			}
			positions[read.path] = at
			if read.path != document {
				continue
			}
			var order struct{ Note string }
			if err := json.Unmarshal(a.body, &order); err != nil {
				return err
			}
			if order.Note < note || read.token != "" && order.Note != written {
				return fmt.Errorf("order has note %q after %q, written was %q", order.Note, note, written)
			}
			note = order.Note
		}
	}
}

// readMaybeAfter reads with a token, or without one when it is "".
func (in *installation) readMaybeAfter(path, token string) (answer, error) {
	if token == "" {
		return in.ask(http.MethodGet, path, nil)
	}
	return in.readAfter(path, token, nil)
}

// listed wants the list of generations of order_summary to have the texts.
func (d *daemon) listed(texts ...string) {
	t := d.in.t
	t.Helper()
	code, stdout, stderr := d.in.run("rebuild", "--list", "order_summary")
	if code != 0 {
		t.Fatalf("list exited with %d: %s", code, stderr)
	}
	for _, text := range texts {
		if strings.Count(stdout, text) < 2 {
			t.Errorf("%q is not listed for both sinks:\n%s", text, stdout)
		}
	}
}
